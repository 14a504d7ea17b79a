//! What is asked for beyond the message itself.

use crate::control::Set;
use crate::decimal::push_decimal;
use crate::message::Stamp;

/// What the makers of messages have in common: the letters of QMAILINJECT, the list of QMAILMFTFILE, the host in
/// Message-ID.
///
/// ```
/// let mut options = qmail_core::message::Options::new("example.org");
/// options.read_letters(b"fr");
/// assert!(options.drop_from && options.verp_per_recipient);
/// assert!(!options.drop_return_path && !options.drop_message_id && !options.verp_per_message);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// The host in Message-ID, as it is but for control octets (control/idhost).
    pub id_host: Vec<u8>,
    /// Letter `s`: incoming Return-Path fields are dropped unread.
    pub drop_return_path: bool,
    /// Letter `f`: incoming From fields are dropped unread, and a new one is made.
    pub drop_from: bool,
    /// Letter `i`: incoming Message-ID fields are dropped, and a new one is made.
    pub drop_message_id: bool,
    /// Letter `r`: the sender asks for one return path per recipient, see [`verp`](crate::verp).
    pub verp_per_recipient: bool,
    /// Letter `m`: the default sender is different for each message.
    pub verp_per_message: bool,
    /// Addresses of mailing lists: a message to one of them gets a Mail-Followup-To.
    pub mailing_lists: Set,
}

impl Options {
    /// Nothing is dropped, no return path varies, no mailing list is known.
    pub fn new(id_host: impl Into<Vec<u8>>) -> Self {
        Self {
            id_host: id_host.into(),
            drop_return_path: false,
            drop_from: false,
            drop_message_id: false,
            verp_per_recipient: false,
            verp_per_message: false,
            mailing_lists: Set::default(),
        }
    }

    /// Sets what these letters say. Others mean nothing, and those of upper case are others.
    pub fn read_letters(&mut self, letters: &[u8]) {
        for letter in letters {
            match letter {
                b's' => self.drop_return_path = true,
                b'f' => self.drop_from = true,
                b'i' => self.drop_message_id = true,
                b'r' => self.verp_per_recipient = true,
                b'm' => self.verp_per_message = true,
                _ => {}
            }
        }
    }

    /// Appends to the local part of the default sender what makes it different for each message or recipient.
    pub(super) fn vary_sender(&self, stamp: Stamp, local: &mut Vec<u8>) {
        if self.verp_per_message {
            local.push(b'-');
            push_decimal(local, stamp.seconds);
            local.push(b'.');
            push_decimal(local, stamp.unique);
        }
        if self.verp_per_recipient {
            local.push(b'-');
        }
    }

    /// Appends to a sender what asks the queue manager for one return path per recipient.
    pub(super) fn mark_sender(&self, sender: &mut Vec<u8>) {
        if self.verp_per_recipient {
            sender.extend_from_slice(b"-@[]");
        }
    }
}
