//! A network in memory, with servers that say what they are told to.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, DuplexStream,
    duplex,
};
use tokio_rustls::TlsAcceptor;

use crate::remote::{Connect, Stream};

/// Hosts by address, and everything that was said, in order.
#[derive(Clone, Default)]
pub(super) struct Net {
    hosts: Arc<Mutex<BTreeMap<SocketAddr, VecDeque<Host>>>>,
    transcript: Arc<Mutex<String>>,
}

#[derive(Clone)]
pub(super) enum Host {
    /// Nobody listens.
    Refuses,
    /// Nobody answers.
    Silent,
    Serves(Server),
}

impl Net {
    /// What is met at an address by each further connection; the last one stays.
    pub(super) fn at(self, address: &str, hosts: impl IntoIterator<Item = Host>) -> Self {
        let hosts = hosts.into_iter().collect();
        let address = address.parse().unwrap();
        self.hosts.lock().unwrap().insert(address, hosts);
        self
    }

    /// What was said since the last time.
    pub(super) fn transcript(&self) -> String {
        std::mem::take(&mut *self.transcript.lock().unwrap())
    }

    fn note(&self, who: &str, octets: &[u8]) {
        let mut transcript = self.transcript.lock().unwrap();
        for line in octets.split_inclusive(|&octet| octet == b'\n') {
            let line = String::from_utf8_lossy(line);
            transcript.push_str(&format!("{who}{}\n", line.trim_end().escape_debug()));
        }
    }
}

#[async_trait]
impl Connect for Net {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        self.note("-- connect to ", address.to_string().as_bytes());
        let host = {
            let mut hosts = self.hosts.lock().unwrap();
            match hosts.get_mut(&address) {
                Some(queue) if queue.len() > 1 => queue.pop_front().unwrap(),
                Some(queue) => queue[0].clone(),
                None => Host::Refuses,
            }
        };
        match host {
            Host::Refuses => Err(io::ErrorKind::ConnectionRefused.into()),
            Host::Silent => std::future::pending().await,
            Host::Serves(server) => {
                let (ours, theirs) = duplex(64 * 1024);
                tokio::spawn(server.serve(theirs, self.clone()));
                Ok(Box::new(ours))
            }
        }
    }
}

/// A server that answers each command by its first letters. A well-behaved one, but for what it is told.
#[derive(Clone)]
pub(super) struct Server {
    rules: Vec<(String, VecDeque<String>)>,
    /// Octets after which it closes the connection: of its own, and of its client's.
    octets_max: usize,
    client_octets_max: usize,
    tls: Option<(TlsAcceptor, bool)>,
}

impl Server {
    pub(super) fn new() -> Self {
        Self {
            rules: Vec::new(),
            octets_max: usize::MAX,
            client_octets_max: usize::MAX,
            tls: None,
        }
        .on("", &["500 what?"])
        .on("greeting", &["220 hi"])
        .on("EHLO", &["250-mx.test\r\n250 PIPELINING"])
        .on("HELO", &["250 mx.test"])
        .on("MAIL", &["250 sender ok"])
        .on("RCPT", &["250 recipient ok"])
        .on("DATA", &["354 go"])
        .on(".", &["250 taken"])
        .on("STARTTLS", &["220 go"])
        .on("LHLO", &["250-mx.test\r\n250 PIPELINING"])
        .on("RSET", &["250 flushed"])
        .on("QUIT", &["221 bye"])
    }

    /// Replies to commands that start so: one after the other, the last again and again. `close` closes the connection,
    /// `hang` says nothing.
    pub(super) fn on(mut self, start: &str, replies: &[&str]) -> Self {
        let replies = replies.iter().map(|&reply| reply.to_owned()).collect();
        self.rules.push((start.to_owned(), replies));
        self
    }

    pub(super) fn without_pipelining(self) -> Self {
        self.on("EHLO", &["250 mx.test"])
    }

    /// Closes after so many octets.
    pub(super) fn cut_after(mut self, octets: usize) -> Self {
        self.octets_max = octets;
        self
    }

    /// Closes after it has read so many octets.
    pub(super) fn deaf_after(mut self, octets: usize) -> Self {
        self.client_octets_max = octets;
        self
    }

    pub(super) fn host(self) -> [Host; 1] {
        [Host::Serves(self)]
    }

    /// Makes a handshake after `220` to STARTTLS; or, `at_once`, before anything else.
    pub(super) fn with_tls(mut self, acceptor: TlsAcceptor, at_once: bool) -> Self {
        self.tls = Some((acceptor, at_once));
        self
    }

    pub(super) async fn serve(mut self, stream: DuplexStream, net: Net) {
        let greeting = b"greeting".to_vec();
        let (acceptor, stream) = match self.tls.clone() {
            Some((acceptor, true)) => (acceptor, Some(stream)),
            Some((acceptor, false)) => (
                acceptor,
                self.converse(stream, &net, greeting.clone()).await,
            ),
            None => {
                self.converse(stream, &net, greeting).await;
                return;
            }
        };
        let Some(stream) = stream else {
            return;
        };
        match acceptor.accept(stream).await {
            Ok(stream) => {
                net.note("-- ", b"TLS");
                let at_once = matches!(self.tls.take(), Some((_, true)));
                let first = if at_once { greeting } else { Vec::new() };
                self.converse(stream, &net, first).await;
            }
            Err(error) => net.note("-- no TLS: ", error.to_string().as_bytes()),
        }
    }

    /// Answers `command` and all that follow; gives the stream back for a handshake.
    async fn converse<S>(&mut self, stream: S, net: &Net, mut command: Vec<u8>) -> Option<S>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (read, mut write) = tokio::io::split(stream);
        let mut read = BufReader::new(read.take(self.client_octets_max as u64));
        let mut in_text = false;
        loop {
            if !command.is_empty() && (!in_text || command == b".\r\n") {
                let reply = self.reply(&command);
                match &reply[..] {
                    "hang" => std::future::pending().await,
                    "close" => {
                        net.note("-- ", b"server closes");
                        return None;
                    }
                    _ => {}
                }
                net.note("S: ", reply.as_bytes());
                let line = format!("{reply}\r\n");
                let sent = line.len().min(self.octets_max);
                self.octets_max -= sent;
                if write.write_all(&line.as_bytes()[..sent]).await.is_err() || sent < line.len() {
                    return None;
                }
                in_text = !in_text && reply.starts_with("354");
                if reply.starts_with("221") {
                    return None;
                }
                if self.tls.is_some() && command == b"STARTTLS\r\n" && reply.starts_with("220") {
                    return Some(read.into_inner().into_inner().unsplit(write));
                }
            }
            command.clear();
            match read.read_until(b'\n', &mut command).await {
                Ok(0) | Err(_) => {
                    net.note("-- ", b"client closes");
                    return None;
                }
                // What is cut off was never a command.
                Ok(_) if !command.ends_with(b"\n") => return None,
                Ok(_) => net.note("C: ", &command),
            }
        }
    }

    fn reply(&mut self, command: &[u8]) -> String {
        let (_, replies) = self
            .rules
            .iter_mut()
            .filter(|(start, _)| command.starts_with(start.as_bytes()))
            .max_by_key(|(start, _)| start.len())
            .expect("the empty start fits everything");
        match replies.len() {
            1 => replies[0].clone(),
            _ => replies.pop_front().unwrap(),
        }
    }
}
