//! Where mail goes: to mailboxes of this host, or by SMTP to another.
//!
//! | to | use |
//! |---|---|
//! | deliver to users of this host | [`LocalDelivery`], a [`qmail_core::Delivery`] |
//! | deliver to one mailbox by its instruction file | [`LocalAgent`] |
//! | say who those users are | [`UserDirectory`]: [`AssignedUsers`], [`FixedUsers`], [`FirstOf`] several, or your own |
//! | write a message into a Maildir | [`Maildirs`] |
//! | deliver to other hosts | [`RemoteDelivery`], a [`qmail_core::Delivery`] |
//! | ask the domain name system | [`Resolver`]: [`HickoryResolver`], [`FixedResolver`], or your own |
//! | tell errors of the system that pass | [`is_temporary`] |
//! | make connections another way | [`Connect`]: [`TcpConnect`], or your own |
//!
//! Everything runs on a tokio runtime that the caller brings. Nothing here knows a queue: what is tried again, and when, is
//! decided by who calls.
#![forbid(unsafe_code)]

mod capture;
mod errno;
mod local;
mod maildir;
mod remote;
mod resolver;
mod users;

pub use capture::Capture;
pub use errno::is_temporary;
pub use local::{
    DOT_LOCK_AGE_MAX, FileContent, INSTRUCTIONS_OCTETS_MAX, LocalAgent, LocalDelivery, Parcel,
    ParcelContent, Plan, Programs, Rehearsal, Step, Strictness, has_mailbox, sync_name,
    try_lock_mbox,
};
pub use maildir::{MaildirError, Maildirs};
pub use remote::{
    Connect, RecipientReport, RemoteConfig, RemoteDelivery, RemoteReport, Stream, TcpConnect,
    TlsPolicy, next_hop_key, tls_client_config,
};
pub use resolver::{
    ANSWERS_MAX, FixedResolver, HickoryResolver, LookupError, MailExchanger, Resolver,
    ResolverError,
};
pub use users::{
    ASSIGNMENTS_OCTETS_MAX, AssignedUsers, FirstOf, FixedUsers, SystemUsers, User, UserDirectory,
    UserError,
};
