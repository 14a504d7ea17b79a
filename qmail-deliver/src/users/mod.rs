//! The seam that says who a local address belongs to.

mod assigned;
mod first_of;
mod fixed;
mod system;

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Address, Outcome, Report};

pub use assigned::{ASSIGNMENTS_OCTETS_MAX, AssignedUsers};
pub use first_of::FirstOf;
pub use fixed::FixedUsers;
pub use system::SystemUsers;

/// Says who a local address belongs to.
#[async_trait]
pub trait UserDirectory: Send + Sync {
    /// Looks up a recipient; `None` means that it is nobody's, for good.
    ///
    /// The classic directories look at the local part alone, whatever its case; one that holds virtual users may look at the
    /// whole address.
    ///
    /// # Errors
    ///
    /// The directory cannot be asked now. The message waits for a better time.
    async fn find(&self, recipient: &Address) -> Result<Option<User>, UserError>;
}

/// Who a local address belongs to (qmail-users(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Account name.
    pub name: Bytes,
    /// User id that deliveries run as, where they can choose.
    pub uid: u32,
    /// Group id that deliveries run as, where they can choose.
    pub gid: u32,
    /// Home directory. Relative names in instructions start here.
    pub home: PathBuf,
    /// What stands between `.qmail` and the extension in the name of an instruction file: empty for the user's own address,
    /// `-` for an extension address.
    pub dash: Bytes,
    /// The extension, in the case it was written in.
    pub extension: Bytes,
    /// A Maildir that takes all mail for this address, relative to `home`, and whatever the state of `home` itself; `None`
    /// leaves it to the user's instructions and the default of the delivery.
    pub maildir: Option<PathBuf>,
}

impl User {
    /// A user of the process's own rights, whose address is the account name and whose mail goes to the default place in
    /// `home`. Set the other fields as needed.
    pub fn new(name: impl Into<Bytes>, home: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            uid: 0,
            gid: 0,
            home: home.into(),
            dash: Bytes::new(),
            extension: Bytes::new(),
            maildir: None,
        }
    }
}

/// Why a directory of users gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UserError {
    /// `users/cdb` or `users/assign` cannot be read, or is not what it must be.
    #[error("cannot read {}", path.display())]
    Assignments {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no alias user, who gets what is nobody else's.
    #[error("there is no alias user")]
    NoAlias,
    /// Nothing can be learned of a home at the moment.
    #[error("cannot look at {}", path.display())]
    Home {
        /// Whose home.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The accounts, or a directory of an embedder's own, are out of order.
    #[error("{0}")]
    Unavailable(String),
}

impl UserError {
    /// What a recipient gets that cannot be looked up: a deferral, in the words of qmail-lspawn(8).
    pub fn outcome(&self) -> Outcome {
        Outcome::Deferred(Report::from(match self {
            Self::Assignments { .. } => "Trouble reading users/cdb in qmail-lspawn.\n",
            Self::NoAlias => "Unable to find alias user!\n",
            Self::Home { .. } => "NFS failure in qmail-local.\n",
            Self::Unavailable(_) => "Temporary failure in qmail-lspawn.\n",
        }))
    }
}
