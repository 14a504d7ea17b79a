//! Running the other programs of a home, as the classic programs run one another.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use qmail_core::header::zone::{ZONE_FILE_OCTETS_MAX, Zone};

use crate::home::Home;

/// A command that is `bin/NAME` of the home, or this very binary under that name if there is none.
///
/// The home's own comes first: an administrator may have put something else there.
pub(crate) fn command(home: &Home, name: &str) -> io::Result<Command> {
    command_in(home.path(), name)
}

/// The same for a home that is known by its path, which may be relative.
pub(crate) fn command_in(home: &Path, name: &str) -> io::Result<Command> {
    let installed = home.join("bin").join(name);
    if installed.exists() {
        return Ok(Command::new(installed));
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg0(name);
    Ok(command)
}

/// The local time zone: `TZ`, else `/etc/localtime`, else UTC. A zone that cannot be read is UTC.
pub(crate) fn local_zone() -> Zone {
    let zone = match std::env::var_os("TZ") {
        None => zone_file(OsStr::new("/etc/localtime")),
        Some(tz) => zone_of(&tz),
    };
    zone.unwrap_or_else(Zone::utc)
}

fn zone_of(tz: &OsString) -> Option<Zone> {
    use std::os::unix::ffi::OsStrExt as _;
    if let Some(zone) = Zone::from_rule(tz.as_bytes()) {
        return Some(zone);
    }
    let name = tz.as_bytes().strip_prefix(b":").unwrap_or(tz.as_bytes());
    if name.is_empty() {
        return None;
    }
    // An absolute name replaces the directory.
    zone_file(
        std::path::Path::new("/usr/share/zoneinfo")
            .join(OsStr::from_bytes(name))
            .as_os_str(),
    )
}

fn zone_file(path: &OsStr) -> Option<Zone> {
    let mut octets = Vec::new();
    let file = std::fs::File::open(path).ok()?;
    let limit = ZONE_FILE_OCTETS_MAX as u64 + 1;
    io::Read::read_to_end(&mut io::Read::take(file, limit), &mut octets).ok()?;
    Zone::from_file(&octets)
}
