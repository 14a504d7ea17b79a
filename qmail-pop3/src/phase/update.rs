//! UPDATE (RFC 1939 section 6): remove what is marked, and say how it went.

use qmail_core::Question;

use super::{Phase, Turn};
use crate::{Deletions, End, Event, UpdateAnswer};

/// After QUIT. The only way to get here is QUIT in TRANSACTION, and only from here is anything removed.
pub(crate) struct Update(());

impl Update {
    /// Asks the owner.
    pub(crate) fn start(deleted: Deletions, turn: &mut Turn<'_>) -> Self {
        *turn.event = Some(Event::Update {
            question: Question::new(),
            deleted,
        });
        Self(())
    }

    /// Answers the client, once.
    pub(crate) fn answer(self, answer: UpdateAnswer, turn: &mut Turn<'_>) -> Phase {
        match answer {
            UpdateAnswer::Done => {
                turn.ok();
                Phase::Over(End::Updated)
            }
            UpdateAnswer::Incomplete => {
                turn.error(b"unable to unlink all deleted messages");
                Phase::Over(End::UpdatedInPart)
            }
        }
    }
}
