//! `qmail passwd`: keeps the file of hashed passwords.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use qmail_core::Escaped;

use crate::applet::{Applet, Call, Kind};
use crate::home::Home;
use crate::passwords::{PasswordFile, is_name};
use crate::{command_line, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["passwd"],
    kind: Kind::Command,
    summary: "set, check, list and delete the passwords of local users",
    run,
};

/// Longest password in octets: what every way to log in can carry.
const SECRET_OCTETS_MAX: usize = 255;

const AFTER_HELP: &str = "\
Passwords are kept in users/passwords of the home, hashed by argon2; what is changed there counts at once. `qmail serve` and \
checkpassword go by it. A password is asked for on the terminal, without echo; where standard input is no terminal, its first \
line is the password.

Exit status: 0 done, or the password is right; 1 wrong password, or no such user; 100 wrong use; 111 the file cannot be used.";

/// Keep the passwords of local users
#[derive(Debug, Parser)]
#[command(name = "qmail passwd", after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// Where everything is kept [default: $QMAIL_HOME, else /var/qmail]
    #[arg(long, value_name = "DIR", global = true)]
    home: Option<PathBuf>,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Give a user a password, or another one
    Set {
        /// The local part of the user's address
        #[arg(value_parser = name)]
        name: String,
        /// Also keep a record for SCRAM-SHA-256, by which a client can log in without showing the password. It is offered once
        /// control/authmechanisms names it; many clients then use nothing else, so every user should have one. Who steals the
        /// file can try passwords on it more quickly than on the hash alone
        #[arg(long)]
        scram: bool,
        /// Read a record of argon2, yescrypt, SHA-crypt or SCRAM-SHA-256 in place of a password
        #[arg(long, conflicts_with = "scram")]
        record: bool,
    },
    /// Say by the exit status whether a password is right
    Check {
        /// The local part of the user's address
        #[arg(value_parser = name)]
        name: String,
    },
    /// Take a user's password away: nobody can log in by that name
    Delete {
        /// The local part of the user's address
        #[arg(value_parser = name)]
        name: String,
    },
    /// List the users who have a password
    List,
}

fn name(text: &str) -> Result<String, &'static str> {
    let name = text.to_ascii_lowercase();
    if !is_name(&name) {
        return Err("a user name has no spaces, colons or @, and does not begin with #");
    }
    Ok(name)
}

fn run(call: &Call) -> ExitCode {
    let arguments: Arguments = match command_line::parse(call) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let home = Home::choose(arguments.home, None);
    match act(arguments.action, &PasswordFile::new(home.passwords())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Trouble::Input(words)) => exit::fatal("qmail", &words, exit::PERMANENT),
        Err(Trouble::File(error)) => {
            let path = home.passwords();
            let words = format_args!("cannot use {}: {error}", path.display());
            exit::fatal("qmail", &words, exit::TEMPORARY)
        }
    }
}

enum Trouble {
    /// What was typed is no password.
    Input(String),
    File(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::InvalidInput {
            Self::Input(error.to_string())
        } else {
            Self::File(error)
        }
    }
}

/// `false` for a password that is wrong, and a user who is not there.
fn act(action: Action, file: &PasswordFile) -> Result<bool, Trouble> {
    match action {
        Action::Set {
            name, record: true, ..
        } => file.set_record(&name, &ask("Record: ", false)?)?,
        Action::Set { name, scram, .. } => {
            file.set(&name, ask("New password: ", true)?.as_bytes(), scram)?;
        }
        Action::Check { name } => {
            let secret = ask("Password: ", false)?;
            return Ok(file.verify(name.as_bytes(), secret.as_bytes())?);
        }
        Action::Delete { name } => {
            let found = file.remove(&name)?;
            if !found {
                exit::warn("qmail", &format_args!("{name} has no password"));
            }
            return Ok(found);
        }
        Action::List => {
            let names = file.names()?;
            let lines = names.iter().map(|name| format!("{}\n", Escaped(name)));
            exit::print(&lines.collect::<String>());
        }
    }
    Ok(true)
}

/// Asks on the terminal, twice if it is new; or takes the first line of what is no terminal.
fn ask(prompt: &str, is_new: bool) -> Result<String, Trouble> {
    let secret = if io::stdin().is_terminal() {
        let secret = rpassword::prompt_password(prompt).map_err(|error| unreadable(&error))?;
        if is_new
            && rpassword::prompt_password("Again: ").map_err(|error| unreadable(&error))? != secret
        {
            return Err(Trouble::Input("these are two different passwords".into()));
        }
        secret
    } else {
        let mut line = String::new();
        let mut input = io::stdin().lock();
        io::Read::take(&mut input, 8192)
            .read_line(&mut line)
            .map_err(|error| unreadable(&error))?;
        line.trim_end_matches(['\n', '\r']).to_owned()
    };
    if secret.is_empty() {
        return Err(Trouble::Input("no password was given".into()));
    }
    if is_new && (secret.len() > SECRET_OCTETS_MAX || secret.chars().any(char::is_control)) {
        return Err(Trouble::Input(format!(
            "a password has {SECRET_OCTETS_MAX} octets at most, and no control characters"
        )));
    }
    Ok(secret)
}

fn unreadable(error: &io::Error) -> Trouble {
    Trouble::Input(format!("cannot read a password: {error}"))
}
