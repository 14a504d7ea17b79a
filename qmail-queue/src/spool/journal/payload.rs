//! What the payloads of records hold. All but a part of the index, and a stop, begin with the number of their message.
//!
//! | kind | after the number |
//! |---|---|
//! | message | size of the text (8 octets), its CRC-32C (4), 1 if it has a file of its own (4), the text unless it has, the envelope as in `todo` |
//! | routed | birth (8), count and octets of the local recipients (4, 4), of the remote ones (4, 4), octets of the sender and of the failures (4, 4); sender, local, remote as in `info`, `local`, `remote`; failures |
//! | done | channel (4), for each recipient its number in the channel (4) |
//! | closed | channel (4) |
//! | put off | channel (4), due (8) |
//! | note | text |
//! | forgotten, settled | |
//!
//! A stop has no payload.

use bytes::Bytes;

use super::record::{Frame, Kind};
use crate::split::format;
use crate::spool::{Channel, MessageId, Routed};

/// Size of what precedes the text of a message.
pub(super) const MESSAGE_HEAD_OCTETS: usize = 24;

/// Size of what precedes the sender of a routed message.
pub(super) const ROUTED_HEAD_OCTETS: usize = 40;

/// What precedes the text of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MessageHead {
    pub(super) id: MessageId,
    pub(super) text_octets: u64,
    pub(super) text_sum: u32,
    pub(super) in_file: bool,
}

impl MessageHead {
    pub(super) fn to_octets(self) -> [u8; MESSAGE_HEAD_OCTETS] {
        let mut octets = [0; MESSAGE_HEAD_OCTETS];
        octets[..8].copy_from_slice(&self.id.0.to_le_bytes());
        octets[8..16].copy_from_slice(&self.text_octets.to_le_bytes());
        octets[16..20].copy_from_slice(&self.text_sum.to_le_bytes());
        octets[20..24].copy_from_slice(&u32::from(self.in_file).to_le_bytes());
        octets
    }

    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let head = Self {
            id: MessageId(reader.long()?),
            text_octets: reader.long()?,
            text_sum: reader.short()?,
            in_file: match reader.short()? {
                0 => false,
                1 => true,
                _ => return None,
            },
        };
        Some(head)
    }

    /// Size of the text in the record.
    pub(super) fn inline_octets(&self) -> Option<usize> {
        if self.in_file {
            return Some(0);
        }
        usize::try_from(self.text_octets).ok()
    }

    /// Where the envelope begins in the payload.
    pub(super) fn envelope_at(&self) -> Option<usize> {
        self.inline_octets()?.checked_add(MESSAGE_HEAD_OCTETS)
    }
}

/// What precedes the sender of a routed message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RoutedHead {
    pub(super) id: MessageId,
    pub(super) birth: u64,
    /// How many recipients each channel has.
    pub(super) counts: [u32; 2],
    /// And how many octets these take.
    pub(super) octets: [u32; 2],
    pub(super) sender_octets: u32,
    pub(super) failures_octets: u32,
}

impl RoutedHead {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader(payload);
        let (id, birth) = (MessageId(reader.long()?), reader.long()?);
        let local = (reader.short()?, reader.short()?);
        let remote = (reader.short()?, reader.short()?);
        Some(Self {
            id,
            birth,
            counts: [local.0, remote.0],
            octets: [local.1, remote.1],
            sender_octets: reader.short()?,
            failures_octets: reader.short()?,
        })
    }

    /// Where the recipients of a channel begin in the payload.
    pub(super) fn recipients_at(&self, channel: Channel) -> u64 {
        let sender = ROUTED_HEAD_OCTETS as u64 + u64::from(self.sender_octets);
        match channel {
            Channel::Local => sender,
            Channel::Remote => sender + u64::from(self.octets[0]),
        }
    }

    /// Where the failures begin in the payload.
    pub(super) fn failures_at(&self) -> u64 {
        self.recipients_at(Channel::Remote) + u64::from(self.octets[1])
    }
}

/// The record of a routed message; `None` if it is larger than any may be.
pub(super) fn routed(id: MessageId, routed: &Routed) -> Option<Frame> {
    let mut sender = Vec::new();
    format::write_sender(&routed.sender, &mut sender);
    let lists = [&routed.local, &routed.remote].map(|recipients| {
        let mut list = Vec::new();
        for recipient in recipients {
            format::write_recipient(recipient, &mut list);
        }
        (recipients.len(), list)
    });
    let whole = sender.len() + lists[0].1.len() + lists[1].1.len() + routed.failures.len();
    if whole + ROUTED_HEAD_OCTETS > super::record::PAYLOAD_OCTETS_MAX {
        return None;
    }
    let mut frame = Frame::about(Kind::Routed, id);
    let payload = frame.payload_mut();
    payload.reserve(ROUTED_HEAD_OCTETS + whole);
    payload.extend_from_slice(&routed.birth_seconds.to_le_bytes());
    // Each is below the limit of the whole.
    for number in [
        lists[0].0,
        lists[0].1.len(),
        lists[1].0,
        lists[1].1.len(),
        sender.len(),
        routed.failures.len(),
    ] {
        payload.extend_from_slice(&(number as u32).to_le_bytes());
    }
    payload.extend_from_slice(&sender);
    for (_, list) in &lists {
        payload.extend_from_slice(list);
    }
    payload.extend_from_slice(&routed.failures);
    Some(frame)
}

/// A record about a channel of a message, to which more may be appended.
pub(super) fn about_channel(kind: Kind, id: MessageId, channel: Channel) -> Frame {
    let mut frame = Frame::about(kind, id);
    let payload = frame.payload_mut();
    payload.extend_from_slice(&(channel as u32).to_le_bytes());
    frame
}

/// Takes numbers off the front of octets.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn short(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*number))
    }

    pub(super) fn long(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*number))
    }

    pub(super) fn channel(&mut self) -> Option<Channel> {
        let number = self.short()?;
        Channel::ALL
            .into_iter()
            .find(|&channel| channel as u32 == number)
    }
}

/// The envelope of a message's payload, as a file of `todo` holds it.
pub(super) fn envelope(payload: &Bytes) -> Option<Bytes> {
    let at = MessageHead::parse(payload)?.envelope_at()?;
    (at <= payload.len()).then(|| payload.slice(at..))
}
