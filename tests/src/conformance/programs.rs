//! The programs under test, and which ones a case would call that are not there.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::failure::Failure;
use super::machine;

/// A directory of programs under their classic names, and what cases are run with.
#[derive(Debug)]
pub struct Programs {
    directory: PathBuf,
    helper: PathBuf,
    capture: PathBuf,
    /// Removes in the end what was made here.
    _scratch: TempDir,
}

/// The queue program of every case that names no other: it keeps message and envelope apart in a directory.
const CAPTURE: &str = r#"#!/bin/sh
n=$(date +%s%N)
cat >"$QCAP/$n.mess"
cat <&1 >"$QCAP/$n.env"
exit ${QCAP_EXIT:-0}
"#;

impl Programs {
    /// Makes a directory where each of `names` is a link to `program`.
    ///
    /// Where the runner is root, some cases run as another user, who may not be allowed to reach a build directory below
    /// somebody's home: both programs are then put into the directory itself, by a hard link or a copy.
    ///
    /// # Errors
    ///
    /// The directory or its files cannot be made.
    pub fn linked(program: &Path, helper: &Path, names: &[&str]) -> io::Result<Self> {
        let (scratch, root) = scratch()?;
        let directory = root.join("bin");
        fs::create_dir(&directory)?;
        let (mut program, mut helper) = (fs::canonicalize(program)?, fs::canonicalize(helper)?);
        if machine::is_root() {
            for (file, name) in [(&mut program, "program"), (&mut helper, "helper")] {
                let own = root.join(name);
                fs::hard_link(&*file, &own).or_else(|_| fs::copy(&*file, &own).map(|_| ()))?;
                *file = own;
            }
        }
        for name in names {
            symlink(&program, directory.join(name))?;
        }
        Ok(Self {
            directory,
            helper,
            capture: capture(&root)?,
            _scratch: scratch,
        })
    }

    /// The programs that are in a directory already, for example those of another implementation.
    ///
    /// # Errors
    ///
    /// There is no such directory or no such helper.
    pub fn in_directory(directory: &Path, helper: &Path) -> io::Result<Self> {
        let (scratch, root) = scratch()?;
        Ok(Self {
            directory: fs::canonicalize(directory)?,
            helper: fs::canonicalize(helper)?,
            capture: capture(&root)?,
            _scratch: scratch,
        })
    }

    /// The directory, an absolute path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The program `conform-helper`.
    pub(crate) fn helper(&self) -> &Path {
        &self.helper
    }

    /// The queue program that keeps what it is given.
    ///
    /// One file for all cases: a program that was only just written may be refused by the kernel (`ETXTBSY`) while another
    /// thread, between fork and exec, still has it open.
    pub(crate) fn capture(&self) -> &Path {
        &self.capture
    }

    /// What a program is started by: its path in the directory or, of the system's own ([`OF_THE_SYSTEM`]), its bare name.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf, Failure> {
        let own = self.directory.join(name);
        if own.is_file() {
            return Ok(own);
        }
        // By its bare name, since a shell says its name in what it complains about.
        match of_the_system(name.as_bytes()) {
            Some(_) => Ok(PathBuf::from(name)),
            None => Err(Failure::Missing(name.to_owned())),
        }
    }

    /// The first classic program that a shell script would call and that is not there.
    ///
    /// Such a script is not run: what it does without the program says nothing, and waiting for it takes time. A word counts
    /// where a command stands, so that a file or an address of the same name does not.
    pub(crate) fn missing_in_script(&self, script: &[u8]) -> Option<&'static str> {
        let mut command_expected = true;
        for word in Words(script) {
            if command_expected
                && let Ok(at) = CLASSIC.binary_search_by_key(&word, |name| name.as_bytes())
                && !self.directory.join(CLASSIC[at]).exists()
            {
                return Some(CLASSIC[at]);
            }
            command_expected = match word {
                b";" | b"|" | b"&" | b"(" | b"\n" | b"`" | b"{" | b"!" => true,
                b"exec" | b"do" | b"then" | b"else" | b"if" | b"while" | b"until" | b"time" => true,
                // `name=value command`
                _ => command_expected && word.contains(&b'='),
            };
        }
        None
    }
}

fn scratch() -> io::Result<(TempDir, PathBuf)> {
    let scratch = tempfile::Builder::new().prefix("conform-bin.").tempdir()?;
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o755))?;
    let root = fs::canonicalize(scratch.path())?;
    Ok((scratch, root))
}

fn capture(root: &Path) -> io::Result<PathBuf> {
    let path = root.join("capture-queue");
    fs::write(&path, CAPTURE)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// Words of a shell script and the signs between them, as far as needed to find commands; quotes end a word.
struct Words<'a>(&'a [u8]);

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let blank = |octet: &u8| matches!(octet, b' ' | b'\t' | b'"' | b'\'' | b'$');
        let sign = |octet: &u8| b";|&()\n`{}!<>".contains(octet);
        let start = self.0.iter().position(|octet| !blank(octet))?;
        let rest = &self.0[start..];
        let length = if sign(&rest[0]) {
            1
        } else {
            rest.iter()
                .position(|octet| blank(octet) || sign(octet))
                .unwrap_or(rest.len())
        };
        let (word, rest) = rest.split_at(length);
        self.0 = rest;
        Some(word)
    }
}

/// Where one of the system's own programs is.
pub(crate) fn of_the_system(name: &[u8]) -> Option<PathBuf> {
    let name = OF_THE_SYSTEM
        .iter()
        .find(|known| known.as_bytes() == name)?;
    SYSTEM_PATH
        .split(':')
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
}

/// Where the system's programs are looked for, by the cases too.
pub(crate) const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Programs that cases run by name and that are not ours. Nothing else is taken from the system: another mail system's
/// `sendmail` must not be tested in place of ours.
const OF_THE_SYSTEM: &[&str] = &["python3", "sh"];

/// The classic programs by name, sorted.
const CLASSIC: &[&str] = &[
    "822date",
    "822field",
    "822header",
    "822print",
    "822received",
    "addcr",
    "bouncesaying",
    "columnt",
    "condredirect",
    "datemail",
    "delcr",
    "dot-forward",
    "elq",
    "except",
    "fastforward",
    "fixcrio",
    "forward",
    "iftocc",
    "maildir2mbox",
    "maildirmake",
    "maildirqmtp",
    "maildirserial",
    "maildirsmtp",
    "mailsubj",
    "matchup",
    "new-inject",
    "newaliases",
    "newinclude",
    "ofmipd",
    "ofmipname",
    "pinq",
    "predate",
    "preline",
    "printforward",
    "printmaillist",
    "qail",
    "qbiff",
    "qmail-clean",
    "qmail-getpw",
    "qmail-inject",
    "qmail-local",
    "qmail-lspawn",
    "qmail-newmrh",
    "qmail-newu",
    "qmail-pop3d",
    "qmail-popup",
    "qmail-pw2u",
    "qmail-qmqpc",
    "qmail-qmqpd",
    "qmail-qmtpd",
    "qmail-qread",
    "qmail-qstat",
    "qmail-queue",
    "qmail-remote",
    "qmail-rspawn",
    "qmail-send",
    "qmail-showctl",
    "qmail-smtpd",
    "qmail-start",
    "qmail-tcpok",
    "qmail-tcpto",
    "qreceipt",
    "rblsmtpd",
    "recordio",
    "sendmail",
    "serialqmtp",
    "serialsmtp",
    "setforward",
    "setlock",
    "setmaillist",
    "splogger",
    "tcp-env",
    "tcpclient",
    "tcprules",
    "tcprulescheck",
    "tcpserver",
    "xqp",
    "xrecipient",
    "xsender",
    "zddist",
    "zdeferrals",
    "zfailures",
    "zoverall",
    "zrecipients",
    "zrhosts",
    "zrxdelay",
    "zsenders",
    "zsendmail",
    "zsuccesses",
    "zsuids",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(names: &[&str]) -> Programs {
        Programs::linked(Path::new("/bin/sh"), Path::new("/bin/sh"), names).unwrap()
    }

    #[test]
    fn the_table_is_sorted() {
        assert!(CLASSIC.is_sorted());
    }

    #[test]
    fn takes_nothing_but_the_shell_and_python_from_the_system() {
        let programs = programs(&["qmail-inject"]);
        assert!(programs.find("qmail-inject").is_ok());
        assert!(programs.find("sh").is_ok());
        for name in ["sendmail", "cat", "setlock", ""] {
            assert!(
                matches!(programs.find(name), Err(Failure::Missing(missing)) if missing == name)
            );
        }
    }

    #[test]
    fn sees_what_a_script_would_miss() {
        let programs = programs(&["qmail-inject", "forward"]);
        for (script, want) in [
            ("qmail-inject <m; qmail-qread", Some("qmail-qread")),
            ("echo $(preline cat) | forward joe", Some("preline")),
            ("A=1 B=2 setlock x true", Some("setlock")),
            ("exec qmail-clean", Some("qmail-clean")),
            ("for i in 1 2; do qbiff; done", Some("qbiff")),
            ("cat f |predate sh -c 'x'", Some("predate")),
            ("echo setlock except qmail-queue", None),
            ("cat <except >qbiff; ls setlock", None),
            ("forward joe | qmail-inject", None),
            ("", None),
        ] {
            assert_eq!(
                programs.missing_in_script(script.as_bytes()),
                want,
                "{script}"
            );
        }
    }
}
