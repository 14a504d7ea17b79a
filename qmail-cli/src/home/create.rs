//! The first start: makes what a home lacks, and never touches what is there.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Home;
use crate::passwords;

/// The name of a host that has no other.
const LOCALHOST: &str = "localhost";

/// Longest name of a user that is taken from the environment.
const NAME_OCTETS_MAX: usize = 32;

/// Local parts that the first user gets beside the own name, so that nobody's trouble reports are lost.
const ALSO: [&str; 4] = ["postmaster", "root", "mailer-daemon", "abuse"];

/// The user that a new home has.
#[derive(Debug)]
pub(crate) struct FirstUser {
    pub(crate) name: String,
    pub(crate) secret: String,
    pub(crate) maildir: PathBuf,
}

/// Something could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make {}: {source}; is it in a place that you may write, with room on the disk?", path.display())]
pub(crate) struct CreateError {
    path: PathBuf,
    source: io::Error,
}

/// Makes `control/` with its first content, if it is missing. Returns the name of this host that was written to `me`.
///
/// # Errors
///
/// What could not be made; the next start begins anew.
pub(crate) fn create_controls(home: &Home) -> Result<Option<String>, CreateError> {
    if home.control().exists() {
        return Ok(None);
    }
    let host = host_name();
    // The directory gets its name when all is in it: a start that was cut off is begun anew.
    let new = home.path().join("control.new");
    let _ = fs::remove_dir_all(&new);
    directory(&new, 0o755)?;
    let domains = if host == LOCALHOST {
        format!("{LOCALHOST}\n")
    } else {
        format!("{host}\n{LOCALHOST}\n")
    };
    for (name, text) in [
        ("me", format!("{host}\n")),
        ("locals", domains.clone()),
        ("rcpthosts", domains),
        (
            "relayclients",
            "# Clients at these addresses may send to everywhere.\n127.0.0.0/8\n::1\n".to_owned(),
        ),
        // Bounces for those whom others pretend to be would be ours.
        ("checkrecipients", "1\n".to_owned()),
    ] {
        file(&new.join(name), &text)?;
    }
    rename(&new, &home.control())?;
    Ok(Some(host))
}

/// Makes `users/` with a first user, if it is missing.
///
/// # Errors
///
/// As [`create_controls`].
pub(crate) fn create_users(home: &Home) -> Result<Option<FirstUser>, CreateError> {
    if home.users().exists() {
        return Ok(None);
    }
    let name = user_name();
    let user_home = home.path().join("mail").join(&name);
    let maildir = user_home.join("Maildir");
    directory(&home.path().join("mail"), 0o755)?;
    directory(&user_home, 0o700)?;
    directory(&maildir, 0o700)?;
    for part in ["tmp", "new", "cur"] {
        directory(&maildir.join(part), 0o700)?;
    }
    let new = home.path().join("users.new");
    let _ = fs::remove_dir_all(&new);
    directory(&new, 0o755)?;
    let (uid, gid) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    let path = user_home.display().to_string();
    if path.contains([':', '\n']) {
        return Err(CreateError {
            path: home.users().join("assign"),
            source: io::Error::other(
                "its fields end at colons, and the path of the home holds one; choose another --home",
            ),
        });
    }
    let mut assign = String::new();
    for local_part in std::iter::once(name.as_str()).chain(ALSO) {
        assign.push_str(&format!("={local_part}:{name}:{uid}:{gid}:{path}:::\n"));
    }
    assign.push_str(".\n");
    file(&new.join("assign"), &assign)?;
    let path = new.join("passwords");
    let secret = passwords::new_secret()
        .and_then(|secret| {
            let line = passwords::line(&name, secret.as_bytes())?;
            passwords::create(&path, line.as_bytes())?;
            Ok(secret)
        })
        .map_err(|source| CreateError { path, source })?;
    rename(&new, &home.users())?;
    Ok(Some(FirstUser {
        name,
        secret,
        maildir,
    }))
}

/// The account name, if it is one that a mailbox can have; `user` otherwise. Not root: that is an alias of the first user.
fn user_name() -> String {
    ["USER", "LOGNAME"]
        .iter()
        .filter_map(|variable| std::env::var(variable).ok())
        .find(|name| {
            (1..=NAME_OCTETS_MAX).contains(&name.len())
                && name.bytes().all(|octet| {
                    octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'_'
                })
                && !ALSO.contains(&name.as_str())
        })
        .unwrap_or_else(|| "user".to_owned())
}

/// The name of this host if it is a full one, as other hosts know it; `localhost` otherwise.
fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_str()
        .ok()
        .filter(|name| {
            name.contains('.')
                && !name.starts_with('.')
                && !name.ends_with('.')
                && name
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'.' | b'-'))
        })
        .map_or_else(|| LOCALHOST.to_owned(), str::to_ascii_lowercase)
}

fn directory(path: &Path, mode: u32) -> Result<(), CreateError> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
    .map_err(|source| CreateError {
        path: path.to_owned(),
        source,
    })
}

fn file(path: &Path, text: &str) -> Result<(), CreateError> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .map_err(|source| CreateError {
            path: path.to_owned(),
            source,
        })
}

fn rename(from: &Path, to: &Path) -> Result<(), CreateError> {
    fs::rename(from, to).map_err(|source| CreateError {
        path: to.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Controls;
    use crate::passwords::PasswordFile;

    #[test]
    fn a_new_home_has_all_it_needs_and_is_made_once() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::choose(Some(directory.path().to_owned()), None);
        let host = create_controls(&home).unwrap().expect("made");
        let user = create_users(&home).unwrap().expect("made");
        assert!(user.maildir.join("new").is_dir());
        let controls = Controls::read(&home).unwrap();
        assert!(controls.warnings.is_empty(), "{:?}", controls.warnings);
        assert_eq!(controls.smtp.greeting, host);
        assert!(
            PasswordFile::new(home.passwords())
                .verify(user.name.as_bytes(), user.secret.as_bytes())
                .unwrap()
        );
        assert!(create_controls(&home).unwrap().is_none());
        assert!(create_users(&home).unwrap().is_none());
    }

    #[test]
    fn what_is_there_stays() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::choose(Some(directory.path().to_owned()), None);
        fs::create_dir(home.control()).unwrap();
        fs::create_dir(home.users()).unwrap();
        assert!(create_controls(&home).unwrap().is_none());
        assert!(create_users(&home).unwrap().is_none());
        assert_eq!(fs::read_dir(home.control()).unwrap().count(), 0);
    }

    #[test]
    fn a_path_that_users_assign_cannot_hold_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a:b");
        fs::create_dir(&path).unwrap();
        let home = Home::choose(Some(path), None);
        let error = create_users(&home).unwrap_err().to_string();
        assert!(error.contains("choose another --home"), "{error}");
    }
}
