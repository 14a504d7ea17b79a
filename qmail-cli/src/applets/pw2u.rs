//! `qmail-pw2u`: makes `users/assign` of a password file.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::ExitCode;

use qmail_core::Escaped;

use crate::applet::{Applet, Call, Kind};
use crate::exit;
use crate::getopt::Getopt;
use crate::home::Home;
use crate::injection::read_file;

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-pw2u"],
    kind: Kind::Classic,
    summary: "make users/assign of a password file",
    run,
};

/// Largest password file in octets that is read.
const PASSWD_OCTETS_MAX: u64 = 64 * 1024 * 1024;

struct Options {
    homes: Homes,
    upper_case: bool,
    break_octet: Option<u8>,
    dash: &'static str,
}

/// What is asked of a home directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Homes {
    /// The account is passed over unless its home is there and its own.
    Owned,
    /// It is passed over unless its home is its own. A home that is missing ends it all.
    Required,
    Unchecked,
}

/// The files in `users/` that say more about accounts.
struct Files {
    include: Option<HashSet<Vec<u8>>>,
    exclude: HashSet<Vec<u8>>,
    mailnames: HashMap<Vec<u8>, Vec<Vec<u8>>>,
    subusers: Vec<u8>,
    append: Vec<u8>,
}

/// One account of the password file, and its fields for the lines of `users/assign`.
struct Account<'a> {
    name: &'a [u8],
    uid: &'a [u8],
    home: &'a [u8],
    /// `:name:uid:gid:home:`
    fields: Vec<u8>,
}

fn run(call: &Call) -> ExitCode {
    let Some(options) = parse(call) else {
        let usage = "usage: qmail-pw2u [ -/ohHuUC ] [ -cCHAR ]";
        return exit::fatal(call.name, &usage, exit::PERMANENT);
    };
    let users = Home::choose(None, None).users();
    let written = Files::read(&users).and_then(|files| {
        let mut passwd = Vec::new();
        let limit = PASSWD_OCTETS_MAX + 1;
        let read = io::stdin().lock().take(limit).read_to_end(&mut passwd);
        read.map_err(|error| format!("unable to read input: {error}"))?;
        if passwd.len() as u64 > PASSWD_OCTETS_MAX {
            return Err(format!("input is larger than {PASSWD_OCTETS_MAX} octets"));
        }
        let assign = assign(&options, &files, &passwd)?;
        let mut out = io::stdout().lock();
        out.write_all(&assign)
            .and_then(|()| out.flush())
            .map_err(|error| format!("unable to write output: {error}"))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal(call.name, &words, exit::TEMPORARY),
    }
}

fn parse(call: &Call) -> Option<Options> {
    let mut options = Options {
        homes: Homes::Owned,
        upper_case: false,
        break_octet: Some(b'-'),
        dash: "-",
    };
    for option in Getopt::new(&call.arguments, "/ohHuUCc:") {
        let option = option.ok()?;
        match option.letter {
            b'/' => options.dash = "-/",
            b'o' => options.homes = Homes::Owned,
            b'h' => options.homes = Homes::Required,
            b'H' => options.homes = Homes::Unchecked,
            b'u' => options.upper_case = true,
            b'U' => options.upper_case = false,
            b'C' => options.break_octet = None,
            _ => options.break_octet = Some(*option.argument.first()?),
        }
    }
    Some(options)
}

/// The whole of `users/assign`.
fn assign(options: &Options, files: &Files, passwd: &[u8]) -> Result<Vec<u8>, String> {
    let mut accounts = Vec::new();
    for (number, line) in (1..).zip(passwd.split(|&octet| octet == b'\n')) {
        match Account::parse(line) {
            Some(account) if account.is_wanted(options, files)? => accounts.push(account),
            Some(_) => {}
            None if line.is_empty() => {}
            None => passed_over(number, line),
        }
    }
    if !accounts.iter().any(|account| account.name == b"alias") {
        return Err("unable to find alias user".to_owned());
    }
    let mut sink = Vec::new();
    for account in &accounts {
        if account.name == b"alias" {
            write_line(&mut sink, b"+", b"", account, options.dash, b"");
        }
        let own = [account.name.to_vec()];
        let names = files
            .mailnames
            .get(&account.name.to_ascii_lowercase())
            .map_or(&own[..], |names| names);
        for name in names.iter().filter(|name| !name.is_empty()) {
            write_line(&mut sink, b"=", name, account, "", b"");
            if let Some(octet) = options.break_octet {
                let prefix = [name, &[octet][..]].concat();
                write_line(&mut sink, b"+", &prefix, account, options.dash, b"");
            }
        }
    }
    // Of accounts with the same name the last counts, as a table read in order has it.
    let by_name: HashMap<_, _> = accounts
        .iter()
        .map(|account| (account.name, account))
        .collect();
    for line in lines(&files.subusers) {
        let mut fields = line.split(|&octet| octet == b':');
        let (Some(sub), Some(user), Some(prefix), Some(_)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let account = by_name
            .get(user)
            .ok_or_else(|| format!("unable to find {} user for subuser", user.escape_ascii()))?;
        write_line(&mut sink, b"=", sub, account, options.dash, prefix);
        if let Some(octet) = options.break_octet {
            let (sub, prefix) = ([sub, &[octet][..]].concat(), [prefix, b"-"].concat());
            write_line(&mut sink, b"+", &sub, account, options.dash, &prefix);
        }
    }
    sink.extend_from_slice(&files.append);
    if sink.last() != Some(&b'\n') {
        sink.push(b'\n');
    }
    sink.extend_from_slice(b".\n");
    Ok(sink)
}

fn write_line(
    sink: &mut Vec<u8>,
    kind: &[u8],
    local: &[u8],
    account: &Account<'_>,
    dash: &str,
    extension: &[u8],
) {
    for part in [
        kind,
        local,
        &account.fields,
        dash.as_bytes(),
        b":",
        extension,
        b":\n",
    ] {
        sink.extend_from_slice(part);
    }
}

/// Tells of a line that is no account. The rest of the table is none the worse for it.
fn passed_over(number: usize, line: &[u8]) {
    let line = Escaped(line);
    let words = format!("line {number}, `{line}`: no account, passed over");
    exit::warn(APPLET.names[0], &words);
}

impl<'a> Account<'a> {
    /// `None` for a line with fewer than six fields, or a NUL.
    fn parse(line: &'a [u8]) -> Option<Self> {
        if line.contains(&0) {
            return None;
        }
        let fields: Vec<_> = line.splitn(7, |&octet| octet == b':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else {
            return None;
        };
        Some(Self {
            name,
            uid,
            home,
            fields: [b":", name, b":", uid, b":", gid, b":", home, b":"].concat(),
        })
    }

    fn is_wanted(&self, options: &Options, files: &Files) -> Result<bool, String> {
        let uid = std::str::from_utf8(self.uid)
            .ok()
            .and_then(|uid| uid.parse().ok());
        // A number that cannot be read is taken for root's.
        let uid: u32 = uid.unwrap_or(0);
        if uid == 0 || !options.upper_case && self.name.iter().any(u8::is_ascii_uppercase) {
            return Ok(false);
        }
        let name = self.name.to_ascii_lowercase();
        if files
            .include
            .as_ref()
            .is_some_and(|include| !include.contains(&name))
            || files.exclude.contains(&name)
        {
            return Ok(false);
        }
        if options.homes == Homes::Unchecked {
            return Ok(true);
        }
        let home = Path::new(OsStr::from_bytes(self.home));
        match std::fs::metadata(home) {
            Ok(found) => Ok(found.uid() == uid),
            Err(error)
                if options.homes == Homes::Owned && error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(false)
            }
            // Who is passed over gets no mail: better no table than one without them.
            Err(error) => Err(format!(
                "unable to stat {} for user {}: {error}",
                home.display(),
                self.name.escape_ascii()
            )),
        }
    }
}

impl Files {
    fn read(users: &Path) -> Result<Self, String> {
        let file = |name: &str| {
            read_file(&users.join(name))
                .map_err(|error| format!("unable to read users/{name}: {error}"))
        };
        let names = |text: Vec<u8>| lines(&text).map(<[u8]>::to_ascii_lowercase).collect();
        let mut mailnames: HashMap<_, Vec<Vec<u8>>> = HashMap::new();
        for line in lines(&file("mailnames")?.unwrap_or_default()) {
            let mut fields = line.split(|&octet| octet == b':').map(<[u8]>::to_vec);
            let user = fields.next().unwrap_or_default().to_ascii_lowercase();
            // The first line of a user counts.
            mailnames.entry(user).or_insert_with(|| fields.collect());
        }
        Ok(Self {
            include: file("include")?.map(names),
            exclude: file("exclude")?.map(names).unwrap_or_default(),
            mailnames,
            subusers: file("subusers")?.unwrap_or_default(),
            append: file("append")?.unwrap_or_default(),
        })
    }
}

/// Lines without trailing blanks; not those that are empty, or comments.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&octet| octet == b'\n')
        .map(|line| {
            let blanks = line.iter().rev();
            let blanks = blanks
                .take_while(|&&octet| matches!(octet, b' ' | b'\t'))
                .count();
            &line[..line.len() - blanks]
        })
        .filter(|line| !matches!(line.first(), None | Some(b'#')))
}
