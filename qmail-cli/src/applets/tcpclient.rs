//! `tcpclient`: connects to a host and runs a program with the connection on descriptors 6 and 7 (UCSPI).

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use qmail_deliver::{HickoryResolver, Resolver as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::applet::{Applet, Call, Kind};
use crate::getopt::Getopt;
use crate::injection::octets;
use crate::tcp_peer::{RemoteName, TcpPeer, port_number};
use crate::{exit, stdio};

pub(crate) const APPLET: Applet = Applet {
    names: &["tcpclient"],
    kind: Kind::Classic,
    summary: "connect to a host, and run a program with the connection",
    run,
};

const USAGE: &str = "usage: tcpclient [-hHrRdDqQv] [-i localip] [-p localport] [-T timeoutconn] [-l localname] [-t timeoutinfo] \
    host port program [arg ...]";

/// As much of an ident answer as is kept.
const IDENT_OCTETS_MAX: usize = 256;

/// Most addresses of a host that are tried.
const ADDRESSES_MAX: usize = 16;

/// How long each address may take, at first and, once all were tried in vain, again: -T when it is not given.
const CONNECT_TIMEOUTS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(58)];

struct Options<'a> {
    look_up_remote: bool,
    ident: Option<Duration>,
    no_delay: bool,
    quiet: bool,
    verbose: bool,
    local: Option<IpAddr>,
    local_port: u16,
    local_name: Option<Vec<u8>>,
    timeouts: Vec<Duration>,
    host: &'a OsString,
    port: &'a OsString,
    program: &'a [OsString],
}

fn run(call: &Call) -> ExitCode {
    let options = match Options::parse(&call.arguments) {
        Ok(options) => options,
        Err(words) => return exit::fatal(call.name, &words, exit::PERMANENT),
    };
    let words = match prepare(&options) {
        Ok(mut program) => {
            let error = program.exec();
            format!("unable to run {}: {error}", program.get_program().display())
        }
        Err(words) => words,
    };
    if options.quiet {
        return ExitCode::from(exit::TEMPORARY);
    }
    exit::fatal(call.name, &words, exit::TEMPORARY)
}

impl<'a> Options<'a> {
    fn parse(arguments: &'a [OsString]) -> Result<Self, String> {
        let usage = |why: &str| format!("{why}; {USAGE}");
        let mut options = Self {
            look_up_remote: true,
            ident: None,
            no_delay: false,
            quiet: false,
            verbose: false,
            local: None,
            local_port: 0,
            local_name: None,
            timeouts: CONNECT_TIMEOUTS.to_vec(),
            host: arguments.first().ok_or(USAGE)?,
            port: arguments.first().ok_or(USAGE)?,
            program: &[],
        };
        let (mut ident, mut ident_timeout) = (true, Duration::from_secs(26));
        let mut getopt = Getopt::new(arguments, "hHrRdDqQvi:p:T:l:t:");
        for option in getopt.by_ref() {
            let option = option.map_err(|error| usage(&error.to_string()))?;
            let text = std::str::from_utf8(option.argument).unwrap_or_default();
            match option.letter {
                b'h' => options.look_up_remote = true,
                b'H' => options.look_up_remote = false,
                b'r' => ident = true,
                b'R' => ident = false,
                b'd' => options.no_delay = false,
                b'D' => options.no_delay = true,
                b'q' => (options.quiet, options.verbose) = (true, false),
                b'Q' => (options.quiet, options.verbose) = (false, false),
                b'v' => (options.quiet, options.verbose) = (false, true),
                b'i' => options.local = Some(text.parse().map_err(|_| usage("-i: no address"))?),
                b'p' => options.local_port = text.parse().map_err(|_| usage("-p: no port"))?,
                b'l' => options.local_name = Some(option.argument.to_vec()),
                b'T' => options.timeouts = timeouts(text).ok_or_else(|| usage("-T: no times"))?,
                _ => ident_timeout = seconds(text).ok_or_else(|| usage("-t: no number"))?,
            }
        }
        options.ident = ident.then_some(ident_timeout);
        let [host, port, program @ ..] = getopt.operands() else {
            return Err(USAGE.to_owned());
        };
        if program.is_empty() {
            return Err(USAGE.to_owned());
        }
        (options.host, options.port, options.program) = (host, port, program);
        Ok(options)
    }
}

/// `X` or `X+Y`, in seconds.
fn timeouts(text: &str) -> Option<Vec<Duration>> {
    text.splitn(2, '+').map(seconds).collect()
}

fn seconds(text: &str) -> Option<Duration> {
    text.parse::<u32>()
        .ok()
        .map(|seconds| Duration::from_secs(seconds.into()))
}

/// The program, connected.
fn prepare(options: &Options<'_>) -> Result<Command, String> {
    let port = port_number(options.port)?;
    let connected = stdio::run(async {
        let stream = connect(options, port).await?;
        let peer = find_out(&stream, options)
            .await
            .map_err(|error| format!("no connection: {error}"))?;
        let stream = stream.into_std().map_err(|error| error.to_string())?;
        Ok::<_, String>((stream, peer))
    });
    let (stream, peer) = connected.map_err(|error| format!("no resources: {error}"))??;
    if options.verbose {
        eprintln!("tcpclient: connected to {} port {port}", peer.remote.ip());
    }
    let mut program = Command::new(&options.program[0]);
    program.args(&options.program[1..]);
    peer.describe_to(&mut program);
    hand_over(&stream, &mut program)
        .map_err(|error| format!("unable to set up descriptors: {error}"))?;
    Ok(program)
}

fn hand_over(stream: &std::net::TcpStream, program: &mut Command) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let end = |child_fd| {
        let parent_fd = stream.try_clone()?.into();
        Ok(FdMapping {
            parent_fd,
            child_fd,
        })
    };
    let ends: io::Result<Vec<_>> = [6, 7].into_iter().map(end).collect();
    program.fd_mappings(ends?).map_err(io::Error::other)?;
    Ok(())
}

/// To the first address that answers in time.
async fn connect(options: &Options<'_>, port: u16) -> Result<TcpStream, String> {
    let host = options.host.to_string_lossy();
    let addresses = addresses(options).await?;
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for &time in &options.timeouts {
        for &address in addresses.iter().take(ADDRESSES_MAX) {
            match timeout(time, connect_to(options, SocketAddr::new(address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
    }
    Err(format!("unable to connect to {host} port {port}: {last}"))
}

async fn addresses(options: &Options<'_>) -> Result<Vec<IpAddr>, String> {
    let host = octets(options.host);
    if matches!(host, b"" | b"0") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    let text = options.host.to_string_lossy();
    if let Ok(address) = text.parse() {
        return Ok(vec![address]);
    }
    let trouble = |error: &dyn std::fmt::Display| {
        format!("unable to figure out IP address for {text}: {error}")
    };
    let resolver = HickoryResolver::system().map_err(|error| trouble(&error))?;
    let found = resolver.addresses(host).await;
    found.map_err(|error| trouble(&error))
}

async fn connect_to(options: &Options<'_>, address: SocketAddr) -> io::Result<TcpStream> {
    let (socket, any) = match address {
        SocketAddr::V4(_) => (TcpSocket::new_v4()?, IpAddr::from(Ipv4Addr::UNSPECIFIED)),
        SocketAddr::V6(_) => (TcpSocket::new_v6()?, IpAddr::from(Ipv6Addr::UNSPECIFIED)),
    };
    if options.local.is_some() || options.local_port != 0 {
        let local = options.local.unwrap_or(any);
        socket.bind(SocketAddr::new(local, options.local_port))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(options.no_delay)?;
    Ok(stream)
}

async fn find_out(stream: &TcpStream, options: &Options<'_>) -> io::Result<TcpPeer> {
    let mut peer = TcpPeer::new(stream.local_addr()?, stream.peer_addr()?);
    peer.local_host = options.local_name.clone().map(Into::into);
    let wanted = options.look_up_remote || peer.local_host.is_none();
    if wanted && let Ok(resolver) = HickoryResolver::system() {
        let remote = match options.look_up_remote {
            true => RemoteName::AsTold,
            false => RemoteName::Unasked,
        };
        peer.look_up_names(&resolver, remote).await;
    }
    if let Some(wait) = options.ident {
        peer.ask_ident(wait, IDENT_OCTETS_MAX).await;
    }
    Ok(peer)
}
