//! The program's side of the socket by which a running system takes mail of its host ([`submission`]).

use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::{BufMut as _, Bytes, BytesMut};
use qmail_core::{Draft, Envelope, Origin, QueueExit, QueueFailure, Receipt, Submit, SubmitError};
use qmail_queue::submission::{self, Answer, CHUNK_OCTETS_MAX, Quote};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::queue_submit::refused;
use crate::socket_path::SocketPath;

/// What qmail-queue(8) exits with if the system goes away before it answers.
const COMMUNICATION: u8 = 74;

/// Small chunks are gathered up to this.
const GATHERED_OCTETS: usize = 32 * 1024;

/// A message on its way to the running system. Dropping it throws the message away.
pub(crate) struct Submission {
    stream: UnixStream,
    gathered: BytesMut,
    /// The other side has gone; it may have answered before.
    gone: bool,
}

impl Submission {
    /// Connects to the socket.
    ///
    /// # Errors
    ///
    /// Nobody is there.
    pub(crate) async fn begin(socket: &std::path::Path) -> io::Result<Self> {
        let socket = SocketPath::new(socket)?;
        Ok(Self {
            stream: UnixStream::connect(socket.as_path()).await?,
            gathered: BytesMut::new(),
            gone: false,
        })
    }

    /// Appends text. That the system has gone is noticed at the end.
    pub(crate) async fn write(&mut self, text: &[u8]) {
        for chunk in text.chunks(CHUNK_OCTETS_MAX) {
            self.gathered
                .put_slice(&submission::chunk_header(chunk.len()));
            self.gathered.put_slice(chunk);
            if self.gathered.len() >= GATHERED_OCTETS {
                self.flush().await;
            }
        }
    }

    /// Has the system append the text of a message that it has, which it does for its own manager only.
    async fn quote(&mut self, quote: Quote) {
        self.gathered.put_slice(&quote.to_octets());
        if self.gathered.len() >= GATHERED_OCTETS {
            self.flush().await;
        }
    }

    /// Ends the message. Returns its `qp`.
    ///
    /// # Errors
    ///
    /// What qmail-queue(8) would exit with: nothing was taken.
    pub(crate) async fn finish(mut self, envelope: &Envelope) -> Result<u32, u8> {
        self.gathered.put_slice(&submission::chunk_header(0));
        self.gathered.put_u8(b'F');
        self.gathered.put_slice(envelope.sender.as_bytes());
        self.gathered.put_u8(0);
        for recipient in &envelope.recipients {
            self.gathered.put_u8(b'T');
            self.gathered.put_slice(recipient.as_bytes());
            self.gathered.put_u8(0);
        }
        self.gathered.put_u8(0);
        self.flush().await;
        let mut answer = [0; Answer::OCTETS];
        let answered = self.stream.read_exact(&mut answer).await;
        answered.map_err(|_| COMMUNICATION)?;
        match Answer::from_octets(answer) {
            Answer { exit_code: 0, qp } => Ok(qp),
            Answer { exit_code, .. } => Err(exit_code),
        }
    }

    async fn flush(&mut self) {
        let octets = self.gathered.split();
        self.gone = self.gone || self.stream.write_all(&octets).await.is_err();
    }
}

/// The running system as a place that messages are handed to.
pub(crate) struct SocketSubmit {
    pub(crate) socket: PathBuf,
    /// Whether this is the manager of the system's queue, which may quote messages that it cannot read.
    pub(crate) quotes: bool,
}

#[async_trait]
impl Submit for SocketSubmit {
    /// The system finds out by itself who calls it.
    async fn begin(&self, _: Origin) -> Result<Box<dyn Draft>, SubmitError> {
        let submission = Submission::begin(&self.socket).await;
        Ok(Box::new(SocketDraft {
            submission: submission.map_err(|_| SubmitError::Unavailable)?,
            quotes: self.quotes,
        }))
    }
}

struct SocketDraft {
    submission: Submission,
    quotes: bool,
}

#[async_trait]
impl Draft for SocketDraft {
    async fn write(&mut self, chunk: Bytes) -> Result<(), SubmitError> {
        self.submission.write(&chunk).await;
        Ok(())
    }

    async fn quote(&mut self, message: u64, octets_max: Option<u64>) -> Result<bool, SubmitError> {
        if self.quotes {
            let quote = Quote {
                message,
                octets_max,
            };
            self.submission.quote(quote).await;
        }
        Ok(self.quotes)
    }

    async fn commit(self: Box<Self>, envelope: Envelope) -> Result<Receipt, SubmitError> {
        match self.submission.finish(&envelope).await {
            // The system does not tell its number for the message.
            Ok(qp) => Ok(Receipt::new(0, now(), qp)),
            Err(code) => Err(refused(&failure(code))),
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The words for an exit code that is not 0.
fn failure(code: u8) -> QueueFailure {
    QueueExit::Code(code.into())
        .verdict()
        .err()
        .unwrap_or(QueueFailure::READ)
}
