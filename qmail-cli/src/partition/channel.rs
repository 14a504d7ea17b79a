//! Messages between parties: local sockets that keep each message whole (`SOCK_SEQPACKET`), so that no length is ever believed. A
//! message may carry one descriptor.
//!
//! A message that is too long, or carries more than one descriptor, is refused and told; the next one is looked at as if it had not been.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
    recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

use crate::socket_path::SocketPath;

/// Longest message in octets.
pub(crate) const MESSAGE_OCTETS_MAX: usize = 64 * 1024;

/// Connections that wait to be taken: while a party is started again, say.
const BACKLOG: i32 = 128;

/// What came.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// So many octets of the room, and a descriptor if one came with them.
    Message(usize, Option<OwnedFd>),
    /// A message that is none, and why.
    Refused(&'static str),
    /// The other side has gone.
    End,
}

/// The two ends of a connection.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// A listening socket at `path`, where nothing may be.
pub(super) fn listen(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let path = SocketPath::new(path)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path.as_path())?)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// A connection to whoever listens at `path`.
pub(crate) fn connect(path: &Path) -> io::Result<OwnedFd> {
    let socket = socket()?;
    let path = SocketPath::new(path)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path.as_path())?)?;
    Ok(socket)
}

/// From now on neither sending nor receiving waits longer than this.
pub(crate) fn bound_waits(socket: &OwnedFd, wait: Duration) -> io::Result<()> {
    set_socket_timeout(socket, Timeout::Send, Some(wait))?;
    set_socket_timeout(socket, Timeout::Recv, Some(wait))?;
    Ok(())
}

/// Sends a message, and a copy of a descriptor with it.
pub(crate) fn send(
    socket: impl AsFd,
    octets: &[u8],
    passed: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let passed: Vec<_> = passed.into_iter().collect();
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut room);
    if !passed.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&passed));
    }
    let sent = sendmsg(
        socket,
        &[IoSlice::new(octets)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    match sent == octets.len() {
        true => Ok(()),
        false => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Receives a message into `room`.
pub(crate) fn receive(socket: impl AsFd, room: &mut [u8]) -> io::Result<Incoming> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = match recvmsg(
        socket,
        &mut [IoSliceMut::new(room)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    ) {
        Err(Errno::CONNRESET) => return Ok(Incoming::End),
        received => received?,
    };
    // Those that are not wanted are closed here.
    let mut passed: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            passed.extend(descriptors);
        }
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Ok(Incoming::Refused("too long"));
    }
    if received.flags.contains(ReturnFlags::CTRUNC) || passed.len() > 1 {
        return Ok(Incoming::Refused("more than one descriptor"));
    }
    // Nobody sends an empty message: it could not be told from the end.
    if received.bytes == 0 {
        return Ok(Incoming::End);
    }
    Ok(Incoming::Message(received.bytes, passed.pop()))
}

/// A connection within a runtime.
///
/// To tokio it is a stream: what that waits for is the same, and octets go by none of its own ways.
#[derive(Debug)]
pub(crate) struct Channel(UnixStream);

impl Channel {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = StdStream::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self(UnixStream::from_std(socket)?))
    }

    pub(crate) async fn send(
        &self,
        octets: &[u8],
        passed: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        self.0
            .async_io(Interest::WRITABLE, || send(&self.0, octets, passed))
            .await
    }

    /// Sends if that needs no waiting.
    pub(super) fn try_send(&self, octets: &[u8]) -> io::Result<()> {
        send(&self.0, octets, None)
    }

    pub(crate) async fn receive(&self, room: &mut [u8]) -> io::Result<Incoming> {
        self.0
            .async_io(Interest::READABLE, || receive(&self.0, room))
            .await
    }
}

/// A listening socket within a runtime.
pub(super) struct Listener(UnixListener);

impl Listener {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        let socket = StdListener::from(socket);
        socket.set_nonblocking(true)?;
        Ok(Self(UnixListener::from_std(socket)?))
    }

    pub(super) async fn accept(&self) -> io::Result<Channel> {
        Ok(Channel(self.0.accept().await?.0))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn messages_stay_apart_and_carry_a_descriptor() {
        let (near, far) = pair().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        drop(writer);
        send(&near, b"one", None).unwrap();
        send(&near, b"two", Some(reader.as_fd())).unwrap();
        drop(near);
        let mut room = [0; 10];
        let Incoming::Message(3, None) = receive(&far, &mut room).unwrap() else {
            panic!("one");
        };
        assert_eq!(&room[..3], b"one");
        let Incoming::Message(3, Some(passed)) = receive(&far, &mut room).unwrap() else {
            panic!("two");
        };
        let mut text = String::new();
        File::from(passed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
        assert!(matches!(receive(&far, &mut room), Ok(Incoming::End)));
    }

    #[test]
    fn what_is_too_long_is_refused_and_the_next_is_taken() {
        let (near, far) = pair().unwrap();
        send(&near, &[b'x'; 11], None).unwrap();
        send(&near, &[b'y'; 10], None).unwrap();
        let mut room = [0; 10];
        let refused = receive(&far, &mut room).unwrap();
        assert!(matches!(refused, Incoming::Refused("too long")));
        assert!(matches!(
            receive(&far, &mut room),
            Ok(Incoming::Message(10, None))
        ));
    }

    #[test]
    fn several_descriptors_are_refused_and_closed() {
        let (near, far) = pair().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let three = [reader.as_fd(); 3];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        assert!(control.push(SendAncillaryMessage::ScmRights(&three)));
        sendmsg(
            &near,
            &[IoSlice::new(b"x")],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
        drop(reader);
        let refused = receive(&far, &mut [0; 10]).unwrap();
        assert!(matches!(
            refused,
            Incoming::Refused("more than one descriptor")
        ));
        // Nobody has it any more.
        assert!(writer.write_all(b"x").is_err());
    }

    #[tokio::test]
    async fn connections_are_taken_within_a_runtime() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = Listener::new(listen(&path).unwrap()).unwrap();
        let near = connect(&path).unwrap();
        bound_waits(&near, Duration::from_millis(20)).unwrap();
        let far = listener.accept().await.unwrap();
        assert!(
            receive(&near, &mut [0; 9]).is_err(),
            "it does not wait for ever"
        );
        far.send(b"hello", None).await.unwrap();
        let mut room = [0; 9];
        assert!(matches!(
            receive(&near, &mut room),
            Ok(Incoming::Message(5, None))
        ));
        drop(near);
        assert!(matches!(far.receive(&mut room).await, Ok(Incoming::End)));
    }
}
