//! What the command line and the environment ask an injector for.

use std::ffi::OsString;

use super::{Trouble, first_variable, octets};
use crate::getopt::Getopt;

/// What the command line of an injector asks for.
pub(crate) struct Options<'a> {
    /// Print the message instead of queueing it: `-n`, `-N`.
    pub(crate) print: bool,
    /// The envelope sender: `-f`.
    pub(crate) sender: Option<&'a [u8]>,
    /// Options beyond those that all injectors have.
    pub(crate) letters: Vec<u8>,
    recipients: Recipients,
    operands: &'a [OsString],
}

/// Whose recipients count: `-a`, `-h`, `-H`, `-A`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recipients {
    Arguments,
    Header,
    Both,
    ArgumentsElseHeader,
}

impl<'a> Options<'a> {
    /// Reads the arguments. `known` has all letters, those of all injectors among them, as [`Getopt`] wants them.
    pub(crate) fn parse(arguments: &'a [OsString], known: &'static str) -> Result<Self, Trouble> {
        let mut options = Self {
            print: false,
            sender: None,
            letters: Vec::new(),
            recipients: Recipients::ArgumentsElseHeader,
            operands: &[],
        };
        let mut getopt = Getopt::new(arguments, known);
        for option in getopt.by_ref() {
            let option = option.map_err(Trouble::Usage)?;
            match option.letter {
                b'a' => options.recipients = Recipients::Arguments,
                b'A' => options.recipients = Recipients::ArgumentsElseHeader,
                b'h' => options.recipients = Recipients::Header,
                b'H' => options.recipients = Recipients::Both,
                b'n' => options.print = true,
                b'N' => options.print = false,
                b'f' => options.sender = Some(option.argument),
                letter => options.letters.push(letter),
            }
        }
        options.operands = getopt.operands();
        Ok(options)
    }

    /// The recipients that the command line names, if they count.
    pub(crate) fn recipients(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let counted = match self.recipients {
            Recipients::Header => &[],
            _ => self.operands,
        };
        counted.iter().map(|operand| octets(operand))
    }

    /// Whether the recipients that the header names count.
    pub(crate) fn recipients_from_header(&self) -> bool {
        match self.recipients {
            Recipients::Arguments => false,
            Recipients::Header | Recipients::Both => true,
            Recipients::ArgumentsElseHeader => self.operands.is_empty(),
        }
    }
}

/// Who the environment says the user is.
pub(crate) struct User {
    /// QMAILUSER, MAILUSER, USER, LOGNAME; else `anonymous`.
    pub(crate) user: Vec<u8>,
    /// QMAILHOST, MAILHOST.
    pub(crate) host: Option<Vec<u8>>,
    /// QMAILNAME, MAILNAME, NAME.
    pub(crate) name: Option<Vec<u8>>,
    /// QMAILSUSER: of the envelope sender.
    pub(crate) sender_user: Option<Vec<u8>>,
    /// QMAILSHOST: of the envelope sender.
    pub(crate) sender_host: Option<Vec<u8>>,
}

impl User {
    pub(crate) fn from_environment() -> Self {
        let user = first_variable(&["QMAILUSER", "MAILUSER", "USER", "LOGNAME"]);
        Self {
            user: user.unwrap_or_else(|| b"anonymous".to_vec()),
            host: first_variable(&["QMAILHOST", "MAILHOST"]),
            name: first_variable(&["QMAILNAME", "MAILNAME", "NAME"]),
            sender_user: first_variable(&["QMAILSUSER"]),
            sender_host: first_variable(&["QMAILSHOST"]),
        }
    }
}
