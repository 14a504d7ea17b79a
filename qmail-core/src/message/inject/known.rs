//! The fields that qmail-inject knows (qmail-header(5)).

use crate::header::Field;

/// A field by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    ApparentlyTo,
    Bcc,
    Cc,
    ContentLength,
    Date,
    ErrorsTo,
    From,
    MailFollowupTo,
    MessageId,
    ReplyTo,
    ResentBcc,
    ResentCc,
    ResentDate,
    ResentFrom,
    ResentMessageId,
    ResentReplyTo,
    ResentSender,
    ResentTo,
    ReturnPath,
    ReturnReceiptTo,
    Sender,
    To,
}

/// What is done with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It stays, octet for octet.
    Copy,
    /// It goes.
    Drop,
    /// It is rewritten, and names recipients.
    Recipients,
    /// It names the sender, and goes.
    ReturnPath,
    /// It is rewritten.
    Sender,
    /// It stays unless it is to be replaced.
    MessageId,
}

const NAMES: [(&[u8], Known); 22] = [
    (b"To", Known::To),
    (b"Cc", Known::Cc),
    (b"Bcc", Known::Bcc),
    (b"Date", Known::Date),
    (b"From", Known::From),
    (b"Sender", Known::Sender),
    (b"Reply-To", Known::ReplyTo),
    (b"Errors-To", Known::ErrorsTo),
    (b"Resent-To", Known::ResentTo),
    (b"Resent-Cc", Known::ResentCc),
    (b"Message-ID", Known::MessageId),
    (b"Resent-Bcc", Known::ResentBcc),
    (b"Return-Path", Known::ReturnPath),
    (b"Resent-Date", Known::ResentDate),
    (b"Resent-From", Known::ResentFrom),
    (b"Apparently-To", Known::ApparentlyTo),
    (b"Resent-Sender", Known::ResentSender),
    (b"Content-Length", Known::ContentLength),
    (b"Resent-Reply-To", Known::ResentReplyTo),
    (b"Mail-Followup-To", Known::MailFollowupTo),
    (b"Return-Receipt-To", Known::ReturnReceiptTo),
    (b"Resent-Message-ID", Known::ResentMessageId),
];

impl Known {
    pub(super) fn of(field: &Field<'_>) -> Option<Self> {
        let name = field.name();
        let mut names = NAMES.iter();
        names.find_map(|(known, it)| (known.len() == name.len() && field.is(known)).then_some(*it))
    }

    pub(super) fn treatment(self) -> Use {
        match self {
            Self::To | Self::Cc | Self::Bcc | Self::ApparentlyTo => Use::Recipients,
            Self::ResentTo | Self::ResentCc | Self::ResentBcc => Use::Recipients,
            Self::Sender | Self::From | Self::ReplyTo | Self::ReturnReceiptTo | Self::ErrorsTo => {
                Use::Sender
            }
            Self::ResentSender | Self::ResentFrom | Self::ResentReplyTo => Use::Sender,
            Self::ReturnPath => Use::ReturnPath,
            Self::MessageId => Use::MessageId,
            Self::ContentLength => Use::Drop,
            Self::Date | Self::MailFollowupTo | Self::ResentDate | Self::ResentMessageId => {
                Use::Copy
            }
        }
    }

    /// Whether its presence makes a message a resent one.
    pub(super) fn is_resent(self) -> bool {
        matches!(
            self,
            Self::ResentSender
                | Self::ResentFrom
                | Self::ResentReplyTo
                | Self::ResentTo
                | Self::ResentCc
                | Self::ResentBcc
                | Self::ResentDate
                | Self::ResentMessageId
        )
    }

    /// Whether it names recipients and is not shown to them.
    pub(super) fn is_blind(self) -> bool {
        matches!(self, Self::Bcc | Self::ResentBcc)
    }
}
