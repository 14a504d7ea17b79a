//! The process of one connection, until it becomes the program.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use qmail_core::cdb::Cdb;
use qmail_core::tcprules::{self, Instruction, Peer};
use qmail_deliver::HickoryResolver;

use super::{Options, Verbosity};
use crate::applet::Call;
use crate::tcp_peer::{RemoteName, TcpPeer, set};
use crate::{cdb_file, exit, stdio};

/// As much of an ident answer as is kept.
const IDENT_OCTETS_MAX: usize = 256;

/// As much of a name as a log line shows.
const SHOWN_OCTETS_MAX: usize = 100;

/// The exit code of a connection that the rules deny, as log lines have it.
const DENIED: u8 = 100;

pub(super) fn run(call: &Call) -> ExitCode {
    let options = match Options::parse(&call.arguments) {
        Ok(options) => options,
        Err(words) => return exit::fatal("tcpserver", &words, exit::PERMANENT),
    };
    match prepare(&options) {
        Ok(Some(mut program)) => {
            let error = program.exec();
            let name = program.get_program().display().to_string();
            drop_with(&options, &format_args!("unable to run {name}: {error}"))
        }
        Ok(None) => ExitCode::from(DENIED),
        Err(words) => drop_with(&options, &words),
    }
}

fn drop_with(options: &Options<'_>, words: &dyn std::fmt::Display) -> ExitCode {
    if options.verbosity < Verbosity::Quiet {
        return ExitCode::from(exit::TEMPORARY);
    }
    exit::fatal("tcpserver", words, exit::TEMPORARY)
}

/// The program with its environment; `None` if the rules deny the connection.
fn prepare(options: &Options<'_>) -> Result<Option<Command>, String> {
    let (local, remote) = ends().map_err(|error| format!("no connection: {error}"))?;
    if !options.banner.is_empty() {
        let mut out = io::stdout().lock();
        out.write_all(&options.banner)
            .and_then(|()| out.flush())
            .map_err(|error| format!("unable to print banner: {error}"))?;
    }
    let peer = stdio::run(find_out(TcpPeer::new(local, remote), options))
        .map_err(|error| format!("no resources: {error}"))?;
    let mut program = Command::new(&options.program[0]);
    program.args(&options.program[1..]);
    peer.describe_to(&mut program);
    let allowed = match rules(options)? {
        Some(rules) => apply(&rules, &peer, &mut program)?,
        None => true,
    };
    log(options, &peer, allowed);
    Ok(allowed.then_some(program))
}

fn ends() -> io::Result<(SocketAddr, SocketAddr)> {
    let stdin = io::stdin();
    let local = rustix::net::getsockname(&stdin)?;
    let remote = rustix::net::getpeername(&stdin)?.ok_or(io::ErrorKind::NotConnected)?;
    Ok((SocketAddr::try_from(local)?, SocketAddr::try_from(remote)?))
}

async fn find_out(mut peer: TcpPeer, options: &Options<'_>) -> TcpPeer {
    peer.local_host = options.local_name.clone().map(Into::into);
    let wanted = options.look_up_remote || peer.local_host.is_none();
    if wanted && let Ok(resolver) = HickoryResolver::system() {
        let remote = match (options.look_up_remote, options.paranoid) {
            (false, _) => RemoteName::Unasked,
            (true, false) => RemoteName::AsTold,
            (true, true) => RemoteName::Confirmed,
        };
        peer.look_up_names(&resolver, remote).await;
    }
    if let Some(wait) = options.ident {
        peer.ask_ident(wait, IDENT_OCTETS_MAX).await;
    }
    peer
}

fn rules(options: &Options<'_>) -> Result<Option<Cdb<bytes::Bytes>>, String> {
    let Some(path) = &options.rules else {
        return Ok(None);
    };
    let unreadable =
        |error: &dyn std::fmt::Display| format!("unable to read {}: {error}", path.display());
    match cdb_file::read(path).map_err(|error| unreadable(&error))? {
        None if !options.rules_may_be_missing => Err(unreadable(&"there is no such file")),
        rules => Ok(rules),
    }
}

/// Goes by the rules; `false` if they deny.
fn apply(rules: &Cdb<bytes::Bytes>, peer: &TcpPeer, program: &mut Command) -> Result<bool, String> {
    let address = peer.remote.ip().to_string();
    let who = Peer {
        address: address.as_bytes(),
        host: peer.remote_host.as_deref(),
        info: peer.remote_info.as_deref(),
    };
    let rule = tcprules::find(rules, who).map_err(|error| error.to_string())?;
    let Some(rule) = rule else {
        return Ok(true);
    };
    for instruction in rule.instructions() {
        match instruction {
            Instruction::Deny => return Ok(false),
            Instruction::Set { name, value } if !name.is_empty() => {
                set(program, name, Some(value));
            }
            Instruction::Set { .. } => {}
        }
    }
    Ok(true)
}

fn log(options: &Options<'_>, peer: &TcpPeer, allowed: bool) {
    if options.verbosity < Verbosity::Verbose {
        return;
    }
    let shown = |text: &Option<bytes::Bytes>| shown(text.as_deref().unwrap_or_default());
    eprintln!(
        "tcpserver: {} {} {}:{}:{} {}:{}:{}:{}",
        if allowed { "ok" } else { "deny" },
        std::process::id(),
        shown(&peer.local_host),
        peer.local.ip(),
        peer.local.port(),
        shown(&peer.remote_host),
        peer.remote.ip(),
        shown(&peer.remote_info),
        peer.remote.port(),
    );
}

/// The peer's words, so that they can neither break a log line nor add a field to it.
fn shown(text: &[u8]) -> String {
    let harmless = |&octet: &u8| match octet {
        b'%' | b':' => '?',
        b'!'..=b'~' => char::from(octet),
        _ => '?',
    };
    let mut shown: String = text.iter().take(SHOWN_OCTETS_MAX).map(harmless).collect();
    if text.len() > SHOWN_OCTETS_MAX {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_adds_nothing_to_a_log_line() {
        assert_eq!(shown(b"a:b%c d\n\xff!~"), "a?b?c?d??!~");
        assert_eq!(shown(&[b'x'; 101]), format!("{}...", "x".repeat(100)));
        assert_eq!(shown(b""), "");
    }
}
