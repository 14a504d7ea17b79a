//! The spool on a real directory, where files must be what the classic programs expect; crash tests are in `crash`.
