//! `qmail applets`: lists the classic names, or makes links of them.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::applet::{Applet, Call, Kind, applet_names};
use crate::{command_line, exit};

pub(crate) const APPLET: Applet = Applet {
    names: &["applets"],
    kind: Kind::Command,
    summary: "list the classic names, or make links of them",
    run,
};

/// Lists the names of the classic programs that this binary can be, or makes a link for each.
#[derive(Debug, Parser)]
#[command(
    name = "qmail applets",
    after_help = "Examples:\n  qmail applets\n  qmail applets --install /var/qmail/bin"
)]
pub(crate) struct Options {
    /// Make symbolic links of all names in DIR, to this binary. A file that is not such a link is left alone.
    #[arg(long, value_name = "DIR")]
    install: Option<PathBuf>,
}

fn run(call: &Call) -> ExitCode {
    let options: Options = match command_line::parse(call) {
        Ok(options) => options,
        Err(code) => return code,
    };
    let names = applet_names();
    let Some(directory) = options.install else {
        for name in names {
            exit::print(&format!("{name}\n"));
        }
        return ExitCode::SUCCESS;
    };
    let binary = match std::env::current_exe().and_then(fs::canonicalize) {
        Ok(binary) => binary,
        Err(error) => {
            return exit::fatal(
                "qmail",
                &format_args!("cannot find out where this binary is: {error}; is /proc mounted?"),
                exit::TEMPORARY,
            );
        }
    };
    match install(&directory, &binary, &names) {
        Ok(installed) => {
            exit::print(&format!(
                "{}: {} links made, {} were there\n",
                directory.display(),
                installed.made,
                installed.kept
            ));
            for name in &installed.refused {
                exit::fatal(
                    "qmail",
                    &format_args!(
                        "{} is not a link to {}: left alone; move it away and run this again",
                        directory.join(name).display(),
                        binary.display()
                    ),
                    exit::PERMANENT,
                );
            }
            if installed.refused.is_empty() {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(exit::PERMANENT)
            }
        }
        Err((path, error)) => exit::fatal(
            "qmail",
            &format_args!(
                "cannot make {}: {error}; is it a directory that you may write?",
                path.display()
            ),
            exit::TEMPORARY,
        ),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Installed {
    made: usize,
    kept: usize,
    refused: Vec<&'static str>,
}

/// Links each name to `binary`. What is there already under a name is never replaced: it is such a link, or it is refused.
fn install(
    directory: &Path,
    binary: &Path,
    names: &[&'static str],
) -> Result<Installed, (PathBuf, io::Error)> {
    fs::create_dir_all(directory).map_err(|error| (directory.to_owned(), error))?;
    let mut installed = Installed::default();
    for &name in names {
        let path = directory.join(name);
        match symlink(binary, &path) {
            Ok(()) => installed.made += 1,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::canonicalize(&path).is_ok_and(|target| target == binary) {
                    installed.kept += 1;
                } else {
                    installed.refused.push(name);
                }
            }
            Err(error) => return Err((path, error)),
        }
    }
    Ok(installed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_made_once_and_overwrite_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let binary = fs::canonicalize(directory.path()).unwrap().join("qmail");
        fs::write(&binary, "").unwrap();
        let bin = directory.path().join("bin");
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("sendmail"), "somebody else's").unwrap();
        let names = ["qmail-smtpd", "sendmail"];
        let installed = install(&bin, &binary, &names).unwrap();
        assert_eq!(
            installed,
            Installed {
                made: 1,
                kept: 0,
                refused: vec!["sendmail"]
            }
        );
        assert_eq!(fs::read_link(bin.join("qmail-smtpd")).unwrap(), binary);
        assert_eq!(fs::read(bin.join("sendmail")).unwrap(), b"somebody else's");
        assert_eq!(install(&bin, &binary, &names).unwrap().kept, 1);
    }
}
