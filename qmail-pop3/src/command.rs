//! Command lines (RFC 1939 section 3): a verb, and what follows it.

use nom::character::complete::digit1;
use nom::combinator::map;
use nom::{IResult, Parser};
use qmail_core::is_http_verb;

/// One command. Arguments are what follows the spaces after the verb; trailing spaces belong to them, since a password
/// may end in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    User(&'a [u8]),
    Pass(&'a [u8]),
    Apop(&'a [u8]),
    Auth(&'a [u8]),
    Stls,
    Stat,
    List(&'a [u8]),
    Uidl(&'a [u8]),
    Retr(&'a [u8]),
    Top(&'a [u8]),
    Dele(&'a [u8]),
    Last,
    Noop,
    Rset,
    Quit,
    Capa,
    /// A verb of HTTP, by which a browser was lured here to carry someone's commands.
    Http,
    /// A line with NUL or CR in it: no command, whatever its verb, since others may see another line end in it.
    Garbled,
    Unknown,
}

impl<'a> Command<'a> {
    /// Reads a line without its LF and the CR before it.
    pub(crate) fn parse(line: &'a [u8]) -> Self {
        if memchr::memchr2(b'\r', 0, line).is_some() {
            return Self::Garbled;
        }
        let (verb, argument) = match memchr::memchr(b' ', line) {
            Some(space) => (&line[..space], without_leading_spaces(&line[space..])),
            None => (line, &b""[..]),
        };
        let is = |name: &[u8]| verb.eq_ignore_ascii_case(name);
        match verb.len() {
            3 if is(b"TOP") => Self::Top(argument),
            4 if is(b"RETR") => Self::Retr(argument),
            4 if is(b"DELE") => Self::Dele(argument),
            4 if is(b"UIDL") => Self::Uidl(argument),
            4 if is(b"LIST") => Self::List(argument),
            4 if is(b"USER") => Self::User(argument),
            4 if is(b"PASS") => Self::Pass(argument),
            4 if is(b"APOP") => Self::Apop(argument),
            4 if is(b"AUTH") => Self::Auth(argument),
            4 if is(b"STLS") => Self::Stls,
            4 if is(b"STAT") => Self::Stat,
            4 if is(b"LAST") => Self::Last,
            4 if is(b"NOOP") => Self::Noop,
            4 if is(b"RSET") => Self::Rset,
            4 if is(b"QUIT") => Self::Quit,
            4 if is(b"CAPA") => Self::Capa,
            _ if is_http_verb(verb) => Self::Http,
            _ => Self::Unknown,
        }
    }
}

/// The number of a message: leading digits count, the rest is ignored, as in qmail-pop3d(8). `None` without a digit.
/// A number too big for its type is the biggest one: it never wraps to the number of a message that exists.
pub(crate) fn message_number(argument: &[u8]) -> Option<u64> {
    number(argument).ok().map(|(_, number)| number)
}

/// What follows TOP, its message number already known to be there: how many lines. Without a second number it is all of
/// them, as in qmail-pop3d(8), which passes over what follows a number.
pub(crate) fn top_lines(argument: &[u8]) -> Option<u64> {
    let (rest, _) = number(argument).ok()?;
    let behind = memchr::memchr(b' ', rest).map_or(&b""[..], |space| &rest[space..]);
    let lines = number(without_leading_spaces(behind));
    Some(lines.map_or(u64::MAX, |(_, lines)| lines))
}

/// What follows APOP: the name, and all after the space behind it as digest. That may be empty, and is wrong then, as in
/// qmail-popup(8).
pub(crate) fn apop_arguments(argument: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr::memchr(b' ', argument)?;
    Some((&argument[..space], &argument[space + 1..]))
}

fn number(input: &[u8]) -> IResult<&[u8], u64> {
    map(digit1, |digits: &[u8]| {
        digits.iter().fold(0_u64, |value, digit| {
            value
                .saturating_mul(10)
                .saturating_add(u64::from(digit - b'0'))
        })
    })
    .parse(input)
}

fn without_leading_spaces(octets: &[u8]) -> &[u8] {
    let start = octets.iter().position(|&octet| octet != b' ');
    &octets[start.unwrap_or(octets.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_commands() {
        for (line, command) in [
            (&b"STAT"[..], Command::Stat),
            (b"stat whatever", Command::Stat),
            (b"USER   b", Command::User(b"b")),
            (b"pass  c d ", Command::Pass(b"c d ")),
            (b"PASS", Command::Pass(b"")),
            (b"PASS   ", Command::Pass(b"")),
            (b"APOP joe 0", Command::Apop(b"joe 0")),
            (b"TOP 1 2", Command::Top(b"1 2")),
            (b"TOPS 1 2", Command::Unknown),
            (b"RETR\t1", Command::Unknown),
            (b" STAT", Command::Unknown),
            (b"", Command::Unknown),
            (b"USER a\rb", Command::Garbled),
            (b"QUIT\r", Command::Garbled),
            (b"DELE 1\0", Command::Garbled),
            (b"GET / HTTP/1.1", Command::Http),
            (b"GETS / HTTP/1.1", Command::Unknown),
        ] {
            assert_eq!(Command::parse(line), command, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn every_verb_of_http_is_one() {
        for verb in [
            "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE",
        ] {
            for verb in [verb.to_owned(), verb.to_lowercase()] {
                let line = format!("{verb} / HTTP/1.1");
                assert_eq!(Command::parse(line.as_bytes()), Command::Http, "{line}");
                assert_eq!(Command::parse(verb.as_bytes()), Command::Http, "{verb}");
                let longer = format!("{verb}S /");
                assert_eq!(
                    Command::parse(longer.as_bytes()),
                    Command::Unknown,
                    "{longer}"
                );
            }
        }
    }

    #[test]
    fn numbers_never_wrap() {
        for (argument, number) in [
            (&b"1"[..], Some(1)),
            (b"007", Some(7)),
            (b"12x", Some(12)),
            (b"3 4", Some(3)),
            (b"0", Some(0)),
            (b"+1", None),
            (b"-1", None),
            (b"x", None),
            (b"", None),
            (b"4294967297", Some(4_294_967_297)),
            (b"18446744073709551617", Some(u64::MAX)),
            (&[b'9'; 100], Some(u64::MAX)),
        ] {
            assert_eq!(
                message_number(argument),
                number,
                "{}",
                argument.escape_ascii()
            );
        }
    }

    #[test]
    fn top_counts_lines() {
        for (argument, lines) in [
            (&b"1"[..], Some(u64::MAX)),
            (b"1  ", Some(u64::MAX)),
            (b"1 0", Some(0)),
            (b"1   25 x", Some(25)),
            (b"1 -1", Some(u64::MAX)),
            (b"1 x", Some(u64::MAX)),
            (b"1x", Some(u64::MAX)),
            (b"1x 2", Some(2)),
            (b"x", None),
            (
                b"1 9999999999999999999999999999999999999999",
                Some(u64::MAX),
            ),
        ] {
            assert_eq!(top_lines(argument), lines, "{}", argument.escape_ascii());
        }
    }

    #[test]
    fn apop_wants_a_name_and_a_space() {
        for (argument, parts) in [
            (&b"joe c4c9"[..], Some((&b"joe"[..], &b"c4c9"[..]))),
            (b"joe   c4 c9", Some((b"joe", b"  c4 c9"))),
            (b"joe ", Some((b"joe", b""))),
            (b"joe", None),
            (b"", None),
        ] {
            assert_eq!(
                apop_arguments(argument),
                parts,
                "{}",
                argument.escape_ascii()
            );
        }
    }
}
