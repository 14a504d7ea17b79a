//! A TCP server that follows a script and keeps what its clients sent.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::case::ServerStep;
use super::octets::find;

/// A scripted server, listening and not yet accepting.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// A scripted server at work.
#[derive(Debug)]
pub(crate) struct Running {
    address: SocketAddr,
    shared: Arc<Shared>,
    finished: Receiver<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// What each connection sent, in the order of the connections.
    received: Mutex<Vec<Vec<u8>>>,
    /// The connection that is being served.
    current: Mutex<Option<TcpStream>>,
}

/// How long the server waits for a client that neither sends nor reads.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the server may go on once the program has ended.
const LINGER: Duration = Duration::from_secs(2);

/// How much is kept of what a client sent.
const RECEIVED_OCTETS_MAX: usize = 64 << 20;

impl Server {
    /// Listens.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The port, for a script that asked for any.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Starts to accept: one connection for each list of steps, one after the other.
    pub(crate) fn start(self, script: Vec<Vec<ServerStep>>) -> Running {
        let shared = Arc::new(Shared::default());
        let (finish, finished) = channel();
        let running = Running {
            address: self.address,
            shared: Arc::clone(&shared),
            finished,
        };
        thread::spawn(move || {
            for steps in &script {
                let Ok((connection, _)) = self.listener.accept() else {
                    break;
                };
                if shared.stop.load(Ordering::SeqCst) {
                    break;
                }
                let index = {
                    let mut received = lock(&shared.received);
                    received.push(Vec::new());
                    received.len() - 1
                };
                *lock(&shared.current) = connection.try_clone().ok();
                // A client that breaks off ends the connection, not the script.
                let _ = serve(connection, steps, &shared, index);
                *lock(&shared.current) = None;
            }
            let _ = finish.send(());
        });
        running
    }
}

impl Running {
    /// Stops accepting, lets the connection that is being served come to its end, and returns what each one sent.
    pub(crate) fn finish(self) -> Vec<Vec<u8>> {
        self.shared.stop.store(true, Ordering::SeqCst);
        // Wakes the thread if it is accepting.
        let _ = TcpStream::connect_timeout(&self.address, LINGER);
        if self.finished.recv_timeout(LINGER).is_err() {
            if let Some(connection) = lock(&self.shared.current).take() {
                let _ = connection.shutdown(Shutdown::Both);
            }
            let _ = self.finished.recv_timeout(LINGER);
        }
        std::mem::take(&mut *lock(&self.shared.received))
    }
}

fn serve(
    mut connection: TcpStream,
    steps: &[ServerStep],
    shared: &Shared,
    index: usize,
) -> io::Result<()> {
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    connection.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let mut client = Client {
        connection: &connection,
        pending: Vec::new(),
        shared,
        index,
    };
    for step in steps {
        match step {
            ServerStep::Send(octets) => client.connection.write_all(octets)?,
            ServerStep::Line => client.read_until(b"\n")?,
            ServerStep::Until(marker) => client.read_until(marker)?,
            ServerStep::Sleep(time) => thread::sleep(*time),
            ServerStep::Close => return Ok(()),
        }
    }
    while client.read()? > 0 {
        client.pending.clear();
    }
    connection.flush()
}

struct Client<'a> {
    connection: &'a TcpStream,
    /// What came and was not waited for yet.
    pending: Vec<u8>,
    shared: &'a Shared,
    index: usize,
}

impl Client<'_> {
    fn read_until(&mut self, marker: &[u8]) -> io::Result<()> {
        loop {
            if let Some(at) = find(&self.pending, marker) {
                self.pending.drain(..at + marker.len());
                return Ok(());
            }
            if self.read()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn read(&mut self) -> io::Result<usize> {
        let mut chunk = [0; 65536];
        let count = self.connection.read(&mut chunk)?;
        self.pending.extend_from_slice(&chunk[..count]);
        let mut received = lock(&self.shared.received);
        let Some(kept) = received.get_mut(self.index) else {
            // The case is over and has taken what there was.
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if kept.len() + count > RECEIVED_OCTETS_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        kept.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn server(script: &str) -> Running {
        let script = serde_json::from_str(script).unwrap();
        Server::bind("127.0.0.1:0".parse().unwrap())
            .unwrap()
            .start(script)
    }

    fn talk(running: &Running, sent: &[u8]) -> Vec<u8> {
        let mut client = TcpStream::connect(running.address).unwrap();
        client.write_all(sent).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        got
    }

    #[test]
    fn follows_its_script() {
        let running = server(
            r#"[[["send", "220\r\n"], ["line"], ["send", "250\r\n"], ["until", "\r\n.\r\n"], ["send", "ok"], ["close"]],
                [["line"], ["send", "bye"]]]"#,
        );
        assert_eq!(talk(&running, b"HELO\r\nx\r\n.\r\n"), b"220\r\n250\r\nok");
        assert_eq!(talk(&running, b"QUIT\nrest"), b"bye");
        assert_eq!(
            running.finish(),
            [&b"HELO\r\nx\r\n.\r\n"[..], b"QUIT\nrest"]
        );
    }

    #[test]
    fn is_not_held_up_by_anybody() {
        let started = Instant::now();
        assert!(server(r#"[[["line"]]]"#).finish().is_empty());

        let running = server(r#"[[["line"]]]"#);
        let mut client = TcpStream::connect(running.address).unwrap();
        client.write_all(b"half").unwrap();
        while lock(&running.shared.received)
            .first()
            .is_none_or(Vec::is_empty)
        {
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(running.finish(), [b"half"]);
        assert!(started.elapsed() < CLIENT_TIMEOUT);
    }
}
