//! `maildir2mbox`: moves the messages of a Maildir into a file in mbox format.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use qmail_core::ReversePath;
use qmail_core::dot_qmail::from_line;
use qmail_core::mbox::Quoter;
use qmail_deliver::{sync_name, try_lock_mbox};

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::maildir_files::{self, Entry};

pub(crate) const APPLET: Applet = Applet {
    names: &["maildir2mbox"],
    kind: Kind::Classic,
    summary: "move the messages of a Maildir into an mbox file",
    run,
};

/// A longer Return-Path line is not one.
const LINE_OCTETS_MAX: u64 = 4096;

const CHUNK_OCTETS: usize = 64 * 1024;

/// How long to wait before trying the lock of the mbox again.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

fn run(call: &Call) -> ExitCode {
    match convert() {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal(call.name, &words, exit::TEMPORARY),
    }
}

fn convert() -> Result<(), String> {
    let path = |name: &str| {
        let value = std::env::var_os(name).filter(|value| !value.is_empty());
        value
            .map(PathBuf::from)
            .ok_or_else(|| format!("{name} not set"))
    };
    let (maildir, mbox, scratch) = (path("MAILDIR")?, path("MAIL")?, path("MAILTMP")?);
    // Relative names of the files start there.
    std::env::set_current_dir(&maildir)
        .map_err(|error| format!("unable to chdir to {}: {error}", maildir.display()))?;
    let here = Path::new("");
    maildir_files::clean(here);
    let list = || {
        maildir_files::list(here)
            .map_err(|error| format!("unable to scan {}: {error}", maildir.display()))
    };
    if list()?.is_empty() {
        return Ok(());
    }
    let old = lock(&mbox).map_err(|error| format!("unable to lock {}: {error}", mbox.display()))?;
    // Another instance may have had the lock, and have taken them.
    let messages = list()?;
    if messages.is_empty() {
        return Ok(());
    }
    // Its lock goes with it to its place, until the messages are gone: whoever comes next must not find them twice.
    let new = write_scratch(&old, &scratch, &messages)
        .map_err(|error| format!("unable to write {}: {error}", scratch.display()))?;
    fs::rename(&scratch, &mbox).map_err(|error| {
        let (from, to) = (scratch.display(), mbox.display());
        format!("unable to move {from} to {to}: {error}")
    })?;
    let directory = mbox
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    sync_name(&new, directory.unwrap_or(Path::new(".")))
        .map_err(|error| format!("unable to sync {}: {error}", mbox.display()))?;
    // Now they are safe where they went.
    for message in &messages {
        if let Err(error) = fs::remove_file(&message.path) {
            let words = format!("unable to unlink {}: {error}", message.path.display());
            exit::warn(APPLET.names[0], &words);
        }
    }
    Ok(())
}

/// Opens and locks the mbox. It stays locked until the new one has its place, so that no delivery is lost in between; who
/// waited for the lock then finds that the file has been replaced.
fn lock(mbox: &Path) -> io::Result<File> {
    loop {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(mbox)?;
        if try_lock_mbox(&file, mbox, SystemTime::now())? {
            return Ok(file);
        }
        drop(file);
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// Gives the new file, locked.
fn write_scratch(mut old: &File, scratch: &Path, messages: &[Entry]) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(scratch)?;
    if !try_lock_mbox(&file, scratch, SystemTime::now())? {
        return Err(io::Error::other("somebody else is writing it"));
    }
    let mut new = BufWriter::with_capacity(CHUNK_OCTETS, file);
    let mut buffer = vec![0; CHUNK_OCTETS];
    let mut last = b'\n';
    loop {
        let octets = old.read(&mut buffer)?;
        let Some(&end) = buffer[..octets].last() else {
            break;
        };
        last = end;
        new.write_all(&buffer[..octets])?;
    }
    // What a crash has left without an end must not swallow our first line.
    if last != b'\n' {
        new.write_all(b"\n")?;
    }
    for message in messages {
        append(message, &mut new)?;
    }
    let new = new.into_inner().map_err(io::IntoInnerError::into_error)?;
    new.sync_all()?;
    Ok(new)
}

fn append(message: &Entry, sink: &mut impl Write) -> io::Result<()> {
    let mut file = BufReader::with_capacity(CHUNK_OCTETS, File::open(&message.path)?);
    let mut first = Vec::new();
    (&mut file)
        .take(LINE_OCTETS_MAX)
        .read_until(b'\n', &mut first)?;
    sink.write_all(&from_line(&sender(&first), message.modified))?;
    let mut quoter = Quoter::new();
    let mut text = Vec::new();
    quoter.write(&first, &mut text);
    let mut buffer = vec![0; CHUNK_OCTETS];
    loop {
        sink.write_all(&text)?;
        text.clear();
        match file.read(&mut buffer)? {
            0 => break,
            octets => quoter.write(&buffer[..octets], &mut text),
        }
    }
    quoter.finish(&mut text);
    sink.write_all(&text)
}

/// The sender in a Return-Path line; `XXX` stands for one that nobody knows.
fn sender(line: &[u8]) -> ReversePath {
    let known = line.strip_prefix(b"Return-Path: <").and_then(|rest| {
        let end = memchr::memrchr(b'>', rest)?;
        ReversePath::new(rest[..end].to_vec()).ok()
    });
    known.unwrap_or_else(|| ReversePath::new("XXX").unwrap_or_default())
}
