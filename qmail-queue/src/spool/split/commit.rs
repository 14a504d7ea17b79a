//! The group commit: many callers, one sync.
//!
//! Whoever needs something to be durable leaves a [`Job`] here. One worker at a time takes all jobs that wait, makes one
//! [`Disk::sync`] of all they name, and hands each its result. A job may go on with a further one (an envelope that is linked
//! into `todo` needs that directory synced): it joins the next sync, together with whatever came meanwhile. So a sync costs
//! the same for one session or fifty.
//!
//! A failed sync fails every job that it was for, and no other sync is ever made in its place.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::layout::Directory;
use crate::spool::gather::{Gather, Served, copy_error, now};
use crate::{Disk, DiskFile, Workers};

/// What is to be made durable, and what comes then.
pub(super) struct Job {
    /// Files whose content is needed.
    pub(super) files: Vec<Box<dyn DiskFile>>,
    /// Directories whose names are needed.
    pub(super) directories: Vec<Directory>,
    /// Called once, on a worker, after the sync. May give a further job.
    pub(super) then: Box<dyn FnOnce(io::Result<()>) -> Option<Self> + Send>,
}

/// See the module.
pub(super) struct Committer {
    disk: Arc<dyn Disk>,
    gather: Gather<Job>,
}

impl Committer {
    pub(super) fn new(disk: Arc<dyn Disk>, workers: &Workers) -> Self {
        Self {
            disk,
            gather: Gather::new(workers),
        }
    }

    /// Leaves a job for the next sync. Called on a worker, which makes that sync, and those that others need meanwhile, if no
    /// other worker is at it: so nobody waits for a thread to wake up.
    pub(super) fn submit(&self, job: Job) {
        if self.gather.put(job) {
            self.gather.run(|batch| self.serve(batch));
        }
    }

    fn serve(&self, batch: Vec<Job>) -> Served<Job> {
        let directories: BTreeSet<Directory> = batch
            .iter()
            .flat_map(|job| job.directories.iter().copied())
            .collect();
        let paths: Vec<PathBuf> = directories.into_iter().map(Directory::path).collect();
        let paths: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let files: Vec<&dyn DiskFile> = batch
            .iter()
            .flat_map(|job| job.files.iter().map(|file| &**file))
            .collect();
        let start = now();
        let result = self.disk.sync(&files, &paths);
        let took = now() - start;
        let further = batch
            .into_iter()
            .filter_map(|job| {
                drop(job.files);
                (job.then)(result.as_ref().map(|_| ()).map_err(copy_error))
            })
            .collect();
        Served {
            further,
            took,
            again: false,
        }
    }
}
