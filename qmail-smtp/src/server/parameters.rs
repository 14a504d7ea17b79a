//! What may follow the address in MAIL and RCPT.

use bytes::Bytes;
use nom::bytes::complete::{take_while, take_while1};
use nom::character::complete::char;
use nom::combinator::{all_consuming, opt, verify};
use nom::multi::many0;
use nom::sequence::{pair, preceded, terminated};
use nom::{IResult, Parser};

use super::Config;
use super::command::ArgumentError;
use crate::BodyType;
use crate::dsn::{self, ENVID_OCTETS_MAX, Notify, ORCPT_OCTETS_MAX, RcptParameters, Return};

/// What a client may add to MAIL. Only what was announced can be there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MailParameters {
    /// `SIZE=`: how many octets the message will have, by the client's count (RFC 1870). Never above
    /// [`Config::message_octets_max`]: the machine refuses that by itself.
    pub size: Option<u64>,
    /// `BODY=` (RFC 6152).
    pub body: Option<BodyType>,
    /// `SMTPUTF8` (RFC 6531): addresses or header may be in UTF-8, and must not be sent on to who does not know it.
    pub smtp_utf8: bool,
    /// `AUTH=` (RFC 4954 section 5), decoded: who submitted the message, as the client claims; empty for `<>`.
    pub auth: Option<Bytes>,
    /// `RET=` (RFC 3461 section 4.3).
    pub ret: Option<Return>,
    /// `ENVID=` (RFC 3461 section 4.4), decoded.
    pub envelope_id: Option<Bytes>,
}

impl MailParameters {
    /// Of the text after the address.
    pub(super) fn parse(text: &[u8], config: &Config) -> Result<Self, ArgumentError> {
        let extensions = &config.extensions;
        let mut found = Self::default();
        for Parameter { keyword, value } in parameters_of(text)? {
            let is = |name: &[u8], announced: bool| announced && keyword.eq_ignore_ascii_case(name);
            let unique = if is(b"SIZE", extensions.size) {
                found.size.replace(size(value, config)?).is_none()
            } else if is(b"BODY", extensions.eight_bit_mime) {
                found.body.replace(body_type(value)?).is_none()
            } else if is(b"SMTPUTF8", extensions.smtp_utf8) && value.is_none() {
                !std::mem::replace(&mut found.smtp_utf8, true)
            } else if is(b"AUTH", config.login.is_some()) {
                found.auth.replace(submitter(value)?).is_none()
            } else if is(b"RET", extensions.dsn) {
                found.ret.replace(ret(value)?).is_none()
            } else if is(b"ENVID", extensions.dsn) {
                let id = xtext(bounded(value, ENVID_OCTETS_MAX)?)?;
                found.envelope_id.replace(id).is_none()
            } else {
                return Err(ArgumentError::UnknownParameter);
            };
            if !unique {
                return Err(ArgumentError::BadParameter);
            }
        }
        Ok(found)
    }
}

impl RcptParameters {
    /// Of the text after the address.
    pub(super) fn parse(text: &[u8], config: &Config) -> Result<Self, ArgumentError> {
        let mut found = Self::default();
        for Parameter { keyword, value } in parameters_of(text)? {
            let is = |name: &[u8]| config.extensions.dsn && keyword.eq_ignore_ascii_case(name);
            let unique = if is(b"NOTIFY") {
                found.notify.replace(notify(value)?).is_none()
            } else if is(b"ORCPT") {
                found.original.replace(original(value)?).is_none()
            } else {
                return Err(ArgumentError::UnknownParameter);
            };
            if !unique {
                return Err(ArgumentError::BadParameter);
            }
        }
        Ok(found)
    }
}

/// One `KEYWORD` or `KEYWORD=VALUE` (RFC 5321 section 4.1.2, esmtp-param).
#[derive(Debug, PartialEq, Eq)]
struct Parameter<'a> {
    keyword: &'a [u8],
    value: Option<&'a [u8]>,
}

/// All of them, each after spaces; spaces at the end are ignored.
fn parameters_of(input: &[u8]) -> Result<Vec<Parameter<'_>>, ArgumentError> {
    if input.is_empty() {
        return Ok(Vec::new());
    }
    let parsed: IResult<&[u8], _> = all_consuming(terminated(
        many0(preceded(take_while1(is_space), parameter)),
        take_while(is_space),
    ))
    .parse(input);
    match parsed {
        Ok((_, parameters)) => Ok(parameters),
        Err(_) => Err(ArgumentError::Syntax),
    }
}

fn is_space(octet: u8) -> bool {
    octet == b' '
}

fn parameter(input: &[u8]) -> IResult<&[u8], Parameter<'_>> {
    let keyword = verify(
        take_while1(|octet: u8| octet.is_ascii_alphanumeric() || octet == b'-'),
        |keyword: &[u8]| keyword[0] != b'-',
    );
    let value = preceded(
        char('='),
        take_while1(|octet: u8| octet.is_ascii_graphic() && octet != b'='),
    );
    pair(keyword, opt(value))
        .map(|(keyword, value)| Parameter { keyword, value })
        .parse(input)
}

/// `SIZE=` (RFC 1870): up to 20 digits. A number beyond 64 bits is a message that is too large for anyone.
fn size(value: Option<&[u8]>, config: &Config) -> Result<u64, ArgumentError> {
    let digits = value.ok_or(ArgumentError::BadParameter)?;
    if digits.len() > 20 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(ArgumentError::BadParameter);
    }
    let octets = digits.iter().try_fold(0_u64, |value, digit| {
        value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    });
    match (octets, config.message_octets_max) {
        (None, _) => Err(ArgumentError::TooLarge),
        (Some(octets), Some(octets_max)) if octets > octets_max => Err(ArgumentError::TooLarge),
        (Some(octets), _) => Ok(octets),
    }
}

fn body_type(value: Option<&[u8]>) -> Result<BodyType, ArgumentError> {
    match value {
        Some(value) if value.eq_ignore_ascii_case(b"7BIT") => Ok(BodyType::SevenBit),
        Some(value) if value.eq_ignore_ascii_case(b"8BITMIME") => Ok(BodyType::EightBitMime),
        _ => Err(ArgumentError::BadParameter),
    }
}

/// `AUTH=`: a coded address or `<>`.
fn submitter(value: Option<&[u8]>) -> Result<Bytes, ArgumentError> {
    match value.ok_or(ArgumentError::BadParameter)? {
        b"<>" => Ok(Bytes::new()),
        value => xtext(value),
    }
}

fn ret(value: Option<&[u8]>) -> Result<Return, ArgumentError> {
    match value {
        Some(value) if value.eq_ignore_ascii_case(b"FULL") => Ok(Return::Full),
        Some(value) if value.eq_ignore_ascii_case(b"HDRS") => Ok(Return::Headers),
        _ => Err(ArgumentError::BadParameter),
    }
}

/// `NEVER`, or others with commas between them.
fn notify(value: Option<&[u8]>) -> Result<Notify, ArgumentError> {
    let value = value.ok_or(ArgumentError::BadParameter)?;
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case(b"NEVER") {
        return Ok(notify);
    }
    for word in value.split(|&octet| octet == b',') {
        let when = match &word.to_ascii_uppercase()[..] {
            b"SUCCESS" => &mut notify.success,
            b"FAILURE" => &mut notify.failure,
            b"DELAY" => &mut notify.delay,
            _ => return Err(ArgumentError::BadParameter),
        };
        *when = true;
    }
    Ok(notify)
}

/// `ORCPT=`: kind of address, semicolon, coded address.
fn original(value: Option<&[u8]>) -> Result<Bytes, ArgumentError> {
    let value = bounded(value, ORCPT_OCTETS_MAX)?;
    if !dsn::is_original(value) {
        return Err(ArgumentError::BadParameter);
    }
    xtext(value)
}

fn bounded(value: Option<&[u8]>, octets_max: usize) -> Result<&[u8], ArgumentError> {
    value
        .filter(|value| value.len() <= octets_max)
        .ok_or(ArgumentError::BadParameter)
}

fn xtext(text: &[u8]) -> Result<Bytes, ArgumentError> {
    dsn::decode_xtext(text).ok_or(ArgumentError::BadParameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        let mut config = Config::new("x");
        config.extensions.dsn = true;
        config.extensions.smtp_utf8 = true;
        config.login = Some(super::super::Login::new(Vec::new()));
        config
    }

    #[test]
    fn parameters_of_mail() {
        let none = MailParameters::default;
        let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        for (text, expected) in [
            ("", Ok(none())),
            (
                " RET=full ENVID=a+2Bb+20c",
                Ok(MailParameters {
                    ret: Some(Return::Full),
                    envelope_id: bytes("a+b c"),
                    ..none()
                }),
            ),
            (
                " SMTPUTF8 AUTH=<>",
                Ok(MailParameters {
                    smtp_utf8: true,
                    auth: bytes(""),
                    ..none()
                }),
            ),
            (
                " AUTH=e+3Dmc2@example.com",
                Ok(MailParameters {
                    auth: bytes("e=mc2@example.com"),
                    ..none()
                }),
            ),
            (" RET=HDRS RET=HDRS", Err(ArgumentError::BadParameter)),
            (" RET=x", Err(ArgumentError::BadParameter)),
            (" RET", Err(ArgumentError::BadParameter)),
            (" ENVID=+0A", Err(ArgumentError::BadParameter)),
            (" ENVID=+2", Err(ArgumentError::BadParameter)),
            (" ENVID=+2b", Err(ArgumentError::BadParameter)),
            (" SMTPUTF8=x", Err(ArgumentError::UnknownParameter)),
            (" SMTPUTF8 SMTPUTF8", Err(ArgumentError::BadParameter)),
            (" NOTIFY=NEVER", Err(ArgumentError::UnknownParameter)),
        ] {
            let found = MailParameters::parse(text.as_bytes(), &config());
            assert_eq!(found, expected, "{text}");
        }
        let long = format!(" ENVID={}", "x".repeat(ENVID_OCTETS_MAX + 1));
        let found = MailParameters::parse(long.as_bytes(), &config());
        assert_eq!(found, Err(ArgumentError::BadParameter));
    }

    #[test]
    fn parameters_of_rcpt() {
        let never = Notify::default();
        let original = Bytes::from_static(b"rfc822;a+b@c");
        for (text, expected) in [
            ("", Ok((None, None))),
            (" NOTIFY=NEVER", Ok((Some(never), None))),
            (
                " notify=success,Delay orcpt=rfc822;a+2Bb@c",
                Ok((
                    Some(Notify {
                        success: true,
                        delay: true,
                        ..never
                    }),
                    Some(original),
                )),
            ),
            (" NOTIFY=NEVER,DELAY", Err(ArgumentError::BadParameter)),
            (" NOTIFY=", Err(ArgumentError::Syntax)),
            (" NOTIFY=,", Err(ArgumentError::BadParameter)),
            (" NOTIFY", Err(ArgumentError::BadParameter)),
            (" ORCPT=a@b", Err(ArgumentError::BadParameter)),
            (" ORCPT=;a@b", Err(ArgumentError::BadParameter)),
            (" ORCPT=rfc822;", Err(ArgumentError::BadParameter)),
            (" SIZE=1", Err(ArgumentError::UnknownParameter)),
        ] {
            let found = RcptParameters::parse(text.as_bytes(), &config());
            let found = found.map(|found| (found.notify, found.original));
            assert_eq!(found, expected, "{text}");
        }
        let found = RcptParameters::parse(b" NOTIFY=NEVER", &Config::new("x"));
        assert_eq!(found, Err(ArgumentError::UnknownParameter));
    }
}
