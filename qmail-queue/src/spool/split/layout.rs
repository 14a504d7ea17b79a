//! Where the files of a message lie, and which modes the queue's directories have.
//!
//! Paths are relative to the queue directory. `mess`, `info`, `local` and `remote` are split into [`SPLIT`] directories;
//! a message lies in the one that is its number modulo that.

use std::path::{Path, PathBuf};

use crate::spool::{Channel, MessageId};

/// Directories that `mess`, `info`, `local` and `remote` are split into: a constant of the classic system when it is built.
pub const SPLIT: u64 = 23;

/// Mode of message texts and envelopes.
pub(super) const MESSAGE_MODE: u32 = 0o644;
/// Mode of senders, recipients and failure notes.
pub(super) const ROUTED_MODE: u32 = 0o600;

/// The lock that one qmail-send holds.
pub const SEND_MUTEX: &str = "lock/sendmutex";
/// The FIFO by which qmail-queue wakes qmail-send.
pub const TRIGGER: &str = "lock/trigger";
/// The table of hosts that time out.
pub const TCPTO: &str = "lock/tcpto";
/// Size of an empty [`TCPTO`].
pub(super) const TCPTO_OCTETS: usize = 1024;

/// A directory of the queue that holds files of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Directory {
    /// Newborn files that have no number yet.
    Pid,
    /// Envelopes under construction.
    Intd,
    /// Envelopes of accepted messages.
    Todo,
    /// Texts of permanent failures.
    Bounce,
    /// Message texts; the part, below [`SPLIT`].
    Mess(u8),
    /// Senders; the part.
    Info(u8),
    /// Local recipients; the part.
    Local(u8),
    /// Remote recipients; the part.
    Remote(u8),
}

impl Directory {
    /// The part of `mess` that a message lies in.
    pub fn mess(id: MessageId) -> Self {
        Self::Mess(part(id))
    }

    /// The part of `info`.
    pub fn info(id: MessageId) -> Self {
        Self::Info(part(id))
    }

    /// The part of `local` or `remote`.
    pub fn channel(channel: Channel, id: MessageId) -> Self {
        match channel {
            Channel::Local => Self::Local(part(id)),
            Channel::Remote => Self::Remote(part(id)),
        }
    }

    /// All of them, a directory after the one it lies in.
    pub fn all() -> impl Iterator<Item = Self> {
        let parts = |make: fn(u8) -> Self| (0..SPLIT as u8).map(make);
        [Self::Pid, Self::Intd, Self::Todo, Self::Bounce]
            .into_iter()
            .chain(parts(Self::Mess))
            .chain(parts(Self::Info))
            .chain(parts(Self::Local))
            .chain(parts(Self::Remote))
    }

    /// Its path.
    pub fn path(self) -> PathBuf {
        let (name, part) = match self {
            Self::Pid => ("pid", None),
            Self::Intd => ("intd", None),
            Self::Todo => ("todo", None),
            Self::Bounce => ("bounce", None),
            Self::Mess(part) => ("mess", Some(part)),
            Self::Info(part) => ("info", Some(part)),
            Self::Local(part) => ("local", Some(part)),
            Self::Remote(part) => ("remote", Some(part)),
        };
        match part {
            None => PathBuf::from(name),
            Some(part) => PathBuf::from(format!("{name}/{part}")),
        }
    }

    /// The path of a message's file in it.
    pub fn file(self, id: MessageId) -> PathBuf {
        let mut path = self.path();
        path.push(id.to_string());
        path
    }

    /// Its mode in the classic system, where the group reads what other programs of the queue need.
    pub fn mode(self) -> u32 {
        match self {
            Self::Todo | Self::Mess(_) => 0o750,
            _ => 0o700,
        }
    }

    /// Whether a message may lie here: always in a directory that is not split.
    pub fn may_hold(self, id: MessageId) -> bool {
        match self {
            Self::Pid | Self::Intd | Self::Todo | Self::Bounce => true,
            Self::Mess(part) | Self::Info(part) | Self::Local(part) | Self::Remote(part) => {
                part == self::part(id)
            }
        }
    }
}

fn part(id: MessageId) -> u8 {
    (id.0 % SPLIT) as u8
}

/// The message that a file name stands for: a decimal number without sign or leading zeros.
///
/// ```
/// use std::path::Path;
/// use qmail_queue::{MessageId, split::layout::message_id};
/// assert_eq!(message_id(Path::new("1234")), Some(MessageId(1234)));
/// assert_eq!(message_id(Path::new("01234")), None);
/// assert_eq!(message_id(Path::new("core")), None);
/// ```
pub fn message_id(name: &Path) -> Option<MessageId> {
    let name = name.to_str()?;
    let plain =
        name.bytes().all(|octet| octet.is_ascii_digit()) && (name == "0" || !name.starts_with('0'));
    // Empty and overlong numbers are refused here.
    plain.then(|| name.parse().ok().map(MessageId)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lies_where_its_number_says() {
        let id = MessageId(2_345);
        for (directory, path) in [
            (Directory::Todo, "todo/2345"),
            (Directory::Intd, "intd/2345"),
            (Directory::Bounce, "bounce/2345"),
            (Directory::mess(id), "mess/22/2345"),
            (Directory::info(id), "info/22/2345"),
            (Directory::channel(Channel::Local, id), "local/22/2345"),
            (Directory::channel(Channel::Remote, id), "remote/22/2345"),
        ] {
            assert_eq!(directory.file(id), Path::new(path));
            assert!(directory.may_hold(id));
        }
        assert!(!Directory::Mess(21).may_hold(id));
        assert_eq!(Directory::all().count(), 4 + 4 * 23);
    }

    #[test]
    fn only_plain_numbers_are_messages() {
        for (name, id) in [
            ("0", Some(0)),
            ("7", Some(7)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("", None),
            ("00", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1.2", None),
        ] {
            assert_eq!(message_id(Path::new(name)), id.map(MessageId), "{name:?}");
        }
    }
}
