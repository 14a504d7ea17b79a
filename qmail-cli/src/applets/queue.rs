//! `qmail queue`: looks at a queue.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use qmail_queue::{RealDisk, count_journal_messages, count_messages};

use crate::applet::{Applet, Call, Kind};
use crate::home::{Home, SpoolKind};
use crate::{command_line, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["queue"],
    kind: Kind::Command,
    summary: "look at the queue of a home",
    run,
};

/// Looks at the queue of a home. The queue may be running or not.
#[derive(Debug, Parser)]
#[command(
    name = "qmail queue",
    after_help = "Examples:\n  qmail queue count --home ./qmail-home\n  QMAIL_HOME=./qmail-home qmail queue count"
)]
pub(crate) struct Arguments {
    /// The home whose queue is meant [default: $QMAIL_HOME, else /var/qmail]
    #[arg(long, value_name = "DIR", global = true)]
    home: Option<PathBuf>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the number of queued messages
    Count,
}

fn run(call: &Call) -> ExitCode {
    let arguments: Arguments = match command_line::parse(call) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let home = Home::choose(arguments.home, None);
    match arguments.command {
        Command::Count => count(&home),
    }
}

fn count(home: &Home) -> ExitCode {
    let queue = home.queue();
    let counted = match SpoolKind::of(&queue) {
        Some(SpoolKind::Journal) => RealDisk::open(home.journal())
            .map_err(told)
            .and_then(|disk| count_journal_messages(&disk).map_err(told)),
        Some(_) => RealDisk::open(&queue)
            .and_then(|disk| count_messages(&disk))
            .map_err(told),
        // One that is kept in memory has only its lock here.
        None => RealDisk::open(&queue).map(|_| 0).map_err(told),
    };
    match counted {
        Ok(count) => {
            exit::print(&format!("{count}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => exit::fatal(
            "qmail",
            &format_args!(
                "cannot read the queue {}: {error}; name the home with --home or QMAIL_HOME",
                queue.display()
            ),
            exit::TEMPORARY,
        ),
    }
}

fn told(error: impl std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
