//! A server that says what an entry of `cases/hostile.json` has it say, whatever its client does.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// How long a client may be silent, or a connection stay open.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that says something without a line end means it once it has been silent for so long.
const QUIET: Duration = Duration::from_millis(300);

/// How much of what a client sends is kept.
const HEARD_OCTETS_MAX: usize = 16 << 20;

/// What a server does.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Says each reply after a command, the first at once, and after the last does this.
    Lockstep(Vec<Vec<u8>>, Then),
    /// Says everything at once.
    Burst(Vec<u8>),
    /// Says this, and then the second part again and again, with a pause before each time.
    Endless(Vec<u8>, Vec<u8>, Duration),
}

/// How a server ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Hears one more command, and closes.
    CloseUnanswered,
    /// Closes at once.
    Close,
    /// Waits for the client to close.
    Hold,
    /// Takes a little of what comes, and resets the connection.
    Reset,
}

/// A server, one connection after the other; the last manner is that of all further ones.
pub struct Scripted {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    written: Arc<Mutex<u64>>,
}

impl Scripted {
    /// Starts one on a free port of this address.
    ///
    /// # Panics
    ///
    /// There is none.
    pub fn start(manners: Vec<Manner>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::at(listener, manners)
    }

    /// On this socket.
    ///
    /// # Panics
    ///
    /// It has no address.
    pub fn at(listener: TcpListener, manners: Vec<Manner>) -> Self {
        let server = Self {
            address: listener.local_addr().expect("its address"),
            heard: Arc::default(),
            written: Arc::default(),
        };
        let (heard, written) = (Arc::clone(&server.heard), Arc::clone(&server.written));
        thread::spawn(move || {
            let mut manners = manners.into_iter().peekable();
            while let Ok((stream, _)) = listener.accept() {
                let Some(manner) = manners.peek().cloned() else {
                    return;
                };
                if manners.len() > 1 {
                    manners.next();
                }
                let index = {
                    let mut heard = lock(&heard);
                    heard.push(Vec::new());
                    heard.len() - 1
                };
                let mut client = Client {
                    stream,
                    pending: Vec::new(),
                    heard: &heard,
                    index,
                    written: &written,
                };
                // Who breaks off has said what he thinks of it.
                let _ = client.serve(&manner);
            }
        });
        server
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What each connection said.
    pub fn heard(&self) -> Vec<String> {
        let heard = lock(&self.heard);
        let shown = heard.iter().map(|octets| String::from_utf8_lossy(octets));
        shown.map(std::borrow::Cow::into_owned).collect()
    }

    /// How many octets the system took from it for its clients.
    pub fn written(&self) -> u64 {
        *lock(&self.written)
    }
}

/// The replies of a server's half of a conversation: one for each line, but that lines with a hyphen behind their code belong to the
/// next.
pub fn replies(input: &[u8]) -> Vec<Vec<u8>> {
    let mut replies = vec![Vec::new()];
    for line in input.split_inclusive(|&octet| octet == b'\n') {
        let goes_on = line.get(3) == Some(&b'-') && line[..3].iter().all(u8::is_ascii_digit);
        if let Some(reply) = replies.last_mut() {
            reply.extend_from_slice(line);
        }
        if !goes_on {
            replies.push(Vec::new());
        }
    }
    replies.pop_if(|last| last.is_empty());
    replies
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Client<'a> {
    stream: TcpStream,
    pending: Vec<u8>,
    heard: &'a Mutex<Vec<Vec<u8>>>,
    index: usize,
    written: &'a Mutex<u64>,
}

impl Client<'_> {
    fn serve(&mut self, manner: &Manner) -> std::io::Result<()> {
        self.stream.set_nodelay(true)?;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        match manner {
            Manner::Lockstep(replies, then) => {
                let mut end: &[u8] = b"\n";
                for (number, reply) in replies.iter().enumerate() {
                    if number > 0 && !self.hear_command(end)? {
                        return Ok(());
                    }
                    self.say(reply)?;
                    end = if reply.starts_with(b"354") {
                        b"\r\n.\r\n"
                    } else {
                        b"\n"
                    };
                }
                self.end(*then, end)
            }
            Manner::Burst(all) => {
                self.say(all)?;
                self.end(Then::Hold, b"\n")
            }
            Manner::Endless(first, again, pause) => {
                self.say(first)?;
                loop {
                    thread::sleep(*pause);
                    self.say(again)?;
                }
            }
        }
    }

    fn end(&mut self, then: Then, end: &[u8]) -> std::io::Result<()> {
        match then {
            Then::CloseUnanswered => drop(self.hear_command(end)?),
            Then::Close => {}
            Then::Hold => while self.hear(PATIENCE)? > 0 {},
            Then::Reset => {
                self.hear(PATIENCE)?;
                return SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
            }
        }
        self.stream.shutdown(Shutdown::Write)
    }

    fn say(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(octets)?;
        *lock(self.written) += octets.len() as u64;
        Ok(())
    }

    /// Waits for a command, or for a text with its end; `false` if the client has gone.
    fn hear_command(&mut self, end: &[u8]) -> std::io::Result<bool> {
        let is_text = end.len() > 1;
        loop {
            let found = self.pending.windows(end.len()).position(|it| it == end);
            if let Some(place) = found {
                self.pending.drain(..place + end.len());
                return Ok(true);
            }
            let wait = if self.pending.is_empty() || is_text {
                PATIENCE
            } else {
                QUIET
            };
            match self.hear(wait) {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if is_timeout(&error) && !self.pending.is_empty() => {
                    self.pending.clear();
                    return Ok(true);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn hear(&mut self, wait: Duration) -> std::io::Result<usize> {
        self.stream.set_read_timeout(Some(wait))?;
        let mut chunk = [0; 4096];
        let count = self.stream.read(&mut chunk)?;
        self.pending.extend_from_slice(&chunk[..count]);
        let heard = &mut lock(self.heard)[self.index];
        if heard.len() < HEARD_OCTETS_MAX {
            heard.extend_from_slice(&chunk[..count]);
        }
        Ok(count)
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
