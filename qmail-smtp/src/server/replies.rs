//! What a session says by itself: the texts of qmail-smtpd(8) where it has one.

use bytes::Bytes;
use qmail_core::{EnhancedStatus, Reply, ReplyStyle};

use super::session::Standing;
use super::{Config, Dialect};

const fn success(subject: u16, detail: u16) -> Option<EnhancedStatus> {
    Some(EnhancedStatus::success(subject, detail))
}

const fn temporary(subject: u16, detail: u16) -> Option<EnhancedStatus> {
    Some(EnhancedStatus::temporary(subject, detail))
}

const fn permanent(subject: u16, detail: u16) -> Option<EnhancedStatus> {
    Some(EnhancedStatus::permanent(subject, detail))
}

fn reply(code: u16, status: Option<EnhancedStatus>, text: &'static str) -> Reply {
    Reply::new(code, status, Bytes::from_static(text.as_bytes()))
}

/// The greeting name, which must stay one line.
fn name(config: &Config) -> Vec<u8> {
    config
        .greeting
        .iter()
        .map(|&octet| if octet == b'\n' { b'?' } else { octet })
        .collect()
}

pub(super) fn greeting(config: &Config) -> Reply {
    let mut text = name(config);
    text.extend_from_slice(match config.dialect {
        Dialect::Smtp => b" ESMTP",
        Dialect::Lmtp => b" LMTP",
    });
    Reply::new(220, None, text)
}

pub(super) fn helo(config: &Config) -> Reply {
    Reply::new(250, None, name(config))
}

pub(super) fn ehlo(config: &Config, standing: &Standing) -> Reply {
    let extensions = &config.extensions;
    let mut text = name(config);
    if extensions.pipelining {
        text.extend_from_slice(b"\nPIPELINING");
    }
    if extensions.eight_bit_mime {
        text.extend_from_slice(b"\n8BITMIME");
    }
    if extensions.size {
        text.extend_from_slice(b"\nSIZE");
        if let Some(octets_max) = config.message_octets_max {
            text.extend_from_slice(format!(" {octets_max}").as_bytes());
        }
    }
    if extensions.enhanced_status_codes && config.reply_style == ReplyStyle::Enhanced {
        text.extend_from_slice(b"\nENHANCEDSTATUSCODES");
    }
    for (announced, line) in [
        (
            extensions.starttls && !standing.encrypted,
            &b"\nSTARTTLS"[..],
        ),
        (extensions.smtp_utf8, b"\nSMTPUTF8"),
        (extensions.chunking, b"\nCHUNKING"),
        (extensions.dsn, b"\nDSN"),
    ] {
        if announced {
            text.extend_from_slice(line);
        }
    }
    let mut mechanisms = standing.offered(config).peekable();
    if mechanisms.peek().is_some() {
        text.extend_from_slice(b"\nAUTH");
        for mechanism in mechanisms {
            text.push(b' ');
            text.extend_from_slice(mechanism.name().as_bytes());
        }
    }
    if extensions.limits {
        text.extend_from_slice(format!("\nLIMITS RCPTMAX={}", config.recipients_max).as_bytes());
    }
    Reply::new(250, None, text)
}

pub(super) fn quit(config: &Config) -> Reply {
    Reply::new(221, success(0, 0), name(config))
}

pub(super) fn mail_ok() -> Reply {
    reply(250, success(1, 0), "ok")
}

pub(super) fn rcpt_ok() -> Reply {
    reply(250, success(1, 5), "ok")
}

pub(super) fn data_go_ahead() -> Reply {
    reply(354, None, "go ahead")
}

pub(super) fn body_ok() -> Reply {
    reply(250, success(0, 0), "ok")
}

pub(super) fn chunk_ok(octets: u64) -> Reply {
    Reply::new(250, success(0, 0), format!("{octets} octets received"))
}

pub(super) fn start_tls() -> Reply {
    reply(220, success(0, 0), "ready to start TLS")
}

/// What an exchange challenges, in base64.
pub(super) fn challenge(text: &[u8]) -> Reply {
    Reply::new(334, None, qmail_core::sasl::encode(text))
}

pub(super) fn logged_in() -> Reply {
    reply(235, success(7, 0), "ok, go ahead")
}

pub(super) fn login_refused() -> Reply {
    reply(535, permanent(7, 8), "authentication failed")
}

pub(super) fn login_unavailable() -> Reply {
    reply(
        454,
        temporary(7, 0),
        "unable to check passwords, try again later",
    )
}

pub(super) fn login_cancelled() -> Reply {
    reply(501, permanent(7, 0), "authentication cancelled")
}

pub(super) fn not_base64() -> Reply {
    reply(501, permanent(5, 2), "malformed base64")
}

pub(super) fn response_too_long() -> Reply {
    reply(500, permanent(5, 6), "response too long")
}

pub(super) fn unknown_mechanism() -> Reply {
    reply(504, permanent(5, 4), "unknown authentication mechanism")
}

pub(super) fn encryption_required() -> Reply {
    reply(538, permanent(7, 11), "say STARTTLS first")
}

pub(super) fn out_of_order() -> Reply {
    reply(503, permanent(5, 1), "bad sequence of commands")
}

pub(super) fn no_argument() -> Reply {
    reply(501, permanent(5, 4), "no argument allowed")
}

pub(super) fn bad_chunk() -> Reply {
    reply(501, permanent(5, 4), "syntax: BDAT SIZE or BDAT SIZE LAST")
}

pub(super) fn not_utf8() -> Reply {
    reply(553, permanent(1, 3), "address is not in UTF-8")
}

/// What a recipient is answered for whom the owner said nothing (LMTP).
pub(super) fn unanswered() -> Reply {
    reply(451, temporary(3, 0), "not delivered")
}

pub(super) fn flushed() -> Reply {
    reply(250, success(0, 0), "flushed")
}

pub(super) fn noop() -> Reply {
    reply(250, success(0, 0), "ok")
}

pub(super) fn vrfy() -> Reply {
    reply(252, success(5, 0), "send some mail, i'll try my best")
}

pub(super) fn help() -> Reply {
    reply(
        214,
        success(0, 0),
        "qmail in Rust: https://github.com/qmail-rs/qmail",
    )
}

pub(super) fn unimplemented() -> Reply {
    reply(502, permanent(5, 1), "unimplemented")
}

pub(super) fn line_too_long() -> Reply {
    reply(500, permanent(5, 2), "line too long")
}

pub(super) fn bad_name() -> Reply {
    reply(501, permanent(5, 4), "syntax error")
}

pub(super) fn bad_address() -> Reply {
    reply(555, permanent(5, 4), "syntax error")
}

pub(super) fn empty_recipient() -> Reply {
    reply(555, permanent(1, 3), "syntax error")
}

pub(super) fn unknown_parameter() -> Reply {
    reply(555, permanent(5, 4), "unknown parameter")
}

pub(super) fn bad_parameter() -> Reply {
    reply(501, permanent(5, 4), "bad parameter")
}

pub(super) fn mail_first() -> Reply {
    reply(503, permanent(5, 1), "MAIL first")
}

pub(super) fn rcpt_first() -> Reply {
    reply(503, permanent(5, 1), "RCPT first")
}

pub(super) fn too_many_recipients() -> Reply {
    reply(452, temporary(5, 3), "too many recipients")
}

pub(super) fn too_large() -> Reply {
    reply(
        552,
        permanent(3, 4),
        "sorry, that message size exceeds my databytes limit",
    )
}

pub(super) fn looping() -> Reply {
    reply(
        554,
        permanent(4, 6),
        "too many hops, this message is looping",
    )
}

/// The classic text has no status, and log watchers know it so.
pub(super) fn bare_lf(style: ReplyStyle) -> Reply {
    let status = match style {
        ReplyStyle::Enhanced => temporary(5, 2),
        ReplyStyle::Classic => None,
    };
    reply(451, status, "See https://cr.yp.to/docs/smtplf.html.")
}

pub(super) fn bare_cr() -> Reply {
    reply(451, temporary(5, 2), "a CR without LF ends no line")
}

/// 421 is RFC 5321's code for a server that hangs up (section 3.8); qmail-smtpd(8) says 451.
pub(super) fn timeout(style: ReplyStyle) -> Reply {
    let code = match style {
        ReplyStyle::Enhanced => 421,
        ReplyStyle::Classic => 451,
    };
    reply(code, temporary(4, 2), "timeout")
}

pub(super) fn too_many_errors() -> Reply {
    reply(421, temporary(7, 0), "too many errors")
}

pub(super) fn shutting_down() -> Reply {
    reply(421, temporary(3, 2), "shutting down")
}
