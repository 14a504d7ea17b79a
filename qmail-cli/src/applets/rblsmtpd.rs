//! `rblsmtpd`: turns away SMTP clients that are on a list, and runs a program for the others.

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use bytes::Bytes;
use qmail_deliver::{HickoryResolver, LookupError, Resolver};
use qmail_smtp::dnsbl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::applet::{Applet, Call, Kind};
use crate::getopt::Getopt;
use crate::ucspi::variable;
use crate::{exit, stdio};

pub(crate) const APPLET: Applet = Applet {
    names: &["rblsmtpd"],
    kind: Kind::Classic,
    summary: "turn away SMTP clients that are on a DNS list, run a program for others",
    run,
};

const USAGE: &str = "usage: rblsmtpd [-bBcC] [-t timeout] [-r base] [-a base] program [arg ...]";

/// -t when it is not given.
const TALK_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest command line in octets that is looked at.
const LINE_OCTETS_MAX: usize = 4096;

/// A list to ask.
enum List {
    /// -r: who is on it is blocked, with 553 if `permanent`.
    Block { base: Vec<u8>, permanent: bool },
    /// -a: who is on it is let in.
    Allow { base: Vec<u8> },
}

struct Options<'a> {
    /// With the way to fail that was in force where they stood.
    lists: Vec<(List, bool)>,
    talk: Duration,
    program: &'a [OsString],
}

/// Why a client is blocked.
struct Block {
    permanent: bool,
    text: Vec<u8>,
}

impl Block {
    fn code(&self) -> u16 {
        if self.permanent { 553 } else { 451 }
    }

    fn line(&self) -> Vec<u8> {
        let code = format!("{} ", self.code());
        [code.as_bytes(), &self.text, b"\r\n"].concat()
    }
}

fn run(call: &Call) -> ExitCode {
    let options = match parse(&call.arguments) {
        Ok(options) => options,
        Err(words) => return exit::fatal("rblsmtpd", &words, exit::PERMANENT),
    };
    let blocked = match variable("RBLSMTPD") {
        Some(text) if text.is_empty() => None,
        Some(text) => Some(match text.strip_prefix(b"-") {
            Some(text) => block(true, text),
            None => block(false, &text),
        }),
        None => match stdio::run(look_up(&options.lists)) {
            Ok(blocked) => blocked,
            Err(error) => return no_resources(&error),
        },
    };
    let Some(blocked) = blocked else {
        let mut program = Command::new(&options.program[0]);
        let error = program.args(&options.program[1..]).exec();
        return exit::fatal(
            "rblsmtpd",
            &format_args!("unable to run {}: {error}", options.program[0].display()),
            exit::TEMPORARY,
        );
    };
    let client = variable("TCPREMOTEIP").unwrap_or_else(|| Bytes::from_static(b"unknown"));
    eprintln!(
        "rblsmtpd: {} pid {}: {} {}",
        String::from_utf8_lossy(&dnsbl::reply_text(&client)),
        std::process::id(),
        blocked.code(),
        String::from_utf8_lossy(&blocked.text)
    );
    match stdio::run(talk(&blocked, options.talk)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => no_resources(&error),
    }
}

fn no_resources(error: &io::Error) -> ExitCode {
    exit::fatal(
        "rblsmtpd",
        &format_args!("no resources: {error}"),
        exit::TEMPORARY,
    )
}

fn block(permanent: bool, text: &[u8]) -> Block {
    Block {
        permanent,
        text: dnsbl::reply_text(text),
    }
}

fn parse(arguments: &[OsString]) -> Result<Options<'_>, String> {
    let (mut permanent, mut closed) = (false, false);
    let mut lists = Vec::new();
    let mut talk = TALK_TIMEOUT;
    let mut getopt = Getopt::new(arguments, "bBcCt:r:a:");
    for option in getopt.by_ref() {
        let option = option.map_err(|error| format!("{error}; {USAGE}"))?;
        let base = option.argument.to_vec();
        match option.letter {
            b'b' => permanent = true,
            b'B' => permanent = false,
            b'c' => closed = true,
            b'C' => closed = false,
            b'r' => lists.push((List::Block { base, permanent }, closed)),
            b'a' => lists.push((List::Allow { base }, closed)),
            _ => {
                let seconds = std::str::from_utf8(option.argument).ok();
                let seconds = seconds.and_then(|seconds| seconds.parse().ok());
                talk = Duration::from_secs(seconds.ok_or(USAGE)?);
            }
        }
    }
    let program = getopt.operands();
    if program.is_empty() {
        return Err(USAGE.to_owned());
    }
    Ok(Options {
        lists,
        talk,
        program,
    })
}

/// Asks the lists in order until one decides. Without an address of the client no list has it.
async fn look_up(lists: &[(List, bool)]) -> Option<Block> {
    let address = variable("TCPREMOTEIP")?;
    let address: IpAddr = std::str::from_utf8(&address).ok()?.parse().ok()?;
    // Nothing can be asked without a resolver, as if none of its servers answered.
    let resolver = HickoryResolver::system().ok();
    let mut trouble = false;
    for (list, closed) in lists {
        match list {
            List::Allow { base } => {
                let name = dnsbl::query_name(address, base);
                let listed = match &resolver {
                    Some(resolver) => resolver.addresses(&name).await,
                    None => Err(no_resolver()),
                };
                match listed {
                    Ok(addresses) if !addresses.is_empty() => return None,
                    Ok(_) | Err(LookupError::NoSuchName) => {}
                    Err(_) if *closed => trouble = true,
                    Err(_) => return None,
                }
            }
            List::Block { base, permanent } => {
                let name = dnsbl::query_name(address, base);
                let texts = match &resolver {
                    Some(resolver) => resolver.txt(&name).await,
                    None => Err(no_resolver()),
                };
                match texts {
                    Ok(texts) if texts.iter().any(|text| !text.is_empty()) => {
                        return Some(block(*permanent && !trouble, &texts.concat()));
                    }
                    Ok(_) | Err(LookupError::NoSuchName) => {}
                    Err(_) if *closed => return Some(block(false, b"temporary RBL lookup error")),
                    Err(_) => trouble = true,
                }
            }
        }
    }
    None
}

/// Tells the client so until it goes, or has had its time.
async fn talk(blocked: &Block, time: Duration) {
    let mut connection = stdio::connection();
    if time.is_zero() {
        let _ = connection.write_all(&blocked.line()).await;
        let _ = connection.flush().await;
        return;
    }
    let conversation = async {
        connection.write_all(b"220 rblsmtpd.local\r\n").await?;
        connection.flush().await?;
        let mut line = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let octets = connection.read(&mut buffer).await?;
            if octets == 0 {
                return io::Result::Ok(());
            }
            let mut replies = Vec::new();
            let mut quit = false;
            for &octet in &buffer[..octets] {
                if octet != b'\n' {
                    if line.len() < LINE_OCTETS_MAX {
                        line.push(octet);
                    }
                    continue;
                }
                match verb(&line).as_slice() {
                    b"helo" | b"ehlo" | b"mail" | b"rset" | b"noop" => {
                        replies.extend_from_slice(b"250 rblsmtpd.local\r\n");
                    }
                    b"quit" => {
                        replies.extend_from_slice(b"221 rblsmtpd.local\r\n");
                        quit = true;
                        break;
                    }
                    _ => replies.extend_from_slice(&blocked.line()),
                }
                line.clear();
            }
            connection.write_all(&replies).await?;
            connection.flush().await?;
            if quit {
                return Ok(());
            }
        }
    };
    // However it ended, it has.
    let _ = timeout(time, conversation).await;
}

/// The first word of a command line, in lower case.
fn verb(line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    line[..end].to_ascii_lowercase()
}

fn no_resolver() -> LookupError {
    LookupError::Temporary("no resolver".to_owned())
}
