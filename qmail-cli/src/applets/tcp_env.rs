//! `tcp-env`: finds out about the connection on descriptor 0, for a program that inetd starts.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use bytes::Bytes;
use qmail_deliver::HickoryResolver;

use crate::applet::{Applet, Call, Kind};
use crate::getopt::Getopt;
use crate::tcp_peer::{TcpPeer, name_of};
use crate::{exit, stdio};

pub(crate) const APPLET: Applet = Applet {
    names: &["tcp-env"],
    kind: Kind::Classic,
    summary: "tell a program about its TCP connection, in the environment",
    run,
};

/// -t when it is not given.
const IDENT_TIMEOUT: Duration = Duration::from_secs(30);

/// As much of an ident answer as is kept.
const IDENT_OCTETS_MAX: usize = 998;

/// What stands for a name that cannot be found out at the moment.
const SOFT_ERROR: &[u8] = b"softdnserror";

/// Every failure is exit code 111.
fn run(call: &Call) -> ExitCode {
    let failure = match prepare(&call.arguments) {
        Ok(mut program) => {
            let error = program.exec();
            format!("unable to run {}: {error}", program.get_program().display())
        }
        Err(words) => words,
    };
    exit::fatal("tcp-env", &failure, exit::TEMPORARY)
}

fn prepare(arguments: &[OsString]) -> Result<Command, String> {
    let (mut ident, mut wait) = (true, IDENT_TIMEOUT);
    let mut getopt = Getopt::new(arguments, "rRt:");
    for option in getopt.by_ref() {
        let option = option.map_err(|error| error.to_string())?;
        match option.letter {
            b'r' => ident = true,
            b'R' => ident = false,
            _ => {
                let seconds = std::str::from_utf8(option.argument).ok();
                let seconds = seconds.and_then(|seconds| seconds.parse().ok());
                wait = Duration::from_secs(seconds.ok_or("-t needs a number of seconds")?);
            }
        }
    }
    let [name, rest @ ..] = getopt.operands() else {
        return Err("usage: tcp-env [-rR] [-t timeout] program [arg ...]".to_owned());
    };
    let mut program = Command::new(name);
    program.args(rest);
    if std::env::var_os("PROTO").is_some_and(|proto| proto == "TCP") {
        return Ok(program);
    }
    let (local, remote) =
        ends().map_err(|error| format!("descriptor 0 is no TCP connection: {error}"))?;
    let ident = ident.then_some(wait);
    let peer = stdio::run(find_out(TcpPeer::new(local, remote), ident))
        .map_err(|error| format!("no resources: {error}"))?;
    peer.describe_to(&mut program);
    Ok(program)
}

/// Both ends of the connection on descriptor 0.
fn ends() -> io::Result<(SocketAddr, SocketAddr)> {
    let stdin = io::stdin();
    let local = rustix::net::getsockname(&stdin)?;
    let remote = rustix::net::getpeername(&stdin)?.ok_or(io::ErrorKind::NotConnected)?;
    Ok((SocketAddr::try_from(local)?, SocketAddr::try_from(remote)?))
}

async fn find_out(mut peer: TcpPeer, ident: Option<Duration>) -> TcpPeer {
    let resolver = HickoryResolver::system().ok();
    for (address, host) in [
        (peer.local.ip(), &mut peer.local_host),
        (peer.remote.ip(), &mut peer.remote_host),
    ] {
        let found = match &resolver {
            Some(resolver) => name_of(resolver, address).await.ok(),
            None => None,
        };
        *host = found.unwrap_or(Some(Bytes::from_static(SOFT_ERROR)));
    }
    if let Some(wait) = ident {
        peer.ask_ident(wait, IDENT_OCTETS_MAX).await;
    }
    peer
}
