//! A maildrop in a Maildir on disk, as qmail-pop3d(8) sees it.
//!
//! It is here and not in qmail-deliver, which writes Maildirs: what reads one needs nothing of what writes one, and a POP3
//! server can be had without delivery. What both know is the directory itself.
//!
//! A session holds the directories `new` and `cur` open, and the names that it listed. It never looks at a path again that
//! somebody could have exchanged, follows no symbolic link below the Maildir, and takes nothing for a message that is no
//! regular file. No lock is needed: messages are never changed, and a name is never used twice. What another program
//! renames meanwhile (new to cur, other flags) is found again by its unique part; what it removes is gone, and the client
//! is told so.
//!
//! File work blocks: it is done on tokio's threads for that, one visit for a listing, for a message with its first chunk,
//! for each further chunk, and for an update.

mod body;
mod cache;
mod scan;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use qmail_core::{Account, Body};

pub use self::cache::MaildirCache;
use self::scan::{Folders, Place, Scan};
use crate::{Deletions, Listing, Maildrop, MaildropError, Maildrops};

/// Habits of a [`MaildirMaildrop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MaildirOptions {
    /// Whether a message of the current second is shown. Default: yes.
    ///
    /// qmail-pop3d(8) shows only messages whose modification time is strictly in the past, because some programs used to
    /// write into `new` and were not done yet. What is delivered by link or rename, as it should be, is complete when it
    /// appears.
    pub show_current_second: bool,
}

impl MaildirOptions {
    /// As qmail-pop3d(8).
    pub fn classic() -> Self {
        Self {
            show_current_second: false,
        }
    }
}

impl Default for MaildirOptions {
    fn default() -> Self {
        Self {
            show_current_second: true,
        }
    }
}

/// One Maildir in one session, within a tokio runtime.
///
/// Messages are the regular files of `new` and `cur` whose names do not begin with a dot, at most
/// [`Listing::MESSAGES_MAX`], ordered by modification time in seconds, then by name. The size is the size of the file. The
/// unique id is the name up to its first `:`; where that cannot stand in a reply (RFC 1939 section 7), its MD5 in hexadecimal
/// digits. Of two files that differ only after the `:`, the one in `cur` is shown.
///
/// Listing removes what was not touched in `tmp` for 36 hours. The update unlinks what is marked, and renames all else from
/// `new/NAME` to `cur/NAME:2,`. It syncs nothing: after a power cut a removed message may be there again.
#[derive(Debug)]
pub struct MaildirMaildrop {
    path: PathBuf,
    options: MaildirOptions,
    now_seconds: i64,
    scanned: Option<Arc<Scan>>,
    searches_left: u32,
    cache: Option<MaildirCache>,
}

impl MaildirMaildrop {
    /// The Maildir at `path`, seen at `now`. Nothing is done yet.
    pub fn new(path: impl Into<PathBuf>, options: MaildirOptions, now: SystemTime) -> Self {
        let seconds = now
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self {
            path: path.into(),
            options,
            now_seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
            scanned: None,
            searches_left: SEARCHES_MAX,
            cache: None,
        }
    }

    /// Remembers from session to session what does not change. For a process that serves many; without it every session
    /// looks at every message.
    #[must_use]
    pub fn with_cache(mut self, cache: &MaildirCache) -> Self {
        self.cache = Some(cache.clone());
        self
    }

    /// What was listed; before that, nothing.
    fn scan(&self) -> io::Result<Arc<Scan>> {
        let scan = self.scanned.as_ref().ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(scan))
    }
}

#[async_trait]
impl Maildrop for MaildirMaildrop {
    async fn list(&mut self) -> Result<Listing, MaildropError> {
        let path = self.path.clone();
        let (now_seconds, options) = (self.now_seconds, self.options);
        let known = self.cache.as_ref().map(|cache| cache.facts(&path));
        let known = known.unwrap_or_default();
        let (scan, listing, adds) = blocking(move || {
            let folders = Folders::open(&path)?;
            folders.clean_tmp(now_seconds);
            let before = (!options.show_current_second).then_some(now_seconds);
            let (scan, listing) = Scan::new(folders, before, &known)?;
            let adds = scan.adds_to(&known);
            Ok::<_, MaildropError>((scan, listing, adds))
        })
        .await
        .map_err(MaildropError::Unreadable)??;
        let scan = Arc::new(scan);
        if let Some(cache) = &self.cache
            && adds
        {
            // The client need not wait for it.
            let (cache, path, scan) = (cache.clone(), self.path.clone(), Arc::clone(&scan));
            tokio::task::spawn_blocking(move || {
                cache.remember(path, scan.len(), || scan.facts());
            });
        }
        self.scanned = Some(scan);
        Ok(listing)
    }

    async fn open(&mut self, message: usize) -> io::Result<Box<dyn Body>> {
        let scan = self.scan()?;
        let may_search = self.searches_left > 0;
        let (body, searched) = blocking(move || body::open(&scan, message, may_search)).await??;
        self.searches_left -= u32::from(searched);
        Ok(Box::new(body))
    }

    async fn commit(&mut self, deleted: &Deletions) -> io::Result<()> {
        let scan = self.scan()?;
        let deleted = deleted.clone();
        blocking(move || update(&scan, &deleted)).await?
    }
}

/// The Maildirs of a system: the one of an account is in its [`home`](Account::home).
#[derive(Clone, Debug)]
pub struct HomeMaildirs {
    directory: PathBuf,
    options: MaildirOptions,
    now: fn() -> SystemTime,
    cache: MaildirCache,
}

impl HomeMaildirs {
    /// `directory` is where in a home the Maildir is, usually `Maildir`; `now` is the clock, `SystemTime::now` in a program.
    pub fn new(
        directory: impl Into<PathBuf>,
        options: MaildirOptions,
        now: fn() -> SystemTime,
    ) -> Self {
        Self {
            directory: directory.into(),
            options,
            now,
            cache: MaildirCache::default(),
        }
    }
}

#[async_trait]
impl Maildrops for HomeMaildirs {
    async fn open(&self, account: &Account) -> Result<Box<dyn Maildrop>, MaildropError> {
        let home = account
            .home
            .as_ref()
            .ok_or_else(|| MaildropError::Missing(io::ErrorKind::NotFound.into()))?;
        let maildir = home.join(&self.directory);
        let maildrop = MaildirMaildrop::new(maildir, self.options, (self.now)());
        Ok(Box::new(maildrop.with_cache(&self.cache)))
    }
}

/// Removes what is marked, moves the rest out of `new`. All is tried before a failure is told.
fn update(scan: &Scan, deleted: &Deletions) -> io::Result<()> {
    let mut renamed = Vec::new();
    let mut failure = Ok(());
    for message in 0..scan.len() {
        let Some((place, name)) = scan.name(message) else {
            break;
        };
        if deleted.contains(message) {
            match scan.folders.unlink(place, name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => renamed.push(name),
                Err(error) => failure = Err(error),
                Ok(()) => {}
            }
        } else if place == Place::New {
            // It stays in `new` if this fails: no harm, and nobody to tell.
            let _ = scan.folders.move_to_cur(name);
        }
    }
    // What is not under its name was renamed by somebody else, or removed: that is as good.
    if !renamed.is_empty() {
        scan.folders.unlink_renamed(&renamed)?;
    }
    failure
}

async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> io::Result<R> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)
}

/// How many times a session looks through the directories for a message that is not under its name any more. Each look
/// reads all names; beyond that the message counts as gone until the next session.
const SEARCHES_MAX: u32 = 64;

// Some of them serve whole sessions.
#[cfg(all(test, feature = "tokio"))]
mod tests;
