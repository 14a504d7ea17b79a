//! The programs, one file each. The table that names them is in `applet.rs`.

pub(crate) mod fixcrio;
pub(crate) mod inject;
pub(crate) mod links;
pub(crate) mod new_inject;
pub(crate) mod newmrh;
pub(crate) mod ofmipd;
pub(crate) mod ofmipname;
pub(crate) mod pop3d;
pub(crate) mod popup;
pub(crate) mod predate;
pub(crate) mod print822;
pub(crate) mod qmqpc;
pub(crate) mod qmtpd;
pub(crate) mod queue;
pub(crate) mod rblsmtpd;
pub(crate) mod remote;
pub(crate) mod sendmail;
pub(crate) mod serve;
pub(crate) mod smtpd;
pub(crate) mod tcp_env;
pub(crate) mod tcprules;
pub(crate) mod tcpserver;
pub(crate) mod tcpto;
pub(crate) mod tools822;
