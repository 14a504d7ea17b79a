//! Making messages complete: what a user agent left out is supplied, addresses are completed, the envelope is made.

mod addresses;
mod body;
pub mod compose;
pub mod inject;
mod options;

pub use addresses::Addresses;
pub use body::BodyText;
pub use options::Options;

/// When and where a message is made, for its Date and its Message-ID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Seconds since 1970.
    pub seconds: u64,
    /// A number that no other message of this second has: by custom the process id, with random digits behind it where
    /// many programs share a process id.
    pub unique: u64,
    /// How many messages one process has made in this session, where it makes several.
    pub sequence: Option<u64>,
}

impl Stamp {
    /// A stamp without a sequence number.
    pub fn new(seconds: u64, unique: u64) -> Self {
        Self {
            seconds,
            unique,
            sequence: None,
        }
    }

    /// Appends `<YYYYMMDDhhmmss.UNIQUE.qmail@HOST>`, or `<YYYYMMDDhhmmss.SEQUENCE.UNIQUE.qmail@HOST>`. Control octets of
    /// the host are left out: a variable may hold a line break, and a field may not.
    pub(crate) fn write_message_id(&self, id_host: &[u8], sink: &mut Vec<u8>) {
        sink.push(b'<');
        let seconds = i64::try_from(self.seconds).unwrap_or(i64::MAX);
        crate::header::date::Civil::from_unix(seconds).write_stamp(sink);
        for number in self.sequence.into_iter().chain([self.unique]) {
            sink.push(b'.');
            crate::decimal::push_decimal(sink, number);
        }
        sink.extend_from_slice(b".qmail@");
        sink.extend(id_host.iter().filter(|octet| !octet.is_ascii_control()));
        sink.push(b'>');
    }
}
