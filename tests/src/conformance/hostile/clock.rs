//! A server whose wall clock is put forward while a client is connected.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::conversation::{self, Mode, Protocol};
use super::world::World;

/// Put between a program and its C library: the wall clock goes by a day forward once a file is there.
const SHIM: &str = r#"
struct timespec { long seconds, nanoseconds; };
extern void *dlsym(void *, const char *);
extern char *getenv(const char *);
extern int access(const char *, int);
int clock_gettime(int clock, struct timespec *time) {
    int (*next)(int, struct timespec *) = (int (*)(int, struct timespec *)) dlsym((void *) -1, "clock_gettime");
    int result = next(clock, time);
    if (result == 0 && clock == 0 && access(getenv("FORWARD"), 0) == 0) time->seconds += 86400;
    return result;
}
"#;

/// How long the client is idle after the jump.
const IDLE: Duration = Duration::from_secs(1);

/// The connection outlives the jump, and the jump is seen by what shows the time.
pub(super) fn forward(program: &str) -> Result<String, String> {
    let work = tempfile::tempdir().map_err(|error| error.to_string())?;
    let program = with_shim(program, work.path())?;
    let world = World::with_controls(&program, &[], false).map_err(|error| error.to_string())?;
    let address = world.address(Protocol::Smtp);
    let message =
        b"EHLO c.test\r\nMAIL FROM:<s@remote.test>\r\nRCPT TO:<alice@local.test>\r\nDATA\r\n\
          Subject: t\r\n\r\nx\r\n.\r\n";
    let send = || {
        conversation::hold(
            address,
            Protocol::Smtp,
            Mode::Lockstep,
            &[message.to_vec()],
            false,
        )
    };
    send()?;
    let mut idle = conversation::bystander(address, Protocol::Smtp)?;
    fs::write(work.path().join("forward"), "").map_err(|error| error.to_string())?;
    thread::sleep(IDLE);
    let mut wrong = String::new();
    if !idle.is_answered() {
        wrong.push_str("  the connection did not outlive the jump\n");
    }
    send()?;
    let days: Vec<_> = world
        .queued()
        .iter()
        .map(|queued| day(&queued.text))
        .collect();
    if !matches!(&days[..], [before, after] if before != after) {
        wrong.push_str(&format!("  the clock was not put forward: {days:?}\n"));
    }
    wrong.push_str(&world.trouble());
    Ok(wrong)
}

/// The day of a message's first Received field.
fn day(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let date = text.split_once("; ").map_or("", |(_, date)| date);
    date.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// A script that runs the program with the shim.
fn with_shim(program: &str, work: &Path) -> Result<String, String> {
    let (source, library) = (work.join("shim.c"), work.join("shim.so"));
    let script = work.join("program");
    let made = || {
        fs::write(&source, SHIM)?;
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status()?;
        let text = format!(
            "#!/bin/sh\nFORWARD='{}' LD_PRELOAD='{}' exec '{program}' \"$@\"\n",
            work.join("forward").display(),
            library.display()
        );
        fs::write(&script, text)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
        std::io::Result::Ok(compiled.success())
    };
    match made() {
        Ok(true) => Ok(script.display().to_string()),
        Ok(false) => Err("cc makes no shared library of the shim".to_owned()),
        Err(error) => Err(format!("no shim: {error}")),
    }
}
