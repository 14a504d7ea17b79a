//! System calls, by a filter of what a party needs. Anything else fails as if the kernel did not know it.
//!
//! That answer and no signal, because the C library asks for newer calls first and takes the older ones then: making a thread by
//! `clone` can be told from making a process, by `clone3` it cannot.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use super::{Connect, Enforced, Grants, SandboxError};

/// A group of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// Memory, time, threads, signals to itself, and descriptors that it has.
    Base,
    /// Opening and looking at files.
    Read,
    /// Making, changing and removing files.
    Write,
    /// Sockets of the internet, and to find out this host's addresses.
    Network,
    /// Sockets that it was given.
    Local,
    /// Connecting to others.
    Connect,
    /// Making files in memory.
    Copy,
}

impl Calls {
    /// Those that go with what is granted.
    pub(crate) fn of(grants: &Grants) -> impl Iterator<Item = Self> {
        let files = !grants.read.is_empty() || !grants.write.is_empty();
        [
            (Self::Base, true),
            (Self::Read, files),
            (Self::Write, !grants.write.is_empty()),
            (Self::Network, grants.connect != Connect::Nowhere),
            (Self::Local, true),
            (
                Self::Connect,
                grants.asks || grants.connect != Connect::Nowhere,
            ),
            (Self::Copy, grants.copies),
        ]
        .into_iter()
        .filter_map(|(calls, granted)| granted.then_some(calls))
    }

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Read => "read files",
            Self::Write => "write files",
            Self::Network => "internet sockets",
            Self::Local => "sockets it was given",
            Self::Connect => "connecting",
            Self::Copy => "files in memory",
        }
    }
}

pub(super) fn lock(grants: &Grants) -> Result<Enforced, SandboxError> {
    let refused = |error: &dyn std::fmt::Display| SandboxError::new("system calls", error);
    let Ok(architecture) = std::env::consts::ARCH.try_into() else {
        return Ok(Enforced::Not);
    };
    let filter = SeccompFilter::new(
        rules(grants).map_err(|error| refused(&error))?,
        SeccompAction::Errno(libc::ENOSYS as u32),
        SeccompAction::Allow,
        architecture,
    );
    let program: BpfProgram = filter
        .and_then(TryInto::try_into)
        .map_err(|error| refused(&error))?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(Enforced::Fully),
        Err(seccompiler::Error::Seccomp(error)) if error.raw_os_error() == Some(libc::EINVAL) => {
            Ok(Enforced::Not)
        }
        Err(error) => Err(refused(&error)),
    }
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(grants: &Grants) -> Result<Rules, seccompiler::BackendError> {
    let mut rules = Rules::new();
    for calls in Calls::of(grants) {
        let list: &[i64] = match calls {
            Calls::Base => BASE,
            Calls::Read => READ,
            Calls::Write => WRITE,
            Calls::Network => NETWORK,
            Calls::Local => LOCAL,
            Calls::Connect => &[libc::SYS_connect],
            Calls::Copy => &[libc::SYS_memfd_create],
        };
        rules.extend(list.iter().map(|&call| (call, Vec::new())));
    }
    // A thread, never a process.
    let thread = is_set(0, libc::CLONE_THREAD as u64)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![thread])?]);
    // Signals go to this process only.
    let own = is(0, u64::from(std::process::id()))?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![own])?]);
    let mut families = Vec::new();
    if grants.asks {
        families.push(SeccompRule::new(vec![is(0, libc::AF_UNIX as u64)?])?);
    }
    if grants.connect != Connect::Nowhere {
        for family in [libc::AF_INET, libc::AF_INET6] {
            families.push(SeccompRule::new(vec![is(0, family as u64)?])?);
        }
        let netlink = is(0, libc::AF_NETLINK as u64)?;
        let route = is(2, libc::NETLINK_ROUTE as u64)?;
        families.push(SeccompRule::new(vec![netlink, route])?);
    }
    // Of all that a descriptor can be told, that nobody waits for it.
    #[allow(
        clippy::unnecessary_cast,
        reason = "its type is another one in each C library"
    )]
    let no_waiting = is(1, libc::FIONBIO as u64)?;
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(vec![no_waiting])?]);
    // No rules at all would let every family through.
    if !families.is_empty() {
        rules.insert(libc::SYS_socket, families);
    }
    Ok(rules)
}

fn is(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn is_set(argument: u8, flag: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    let operator = SeccompCmpOp::MaskedEq(flag);
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, flag)
}

const BASE: &[i64] = &[
    libc::SYS_brk,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_futex,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_lseek,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_nanosleep,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_prlimit64,
    libc::SYS_pwrite64,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_sigaltstack,
    libc::SYS_statx,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_write,
    libc::SYS_writev,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

const READ: &[i64] = &[
    libc::SYS_chdir,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fstatfs,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_readlinkat,
    libc::SYS_statfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
];

const WRITE: &[i64] = &[
    libc::SYS_fallocate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat2,
    libc::SYS_syncfs,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_renameat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
];

const NETWORK: &[i64] = &[libc::SYS_bind, libc::SYS_sendmmsg, libc::SYS_recvmmsg];

const LOCAL: &[i64] = &[
    libc::SYS_accept4,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_accept,
];
