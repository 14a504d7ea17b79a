//! The programs, one file each. The table that names them is in `applet.rs`.

pub(crate) mod conditions;
pub(crate) mod dot_forward;
pub(crate) mod fastforward;
pub(crate) mod forward_files;
pub(crate) mod getpw;
pub(crate) mod inject;
pub(crate) mod links;
pub(crate) mod local;
pub(crate) mod maildir2mbox;
pub(crate) mod maildirmake;
pub(crate) mod maildirserial;
pub(crate) mod newu;
pub(crate) mod predate;
pub(crate) mod preline;
pub(crate) mod pw2u;
pub(crate) mod qbiff;
pub(crate) mod qreceipt;
pub(crate) mod sendmail;
pub(crate) mod serialqmtp;
pub(crate) mod serialsmtp;
pub(crate) mod serve;
pub(crate) mod setlock;
