//! What is asked of a queue, and how that travels: one netstring of netstrings, name and value in turn.

use std::time::Duration;

use bytes::Bytes;
use qmail_core::netstring::{self, Decoder, Part};
use qmail_queue::{Filter, MessageId, Pattern};

/// Largest request in octets: some 40,000 numbers of messages.
pub(crate) const REQUEST_OCTETS_MAX: u64 = 1024 * 1024;

/// What is asked of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) verb: Verb,
    /// Which messages; none: all that the filter lets through.
    pub(crate) ids: Vec<MessageId>,
    pub(crate) filter: Filter,
    /// Whether the answer is for a program.
    pub(crate) json: bool,
}

/// What is to be done with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Count,
    List,
    Show,
    Hold,
    Release,
    Retry,
    /// With the prefix that virtualdomains put before local recipients, or none.
    Reroute(Bytes),
    /// With whether a bounce is sent.
    Delete(bool),
}

impl Verb {
    fn name(&self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::List => "list",
            Self::Show => "show",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
            Self::Reroute(_) => "reroute",
            Self::Delete(false) => "delete",
            Self::Delete(true) => "bounce",
        }
    }

    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"count" => Self::Count,
            b"list" => Self::List,
            b"show" => Self::Show,
            b"hold" => Self::Hold,
            b"release" => Self::Release,
            b"retry" => Self::Retry,
            b"reroute" => Self::Reroute(Bytes::new()),
            b"delete" => Self::Delete(false),
            b"bounce" => Self::Delete(true),
            _ => return None,
        })
    }
}

impl Request {
    /// As it travels, without the netstring around it.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut sink = Vec::new();
        let mut pair = |name: &str, value: &[u8]| {
            netstring::write(name.as_bytes(), &mut sink);
            netstring::write(value, &mut sink);
        };
        pair("verb", self.verb.name().as_bytes());
        if let Verb::Reroute(prefix) = &self.verb {
            pair("prefix", prefix);
        }
        for id in &self.ids {
            pair("message", id.to_string().as_bytes());
        }
        let filter = &self.filter;
        if let Some(sender) = &filter.sender {
            pair("sender", sender.as_bytes());
        }
        if let Some(recipient) = &filter.recipient {
            pair("recipient", recipient.as_bytes());
        }
        if let Some(age) = filter.age_min {
            pair("age", age.as_secs().to_string().as_bytes());
        }
        if let Some(reason) = &filter.reason {
            pair("reason", reason);
        }
        if let Some(held) = filter.held {
            pair("held", held.to_string().as_bytes());
        }
        if self.json {
            pair("json", b"true");
        }
        sink
    }

    /// Reads what [`Self::encode`] wrote. `None` for anything else, as another version of this program may write it.
    pub(crate) fn decode(octets: &[u8]) -> Option<Self> {
        let mut request = Self {
            verb: Verb::Count,
            ids: Vec::new(),
            filter: Filter::default(),
            json: false,
        };
        let mut strings = strings(octets)?.into_iter();
        while let Some(name) = strings.next() {
            let value = strings.next()?;
            let number = || str::from_utf8(&value).ok()?.parse::<u64>().ok();
            let flag = || str::from_utf8(&value).ok()?.parse::<bool>().ok();
            match &name[..] {
                b"verb" => request.verb = Verb::named(&value)?,
                b"prefix" => request.verb = Verb::Reroute(value.into()),
                b"message" => request.ids.push(MessageId(number()?)),
                b"sender" => request.filter.sender = Some(Pattern::new(value)),
                b"recipient" => request.filter.recipient = Some(Pattern::new(value)),
                b"age" => request.filter.age_min = Some(Duration::from_secs(number()?)),
                b"reason" => request.filter.reason = Some(value),
                b"held" => request.filter.held = Some(flag()?),
                b"json" => request.json = flag()?,
                _ => return None,
            }
        }
        Some(request)
    }
}

fn strings(mut octets: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut decoder = Decoder::new(REQUEST_OCTETS_MAX);
    let mut strings = Vec::new();
    let mut string = Vec::new();
    while let Some(part) = decoder.next(&mut octets).ok()? {
        match part {
            Part::Length(_) => string.clear(),
            Part::Octets(octets) => string.extend_from_slice(octets),
            Part::End => strings.push(std::mem::take(&mut string)),
        }
    }
    (!decoder.is_inside()).then_some(strings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let mut request = Request {
            verb: Verb::Count,
            ids: vec![MessageId(7), MessageId(u64::MAX)],
            filter: Filter::default(),
            json: true,
        };
        request.filter.sender = Some(Pattern::new("<>"));
        request.filter.recipient = Some(Pattern::new(b"@b\xff:,"));
        request.filter.age_min = Some(Duration::from_secs(60));
        request.filter.reason = Some(b"down".to_vec());
        request.filter.held = Some(false);
        for verb in [
            Verb::Count,
            Verb::List,
            Verb::Show,
            Verb::Hold,
            Verb::Release,
            Verb::Retry,
            Verb::Reroute("".into()),
            Verb::Reroute("joe".into()),
            Verb::Delete(false),
            Verb::Delete(true),
        ] {
            request.verb = verb;
            let encoded = request.encode();
            assert_eq!(Request::decode(&encoded).as_ref(), Some(&request));
            for cut in 1..encoded.len() {
                assert_ne!(Request::decode(&encoded[..cut]).as_ref(), Some(&request));
            }
        }
        for bad in [
            "4:verb,3:eat,",
            "5:color,3:red,",
            "4:verb,",
            "x",
            "7:message,2:-1,",
        ] {
            assert_eq!(Request::decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
