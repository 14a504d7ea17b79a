//! `qmail completions`: prints what makes a shell complete the command lines of `qmail`.

use std::process::ExitCode;

use clap::{Command, Parser, ValueEnum};
use clap_complete::Shell;

use crate::applet::{APPLETS, Applet, Call, Kind};
use crate::manual::COMMANDS;
use crate::{command_line, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["completions"],
    kind: Kind::Command,
    summary: "print what makes a shell complete command lines of qmail",
    run,
};

/// Prints what makes a shell complete command lines of qmail.
#[derive(Debug, Parser)]
#[command(
    name = "qmail completions",
    after_help = "Examples:\n  qmail completions bash >/etc/bash_completion.d/qmail\n  qmail completions fish >~/.config/fish/completions/qmail.fish"
)]
pub(crate) struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: ShellOption,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShellOption {
    Bash,
    Elvish,
    Fish,
    Zsh,
}

fn run(call: &Call) -> ExitCode {
    let arguments: Arguments = match command_line::parse(call) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    exit::print(&script(match arguments.shell {
        ShellOption::Bash => Shell::Bash,
        ShellOption::Elvish => Shell::Elvish,
        ShellOption::Fish => Shell::Fish,
        ShellOption::Zsh => Shell::Zsh,
    }));
    ExitCode::SUCCESS
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole(), "qmail", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// `qmail` with all its programs, as one command line.
fn whole() -> Command {
    let described = COMMANDS.iter().map(|&(name, command)| command().name(name));
    let classic = APPLETS
        .iter()
        .filter(|applet| applet.kind == Kind::Classic)
        .flat_map(|applet| {
            applet
                .names
                .iter()
                .map(|&name| Command::new(name).about(applet.summary))
        });
    Command::new("qmail")
        .subcommands(described)
        .subcommands(classic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_their_options_are_completed() {
        for shell in [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::Zsh] {
            let script = script(shell);
            for word in ["qmail-smtpd", "serve", "no-deliver"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }
}
