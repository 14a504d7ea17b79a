//! Carrying out a plan.

use std::io;
use std::os::unix::fs::MetadataExt;

use qmail_core::{Address, Content, Outcome, Report, ReversePath};
use tokio::task::spawn_blocking;

use super::plan::Instruction;
use super::{deferred, delivered_to, failed, head, trace};
use crate::{Maildirs, User};

/// What is delivered, and to whom.
pub(super) struct Parcel<'a> {
    pub(super) content: &'a dyn Content,
    pub(super) sender: &'a ReversePath,
    pub(super) recipient: &'a Address,
    pub(super) user: &'a User,
}

/// Does what the plan says; the first instruction that fails ends it.
pub(super) async fn execute(
    maildirs: &Maildirs,
    parcel: Parcel<'_>,
    instructions: &[Instruction],
) -> Outcome {
    let line = delivered_to(parcel.recipient);
    let (home, checked) = tokio::join!(
        check_home(parcel.user),
        trace::open_checked(parcel.content, &line)
    );
    if let Err(outcome) = home {
        return outcome;
    }
    // The first instruction has the reading that the loop check began.
    let mut reading = match checked {
        Ok(Some(body)) => Some(body),
        Ok(None) => {
            return failed(
                "This message is looping: it already has my Delivered-To line. (#5.4.6)\n",
            );
        }
        Err(_) => return deferred(UNREADABLE),
    };
    let mut files = 0;
    for instruction in instructions {
        let mut body = match reading.take() {
            Some(body) => body,
            None => match parcel.content.open().await {
                Ok(body) => body,
                Err(_) => return deferred(UNREADABLE),
            },
        };
        match instruction {
            Instruction::Maildir(maildir) => {
                let head = head(parcel.sender, parcel.recipient);
                if let Err(error) = maildirs.deliver(maildir, head, body.as_mut()).await {
                    return error.outcome();
                }
                files += 1;
            }
        }
    }
    Outcome::Delivered(Report::new(format!("did {files}+0+0\n")))
}

/// A home that is not there, or that others may write to, or whose owner is at work on it, takes no mail now. Where a Maildir
/// was given outright, the home does not matter.
async fn check_home(user: &User) -> Result<(), Outcome> {
    if user.maildir.is_some() {
        return Ok(());
    }
    let home = user.home.join(".");
    let found = spawn_blocking(move || std::fs::metadata(home))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into()));
    match found.map(|metadata| metadata.mode()) {
        Ok(mode) if mode & OTHERS_WRITE != 0 => {
            Err(deferred("Uh-oh: home directory is writable. (#4.7.0)\n"))
        }
        Ok(mode) if mode & STICKY != 0 => Err(deferred(
            "Home directory is sticky: user is editing his .qmail file. (#4.2.1)\n",
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(Outcome::Deferred(Report::new(format!(
            "Unable to switch to {}: {error}. (#4.3.0)\n",
            user.home.display()
        )))),
    }
}

const UNREADABLE: &str = "Unable to read message. (#4.3.0)\n";

/// Mode bits of a home directory that defer mail.
const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;
