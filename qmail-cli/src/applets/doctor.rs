//! `qmail doctor`: says what is wrong with a home, and how to mend it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::Parser;
use qmail_deliver::{HickoryResolver, Resolver};
use serde_json::json;

use crate::applet::{Applet, Call, Kind};
use crate::doctor::{Finding, Room, Severity, World, examine};
use crate::home::Home;
use crate::policy::own_addresses;
use crate::{command_line, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["doctor"],
    kind: Kind::Command,
    summary: "say what is wrong with a home, and how to mend it",
    run,
};

const AFTER_HELP: &str = "\
It looks at control files, at who may relay, at files that are older than what they are made of, at owners and modes, at room on the \
disk, at the clock, and at what the DNS says of this host and its domains. It changes nothing.

Exit codes: 0 nothing is wrong, or warnings only; 100 something is wrong; 111 it could not look.

Examples:
  qmail doctor
  qmail doctor --home ./qmail-home --offline --json";

/// Reads the whole configuration of a home, says what is wrong or dangerous, and how to mend it.
#[derive(Debug, Parser)]
#[command(name = "qmail doctor", after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The home to look at [default: $QMAIL_HOME, else /var/qmail]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,

    /// Ask no name server
    #[arg(long)]
    offline: bool,

    /// Rules of tcpserver to look at; may be repeated
    #[arg(long, value_name = "CDB", default_values = ["/etc/tcp.smtp.cdb", "/etc/tcprules.d/tcp.smtp.cdb"])]
    rules: Vec<PathBuf>,

    /// Print JSON: an array of objects with severity, what, remedy
    #[arg(long)]
    json: bool,
}

fn run(call: &Call) -> ExitCode {
    let arguments: Arguments = match command_line::parse(call) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let words = format!("no room for a runtime: {error}; try again later");
            return exit::fatal("qmail", &words, exit::TEMPORARY);
        }
    };
    let findings = runtime.block_on(look(&arguments));
    report(&findings, arguments.json);
    if findings
        .iter()
        .any(|finding| finding.severity == Severity::Error)
    {
        ExitCode::from(exit::PERMANENT)
    } else {
        ExitCode::SUCCESS
    }
}

async fn look(arguments: &Arguments) -> Vec<Finding> {
    let home = Home::choose(arguments.home.clone(), None);
    let resolver = if arguments.offline {
        None
    } else {
        HickoryResolver::system().ok()
    };
    let world = World {
        home: &home,
        now: SystemTime::now(),
        own_addresses: own_addresses().unwrap_or_default(),
        resolver: resolver.as_ref().map(|resolver| resolver as &dyn Resolver),
        rules: arguments.rules.clone(),
        room: Room::at,
    };
    examine(&world).await
}

fn report(findings: &[Finding], as_json: bool) {
    if as_json {
        let array: Vec<_> = findings
            .iter()
            .map(
                |Finding {
                     severity,
                     what,
                     remedy,
                 }| {
                    json!({"severity": severity.name(), "what": what, "remedy": remedy})
                },
            )
            .collect();
        exit::print(&format!("{}\n", json!(array)));
        return;
    }
    for Finding {
        severity,
        what,
        remedy,
    } in findings
    {
        exit::print(&format!("{}: {what}; {remedy}\n", severity.name()));
    }
    if findings.is_empty() {
        exit::print("nothing wrong was found\n");
    }
}
