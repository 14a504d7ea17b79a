//! The grammar of command lines.

use bytes::Bytes;
use nom::bytes::complete::{tag_no_case, take_while};
use nom::sequence::preceded;
use nom::{IResult, Parser};
use qmail_core::{Address, ReversePath, is_http_verb};

use super::parameters::MailParameters;
use super::path::path;
use super::{Config, ParameterPolicy};
use crate::dsn::RcptParameters;

/// One command with the part of its line that belongs to it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Helo(&'a [u8]),
    Ehlo(&'a [u8]),
    Mail(&'a [u8]),
    Rcpt(&'a [u8]),
    Data,
    Bdat(&'a [u8]),
    Lhlo(&'a [u8]),
    StartTls(&'a [u8]),
    Auth(&'a [u8]),
    Rset,
    Noop,
    Vrfy,
    Help,
    Quit,
    /// What follows is not meant as commands: the header of a web browser that was made to call here.
    Foreign,
    Unknown,
}

/// Why MAIL or RCPT is not asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ArgumentError {
    Syntax,
    EmptyRecipient,
    UnknownParameter,
    BadParameter,
    TooLarge,
    NotUtf8,
}

/// Splits a line, which comes without its end. The verb is what precedes the first space, in any case; the argument is
/// what follows that space and further ones.
pub(super) fn command(line: &[u8]) -> Command<'_> {
    let (octets, argument) = match memchr::memchr(b' ', line) {
        Some(space) => (&line[..space], without_spaces(&line[space..])),
        None => (line, &line[line.len()..]),
    };
    let Some(verb) = short_verb(octets) else {
        return Command::Unknown;
    };
    match &verb {
        b"HELO\0\0\0\0" => Command::Helo(argument),
        b"EHLO\0\0\0\0" => Command::Ehlo(argument),
        b"MAIL\0\0\0\0" => Command::Mail(argument),
        b"RCPT\0\0\0\0" => Command::Rcpt(argument),
        b"DATA\0\0\0\0" => Command::Data,
        b"RSET\0\0\0\0" => Command::Rset,
        b"NOOP\0\0\0\0" => Command::Noop,
        b"VRFY\0\0\0\0" => Command::Vrfy,
        b"HELP\0\0\0\0" => Command::Help,
        b"QUIT\0\0\0\0" => Command::Quit,
        b"BDAT\0\0\0\0" => Command::Bdat(argument),
        b"AUTH\0\0\0\0" => Command::Auth(argument),
        b"LHLO\0\0\0\0" => Command::Lhlo(argument),
        b"STARTTLS" => Command::StartTls(argument),
        _ if is_http_verb(octets) => Command::Foreign,
        _ => Command::Unknown,
    }
}

/// The verb in upper case, padded with NULs; `None` if it is longer than any, or holds a NUL itself.
fn short_verb(verb: &[u8]) -> Option<[u8; 8]> {
    let mut upper = [0; 8];
    upper.get_mut(..verb.len())?.copy_from_slice(verb);
    if verb.contains(&0) {
        return None;
    }
    upper.make_ascii_uppercase();
    Some(upper)
}

fn is_space(octet: u8) -> bool {
    octet == b' '
}

fn without_spaces(input: &[u8]) -> &[u8] {
    let spaces = input.iter().take_while(|&&octet| octet == b' ').count();
    &input[spaces..]
}

/// `FROM:` and what follows it.
pub(super) fn mail(
    argument: &[u8],
    config: &Config,
) -> Result<(ReversePath, MailParameters), ArgumentError> {
    let (address, rest) = address_of(argument, b"FROM:", config.parameters)?;
    let sender = ReversePath::new(address).map_err(|_| ArgumentError::Syntax)?;
    let parameters = MailParameters::parse(rest, config);
    if config.parameters != ParameterPolicy::Strict {
        return match parameters {
            Err(ArgumentError::TooLarge) => Err(ArgumentError::TooLarge),
            _ => Ok((sender, MailParameters::default())),
        };
    }
    let parameters = parameters?;
    if parameters.smtp_utf8 && std::str::from_utf8(sender.as_bytes()).is_err() {
        return Err(ArgumentError::NotUtf8);
    }
    Ok((sender, parameters))
}

/// `TO:` and what follows it.
pub(super) fn rcpt(
    argument: &[u8],
    config: &Config,
) -> Result<(Address, RcptParameters), ArgumentError> {
    let (address, rest) = address_of(argument, b"TO:", config.parameters)?;
    if address.is_empty() {
        return Err(ArgumentError::EmptyRecipient);
    }
    let recipient = Address::new(address).map_err(|_| ArgumentError::Syntax)?;
    if config.parameters != ParameterPolicy::Strict {
        return Ok((recipient, RcptParameters::default()));
    }
    Ok((recipient, RcptParameters::parse(rest, config)?))
}

/// `SIZE` or `SIZE LAST` of BDAT (RFC 3030 section 2): how many octets follow, and whether they are the last.
pub(super) fn bdat(argument: &[u8]) -> Option<(u64, bool)> {
    let text = std::str::from_utf8(argument).ok()?;
    let mut words = text.split(' ').filter(|word| !word.is_empty());
    let digits = words.next()?;
    if !digits.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let size = digits.parse().ok()?;
    match (words.next(), words.next()) {
        (None, _) => Some((size, false)),
        (Some(word), None) if word.eq_ignore_ascii_case("LAST") => Some((size, true)),
        _ => None,
    }
}

/// The address after `keyword`, and the text after the address. No control octet may stand anywhere: whoever reads the
/// line less carefully would see something else.
fn address_of<'a>(
    argument: &'a [u8],
    keyword: &'static [u8],
    policy: ParameterPolicy,
) -> Result<(Bytes, &'a [u8]), ArgumentError> {
    if argument.iter().any(|&octet| octet < b' ' || octet == 0x7f) {
        return Err(ArgumentError::Syntax);
    }
    if policy == ParameterPolicy::IgnoreAround {
        return path(anywhere(argument)).ok_or(ArgumentError::Syntax);
    }
    let start: IResult<&[u8], &[u8]> =
        preceded(tag_no_case(keyword), take_while(is_space)).parse(argument);
    let (rest, _) = start.map_err(|_| ArgumentError::Syntax)?;
    if policy == ParameterPolicy::Ignore && rest.starts_with(b"<") && path(rest).is_none() {
        // As qmail-smtpd reads it: the address goes on to the end of the line.
        let closed = [rest, b">"].concat();
        let (address, after) = path(&closed).ok_or(ArgumentError::Syntax)?;
        return match after {
            [] => Ok((address, b"")),
            _ => Err(ArgumentError::Syntax),
        };
    }
    path(rest).ok_or(ArgumentError::Syntax)
}

/// The address and what follows it, whatever stands before.
fn anywhere(argument: &[u8]) -> &[u8] {
    match memchr::memchr(b'<', argument) {
        Some(angle) => &argument[angle..],
        None => memchr::memchr(b':', argument)
            .map_or(b"", |colon| without_spaces(&argument[colon + 1..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BodyType;

    #[test]
    fn every_verb_of_http_is_foreign() {
        for verb in [
            "CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PRI", "PUT", "TRACE",
        ] {
            for verb in [verb.to_owned(), verb.to_lowercase()] {
                let line = format!("{verb} / HTTP/1.1");
                assert_eq!(command(line.as_bytes()), Command::Foreign, "{line}");
                assert_eq!(command(verb.as_bytes()), Command::Foreign, "{verb}");
                let longer = format!("{verb}S /");
                assert_eq!(command(longer.as_bytes()), Command::Unknown, "{longer}");
            }
        }
    }

    #[test]
    fn verbs_match_entirely_and_in_any_case() {
        for (line, expected) in [
            ("HELO", Command::Helo(b"")),
            ("helo  x y ", Command::Helo(b"x y ")),
            ("eHlO x", Command::Ehlo(b"x")),
            ("MAIL FROM:<a@b>", Command::Mail(b"FROM:<a@b>")),
            ("rcpt   to:<a@b>", Command::Rcpt(b"to:<a@b>")),
            ("DATA x", Command::Data),
            ("RSET", Command::Rset),
            ("NOOP x", Command::Noop),
            ("VRFY root", Command::Vrfy),
            ("HELP", Command::Help),
            ("QUIT ", Command::Quit),
            ("BDAT 5 LAST", Command::Bdat(b"5 LAST")),
            ("starttls", Command::StartTls(b"")),
            ("AUTH PLAIN =", Command::Auth(b"PLAIN =")),
            ("LHLO x", Command::Lhlo(b"x")),
            ("STARTTLSX", Command::Unknown),
            ("GET / HTTP/1.1", Command::Foreign),
            ("CONNECT x:25", Command::Foreign),
            ("", Command::Unknown),
            (" ", Command::Unknown),
            (" NOOP", Command::Unknown),
            ("NOOP\t", Command::Unknown),
            ("NOOP\0", Command::Unknown),
            ("NOOP\0\0\0", Command::Unknown),
            ("MAILFROM:<a@b>", Command::Unknown),
            ("ETRN x", Command::Unknown),
        ] {
            assert_eq!(command(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn mail_has_an_address_and_parameters() {
        let mut config = Config::new("x");
        config.message_octets_max = Some(1000);
        let parameters = |size, body| MailParameters {
            size,
            body,
            ..MailParameters::default()
        };
        for (argument, expected) in [
            ("FROM:<a@b>", Ok(parameters(None, None))),
            ("from: a@b", Ok(parameters(None, None))),
            ("FROM:<>", Ok(parameters(None, None))),
            ("FROM:", Ok(parameters(None, None))),
            ("FROM:<a@b>  ", Ok(parameters(None, None))),
            ("FROM:<a@b> SIZE=1000", Ok(parameters(Some(1000), None))),
            (
                "FROM:<a@b> size=1  body=8bitMIME",
                Ok(parameters(Some(1), Some(BodyType::EightBitMime))),
            ),
            (
                "FROM:<a@b> BODY=7BIT",
                Ok(parameters(None, Some(BodyType::SevenBit))),
            ),
            ("FROM:<a@b> SIZE=1001", Err(ArgumentError::TooLarge)),
            (
                "FROM:<a@b> SIZE=18446744073709551617",
                Err(ArgumentError::TooLarge),
            ),
            ("FROM:<a@b> SIZE=", Err(ArgumentError::Syntax)),
            ("FROM:<a@b> SIZE", Err(ArgumentError::BadParameter)),
            ("FROM:<a@b> SIZE=1x", Err(ArgumentError::BadParameter)),
            (
                "FROM:<a@b> SIZE=000000000000000000001",
                Err(ArgumentError::BadParameter),
            ),
            ("FROM:<a@b> SIZE=1 SIZE=1", Err(ArgumentError::BadParameter)),
            (
                "FROM:<a@b> BODY=BINARYMIME",
                Err(ArgumentError::BadParameter),
            ),
            ("FROM:<a@b> SMTPUTF8", Err(ArgumentError::UnknownParameter)),
            ("FROM:<a@b> X=y", Err(ArgumentError::UnknownParameter)),
            ("FROM:<a@b>SIZE=1", Err(ArgumentError::Syntax)),
            ("FROM:<a@b> =", Err(ArgumentError::Syntax)),
            ("FROM:<a@b> -X", Err(ArgumentError::Syntax)),
            ("FROM:<a@b> SIZE=1\0", Err(ArgumentError::Syntax)),
            ("FROM:<a@b>\tSIZE=1", Err(ArgumentError::Syntax)),
            ("FROM:<> \"", Err(ArgumentError::Syntax)),
            ("FROM:<>\"=", Err(ArgumentError::Syntax)),
            ("=\"", Err(ArgumentError::Syntax)),
            ("FROM <a@b>", Err(ArgumentError::Syntax)),
            ("<a@b>", Err(ArgumentError::Syntax)),
            ("FROM: Joe <a@b>", Err(ArgumentError::Syntax)),
            ("TO:<a@b>", Err(ArgumentError::Syntax)),
        ] {
            let found = mail(argument.as_bytes(), &config).map(|(_, parameters)| parameters);
            assert_eq!(found, expected, "{argument:?}");
        }
    }

    #[test]
    fn what_is_not_announced_is_unknown() {
        let mut config = Config::new("x");
        config.extensions.size = false;
        config.extensions.eight_bit_mime = false;
        for argument in ["FROM:<a@b> SIZE=1", "FROM:<a@b> BODY=7BIT"] {
            assert_eq!(
                mail(argument.as_bytes(), &config).map(|_| ()),
                Err(ArgumentError::UnknownParameter)
            );
        }
        config.parameters = ParameterPolicy::Ignore;
        for argument in ["FROM:<a@b> SIZE=x", "FROM:<a@b>garbage", "FROM:a@b x"] {
            assert!(mail(argument.as_bytes(), &config).is_ok(), "{argument}");
        }
        assert!(mail(b"FROM:<a@b> \0", &config).is_err());
    }

    #[test]
    fn what_stands_around_an_address_may_be_ignored() {
        let mut config = Config::new("x");
        config.parameters = ParameterPolicy::IgnoreAround;
        for (argument, expected) in [
            ("", Some("")),
            ("x", Some("")),
            ("FROM:", Some("")),
            ("FROM:<a@b>", Some("a@b")),
            ("from :  <a@b>junk SIZE=x", Some("a@b")),
            ("<a@b>", Some("a@b")),
            ("x:y <a@b>", Some("a@b")),
            ("FROM: a@b x", Some("a@b")),
            ("x:  a@b", Some("a@b")),
            ("FROM :<\"a>b\"@c>", Some("a>b@c")),
            ("FROM:<@r:a@b>", Some("a@b")),
            ("FROM:<a@b", None),
            ("FROM:<a@b>\0", None),
        ] {
            let found = mail(argument.as_bytes(), &config).ok();
            let found = found.map(|(sender, _)| sender.as_bytes().to_vec());
            assert_eq!(
                found,
                expected.map(|it| it.as_bytes().to_vec()),
                "{argument:?}"
            );
        }
        assert_eq!(
            rcpt(b"nobody", &config).map(|_| ()),
            Err(ArgumentError::EmptyRecipient)
        );
    }

    #[test]
    fn a_recipient_is_never_empty() {
        let config = Config::new("x");
        for (argument, expected) in [
            ("TO:<a@b>", Ok(&b"a@b"[..])),
            ("to: a@b ", Ok(&b"a@b"[..])),
            ("TO:<>", Err(ArgumentError::EmptyRecipient)),
            ("TO:", Err(ArgumentError::EmptyRecipient)),
            ("TO:<\"\">", Err(ArgumentError::EmptyRecipient)),
            (
                "TO:<a@b> NOTIFY=NEVER",
                Err(ArgumentError::UnknownParameter),
            ),
            ("FROM:<a@b>", Err(ArgumentError::Syntax)),
            ("TO:<a\0b@c>", Err(ArgumentError::Syntax)),
        ] {
            let found = rcpt(argument.as_bytes(), &config);
            assert_eq!(
                found
                    .as_ref()
                    .map(|(recipient, _)| recipient.as_bytes())
                    .map_err(|error| *error),
                expected,
                "{argument:?}"
            );
        }
    }

    #[test]
    fn a_chunk_says_its_size() {
        for (argument, expected) in [
            ("0", Some((0, false))),
            ("86 LAST", Some((86, true))),
            ("86  last ", Some((86, true))),
            ("18446744073709551615", Some((u64::MAX, false))),
            ("18446744073709551616", None),
            ("LAST", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 FIRST", None),
            ("1 LAST x", None),
        ] {
            assert_eq!(bdat(argument.as_bytes()), expected, "{argument}");
        }
    }
}
