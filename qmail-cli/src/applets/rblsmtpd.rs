//! `rblsmtpd`: turns away SMTP clients that are on a list, and runs a program for the others.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use bytes::Bytes;
use qmail_deliver::{HickoryResolver, Resolver};
use qmail_smtp::dnsbl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::applet::{Applet, Call, Kind};
use crate::dns_lists::{self, Block, List};
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

struct Options<'a> {
    lists: Vec<List>,
    talk: Duration,
    program: &'a [OsString],
}

fn run(call: &Call) -> ExitCode {
    let options = match parse(&call.arguments) {
        Ok(options) => options,
        Err(words) => return exit::fatal("rblsmtpd", &words, exit::PERMANENT),
    };
    let blocked = match variable("RBLSMTPD") {
        Some(text) if text.is_empty() => None,
        Some(text) => Some(match text.strip_prefix(b"-") {
            Some(text) => Block::new(true, text),
            None => Block::new(false, &text),
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
            b'r' => lists.push(List::Block {
                base,
                permanent,
                closed,
            }),
            b'a' => lists.push(List::Allow { base, closed }),
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

/// Without an address of the client no list has it.
async fn look_up(lists: &[List]) -> Option<Block> {
    let address = variable("TCPREMOTEIP")?;
    let address = std::str::from_utf8(&address).ok()?.parse().ok()?;
    // Nothing can be asked without a resolver, as if none of its servers answered.
    let resolver = HickoryResolver::system().ok();
    let resolver = resolver.as_ref().map(|resolver| resolver as &dyn Resolver);
    dns_lists::look_up(resolver, address, lists).await
}

/// Tells the client so until it goes, or has had its time.
async fn talk(blocked: &Block, time: Duration) {
    let mut connection = stdio::connection();
    if time.is_zero() {
        let _ = connection.write_all(&reply_line(blocked)).await;
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
                    _ => replies.extend_from_slice(&reply_line(blocked)),
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

/// What a blocked client is told.
fn reply_line(blocked: &Block) -> Vec<u8> {
    let code = format!("{} ", blocked.code());
    [code.as_bytes(), &blocked.text, b"\r\n"].concat()
}

/// The first word of a command line, in lower case.
fn verb(line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let end = memchr::memchr(b' ', line).unwrap_or(line.len());
    line[..end].to_ascii_lowercase()
}
