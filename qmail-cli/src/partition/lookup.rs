//! The lookup party: says whose an address is, so that the launcher, which is root, need not read tables or ask the system's directories.
//!
//! It is asked for recipients; it tells name, uid, gid, home, dash and extension, each ends with NUL, or an outcome instead of a delivery.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::ExitCode;

use bytes::Bytes;
use qmail_core::{Address, Outcome};
use qmail_deliver::{AssignedUsers, User, UserDirectory as _};
use qmail_queue::helpers::spawn::Refusal;

use super::Party;
use super::channel::Channel;
use super::complaints::Complaints;
use super::party::lock_down;
use super::requests::Request;
use super::serving::{Ends, serve};
use crate::getpw::Getpw;
use crate::home::Home;
use crate::{exit, stdio};

/// Somebody whom every system knows: looked up once, so that all is loaded that looking up needs.
const KNOWN: &str = "root";

pub(super) fn run(home: &Home) -> ExitCode {
    match look_up(home) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal("lookup", &words, exit::TEMPORARY),
    }
}

fn look_up(home: &Home) -> Result<(), String> {
    let getpw = Getpw::of(home).map_err(|error| error.to_string())?;
    let assigned = AssignedUsers::by_cdb(home.path());
    let _ = qmail_deliver::SystemUsers::account(KNOWN);
    // An administrator's own program is to be run, and this is not root.
    if let Getpw::Own(_) = getpw {
        lock_down(Party::Lookup, home).map_err(|error| error.to_string())?;
    }
    let served = stdio::run(async {
        let channel = Channel::new(io::stdin().as_fd().try_clone_to_owned()?)?;
        let ends = Ends {
            requests: &channel,
            reports: &channel,
            asker: "launcher",
        };
        serve(
            ends,
            &Complaints::of("lookup"),
            async |request: Request, _| vec![find(&assigned, &getpw, &request).await],
        )
        .await
    });
    served
        .and_then(|served| served)
        .map_err(|error| error.to_string())
}

async fn find(assigned: &AssignedUsers, getpw: &Getpw, request: &Request) -> Outcome {
    let found = async {
        let recipient = request.texts.first().cloned().unwrap_or_default();
        let recipient = Address::new(recipient).map_err(|_| Refusal::AddressTooLong.outcome())?;
        match assigned.find(&recipient).await {
            Ok(Some(user)) => Ok(user),
            Ok(None) => getpw.find(&recipient).await,
            Err(error) => Err(error.outcome()),
        }
    };
    match found.await {
        Ok(user) => Outcome::Delivered(qmail_core::Report::new(told(&user))),
        Err(outcome) => outcome,
    }
}

fn told(user: &User) -> Vec<u8> {
    let numbers = [user.uid, user.gid].map(|number| number.to_string());
    let mut octets = Vec::new();
    for field in [
        &user.name[..],
        numbers[0].as_bytes(),
        numbers[1].as_bytes(),
        user.home.as_os_str().as_bytes(),
        &user.dash,
        &user.extension,
    ] {
        octets.extend_from_slice(field);
        octets.push(0);
    }
    octets
}

/// What was told of a user; `None` if it is nothing of the kind.
pub(super) fn understand(told: &[u8]) -> Option<User> {
    let fields: Vec<_> = told
        .strip_suffix(&[0])?
        .split(|&octet| octet == 0)
        .collect();
    let [name, uid, gid, home, dash, extension] = fields[..] else {
        return None;
    };
    let number = |digits: &[u8]| std::str::from_utf8(digits).ok()?.parse().ok();
    let home = OsString::from_vec(home.to_vec());
    let mut user = User::new(Bytes::copy_from_slice(name), home);
    (user.uid, user.gid) = (number(uid)?, number(gid)?);
    user.dash = Bytes::copy_from_slice(dash);
    user.extension = Bytes::copy_from_slice(extension);
    Some(user)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_comes_back_as_it_was_and_nothing_else_is_one() {
        let mut user = User::new("joe", "/home/joe");
        (user.uid, user.gid) = (500, 100);
        user.dash = "-".into();
        user.extension = "Lists".into();
        let octets = told(&user);
        assert_eq!(understand(&octets), Some(user));
        for hostile in [
            &octets[..octets.len() - 1],
            &octets[1..4],
            b"joe\0x\x00100\0/home/joe\0\0\0",
            b"joe\x00-1\x00100\0/home/joe\0\0\0",
            b"joe\x004294967296\x00100\0/home/joe\0\0\0",
            b"joe\x00500\x00100\0/home/joe\0\0\0more\0",
            b"",
        ] {
            assert_eq!(understand(hostile), None, "{hostile:?}");
        }
    }
}
