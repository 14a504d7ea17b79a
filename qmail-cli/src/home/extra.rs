//! control/queueextra: recipients of every message.

use bytes::Bytes;
use qmail_core::{Address, control};

use super::Home;
use super::directory::{ControlError, Directory};

/// Those who get every message that enters the queue, besides its own recipients: one address a line, none by default. The
/// classic system has this as a constant, QUEUE_EXTRA, when it is built.
///
/// # Errors
///
/// The file cannot be read, or an address in it is too long.
pub(crate) fn extra_recipients(home: &Home) -> Result<Vec<Address>, ControlError> {
    let directory = Directory::new(&home.control());
    let file = directory.file(FILE)?.unwrap_or_default();
    control::list(&file)
        .map(|line| {
            Address::new(Bytes::copy_from_slice(line.octets)).map_err(|_| ControlError::Bad {
                path: directory.path(FILE),
                value: String::from_utf8_lossy(line.octets).into_owned(),
                remedy: "the address is too long for the queue",
            })
        })
        .collect()
}

const FILE: &str = "queueextra";
