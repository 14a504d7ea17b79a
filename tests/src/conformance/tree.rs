//! Trees of files: made from a case, and read back to see what changed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, lchown};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, utimensat};

use super::accounts;
use super::case::Node;
use super::octets::{Octets, Table};

/// Makes the files and directories of a case under `root`, in the order of the case.
///
/// `substitute` puts in what the tokens stand for.
pub(crate) fn write(
    root: &Path,
    tree: &Table<Node>,
    substitute: impl Fn(&[u8]) -> Vec<u8>,
) -> io::Result<()> {
    for (path, node) in &tree.0 {
        let node = node.describe();
        let target = root.join(path.as_os());
        if node.dir || path.0.ends_with(b"/") {
            fs::create_dir_all(&target)?;
        } else {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&target, substitute(&node.content.0))?;
        }
        if let Some(owner) = &node.owner {
            chown(&target, Some(uid(owner)?), None)?;
        }
        if let Some(mode) = &node.mode {
            let mode = u32::from_str_radix(mode, 8).map_err(io::Error::other)?;
            fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        }
        if let Some(age) = node.age {
            set_age(&target, age)?;
        }
    }
    Ok(())
}

fn uid(owner: &str) -> io::Result<u32> {
    match owner.parse() {
        Ok(uid) => Ok(uid),
        Err(_) => accounts::find(owner)
            .map(|(uid, _)| uid)
            .ok_or_else(|| io::Error::other(format!("no user is named {owner}"))),
    }
}

/// Sets the times of a file to this many seconds ago; negative: to come.
pub(crate) fn set_age(path: &Path, seconds: f64) -> io::Result<()> {
    let distance = Duration::try_from_secs_f64(seconds.abs()).map_err(io::Error::other)?;
    let now = SystemTime::now();
    let time = if seconds < 0.0 {
        now.checked_add(distance)
    } else {
        now.checked_sub(distance)
    };
    set_time(path, time.ok_or(io::ErrorKind::InvalidInput)?)
}

/// Sets both times of a file.
pub(crate) fn set_time(path: &Path, time: SystemTime) -> io::Result<()> {
    let since = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(io::Error::other)?;
    let time = Timespec {
        tv_sec: i64::try_from(since.as_secs()).map_err(io::Error::other)?,
        tv_nsec: since.subsec_nanos().into(),
    };
    let both = Timestamps {
        last_access: time,
        last_modification: time,
    };
    Ok(utimensat(CWD, path, &both, AtFlags::empty())?)
}

/// What is under a directory: content of each file, `-> target` for each link, by path relative to it.
///
/// Other kinds of files, and directories themselves, are left out, as is what vanishes meanwhile.
pub(crate) fn read(root: &Path) -> io::Result<BTreeMap<Octets, Vec<u8>>> {
    let mut found = BTreeMap::new();
    for path in paths(root)? {
        let Ok(kind) = path.symlink_metadata().map(|metadata| metadata.file_type()) else {
            continue;
        };
        let content = if kind.is_symlink() {
            let mut shown = b"-> ".to_vec();
            shown.extend_from_slice(fs::read_link(&path)?.as_os_str().as_bytes());
            shown
        } else if kind.is_file() {
            match read_quietly(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                content => content?,
            }
        } else {
            continue;
        };
        let relative = path.strip_prefix(root).map_err(io::Error::other)?;
        found.insert(Octets(relative.as_os_str().as_bytes().to_vec()), content);
    }
    Ok(found)
}

/// Everything under a directory, without following links. A directory that cannot be read counts as empty.
pub(crate) fn paths(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match fs::read_dir(&directory) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied
                ) =>
            {
                continue;
            }
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                directories.push(entry.path());
            }
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Reads a file without touching its access time, which Maildir programs look at.
fn read_quietly(path: &Path) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    // Only the owner and root may leave the access time alone.
    let file = rustix::fs::open(path, flags | OFlags::NOATIME, Mode::empty())
        .or_else(|_| rustix::fs::open(path, flags, Mode::empty()))?;
    let mut content = Vec::new();
    File::from(file).read_to_end(&mut content)?;
    Ok(content)
}

/// Gives a directory and everything in it to another user and group.
pub(crate) fn give(root: &Path, uid: u32, gid: u32) -> io::Result<()> {
    for path in paths(root)?.iter().map(PathBuf::as_path).chain([root]) {
        lchown(path, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// Kind and mode of what a path leads to, as `dir 0755`; `None` if there is nothing.
pub(crate) fn describe(path: &Path) -> Option<String> {
    let metadata = fs::metadata(path).ok()?;
    let kind = if metadata.is_dir() { "dir" } else { "file" };
    Some(format!(
        "{kind} {:04o}",
        metadata.permissions().mode() & 0o7777
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(json: &str) -> Table<Node> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn writes_and_reads_a_tree() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &tree(r#"{"b/c": "one @X@", "a/": "", "m": {"content": "", "mode": "0640", "age": 100}, "d": {"dir": true}}"#),
            |octets| super::super::octets::replace(octets, b"@X@", b"two"),
        )
        .unwrap();
        std::os::unix::fs::symlink("nowhere", root.path().join("a/link")).unwrap();

        let found = read(root.path()).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|(path, content)| (path.0.as_slice(), content.as_slice()))
            .collect();
        assert_eq!(
            shown,
            [
                (&b"a/link"[..], &b"-> nowhere"[..]),
                (b"b/c", b"one two"),
                (b"m", b"")
            ]
        );

        assert_eq!(describe(&root.path().join("m")).unwrap(), "file 0640");
        assert!(
            describe(&root.path().join("d"))
                .unwrap()
                .starts_with("dir ")
        );
        assert_eq!(describe(&root.path().join("a/link")), None);
        let modified = fs::metadata(root.path().join("m"))
            .unwrap()
            .modified()
            .unwrap();
        assert!(modified.elapsed().unwrap() >= Duration::from_secs(99));
    }

    #[test]
    fn a_tree_that_is_not_there_is_empty() {
        assert!(read(Path::new("/nonexistent/tree")).unwrap().is_empty());
    }
}
