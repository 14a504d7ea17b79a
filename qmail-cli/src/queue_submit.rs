//! The queue program as a place that messages are handed to.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{
    Draft, EnhancedStatus, Envelope, Origin, QueueFailure, Receipt, Report, Submit, SubmitError,
};

use crate::queue_program::QueueProgram;

/// Hands messages to the queue program of a home. Blocks: this is for programs that have one thing to do.
pub(crate) struct QueueSubmit {
    pub(crate) home: PathBuf,
}

#[async_trait]
impl Submit for QueueSubmit {
    /// The queue program finds out by itself who calls it.
    async fn begin(&self, _: Origin) -> Result<Box<dyn Draft>, SubmitError> {
        let program = QueueProgram::start_in(&self.home).map_err(|failure| refused(&failure))?;
        Ok(Box::new(ProgramDraft(Some(program))))
    }
}

/// `None` once it was committed.
struct ProgramDraft(Option<QueueProgram>);

#[async_trait]
impl Draft for ProgramDraft {
    async fn write(&mut self, chunk: Bytes) -> Result<(), SubmitError> {
        if let Some(program) = &mut self.0 {
            program.write(&chunk);
        }
        Ok(())
    }

    async fn commit(mut self: Box<Self>, envelope: Envelope) -> Result<Receipt, SubmitError> {
        let program = self.0.take().ok_or(SubmitError::Unavailable)?;
        let recipients = envelope.recipients.iter();
        let qp = program
            .finish(
                envelope.sender.as_bytes(),
                recipients.map(|recipient| recipient.as_bytes()),
            )
            .map_err(|failure| refused(&failure))?;
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
