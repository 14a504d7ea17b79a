//! Which errors of the system pass by themselves.

use std::io;

use rustix::io::Errno;

/// Whether an operation that failed so may work later: the list that the classic programs go by. An error without a number
/// counts as temporary: mail is not lost over it.
pub fn is_temporary(error: &io::Error) -> bool {
    Errno::from_io_error(error).is_none_or(|errno| TEMPORARY.contains(&errno))
}

const TEMPORARY: &[Errno] = &[
    Errno::INTR,
    Errno::NOMEM,
    Errno::TXTBSY,
    Errno::IO,
    Errno::TIMEDOUT,
    Errno::AGAIN,
    Errno::DEADLK,
    Errno::BUSY,
    Errno::NFILE,
    Errno::MFILE,
    Errno::FBIG,
    Errno::NOSPC,
    Errno::NETDOWN,
    Errno::NETUNREACH,
    Errno::NETRESET,
    Errno::CONNABORTED,
    Errno::CONNRESET,
    Errno::NOBUFS,
    Errno::TOOMANYREFS,
    Errno::CONNREFUSED,
    Errno::HOSTDOWN,
    Errno::HOSTUNREACH,
    Errno::USERS,
    Errno::DQUOT,
    Errno::STALE,
    Errno::NOLCK,
];
