//! The queue program as a place that messages are handed to.

use std::io;
use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{
    Draft, EnhancedStatus, Envelope, Origin, QueueFailure, Receipt, Report, Submit, SubmitError,
};

use crate::queue_program::QueueProgram;

/// Hands messages to the queue program of a home. What waits for it is a thread of the runtime that this is polled in.
pub(crate) struct QueueSubmit {
    pub(crate) home: PathBuf,
}

#[async_trait]
impl Submit for QueueSubmit {
    /// The queue program finds out by itself who calls it; that a message is a bounce, it may have to be told.
    async fn begin(&self, origin: Origin) -> Result<Box<dyn Draft>, SubmitError> {
        let home = self.home.clone();
        let started = apart(move || match origin {
            Origin::Bounce => QueueProgram::start_for_bounce(&home),
            _ => QueueProgram::start_in(&home),
        });
        let program = started.await?;
        let program = program.map_err(|failure| refused(&failure))?;
        Ok(Box::new(ProgramDraft(Some(program))))
    }
}

/// `None` once it was committed, or while a thread has it.
struct ProgramDraft(Option<QueueProgram>);

#[async_trait]
impl Draft for ProgramDraft {
    async fn write(&mut self, chunk: Bytes) -> Result<(), SubmitError> {
        let mut program = self.0.take().ok_or(SubmitError::Unavailable)?;
        let written = apart(move || {
            program.write(&chunk);
            program
        });
        self.0 = Some(written.await?);
        Ok(())
    }

    async fn commit(mut self: Box<Self>, envelope: Envelope) -> Result<Receipt, SubmitError> {
        let program = self.0.take().ok_or(SubmitError::Unavailable)?;
        let finished = apart(move || {
            let recipients = envelope.recipients.iter();
            program.finish(
                envelope.sender.as_bytes(),
                recipients.map(|recipient| recipient.as_bytes()),
            )
        });
        let qp = finished.await?.map_err(|failure| refused(&failure))?;
        // The queue program tells neither its number for the message nor when it took it.
        Ok(Receipt::new(0, 0, qp))
    }
}

impl Drop for ProgramDraft {
    fn drop(&mut self) {
        if let Some(program) = self.0.take() {
            program.abort();
        }
    }
}

/// Does what blocks where it holds up nobody.
async fn apart<T: Send + 'static>(
    task: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SubmitError> {
    let done = tokio::task::spawn_blocking(task).await;
    done.map_err(|error| SubmitError::Write(io::Error::other(error)))
}

/// The words of a failure and its status apart.
pub(crate) fn refused(failure: &QueueFailure) -> SubmitError {
    let status = Report::new(failure.text.clone()).status();
    let status = status.unwrap_or(if failure.is_temporary() {
        EnhancedStatus::temporary(3, 0)
    } else {
        EnhancedStatus::permanent(3, 0)
    });
    let text = String::from_utf8_lossy(&failure.text);
    let words = text.strip_suffix(&format!(" (#{status})"));
    SubmitError::Refused {
        text: words.unwrap_or(&text).to_owned(),
        status,
    }
}
