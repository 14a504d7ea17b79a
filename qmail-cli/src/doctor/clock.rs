//! Whether the clock can be right: retries, bounces and dates depend on it.

use std::fs;
use std::time::Duration;

use super::{Findings, World};

/// No clock that is right shows less: this program did not exist.
const BORN_SECONDS: u64 = 1_790_000_000;

/// Files that are newer than now by more than this were written with another clock.
const AHEAD: Duration = Duration::from_secs(120);

pub(super) fn check(world: &World<'_>, findings: &mut Findings) {
    let remedy = "set the clock, and keep it right with NTP; then restart";
    let since = world
        .now
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    if since.as_secs() < BORN_SECONDS {
        findings.error("the clock is years behind", remedy);
        return;
    }
    for directory in ["control", "queue/todo", "queue/lock", "users"] {
        let Ok(entries) = fs::read_dir(world.home.path().join(directory)) else {
            continue;
        };
        let ahead = entries.filter_map(Result::ok).find(|entry| {
            entry
                .metadata()
                .and_then(|found| found.modified())
                .is_ok_and(|changed| changed > world.now + AHEAD)
        });
        if let Some(entry) = ahead {
            findings.warning(
                format!(
                    "{} was changed in the future: the clock was or is wrong",
                    entry.path().display()
                ),
                remedy,
            );
            return;
        }
    }
}
