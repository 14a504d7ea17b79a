//! The file of hashed passwords, `users/passwords` of a home.
//!
//! One line `NAME:RECORD` for each user, `#` lines and empty lines aside; [`record`] says what a record is, and there may be
//! several with spaces between them. The file is for the owner's eyes only, and is read again when it has changed.

mod record;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use qmail_core::sasl::Verifier;
use rand::TryRng as _;
use rand::rngs::SysRng;
use rustix::fs::{FlockOperation, flock};

/// Largest file in octets that is read: room for several hundred thousand users.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// Octets of a new secret: 16 of 32 letters are 80 bits.
const SECRET_OCTETS: usize = 16;

/// Letters of a new secret: none that look alike.
const SECRET_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Users and hashes, as the file has them.
pub(crate) struct PasswordFile {
    path: PathBuf,
    cached: Mutex<Cached>,
}

#[derive(Default)]
struct Cached {
    /// Of the file that `hashes` were read from.
    stamp: Option<Stamp>,
    hashes: Arc<Hashes>,
}

#[derive(Default)]
struct Hashes {
    /// The records of each user.
    records: HashMap<Box<[u8]>, Box<str>>,
    /// Whether any of them is for SCRAM-SHA-256.
    has_verifiers: bool,
}

type Stamp = (u64, Option<SystemTime>);

impl PasswordFile {
    /// The file need not be there yet.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            cached: Mutex::default(),
        }
    }

    /// Whether `secret` is the password of `name`. Takes tens of milliseconds on purpose, and some memory: the caller bounds
    /// how many run at once.
    ///
    /// # Errors
    ///
    /// The file cannot be read. A file that is missing has no users.
    pub(crate) fn verify(&self, name: &[u8], secret: &[u8]) -> io::Result<bool> {
        let hashes = self.hashes()?;
        let (known, records) = match hashes.records.get(name) {
            Some(records) => (true, &**records),
            None => (false, record::NOBODY),
        };
        Ok(record::fits(records, secret) && known)
    }

    /// What SCRAM-SHA-256 is checked against for `name`; `None` if there is no such user, or none with such a record.
    ///
    /// # Errors
    ///
    /// As [`PasswordFile::verify`].
    pub(crate) fn verifier(&self, name: &[u8]) -> io::Result<Option<Verifier>> {
        let hashes = self.hashes()?;
        let records = hashes.records.get(name);
        Ok(records.and_then(|records| record::verifier(records)))
    }

    /// Whether any user has a record for SCRAM-SHA-256.
    ///
    /// # Errors
    ///
    /// As [`PasswordFile::verify`].
    pub(crate) fn has_verifiers(&self) -> io::Result<bool> {
        Ok(self.hashes()?.has_verifiers)
    }

    /// Whether there is a line for `name`.
    ///
    /// # Errors
    ///
    /// As [`PasswordFile::verify`].
    pub(crate) fn knows(&self, name: &[u8]) -> io::Result<bool> {
        Ok(self.hashes()?.records.contains_key(name))
    }

    /// The users, sorted.
    ///
    /// # Errors
    ///
    /// As [`PasswordFile::verify`].
    pub(crate) fn names(&self) -> io::Result<Vec<Box<[u8]>>> {
        let mut names: Vec<_> = self.hashes()?.records.keys().cloned().collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Gives a user a password, in place of the one that there may be; with `scram` one that also SCRAM-SHA-256 can use.
    ///
    /// # Errors
    ///
    /// What the disk says; the file is as it was.
    pub(crate) fn set(&self, name: &str, secret: &[u8], scram: bool) -> io::Result<()> {
        let line = if scram {
            format!(
                "{name}:{} {}\n",
                record::argon2(secret)?,
                record::scram(secret)?
            )
        } else {
            line(name, secret)?
        };
        self.change(name, Some(&line)).map(|_| ())
    }

    /// Gives a user this record, which somebody else has made.
    ///
    /// # Errors
    ///
    /// It is none that can be used, or what the disk says; the file is as it was.
    pub(crate) fn set_record(&self, name: &str, record: &str) -> io::Result<()> {
        if record.split_ascii_whitespace().count() != 1 || !record::is_record(record.trim()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "no record of argon2, yescrypt, SHA-crypt or SCRAM-SHA-256",
            ));
        }
        let line = format!("{name}:{}\n", record.trim());
        self.change(name, Some(&line)).map(|_| ())
    }

    /// Takes a user out; `false` if there was none of that name.
    ///
    /// # Errors
    ///
    /// What the disk says; the file is as it was.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        self.change(name, None)
    }

    /// Puts `line` in the place of all lines of `name`, or nothing; tells whether there were any. All other lines stay as
    /// they are. Who else wants to change the file waits.
    fn change(&self, name: &str, line: Option<&str>) -> io::Result<bool> {
        let directory = File::open(self.path.parent().unwrap_or(Path::new("/")))?;
        flock(&directory, FlockOperation::LockExclusive)?;
        let old = match fs::read(&self.path) {
            Ok(old) => old,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let prefix = format!("{name}:");
        let mut new = Vec::with_capacity(old.len() + line.map_or(0, str::len));
        let mut found = false;
        for line in old.split_inclusive(|&octet| octet == b'\n') {
            if line.starts_with(prefix.as_bytes()) {
                found = true;
                continue;
            }
            new.extend_from_slice(line);
            if !line.ends_with(b"\n") {
                new.push(b'\n');
            }
        }
        if line.is_none() && !found {
            return Ok(false);
        }
        new.extend_from_slice(line.unwrap_or_default().as_bytes());
        let scratch = self.path.with_extension("new");
        match fs::remove_file(&scratch) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => create(&scratch, &new)?,
        }
        keep_owner(&self.path, &scratch)?;
        fs::rename(&scratch, &self.path)?;
        directory.sync_all()?;
        Ok(found)
    }

    fn hashes(&self) -> io::Result<Arc<Hashes>> {
        let stamp = match fs::metadata(&self.path) {
            Ok(metadata) => (metadata.len(), metadata.modified().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Arc::default()),
            Err(error) => return Err(error),
        };
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.stamp != Some(stamp) {
            if stamp.0 > FILE_OCTETS_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            cached.hashes = Arc::new(parse(&fs::read(&self.path)?));
            cached.stamp = Some(stamp);
        }
        Ok(Arc::clone(&cached.hashes))
    }
}

/// Whoever could read the old file can read the new one: root may change what another account goes by.
fn keep_owner(old: &Path, new: &Path) -> io::Result<()> {
    match fs::metadata(old) {
        Ok(old) if rustix::process::geteuid().is_root() => {
            std::os::unix::fs::chown(new, Some(old.uid()), Some(old.gid()))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Of a name that occurs twice, the last line counts. Lines without a hash let nobody in.
fn parse(file: &[u8]) -> Hashes {
    let records: HashMap<_, Box<str>> = file
        .split(|&octet| octet == b'\n')
        .filter(|line| !line.starts_with(b"#"))
        .filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            let records = std::str::from_utf8(&line[colon + 1..]).ok()?;
            Some((line[..colon].into(), records.trim_end().into()))
        })
        .collect();
    let has_verifiers = records
        .values()
        .any(|records| record::verifier(records).is_some());
    Hashes {
        records,
        has_verifiers,
    }
}

/// A line of the file, with its LF.
///
/// # Errors
///
/// The system has no random numbers.
pub(crate) fn line(name: &str, secret: &[u8]) -> io::Result<String> {
    Ok(format!("{name}:{}\n", record::argon2(secret)?))
}

/// Whether a user can have this name: lower case, without what ends a name somewhere.
pub(crate) fn is_name(name: &str) -> bool {
    let ends = |octet: u8| octet <= b' ' || matches!(octet, b':' | b'@' | 0x7f);
    !name.is_empty()
        && !name.starts_with('#')
        && !name.bytes().any(ends)
        && name.to_ascii_lowercase() == name
}

/// A new secret that nobody knows.
///
/// # Errors
///
/// The system has no random numbers.
pub(crate) fn new_secret() -> io::Result<String> {
    let mut random = [0; SECRET_OCTETS];
    SysRng
        .try_fill_bytes(&mut random)
        .map_err(io::Error::other)?;
    // 32 letters: every value of five bits is one, so that all are equally likely.
    Ok(random
        .iter()
        .map(|octet| char::from(SECRET_LETTERS[usize::from(octet % 32)]))
        .collect())
}

/// Writes the file anew, readable by its owner only.
///
/// # Errors
///
/// What the disk says.
pub(crate) fn create(path: &Path, lines: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(lines)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_password_opens() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwords");
        let file = PasswordFile::new(path.clone());
        assert!(!file.verify(b"ann", b"x").unwrap(), "no file, no users");
        let secret = new_secret().unwrap();
        let line = line("ann", secret.as_bytes()).unwrap();
        create(&path, format!("# users\n{line}bob:\n").as_bytes()).unwrap();
        assert!(file.verify(b"ann", secret.as_bytes()).unwrap());
        assert!(!file.verify(b"ann", b"").unwrap());
        assert!(!file.verify(b"Ann", secret.as_bytes()).unwrap());
        assert!(!file.verify(b"bob", b"").unwrap());
        assert!(!file.verify(b"# users", b"").unwrap());
        assert!(create(&path, b"").is_err(), "never overwritten");
        file.set("ann", b"new", false).unwrap();
        assert!(file.verify(b"ann", b"new").unwrap());
        assert!(!file.verify(b"ann", secret.as_bytes()).unwrap());
        assert!(file.knows(b"ann").unwrap() && !file.knows(b"eve").unwrap());
    }

    #[test]
    fn the_file_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passwords");
        let file = PasswordFile::new(path.clone());
        assert!(!file.remove("ann").unwrap());
        file.set("ann", b"one", true).unwrap();
        fs::write(
            &path,
            [&fs::read(&path).unwrap()[..], b"# note\nann:x\nbob:y"].concat(),
        )
        .unwrap();
        file.set("ann", b"two", false).unwrap();
        let lines = String::from_utf8(fs::read(&path).unwrap()).unwrap();
        assert!(
            lines.starts_with("# note\nbob:y\nann:$argon2id$"),
            "{lines}"
        );
        assert_eq!(lines.matches("ann:").count(), 1);
        assert_eq!(file.verifier(b"ann").unwrap(), None);
        assert!(!file.has_verifiers().unwrap());
        file.set("eve", b"three", true).unwrap();
        assert!(file.verifier(b"eve").unwrap().unwrap().fits(b"three"));
        assert!(file.has_verifiers().unwrap() && file.verify(b"eve", b"three").unwrap());
        let record = "$5$saltsalt$hl9BvcGsj7AkON13nbqeQHDgRpHyFxt7WDzLoS.OCQ/";
        file.set_record("bob", record).unwrap();
        assert!(file.verify(b"bob", b"pencil").unwrap());
        assert!(file.set_record("bob", "pencil").is_err());
        assert!(
            file.set_record("bob", &format!("{record} {record}"))
                .is_err()
        );
        let names = file.names().unwrap();
        assert_eq!(names, [&b"ann"[..], b"bob", b"eve"].map(Box::from));
        assert!(file.remove("bob").unwrap() && !file.knows(b"bob").unwrap());
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_name_is_one_word_in_lower_case() {
        for (name, good) in [
            ("ann", true),
            ("a-b.c", true),
            ("\u{e9}", true),
            ("", false),
            ("Ann", false),
            ("a b", false),
            ("a:b", false),
            ("#a", false),
            ("a@b", false),
            ("a\n", false),
        ] {
            assert_eq!(is_name(name), good, "{name}");
        }
    }
}
