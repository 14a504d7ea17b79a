//! `qmail-showctl`: says in words what the control files of a home mean.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::ExitCode;

use nix::unistd::{Group, User};
use qmail_core::control;
use qmail_queue::split::layout::SPLIT;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::home::{CLASSIC_CONTROLS, ControlFile, ControlKind, Fallback, Home, OWN_CONTROLS};

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-showctl"],
    kind: Kind::Classic,
    summary: "say in words what the control files mean",
    run,
};

/// Largest control file in octets that is shown.
const FILE_OCTETS_MAX: u64 = 64 * 1024 * 1024;

/// In the words of the classic system, whose build-time constants these were.
const BUILD: &str =
    "user-ext delimiter: -.\npaternalism (in decimal): 2.\nsilent concurrency limit: 120.\n";

const USERS: [&str; 8] = [
    "alias", "qmaild", "qmaill", "root", "qmailp", "qmailq", "qmailr", "qmails",
];
const GROUPS: [&str; 2] = ["qmail", "nofiles"];

fn run(_call: &Call) -> ExitCode {
    let home = Home::choose(None, None);
    let mut text = Vec::new();
    let shown = show(&home, &mut text);
    let mut output = io::stdout().lock();
    let _ = output.write_all(&text).and_then(|()| output.flush());
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let control = home.control();
            exit::print(&format!(
                "Oops! Unable to read {}: {error}.\n",
                control.display()
            ));
            ExitCode::from(exit::TEMPORARY)
        }
    }
}

fn show(home: &Home, text: &mut Vec<u8>) -> io::Result<()> {
    let control = home.control();
    // First of all, so that nothing is said of a home that is not there.
    let names = fs::read_dir(&control)?
        .map(|entry| entry.map(|entry| entry.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    text.extend_from_slice(b"qmail home directory: ");
    safely(home.path().as_os_str().as_bytes(), text);
    text.extend_from_slice(format!(".\n{BUILD}subdirectory split: {SPLIT}.\n").as_bytes());
    show_ids(text);
    let page = Page {
        me: read(&control, "me").ok().flatten(),
        rcpthosts: names.iter().any(|name| name == "rcpthosts"),
        control: &control,
    };
    for file in CLASSIC_CONTROLS {
        page.show(file, text);
    }
    for file in OWN_CONTROLS {
        if names.iter().any(|name| name == file.name) {
            page.show(file, text);
        }
    }
    show_unknown(names, text);
    Ok(())
}

/// Users and groups of the partitioned system; this process's own stand in for what there is not.
fn show_ids(text: &mut Vec<u8>) {
    let user = |name: &&str| match User::from_name(name) {
        Ok(Some(user)) => user.uid.to_string(),
        _ => rustix::process::getuid().as_raw().to_string(),
    };
    let group = |name: &&str| match Group::from_name(name) {
        Ok(Some(group)) => group.gid.to_string(),
        _ => rustix::process::getgid().as_raw().to_string(),
    };
    let users: Vec<_> = USERS.iter().map(user).collect();
    let groups: Vec<_> = GROUPS.iter().map(group).collect();
    let (users, groups) = (users.join(", "), groups.join(", "));
    text.extend_from_slice(format!("user ids: {users}.\ngroup ids: {groups}.\n").as_bytes());
}

fn show_unknown(mut names: Vec<OsString>, text: &mut Vec<u8>) {
    let known = |name: &OsString| {
        let mut files = CLASSIC_CONTROLS.iter().chain(OWN_CONTROLS);
        files.any(|file| name == file.name)
    };
    names.retain(|name| !known(name) && !name.as_bytes().starts_with(b"."));
    names.sort_unstable();
    for name in names {
        text.push(b'\n');
        safely(name.as_bytes(), text);
        text.extend_from_slice(b": I have no idea what this file does.\n");
    }
}

struct Page<'a> {
    control: &'a Path,
    me: Option<Vec<u8>>,
    /// Whether there is a file rcpthosts.
    rcpthosts: bool,
}

impl Page<'_> {
    fn show(&self, file: &ControlFile, text: &mut Vec<u8>) {
        text.extend_from_slice(format!("\n{}: ", file.name).as_bytes());
        if let ControlKind::MoreRcptHostsCdb = file.kind {
            text.extend_from_slice(self.database().as_bytes());
            return;
        }
        if let ControlKind::Untold = file.kind {
            text.extend_from_slice(format!("{}\n", file.words.0).as_bytes());
            return;
        }
        let Ok(content) = read(self.control, file.name) else {
            text.extend_from_slice(b"Oops! Trouble reading this file.\n");
            return;
        };
        let mut said = |value: &[u8], words: (&str, &str)| {
            text.extend_from_slice(words.0.as_bytes());
            safely(value, text);
            text.extend_from_slice(words.1.as_bytes());
            text.push(b'\n');
        };
        let content = content.as_deref();
        match file.kind {
            ControlKind::Line(fallback) => match content {
                Some(content) => said(control::line(content), file.words),
                None => {
                    let default = (format!("(Default.) {}", file.words.0), file.words.1);
                    said(self.stand_in(file, fallback), (&default.0, default.1));
                }
            },
            ControlKind::Number(default) => {
                match content.and_then(|content| control::integer(content, &mut Vec::new())) {
                    Some(number) => said(number.to_string().as_bytes(), file.words),
                    None => {
                        let before = format!("(Default.) {}", file.words.0);
                        said(default.to_string().as_bytes(), (&before, file.words.1));
                    }
                }
            }
            ControlKind::List(default) => match content {
                None => said(default.as_bytes(), ("(Default.) ", "")),
                Some(content) => {
                    said(b"", ("", ""));
                    control::list(content).for_each(|line| said(line.octets, file.words));
                }
            },
            ControlKind::MoreRcptHosts => match (content, self.rcpthosts) {
                (None, true) => said(b"No effect.", ("(Default.) ", "")),
                (None, false) => {
                    let irrelevant = b"No rcpthosts; morercpthosts is irrelevant.";
                    said(irrelevant, ("(Default.) ", ""));
                }
                (Some(content), rcpthosts) => {
                    let matters = if rcpthosts { file.words } else { NO_MATTER };
                    said(b"", ("", ""));
                    control::list(content).for_each(|line| said(line.octets, matters));
                }
            },
            ControlKind::MoreRcptHostsCdb | ControlKind::Untold => {}
        }
    }

    fn stand_in<'a>(&'a self, file: &'a ControlFile, fallback: Fallback) -> &'a [u8] {
        match (fallback, &self.me) {
            (Fallback::Words(words), _) => words.as_bytes(),
            (Fallback::Me, Some(me)) => control::line(me),
            (Fallback::Me, None) => file.name.as_bytes(),
        }
    }

    /// Whether morercpthosts.cdb is what qmail-newmrh would make now.
    fn database(&self) -> &'static str {
        let changed = |name| fs::metadata(self.control.join(name)).and_then(|file| file.modified());
        match (changed("morercpthosts"), changed("morercpthosts.cdb")) {
            (Err(_), Err(_)) => "(Default.) No effect.\n",
            (Err(_), Ok(_)) => "Oops! morercpthosts.cdb exists but morercpthosts doesn't.\n",
            (Ok(_), Err(_)) => "Oops! morercpthosts exists but morercpthosts.cdb doesn't.\n",
            (Ok(list), Ok(database)) if list > database => {
                "Oops! morercpthosts.cdb is older than morercpthosts.\n"
            }
            (Ok(_), Ok(_)) => "Modified recently enough; hopefully up to date.\n",
        }
    }
}

const NO_MATTER: (&str, &str) = ("No rcpthosts; doesn't matter that morercpthosts has ", ".");

/// A control file; `None` if it is missing.
fn read(control: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(control.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut content = Vec::new();
    file.take(FILE_OCTETS_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_OCTETS_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(Some(content))
}

/// Printable ASCII as it is, everything else as `?`.
fn safely(octets: &[u8], text: &mut Vec<u8>) {
    text.extend(octets.iter().map(|&octet| match octet {
        b' '..=b'~' => octet,
        _ => b'?',
    }));
}
