//! The process that accepts connections, and counts the children that serve them.

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpStream;
use tokio::signal::unix::{SignalKind, signal};

use super::{CHILD, Options, Verbosity};
use crate::tcp_peer::port_number;
use crate::{exit, stdio};

/// How long to wait when the system has no room for another connection or process.
const TROUBLE_PAUSE: Duration = Duration::from_secs(1);

pub(super) fn run(options: &Options<'_>, arguments: &[OsString]) -> ExitCode {
    match serve(options, arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal("tcpserver", &words, exit::TEMPORARY),
    }
}

fn serve(options: &Options<'_>, arguments: &[OsString]) -> Result<(), String> {
    let address = address(options)?;
    let listener = listen(address, options.backlog)
        .map_err(|error| format!("unable to bind {address}: {error}"))?;
    // There is one thread so far, so what it becomes the whole process is.
    drop_privileges(options).map_err(|error| format!("unable to become that user: {error}"))?;
    let port = listener
        .local_addr()
        .map_err(|error| format!("unable to get local address: {error}"))?
        .port();
    if options.print_port {
        exit::print(&format!("{port}\n"));
    }
    let mut children = Children {
        running: Vec::new(),
        limit: options.limit as usize,
        verbose: options.verbosity >= Verbosity::Verbose,
    };
    children.log_count();
    stdio::run(children.serve(listener, options, arguments))
        .and_then(|served| served)
        .map_err(|error| format!("unable to listen: {error}"))
}

fn address(options: &Options<'_>) -> Result<SocketAddr, String> {
    let port = port_number(options.port)?;
    let host = options.host.to_string_lossy();
    if host == "0" {
        return Ok((Ipv4Addr::UNSPECIFIED, port).into());
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok((address, port).into());
    }
    let resolved = (host.as_ref(), port).to_socket_addrs();
    resolved
        .ok()
        .and_then(|mut addresses| addresses.next())
        .ok_or_else(|| format!("no IP address for {host}"))
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The group first: who is no longer root cannot change it.
fn drop_privileges(options: &Options<'_>) -> rustix::io::Result<()> {
    if let Some(gid) = options.gid {
        let gid = Gid::from_raw(gid);
        set_thread_groups(&[gid])?;
        set_thread_gid(gid)?;
    }
    if let Some(uid) = options.uid {
        set_thread_uid(Uid::from_raw(uid))?;
    }
    Ok(())
}

struct Children {
    running: Vec<Child>,
    limit: usize,
    verbose: bool,
}

impl Children {
    /// Accepts until SIGTERM. Children live on then.
    async fn serve(
        &mut self,
        listener: TcpListener,
        options: &Options<'_>,
        arguments: &[OsString],
    ) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let mut ended = signal(SignalKind::child())?;
        let mut terminate = signal(SignalKind::terminate())?;
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = ended.recv() => self.reap(),
                // Beyond the limit connections wait in the backlog.
                accepted = listener.accept(), if self.running.len() < self.limit => {
                    let started = accepted
                        .and_then(|(stream, peer)| self.start(stream, peer, options, arguments));
                    if let Err(error) = started {
                        if options.verbosity >= Verbosity::Quiet {
                            exit::warn("tcpserver", &format_args!("dropping connection: {error}"));
                        }
                        // Out of descriptors or processes: the next try would fail at once as well.
                        tokio::time::sleep(TROUBLE_PAUSE).await;
                    }
                }
            }
        }
    }

    fn start(
        &mut self,
        stream: TcpStream,
        peer: SocketAddr,
        options: &Options<'_>,
        arguments: &[OsString],
    ) -> io::Result<()> {
        if options.no_delay {
            stream.set_nodelay(true)?;
        }
        let stream = stream.into_std()?;
        // Programs expect descriptors that wait.
        stream.set_nonblocking(false)?;
        let input = OwnedFd::from(stream);
        let output = input.try_clone()?;
        let child = Command::new(std::env::current_exe()?)
            .arg(CHILD.names[0])
            .args(arguments)
            .stdin(Stdio::from(input))
            .stdout(Stdio::from(output))
            .spawn()?;
        if self.verbose {
            let ip = peer.ip().to_canonical();
            eprintln!("tcpserver: pid {} from {ip}", child.id());
        }
        self.running.push(child);
        self.log_count();
        Ok(())
    }

    /// Gathers those that ended.
    fn reap(&mut self) {
        let before = self.running.len();
        let verbose = self.verbose;
        self.running.retain_mut(|child| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                if verbose {
                    let raw = status.into_raw();
                    eprintln!("tcpserver: end {} status {raw}", child.id());
                }
                false
            }
            Err(_) => false,
        });
        if self.running.len() != before {
            self.log_count();
        }
    }

    fn log_count(&self) {
        if self.verbose {
            eprintln!("tcpserver: status: {}/{}", self.running.len(), self.limit);
        }
    }
}
