//! The socket in a home by which the queue that runs there is asked.
//!
//! One request a connection: a netstring each for the request and for every part of the answer, whose first octet says what it
//! is. Only the user whose queue it is, and root, are answered.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as BlockingStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use qmail_core::netstring::{self, Decoder, Part};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::perform::{Frame, Sink, perform};
use super::request::{REQUEST_OCTETS_MAX, Request};
use super::source::Source;
use crate::home::Home;
use crate::socket_path::SocketPath;

/// Largest part of an answer in octets. Larger texts come in several.
const FRAME_OCTETS_MAX: usize = 1024 * 1024;

/// Most requests that are answered at a time; others wait.
const REQUESTS_MAX: usize = 8;

/// How long a request may take to arrive.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a reader of an answer may take for a part of it.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// How long whoever asks waits for the next part of an answer: a hold of many messages may wait for the disk.
const PATIENCE: Duration = Duration::from_secs(300);

/// The listening socket; dropping it removes it.
pub(crate) struct Desk {
    /// Absent if the socket is for somebody else to remove.
    path: Option<PathBuf>,
    task: JoinHandle<()>,
}

impl Desk {
    /// Answers from now on.
    ///
    /// # Errors
    ///
    /// The socket cannot be made, or somebody answers there already.
    pub(crate) fn open(home: &Home, source: Arc<dyn Source>) -> io::Result<Self> {
        match fs::DirBuilder::new().mode(0o755).create(home.run()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let path = home.queue_socket();
        let short = SocketPath::new(&path)?;
        match UnixListener::bind(short.as_path()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if BlockingStream::connect(short.as_path()).is_ok() {
                    return Err(error);
                }
                // Left by one that was killed.
                fs::remove_file(&path)?;
            }
            bound => return Self::listen(bound?, path, source),
        }
        Self::listen(UnixListener::bind(short.as_path())?, path, source)
    }

    /// Answers on a socket that whoever started this process has made.
    ///
    /// # Errors
    ///
    /// It is none.
    pub(crate) fn inherited(listener: StdListener, source: Arc<dyn Source>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        Ok(Self {
            path: None,
            task: tokio::spawn(accept(listener, source)),
        })
    }

    fn listen(listener: UnixListener, path: PathBuf, source: Arc<dyn Source>) -> io::Result<Self> {
        // Who comes before this is asked for a name as well.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            path: Some(path),
            task: tokio::spawn(accept(listener, source)),
        })
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(path) = &self.path {
            let _ = fs::remove_file(path);
        }
    }
}

async fn accept(listener: UnixListener, source: Arc<dyn Source>) {
    let room = Arc::new(Semaphore::new(REQUESTS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: wait for some.
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let source = Arc::clone(&source);
        tokio::spawn(async move {
            // Who asked has gone away, or is a stranger: there is nobody to tell.
            let _ = answer(stream, &*source).await;
            drop(permit);
        });
    }
}

async fn answer(mut stream: UnixStream, source: &dyn Source) -> io::Result<()> {
    let peer = stream.peer_cred()?.uid();
    if peer != 0 && peer != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let request = timeout(REQUEST_TIME_MAX, read_request(&mut stream)).await??;
    let mut sink = SocketSink(stream);
    match Request::decode(&request) {
        Some(request) => perform(source, &request, &mut sink).await,
        None => {
            let words = "the queue runs another version of this program; restart it";
            sink.send(Frame::Error(words.to_owned())).await?;
            sink.send(Frame::Exit(crate::exit::PERMANENT)).await
        }
    }
}

async fn read_request(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut frames = Frames::new(REQUEST_OCTETS_MAX);
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(request) = frames.feed(&chunk[..count])?.into_iter().next() {
            return Ok(request);
        }
    }
}

struct SocketSink(UnixStream);

#[async_trait]
impl Sink for SocketSink {
    async fn send(&mut self, frame: Frame) -> io::Result<()> {
        let (letter, text) = match &frame {
            Frame::Out(text) => (b'o', text.as_bytes()),
            Frame::Error(text) => (b'e', text.as_bytes()),
            Frame::Exit(code) => (b'x', std::slice::from_ref(code)),
        };
        let mut octets = Vec::with_capacity(text.len() + 32);
        for part in text.chunks(FRAME_OCTETS_MAX - 1) {
            netstring::write_length(part.len() as u64 + 1, &mut octets);
            octets.push(letter);
            octets.extend_from_slice(part);
            octets.push(netstring::END);
        }
        timeout(ANSWER_TIME_MAX, self.0.write_all(&octets)).await?
    }
}

/// Asks the queue that runs in a home, and passes each part of the answer on. `None` if no queue runs there that can be asked.
///
/// # Errors
///
/// The queue broke off, or `each` did.
pub(crate) fn ask(
    home: &Home,
    request: &Request,
    mut each: impl FnMut(u8, &[u8]) -> io::Result<()>,
) -> io::Result<Option<u8>> {
    let connected = SocketPath::new(&home.queue_socket())
        .and_then(|path| BlockingStream::connect(path.as_path()));
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    let mut octets = Vec::new();
    netstring::write(&request.encode(), &mut octets);
    stream.write_all(&octets)?;
    let mut frames = Frames::new(FRAME_OCTETS_MAX as u64);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let count = stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::Error::other(
                "the queue broke off its answer; is it stopping?",
            ));
        }
        for frame in frames.feed(&chunk[..count])? {
            match frame.split_first() {
                Some((b'x', [code])) => return Ok(Some(*code)),
                Some((&letter, text)) => each(letter, text)?,
                None => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

/// Netstrings put together from what comes.
struct Frames {
    decoder: Decoder,
    begun: Vec<u8>,
}

impl Frames {
    fn new(octets_max: u64) -> Self {
        Self {
            decoder: Decoder::new(octets_max),
            begun: Vec::new(),
        }
    }

    fn feed(&mut self, mut octets: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let mut whole = Vec::new();
        while let Some(part) = self.decoder.next(&mut octets).map_err(io::Error::other)? {
            match part {
                Part::Length(_) => {}
                Part::Octets(octets) => self.begun.extend_from_slice(octets),
                Part::End => whole.push(std::mem::take(&mut self.begun)),
            }
        }
        Ok(whole)
    }
}
