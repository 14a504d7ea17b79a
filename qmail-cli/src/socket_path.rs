//! The path of a socket that is short enough for one, however long that of the home is.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fd::{AsRawFd as _, OwnedFd};
use rustix::fs::{Mode, OFlags};

/// Longest path that every system takes for a socket.
const OCTETS_MAX: usize = 100;

/// A way to a socket, good as long as this is kept.
pub(crate) struct SocketPath {
    path: PathBuf,
    _directory: Option<OwnedFd>,
}

impl SocketPath {
    /// The path itself, or a short one that goes by an open directory.
    ///
    /// # Errors
    ///
    /// The path is long, and its directory cannot be opened.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if path.as_os_str().len() <= OCTETS_MAX {
            return Ok(Self {
                path: path.to_owned(),
                _directory: None,
            });
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty())?;
        let short = Path::new("/proc/self/fd").join(opened.as_raw_fd().to_string());
        Ok(Self {
            path: short.join(name),
            _directory: Some(opened),
        })
    }

    /// Only lent: it leads nowhere when what it goes by is closed, and some who take a path let go of it before they use it.
    pub(crate) fn as_path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_is_reached_however_deep_it_lies() {
        let root = tempfile::tempdir().unwrap();
        let mut directory = root.path().to_owned();
        for _ in 0..6 {
            let path = SocketPath::new(&directory.join("socket")).unwrap();
            let listener = UnixListener::bind(path.as_path()).unwrap();
            assert!(directory.join("socket").exists());
            UnixStream::connect(path.as_path()).unwrap();
            drop(listener);
            directory.push("d".repeat(60));
            fs::create_dir(&directory).unwrap();
        }
    }
}
