//! Where mail goes: into Maildirs of this host, or by SMTP to another.
//!
//! | to | use |
//! |---|---|
//! | say who local addresses belong to | [`UserDirectory`]: [`AssignedUsers`], [`FixedUsers`], or your own |
//! | ask the domain name system | [`Resolver`]: [`HickoryResolver`], [`FixedResolver`], or your own |
//!
//! Everything runs on a tokio runtime that the caller brings. Nothing here knows a queue: what is tried again, and when, is
//! decided by who calls.
#![forbid(unsafe_code)]

mod errno;
mod local;
mod maildir;
mod remote;
mod resolver;
mod users;

pub use local::LocalDelivery;
pub use maildir::{MaildirError, Maildirs};
pub use remote::{Connect, RemoteConfig, RemoteDelivery, RemoteReport, Stream, TcpConnect};
pub use resolver::{
    ANSWERS_MAX, FixedResolver, HickoryResolver, LookupError, MailExchanger, Resolver,
    ResolverError,
};
pub use users::{
    ASSIGNMENTS_OCTETS_MAX, AssignedUsers, FirstOf, FixedUsers, User, UserDirectory, UserError,
};
