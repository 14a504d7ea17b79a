//! The end of a message: its failures are told to its sender, then it goes.

use std::error::Error;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use md5::{Digest as _, Md5};
use qmail_core::bounce::{Excerpt, Notice, Piece, Plan, StatusWriter, plan};
use qmail_core::{Content, Draft, Envelope, Origin, Receipt, ReversePath, SubmitError};

use super::{Again, Engine, Event, TROUBLE_WAIT, World};
use crate::{Channel, LogEvent, MessageId, PassId, Settled, SpoolError};

/// Most messages that are being finished at once: enough for them to share their syncs.
const FINISHING_MAX: usize = 256;

/// A message whose recipients are all done, and how far it is.
pub(super) struct Finish {
    id: MessageId,
    stage: Stage,
    /// The pass that ended it, and its channel, where these deliveries are not recorded yet: the removal will do that.
    unrecorded: Option<(PassId, Channel)>,
    routed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Its failures are to be told.
    Bounce,
    /// They were told, and are to be forgotten.
    Forget,
    /// It is to be removed.
    Remove,
}

/// A message that is finished, or got stuck on the way.
pub(super) struct Finished {
    finish: Finish,
    result: Result<(), Trouble>,
}

enum Trouble {
    Spool(SpoolError),
    Bounce(BounceError),
}

impl From<SpoolError> for Trouble {
    fn from(error: SpoolError) -> Self {
        Self::Spool(error)
    }
}

impl Engine {
    /// Finishes a message whose recipients are all recorded as done.
    pub(super) fn finish(&mut self, id: MessageId) {
        self.finishes.push_back(Finish {
            id,
            stage: Stage::Bounce,
            unrecorded: None,
            routed: true,
        });
    }

    /// Finishes a message of which the last deliveries have just succeeded.
    pub(super) fn finish_with(&mut self, pass: PassId, id: MessageId, channel: Channel) {
        self.finishes.push_back(Finish {
            id,
            stage: Stage::Bounce,
            unrecorded: Some((pass, channel)),
            routed: true,
        });
    }

    /// Finishes a message that was never routed: all its recipients have it.
    pub(super) fn finish_unrouted(&mut self, pass: PassId, id: MessageId, channel: Channel) {
        let mut finish = Finish {
            id,
            stage: Stage::Remove,
            unrecorded: Some((pass, channel)),
            routed: false,
        };
        finish.end(&self.world);
        self.finishes.push_back(finish);
    }

    pub(super) fn start_finishing(&mut self) {
        if self.stopping {
            // The others wait for the next start; of these only this engine knows.
            self.finishes.retain(|finish| finish.unrecorded.is_some());
        }
        while self.finishing < FINISHING_MAX {
            let Some(mut finish) = self.finishes.pop_front() else {
                return;
            };
            self.finishing += 1;
            let world = Arc::clone(&self.world);
            self.start(async move {
                let result = finish.run(&world).await;
                Event::Finished(Finished { finish, result })
            });
        }
    }

    pub(super) fn handle_finished(&mut self, finished: Finished) {
        self.finishing -= 1;
        let Finished { finish, result } = finished;
        self.shared.reasons().forget(finish.id);
        let Err(trouble) = result else {
            if let Some((pass, _)) = finish.unrecorded {
                self.end_first_try(pass);
                self.scheduler.handle_closed(pass);
            }
            return;
        };
        match &trouble {
            Trouble::Spool(error) => self.log(&LogEvent::SpoolTrouble {
                doing: "finishing",
                error,
                consequence: match finish.unrecorded {
                    Some(_) if self.stopping => "message will be delivered twice!",
                    _ => "will try again later",
                },
            }),
            Trouble::Bounce(error) => self.log(&LogEvent::BounceTrouble {
                id: finish.id,
                error,
            }),
        }
        if !self.stopping {
            self.do_again(TROUBLE_WAIT, Again::Finish(finish));
        }
    }
}

impl Finish {
    /// Goes on from the stage reached. Each step is durable before the next one begins.
    async fn run(&mut self, world: &World) -> Result<(), Trouble> {
        let (spool, id) = (&world.parts.spool, self.id);
        if self.stage == Stage::Bounce {
            match spool.failures(id).await? {
                Some(notes) => {
                    if let Some((_, channel)) = self.unrecorded {
                        spool.close_channel(id, channel).await?;
                    }
                    tell_sender(world, id, notes).await?;
                    self.stage = Stage::Forget;
                }
                None => self.end(world),
            }
        }
        if self.stage == Stage::Forget {
            spool.clear_failures(id).await?;
            self.end(world);
        }
        let settled = match self.routed {
            true => Settled::new(id),
            false => Settled::unrouted(id),
        };
        spool.remove(settled).await?;
        Ok(())
    }

    /// Before the removal: afterwards the number may belong to another message.
    fn end(&mut self, world: &World) {
        world.log(&LogEvent::MessageEnded { id: self.id });
        self.stage = Stage::Remove;
    }
}

async fn tell_sender(world: &World, id: MessageId, notes: Arc<dyn Content>) -> Result<(), Trouble> {
    let sender = world.parts.spool.sender(id).await?;
    let config = &world.config;
    let (to, from, double) = match plan(&sender) {
        Plan::Discard => {
            world.log(&LogEvent::TripleBounce { id });
            return Ok(());
        }
        Plan::Single(address) => (address, ReversePath::Null, false),
        Plan::Double => match &config.double_bounce_to {
            Some(address) => {
                let from = ReversePath::new(Plan::DOUBLE_BOUNCE_SENDER).unwrap_or_default();
                (address.clone(), from, true)
            }
            None => {
                world.log(&LogEvent::DoubleBounceDiscarded { id });
                return Ok(());
            }
        },
    };
    let message = world.parts.spool.content(id).await?;
    let limit = config.bounce_message_octets_max;
    let seconds = world.seconds();
    let word = boundary(config.boundary_seed, id, seconds);
    let mut notice = Notice::new(&config.bounce_host, &to, &sender);
    notice.form = config.bounce_form;
    notice.from = &config.bounce_from;
    notice.double = double;
    notice.seconds = seconds;
    notice.message_octets = message.octets();
    notice.is_cut = limit.is_some_and(|limit| message.octets() > limit);
    notice.word = &word;
    let excerpt = limit.filter(|_| notice.is_cut);
    let texts = Texts {
        id,
        notes: &*notes,
        message: &*message,
        excerpt,
    };
    let receipt = submit(world, &notice, texts, from)
        .await
        .map_err(Trouble::Bounce)?;
    let qp = receipt.qp;
    world.log(&LogEvent::Bounced { id, qp });
    Ok(())
}

/// What a bounce quotes.
struct Texts<'a> {
    id: MessageId,
    notes: &'a dyn Content,
    message: &'a dyn Content,
    /// If only the beginning of the message is quoted: how much at most.
    excerpt: Option<u64>,
}

/// Queues a bounce. Neither the notes nor the message are ever held whole.
async fn submit(
    world: &World,
    notice: &Notice<'_>,
    texts: Texts<'_>,
    from: ReversePath,
) -> Result<Receipt, BounceError> {
    let mut draft = world.bounces.begin(Origin::Bounce).await?;
    for piece in notice.pieces() {
        match piece {
            Piece::Text(text) => draft.write(Bytes::from(text)).await?,
            Piece::Notes => copy(texts.notes, &mut *draft).await?,
            Piece::Statuses => copy_statuses(texts.notes, &mut *draft).await?,
            Piece::Message => quote(&texts, &mut *draft).await?,
        }
    }
    let envelope = Envelope::new(from, vec![notice.to.clone()]);
    Ok(draft.commit(envelope).await?)
}

/// The message, or its beginning. Who takes the bounce may have it at hand.
async fn quote(texts: &Texts<'_>, draft: &mut dyn Draft) -> Result<(), BounceError> {
    if draft.quote(texts.id.0, texts.excerpt).await? {
        return Ok(());
    }
    match texts.excerpt {
        None => copy(texts.message, draft).await,
        Some(octets_max) => copy_beginning(texts.message, Excerpt::new(octets_max), draft).await,
    }
}

/// A word that stands in no message: nobody outside knows the seed.
fn boundary(seed: u64, id: MessageId, seconds: u64) -> String {
    let known = [
        seed.to_le_bytes(),
        id.0.to_le_bytes(),
        seconds.to_le_bytes(),
    ];
    let digest = Md5::digest(known.concat());
    digest.iter().map(|octet| format!("{octet:02x}")).collect()
}

async fn copy(content: &dyn Content, draft: &mut dyn Draft) -> Result<(), BounceError> {
    let mut body = content.open().await?;
    while let Some(chunk) = body.next().await? {
        draft.write(chunk).await?;
    }
    Ok(())
}

async fn copy_statuses(notes: &dyn Content, draft: &mut dyn Draft) -> Result<(), BounceError> {
    let mut body = notes.open().await?;
    let mut writer = StatusWriter::default();
    let mut fields = Vec::new();
    while let Some(chunk) = body.next().await? {
        writer.push(&chunk, &mut fields);
        draft
            .write(Bytes::from(std::mem::take(&mut fields)))
            .await?;
    }
    writer.end(&mut fields);
    Ok(draft.write(Bytes::from(fields)).await?)
}

async fn copy_beginning(
    message: &dyn Content,
    mut excerpt: Excerpt,
    draft: &mut dyn Draft,
) -> Result<(), BounceError> {
    let mut body = message.open().await?;
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await? {
        let full = excerpt.push(&chunk, &mut text);
        draft.write(Bytes::from(std::mem::take(&mut text))).await?;
        if full {
            break;
        }
    }
    excerpt.end(&mut text);
    Ok(draft.write(Bytes::from(text)).await?)
}

/// Why a bounce is not queued.
#[derive(Debug)]
enum BounceError {
    Read(io::Error),
    Submit(SubmitError),
}

impl std::fmt::Display for BounceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(_) => f.write_str("cannot read the message"),
            Self::Submit(error) => error.fmt(f),
        }
    }
}

impl Error for BounceError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            Self::Submit(error) => error.source(),
        }
    }
}

impl From<io::Error> for BounceError {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<SubmitError> for BounceError {
    fn from(error: SubmitError) -> Self {
        Self::Submit(error)
    }
}
