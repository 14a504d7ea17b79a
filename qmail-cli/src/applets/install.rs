//! `qmail install`: installs in place of a classic system, or mends an installation.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::install::{ASIDE, InstallError, Step, Target, apply, give_back, plan};
use crate::{command_line, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["install"],
    kind: Kind::Command,
    summary: "install in place of a classic system, or mend an installation",
    run,
};

const AFTER_HELP: &str = "\
What an installation needs and does not have is made: groups and users, directories, the files of the queue that are always there, this \
program with a link for each classic name, and the manual. Owners and modes that are not what they should be are mended. Control \
files, users, aliases and the mail in the queue stay as they are.

Run it again at any time: it does only what is left to do, and nothing if all is well.

Examples:
  qmail install --dry-run
  qmail install --replace
  qmail install --give-back";

/// Installs in place of a classic system, or mends an installation. For root.
#[derive(Debug, Parser)]
#[command(name = "qmail install", after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,

    /// Where to install [default: $QMAIL_HOME, else /var/qmail]
    #[arg(long, value_name = "DIR")]
    home: Option<PathBuf>,

    /// The file system to install into, with an etc/passwd and etc/group of its own
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,

    /// Put programs of another mail system in bin/ aside, into bin.before/
    #[arg(long)]
    replace: bool,

    /// Link bin/qmail to this program instead of copying it: for a package, which keeps its file up to date
    #[arg(long)]
    link: bool,

    /// Install qmail-queue as a setuid program, so that users can queue mail in the classic way
    #[arg(long)]
    setuid_queue: bool,

    /// Put the programs in bin.before/ and the manual in man.before/ back in place of these
    #[arg(long, conflicts_with_all = ["replace", "link", "setuid_queue"])]
    give_back: bool,
}

fn run(call: &Call) -> ExitCode {
    let arguments: Arguments = match command_line::parse(call) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => {
            let words =
                format!("cannot find out where this program is: {error}; is /proc mounted?");
            return exit::fatal("qmail", &words, exit::TEMPORARY);
        }
    };
    let target = Target {
        root: std::path::absolute(&arguments.root).unwrap_or(arguments.root),
        home: Home::choose(arguments.home, None).path().to_owned(),
        program,
        replace: arguments.replace,
        link: arguments.link,
        setuid_queue: arguments.setuid_queue,
    };
    let steps = if arguments.give_back {
        give_back(&target)
    } else {
        plan(&target)
    };
    match steps.and_then(|steps| carry_out(&target, &steps, arguments.dry_run, arguments.give_back))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::fatal("qmail", &error, exit::PERMANENT),
    }
}

fn carry_out(
    target: &Target,
    steps: &[Step],
    dry_run: bool,
    give_back: bool,
) -> Result<(), InstallError> {
    if dry_run {
        for step in steps {
            exit::print(&format!("would {step}\n"));
        }
        return Ok(());
    }
    apply(target, steps, |step| exit::print(&format!("{step}\n")))?;
    let aside = target.home().join(ASIDE);
    match (give_back, steps.is_empty()) {
        (true, true) => exit::print(&format!("there is nothing in {}\n", aside.display())),
        (true, false) => {
            let _ = std::fs::remove_dir(&aside);
        }
        (false, _) if !target.home().join("control/me").exists() => exit::print(&format!(
            "installed; now write the name of this host into {}\n",
            target.home().join("control/me").display()
        )),
        (false, _) => {}
    }
    Ok(())
}
