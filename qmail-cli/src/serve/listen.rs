//! Listening sockets, and the loop that lets clients in.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::gate::{Full, Gate, Pass};

/// Connections that the kernel holds until we accept them.
pub(crate) const BACKLOG: i32 = 1024;

/// How long to wait after a failed accept: it fails again at once when there are no descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds and listens. Must be called within the runtime.
///
/// # Errors
///
/// What the system says: the port is taken, or is not ours to take.
pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::from_std(listener(address)?)
}

/// Binds and listens; the socket does not block.
///
/// # Errors
///
/// As [`bind`].
pub(crate) fn listener(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for connections of the former process to be forgotten.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]:25` beside `0.0.0.0:25` is two listeners, whatever the system's default is.
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts clients for ever; drop the future to stop.
///
/// `trusted` says which addresses have no limit of their own. `session` starts the session of a client, without waiting for
/// it. `refuse` gives the words for a client that there is no room for. `trouble` hears of failed accepts.
pub(crate) async fn accept(
    listener: TcpListener,
    gate: Arc<Gate>,
    trusted: impl Fn(SocketAddr) -> bool,
    session: impl Fn(TcpStream, SocketAddr, Pass),
    refuse: impl Fn(Full) -> &'static [u8],
    trouble: impl Fn(&io::Error),
) {
    // Replies are written whole; waiting to fill a segment only costs time. Connections have it from their listener.
    let _ = SockRef::from(&listener).set_tcp_nodelay(true);
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => match gate.enter(peer.ip(), trusted(peer)) {
                Ok(pass) => session(stream, peer, pass),
                // A fresh socket has room for one line; nobody waits for a client that is sent away.
                Err(full) => drop(stream.try_write(refuse(full))),
            },
            // The client was gone before we came to it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset
                ) => {}
            Err(error) => {
                trouble(&error);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
