//! The file of hashed passwords, `users/passwords` of a home.
//!
//! One line `NAME:HASH` for each user, `#` lines and empty lines aside. HASH is a PHC string of argon2. The file is for the
//! owner's eyes only, and is read again when it has changed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use rand::TryRng as _;
use rand::rngs::SysRng;

/// Largest file in octets that is read: room for several hundred thousand users.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// Octets of a new secret: 16 of 32 letters are 80 bits.
const SECRET_OCTETS: usize = 16;

/// Letters of a new secret: none that look alike.
const SECRET_LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Cost of a new hash: memory in KiB, passes, lanes. As hard to try out as the better known 19 MiB and two passes, and a
/// server that checks passwords stays small.
const COST: (u32, u32, u32) = (7168, 5, 1);

/// A hash that fits no password, to spend the same time on a name that does not exist.
const NOBODY: &str = "$argon2id$v=19$m=7168,t=5,p=1$bm9ib2R5IGhhcyB0aGlz$3q2+796tvu/erb7v3q2+796tvu/erb7v3q2+796tvu8";

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

type Hashes = HashMap<Box<[u8]>, Box<str>>;

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
        let (known, hash) = match hashes.get(name) {
            Some(hash) => (true, &**hash),
            None => (false, NOBODY),
        };
        let right = PasswordHash::new(hash)
            .is_ok_and(|hash| Argon2::default().verify_password(secret, &hash).is_ok());
        Ok(known && right)
    }

    /// Whether there is a line for `name`.
    ///
    /// # Errors
    ///
    /// As [`PasswordFile::verify`].
    pub(crate) fn knows(&self, name: &[u8]) -> io::Result<bool> {
        Ok(self.hashes()?.contains_key(name))
    }

    /// Gives a user a password: a line at the end, which counts from now on.
    ///
    /// # Errors
    ///
    /// What the disk says; the file is as it was.
    pub(crate) fn set(&self, name: &str, secret: &str) -> io::Result<()> {
        let mut lines = match fs::read_to_string(&self.path) {
            Ok(lines) => lines,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        if !lines.is_empty() && !lines.ends_with('\n') {
            lines.push('\n');
        }
        lines.push_str(&line(name, secret)?);
        let new = self.path.with_extension("new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => create(&new, &lines)?,
        }
        fs::rename(&new, &self.path)
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

/// Of a name that occurs twice, the last line counts. Lines without a hash let nobody in.
fn parse(file: &[u8]) -> Hashes {
    file.split(|&octet| octet == b'\n')
        .filter(|line| !line.starts_with(b"#"))
        .filter_map(|line| {
            let colon = memchr::memchr(b':', line)?;
            let hash = std::str::from_utf8(&line[colon + 1..]).ok()?;
            Some((line[..colon].into(), hash.trim_end().into()))
        })
        .collect()
}

/// A line of the file, with its LF.
///
/// # Errors
///
/// The system has no random numbers.
pub(crate) fn line(name: &str, secret: &str) -> io::Result<String> {
    let (memory, passes, lanes) = COST;
    let hash: PasswordHash = Params::new(memory, passes, lanes, None)
        .map(|cost| Argon2::new(Algorithm::Argon2id, Version::V0x13, cost))
        .map_err(|error| io::Error::other(error.to_string()))?
        .hash_password(secret.as_bytes())
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(format!("{name}:{hash}\n"))
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
pub(crate) fn create(path: &Path, lines: &str) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(lines.as_bytes())?;
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
        let lines = format!("# users\n{}bob:\n", line("ann", &secret).unwrap());
        create(&path, &lines).unwrap();
        assert!(file.verify(b"ann", secret.as_bytes()).unwrap());
        assert!(!file.verify(b"ann", b"").unwrap());
        assert!(!file.verify(b"Ann", secret.as_bytes()).unwrap());
        assert!(!file.verify(b"bob", b"").unwrap());
        assert!(!file.verify(b"# users", b"").unwrap());
        assert!(create(&path, "").is_err(), "never overwritten");
        file.set("ann", "new").unwrap();
        assert!(file.verify(b"ann", b"new").unwrap());
        assert!(!file.verify(b"ann", secret.as_bytes()).unwrap());
        assert!(file.knows(b"ann").unwrap() && !file.knows(b"eve").unwrap());
    }

    #[test]
    fn the_hash_of_nobody_costs_what_a_real_one_costs() {
        let hash = PasswordHash::new(NOBODY).expect("a PHC string");
        let real = line("a", "b").unwrap();
        let real = PasswordHash::new(real[2..].trim_end()).unwrap();
        assert_eq!(hash.algorithm, real.algorithm);
        assert_eq!(hash.params, real.params);
    }
}
