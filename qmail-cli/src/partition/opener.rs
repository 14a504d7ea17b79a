//! The opener party: the manager says which message goes to whom, and this opens the message and passes it on with the request. So the
//! manager reads no message, and who delivers has no way to any but those that it is to deliver.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, mpsc};
use std::thread;

use qmail_queue::MessageId;
use qmail_queue::split::layout::Directory;
use rustix::fs::{FileType, Mode, OFlags};

use super::Party;
use super::channel::{self, Incoming, MESSAGE_OCTETS_MAX};
use super::complaints::Complaints;
use super::party::lock_down;
use super::requests::Request;
use crate::home::Home;
use crate::{exit, inherited};

/// Whether small messages are passed on as copies, so that nobody else ever has their files open: these may then be written over by the
/// next messages ([`SplitSpool::keeping_spares`](qmail_queue::SplitSpool::keeping_spares)).
pub(super) const COPIES: bool = cfg!(target_os = "linux");

/// Messages up to so many octets are passed on as copies: all that are ever written over.
const COPY_OCTETS_MAX: usize = 16 * 1024;

const _: () = assert!(COPY_OCTETS_MAX as u64 >= qmail_queue::split::SPARE_OCTETS_MAX);

/// Descriptors: requests for the launcher are standard input, these follow from 3 on.
const MORE: [i32; 3] = [3, 4, 5];

pub(super) fn run(home: &Home) -> ExitCode {
    match serve(home) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal("opener", &words, exit::TEMPORARY),
    }
}

fn serve(home: &Home) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    let more = inherited::take_beyond_standard(&MORE).map_err(words)?;
    let to_launcher = io::stdin().as_fd().try_clone_to_owned().map_err(words)?;
    let [launcher, to_remote, remote] =
        <[OwnedFd; 3]>::try_from(more).map_err(|_| "a descriptor is missing")?;
    lock_down(Party::Opener, home).map_err(|error| error.to_string())?;
    let complaints = Arc::new(Complaints::of("opener"));
    let (ended, end) = mpsc::channel();
    // One for each, so that neither can hold up the other.
    for (requests, deliverer) in [(to_launcher, launcher), (to_remote, remote)] {
        let (ended, complaints) = (ended.clone(), Arc::clone(&complaints));
        let queue = home.queue();
        thread::Builder::new()
            .spawn(move || {
                let result = pass_on(&queue, &requests, &deliverer, &complaints);
                let _ = ended.send(result);
            })
            .map_err(words)?;
    }
    match end.recv() {
        Ok(Err(error)) => Err(words(error)),
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// Opens message after message, to the end of the requests.
fn pass_on(
    queue: &Path,
    requests: &OwnedFd,
    deliverer: &OwnedFd,
    complaints: &Complaints,
) -> io::Result<()> {
    let mut room = vec![0; MESSAGE_OCTETS_MAX];
    loop {
        let request = match channel::receive(requests, &mut room)? {
            Incoming::Message(octets, None) => Request::read(&room[..octets]).map(|request| {
                // Without it the deliverer tells that there is none.
                let message = open(queue, MessageId(request.message)).ok();
                (octets, message)
            }),
            Incoming::Message(_, Some(_)) => Err("a descriptor"),
            Incoming::Refused(why) => Err(why),
            Incoming::End => return Ok(()),
        };
        match request {
            Ok((octets, message)) => {
                let message = message.as_ref().map(|message| message.as_fd());
                channel::send(deliverer, &room[..octets], message)?;
            }
            Err(why) => complaints.refused("manager", why),
        }
    }
}

/// Opens a message of the queue, to be read.
fn open(queue: &Path, id: MessageId) -> io::Result<OwnedFd> {
    // A FIFO that somebody put there must not make the open wait.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let path = queue.join(Directory::mess(id).file(id));
    let message = rustix::fs::open(path, flags, Mode::empty())?;
    let stat = rustix::fs::fstat(&message)?;
    let own = rustix::process::geteuid().as_raw();
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_uid != own {
        return Err(io::ErrorKind::InvalidData.into());
    }
    #[cfg(target_os = "linux")]
    if usize::try_from(stat.st_size).is_ok_and(|octets| octets <= COPY_OCTETS_MAX) {
        return copy(&message);
    }
    Ok(message)
}

/// A copy of a small message in memory.
#[cfg(target_os = "linux")]
fn copy(message: &OwnedFd) -> io::Result<OwnedFd> {
    use rustix::fs::{MemfdFlags, memfd_create};
    use rustix::io::Errno;
    let mut text = [0; COPY_OCTETS_MAX];
    let mut octets = 0;
    while octets < text.len() {
        match rustix::io::pread(message, &mut text[octets..], octets as u64)? {
            0 => break,
            more => octets += more,
        }
    }
    let flags = MemfdFlags::CLOEXEC;
    let copy = match memfd_create(c"message", flags | MemfdFlags::NOEXEC_SEAL) {
        // The kernel is older than that flag.
        Err(Errno::INVAL) => memfd_create(c"message", flags)?,
        made => made?,
    };
    let copy = std::fs::File::from(copy);
    // Whoever reads begins at the beginning.
    std::os::unix::fs::FileExt::write_all_at(&copy, &text[..octets], 0)?;
    Ok(copy.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_message_goes_with_its_request_and_what_is_none_goes_nowhere() {
        let queue = tempfile::tempdir().unwrap();
        qmail_queue::SplitSpool::create(queue.path()).unwrap();
        let mess = |id: u64| {
            queue
                .path()
                .join(Directory::mess(MessageId(id)).file(MessageId(id)))
        };
        fs::write(mess(24), "text").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", mess(25)).unwrap();
        fs::create_dir(mess(26)).unwrap();
        let (manager, requests) = channel::pair().unwrap();
        let (deliverer, delivered) = channel::pair().unwrap();
        for said in [
            b"x".to_vec(),
            vec![0; MESSAGE_OCTETS_MAX + 1],
            Request::write(1, 24, &[b"s@h", b"r@h"]),
            [Request::write(1, 24, &[b"s@h"]), b"more".to_vec()].concat(),
            Request::write(2, 25, &[b"s@h", b"r@h"]),
            Request::write(3, 26, &[b"s@h", b"r@h"]),
            Request::write(4, 9, &[b"s@h", b"r@h"]),
        ] {
            channel::send(&manager, &said, None).unwrap();
        }
        channel::send(
            &manager,
            &Request::write(5, 24, &[b"s"]),
            Some(requests.as_fd()),
        )
        .unwrap();
        drop(manager);
        let complaints = Complaints::of("opener");
        pass_on(queue.path(), &requests, &deliverer, &complaints).unwrap();
        drop(deliverer);
        let mut room = [0; 100];
        let mut passed_on = Vec::new();
        while let Incoming::Message(octets, message) =
            channel::receive(&delivered, &mut room).unwrap()
        {
            let request = Request::read(&room[..octets]).unwrap();
            let text = message.map(|message| {
                let mut text = String::new();
                fs::File::from(message).read_to_string(&mut text).unwrap();
                text
            });
            passed_on.push((request.number, text));
        }
        let text = Some("text".to_owned());
        assert_eq!(passed_on, [(1, text), (2, None), (3, None), (4, None)]);
    }
}
