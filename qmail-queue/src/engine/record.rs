//! The record of what became of recipients, in the order in which a crash may cut it.
//!
//! The notes of one message are written one after the other: they go to the end of one text, and two at once would meet there.
//! Those that wait meanwhile are written together.

use std::io;
use std::sync::Arc;

use super::{Again, Engine, Event, NOTE_WAIT, TROUBLE_WAIT, World};
use crate::{Channel, LogEvent, MessageId, PassId, Position, Routed, SpoolError};

/// What is to be written down after a job.
pub(super) struct Record {
    pub(super) pass: PassId,
    pub(super) id: MessageId,
    pub(super) channel: Channel,
    pub(super) notes: Vec<u8>,
    pub(super) mark: Mark,
}

/// What a record says of its recipients.
pub(super) enum Mark {
    Done(Vec<Place>),
    /// Everybody is done.
    Closed,
    /// The message was not routed, and these are left.
    Routed(Routed),
}

/// Where the record of a recipient is.
#[derive(Clone, Copy)]
pub(super) enum Place {
    At(Position),
    /// The record with this number, of a channel whose records were never read.
    Nth(usize),
}

impl Engine {
    pub(super) fn record(&mut self, record: Record) {
        if record.notes.is_empty() {
            self.mark(record);
        } else if let Some(waiting) = self.noting.get_mut(&record.id) {
            waiting.push(record);
        } else {
            self.noting.insert(record.id, Vec::new());
            self.note(record.id, vec![record]);
        }
    }

    fn note(&mut self, id: MessageId, records: Vec<Record>) {
        let world = Arc::clone(&self.world);
        self.start(async move {
            let notes: Vec<&[u8]> = records.iter().map(|record| &record.notes[..]).collect();
            let result = world.parts.spool.note_failure(id, &notes.concat()).await;
            Event::Noted(id, records, result)
        });
    }

    /// Notes before marks: a recipient that is marked and not noted would fail without a word.
    pub(super) fn handle_noted(
        &mut self,
        id: MessageId,
        records: Vec<Record>,
        result: Result<(), SpoolError>,
    ) {
        match self.noting.get_mut(&id).map(std::mem::take) {
            Some(waiting) if !waiting.is_empty() => self.note(id, waiting),
            _ => drop(self.noting.remove(&id)),
        }
        match result {
            Ok(()) => {
                for mut record in records {
                    record.notes = Vec::new();
                    self.mark(record);
                }
            }
            Err(error) => {
                self.log(&LogEvent::NoteTrouble { error: &error });
                if self.stopping {
                    return;
                }
                for record in records {
                    self.do_again(NOTE_WAIT, Again::Record(record));
                }
            }
        }
    }

    fn mark(&mut self, record: Record) {
        let world = Arc::clone(&self.world);
        self.start(async move {
            let result = write_mark(&world, &record).await;
            Event::Recorded(record, result)
        });
    }

    pub(super) fn handle_recorded(&mut self, record: Record, result: Result<(), SpoolError>) {
        let Err(error) = result else {
            match record.mark {
                Mark::Routed(routed) => self.handle_first_recorded(record.pass, &routed),
                Mark::Done(_) => self.scheduler.handle_recorded(record.pass),
                Mark::Closed => {
                    self.passes.remove(&record.pass);
                    if self.scheduler.handle_closed(record.pass) {
                        self.finish(record.id);
                    }
                }
            }
            return;
        };
        self.log(&LogEvent::SpoolTrouble {
            doing: "marking",
            error: &error,
            consequence: if self.stopping {
                "message will be delivered twice!"
            } else {
                "will try again later"
            },
        });
        if !self.stopping {
            self.do_again(TROUBLE_WAIT, Again::Record(record));
        }
    }
}

async fn write_mark(world: &World, record: &Record) -> Result<(), SpoolError> {
    let spool = &world.parts.spool;
    let Record { id, channel, .. } = *record;
    match &record.mark {
        Mark::Closed => spool.close_channel(id, channel).await,
        Mark::Routed(routed) => match spool.route(id, routed.clone()).await {
            // Taken away by somebody else. The next attempt will tell that it is gone.
            Err(SpoolError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(())
            }
            result => result,
        },
        Mark::Done(places) => {
            let positions = positions(world, id, channel, places).await?;
            spool.mark_done(id, channel, &positions).await
        }
    }
}

async fn positions(
    world: &World,
    id: MessageId,
    channel: Channel,
    places: &[Place],
) -> Result<Vec<Position>, SpoolError> {
    let unread = |place: &Place| match place {
        Place::Nth(number) => Some(number + 1),
        Place::At(_) => None,
    };
    let records = match places.iter().filter_map(unread).max() {
        Some(count) => {
            let spool = &world.parts.spool;
            spool
                .recipients(id, channel, Position::START, count)
                .await?
        }
        None => Vec::new(),
    };
    Ok(places
        .iter()
        .filter_map(|place| match *place {
            Place::At(position) => Some(position),
            Place::Nth(number) => records.get(number).map(|record| record.position),
        })
        .collect())
}
