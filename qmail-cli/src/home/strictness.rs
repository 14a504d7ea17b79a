//! control/patrn, control/mboxlinks and control/timeoutprogram: how strict local deliveries are with the files of users, and how
//! patient with their programs.

use std::time::Duration;

use qmail_deliver::Strictness;

use super::Home;
use super::directory::{ControlError, Directory};

/// timeoutprogram when it is not set.
const PROGRAM_TIME_MAX: Duration = Duration::from_secs(3600);

/// patrn is the mode bits, in octal, that a home directory or instruction file must not have: 002 by default, what the classic
/// system has as a constant, conf-patrn, when it is built. With a 0 in mboxlinks no mbox may be a symbolic link.
///
/// # Errors
///
/// A file cannot be read, or is no number.
pub(crate) fn strictness(home: &Home) -> Result<Strictness, ControlError> {
    let mut directory = Directory::new(&home.control());
    let mut strictness = Strictness::default();
    if let Some(line) = directory.line("patrn")? {
        let octal = std::str::from_utf8(&line).ok();
        let modes = octal.and_then(|octal| u32::from_str_radix(octal, 8).ok());
        strictness.refused_modes =
            modes
                .filter(|&modes| modes <= 0o777)
                .ok_or_else(|| ControlError::Bad {
                    path: directory.path("patrn"),
                    value: qmail_core::Escaped(&line).to_string(),
                    remedy: "write mode bits in octal, such as 002 or 022",
                })?;
    }
    strictness.mbox_links = directory
        .integer("mboxlinks")?
        .is_none_or(|links| links > 0);
    Ok(strictness)
}

/// How long a program that mail is delivered to may run: control/timeoutprogram.
///
/// # Errors
///
/// The file cannot be read, or is no number of seconds.
pub(crate) fn program_time_max(home: &Home) -> Result<Duration, ControlError> {
    let seconds = Directory::new(&home.control()).seconds("timeoutprogram")?;
    Ok(seconds.unwrap_or(PROGRAM_TIME_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_as_ever() {
        let scratch = tempfile::tempdir().expect("a directory");
        let home = Home::choose(Some(scratch.path().to_owned()), None);
        assert_eq!(strictness(&home).expect("no files"), Strictness::default());
        std::fs::create_dir(home.control()).expect("a directory");
        let write = |name, text: &str| std::fs::write(home.control().join(name), text);
        write("mboxlinks", "0\n").expect("a file");
        write("patrn", "022\n").expect("a file");
        let strict = Strictness {
            refused_modes: 0o022,
            mbox_links: false,
        };
        assert_eq!(strictness(&home).expect("two numbers"), strict);
        for bad in ["9\n", "-1\n", "1000\n", "\n", "0o22\n"] {
            write("patrn", bad).expect("a file");
            assert!(strictness(&home).is_err(), "{bad}");
        }
    }
}
