//! Users by `users/cdb` or `users/assign` of a qmail home.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::Address;
use qmail_core::users::{Assignment, Assignments};
use tokio::task::spawn_blocking;

use super::{User, UserDirectory, UserError};

/// Largest `users/cdb` or `users/assign` in octets that is read; a larger one is an error.
pub const ASSIGNMENTS_OCTETS_MAX: u64 = 256 * 1024 * 1024;

/// The users that the administrator assigned (qmail-users(5)): `users/cdb` if there is one, else `users/assign`, else nobody.
///
/// The table is held in memory and read again as soon as its file was replaced or changed, so that qmail-newu(8) works as
/// ever. Cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use qmail_core::Address;
/// use qmail_deliver::{AssignedUsers, UserDirectory};
/// # let scratch = tempfile::tempdir()?;
/// # let home = scratch.path();
/// std::fs::create_dir(home.join("users"))?;
/// std::fs::write(home.join("users/assign"), "=joe.shmoe:joe:501:100:/home/joe:::\n.\n")?;
/// let users = AssignedUsers::new(home);
/// let joe = users.find(&Address::new("Joe.Shmoe@example.org")?).await?.expect("assigned");
/// assert_eq!(joe.uid, 501);
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct AssignedUsers {
    home: Arc<Path>,
    files: &'static [(&'static str, Parse)],
    table: Arc<Mutex<Option<Table>>>,
}

struct Table {
    version: Version,
    assignments: Arc<Assignments>,
}

/// What tells that a file is another one than before.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Version {
    device: u64,
    inode: u64,
    octets: u64,
    changed: (i64, i64),
}

impl AssignedUsers {
    /// `home` is the home of the mail system: the files are below `home/users`.
    pub fn new(home: impl Into<PathBuf>) -> Self {
        Self {
            home: home.into().into(),
            files: FILES,
            table: Arc::default(),
        }
    }

    /// By `users/cdb` alone, as qmail-lspawn(8): `users/assign` counts only once qmail-newu(8) was run.
    pub fn by_cdb(home: impl Into<PathBuf>) -> Self {
        Self {
            files: &FILES[..1],
            ..Self::new(home)
        }
    }

    /// Reads the table now, so that one that cannot be used is known before somebody's mail has to wait for it. Blocks.
    ///
    /// # Errors
    ///
    /// [`UserError::Assignments`], as [`find`](UserDirectory::find) would have it.
    pub fn check(&self) -> Result<(), UserError> {
        self.current().map(drop)
    }

    /// The table as it is now; `None` if there is none. Blocks.
    fn current(&self) -> Result<Option<Arc<Assignments>>, UserError> {
        for (name, parse) in self.files {
            let path = self.home.join(name);
            match self.read(&path, *parse) {
                Ok(Some(assignments)) => return Ok(Some(assignments)),
                Ok(None) => {}
                Err(source) => return Err(UserError::Assignments { path, source }),
            }
        }
        Ok(None)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "this is the seam to the files of qmail-users"
    )]
    fn read(&self, path: &Path, parse: Parse) -> Result<Option<Arc<Assignments>>, BoxedError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        let version = Version {
            device: metadata.dev(),
            inode: metadata.ino(),
            octets: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        };
        if let Some(table) = &*self.table.lock().unwrap_or_else(PoisonError::into_inner)
            && table.version == version
        {
            return Ok(Some(table.assignments.clone()));
        }
        let mut octets = Vec::new();
        file.take(ASSIGNMENTS_OCTETS_MAX + 1)
            .read_to_end(&mut octets)?;
        if octets.len() as u64 > ASSIGNMENTS_OCTETS_MAX {
            return Err(format!("larger than {ASSIGNMENTS_OCTETS_MAX} octets").into());
        }
        let assignments = Arc::new(parse(octets)?);
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Some(Table {
            version,
            assignments: assignments.clone(),
        });
        Ok(Some(assignments))
    }
}

#[async_trait]
impl UserDirectory for AssignedUsers {
    async fn find(&self, recipient: &Address) -> Result<Option<User>, UserError> {
        let this = self.clone();
        let current = spawn_blocking(move || this.current()).await;
        let current = current.map_err(|error| UserError::Unavailable(error.to_string()))?;
        let Some(assignments) = current? else {
            return Ok(None);
        };
        match assignments.find(recipient.local_part()) {
            Ok(found) => Ok(found.map(User::from)),
            Err(error) => Err(UserError::Assignments {
                path: self.home.join("users"),
                source: error.into(),
            }),
        }
    }
}

impl From<Assignment> for User {
    fn from(assignment: Assignment) -> Self {
        let home = std::ffi::OsString::from_vec(assignment.home.into());
        Self {
            name: assignment.user,
            uid: assignment.uid,
            gid: assignment.gid,
            home: home.into(),
            dash: assignment.dash,
            extension: assignment.extension,
            maildir: None,
        }
    }
}

impl std::fmt::Debug for AssignedUsers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AssignedUsers")
            .field("home", &self.home)
            .finish_non_exhaustive()
    }
}

type BoxedError = Box<dyn Error + Send + Sync>;
type Parse = fn(Vec<u8>) -> Result<Assignments, BoxedError>;

/// The files that are looked for, in this order, and how each is read.
const FILES: &[(&str, Parse)] = &[
    ("users/cdb", |octets| {
        Ok(Assignments::open(Bytes::from(octets))?)
    }),
    ("users/assign", |octets| Ok(Assignments::parse(&octets)?)),
];

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests write the files")]
mod tests {
    use std::fs;

    use super::*;

    async fn uid(users: &AssignedUsers, local_part: &str) -> Result<Option<u32>, UserError> {
        let recipient = Address::new(format!("{local_part}@here")).unwrap();
        Ok(users.find(&recipient).await?.map(|user| user.uid))
    }

    #[tokio::test]
    async fn the_files_are_followed() {
        let home = tempfile::tempdir().unwrap();
        let users = AssignedUsers::new(home.path());
        assert_eq!(uid(&users, "joe").await.unwrap(), None, "no directory");
        users.check().expect("nobody is assigned");
        fs::create_dir(home.path().join("users")).unwrap();
        let assign = home.path().join("users/assign");
        fs::write(&assign, "=joe:joe:1:1:/h:::\n+joe-:joe:2:1:/h:-::\n.\n").unwrap();
        assert_eq!(uid(&users, "joe").await.unwrap(), Some(1));
        assert_eq!(uid(&users, "JOE-x").await.unwrap(), Some(2));
        assert_eq!(uid(&users, "ann").await.unwrap(), None);

        fs::write(&assign, "=joe:joe:33:1:/h:::\n.\n").unwrap();
        assert_eq!(uid(&users, "joe").await.unwrap(), Some(33));
        fs::write(&assign, "=joe:joe:33:1:/h:::\n").unwrap();
        assert!(users.check().is_err());
        let error = uid(&users, "joe").await.unwrap_err();
        assert!(error.to_string().ends_with("users/assign"), "{error}");
        let report = error.outcome();
        assert_eq!(
            report.report().as_bytes(),
            b"Trouble reading users/cdb in qmail-lspawn.\n"
        );

        let cdb = io::Cursor::new(Vec::new());
        let cdb = qmail_core::users::write_cdb(b"=joe:joe:44:1:/h:::\n.\n", cdb).unwrap();
        fs::write(home.path().join("users/cdb"), cdb.into_inner()).unwrap();
        assert_eq!(uid(&users, "joe").await.unwrap(), Some(44));
        fs::write(home.path().join("users/cdb"), "no cdb").unwrap();
        assert!(uid(&users, "joe").await.is_err());
        let by_cdb = AssignedUsers::by_cdb(home.path());
        assert!(uid(&by_cdb, "joe").await.is_err());
        fs::remove_file(home.path().join("users/cdb")).unwrap();
        assert_eq!(uid(&by_cdb, "joe").await.unwrap(), None);
    }
}
