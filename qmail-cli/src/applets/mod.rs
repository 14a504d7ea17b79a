//! The programs, one file each. The table that names them is in `applet.rs`.

pub(crate) mod inject;
pub(crate) mod links;
pub(crate) mod new_inject;
pub(crate) mod ofmipname;
pub(crate) mod predate;
pub(crate) mod queue;
pub(crate) mod sendmail;
pub(crate) mod serve;
pub(crate) mod tools822;
