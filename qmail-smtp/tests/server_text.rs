//! What the server session makes of the text of a message: its end, its line ends, its size, its hops.

mod common;

use common::server::{ENVELOPE, Owner, Served, classic, config, converse};
use insta::assert_snapshot;
use qmail_core::Machine;
use qmail_smtp::server::{BareCr, BareLf, ParameterPolicy};

#[test]
fn a_bare_line_feed_ends_everything() {
    for end in [
        "hello\n.\r\n",
        "\r\n.\n",
        "\n.\n",
        "..\n",
        "\r\n..\n",
        "\n\0.\0\n",
    ] {
        let mut served = Served::new(config(), Owner::default());
        served.say(ENVELOPE);
        served.say(&format!(
            "x{end}MAIL FROM:<ceo@forged.example>\r\n.\r\nQUIT\r\n"
        ));
        assert!(served.session.is_closed(), "{end:?}");
        assert!(served.owner.seen.messages.is_empty(), "{end:?}");
        assert!(
            served
                .sent
                .ends_with(b"See https://cr.yp.to/docs/smtplf.html.\r\n")
        );
    }
    assert_snapshot!(converse(classic(), &[
        ENVELOPE,
        "ok\r\n.\nMAIL FROM:<x@y>\r\n.\r\nQUIT\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c.example
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<j@example.org>
    C: DATA
       extended greeted by c.example
       MAIL <a@b.example>
       RCPT <j@example.org>
       DATA for 1
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250 8BITMIME
    S: 250 ok
    S: 250 ok
    S: 354 go ahead
    C: ok
    C: .\n
    C: MAIL FROM:<x@y>
    C: .
    C: QUIT
       aborted: BareLf
       closed: BareLf
    S: 451 See https://cr.yp.to/docs/smtplf.html.
    "#);
}

#[test]
fn a_bare_carriage_return_ends_everything() {
    assert_snapshot!(converse(config(), &[
        ENVELOPE,
        "ok\r\n.\r\r\nMAIL FROM:<x@y>\r\n.\r\nQUIT\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c.example
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<j@example.org>
    C: DATA
       extended greeted by c.example
       MAIL <a@b.example>
       RCPT <j@example.org>
       DATA for 1
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250 ENHANCEDSTATUSCODES
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 354 go ahead
    C: ok
    C: .\x0d
    C: MAIL FROM:<x@y>
    C: .
    C: QUIT
       aborted: BareCr
       closed: BareCr
    S: 451 4.5.2 a CR without LF ends no line
    "#);
}

#[test]
fn bare_line_ends_that_are_kept_end_nothing() {
    let mut config = config();
    config.bare_lf = BareLf::Keep;
    config.bare_cr = BareCr::Keep;
    let mut served = Served::new(config, Owner::default());
    served.say(ENVELOPE);
    served.say("a\n.\r\n\r\n.\n\r\n.\r\r\n\r\r.\r\n.\r\n");
    let text = &served.owner.seen.messages[0].1;
    assert_eq!(
        String::from_utf8_lossy(text),
        "a\n.\n\n\n\n\r\n\r\r.\n",
        "each CR LF is a LF, and a dot goes only where CR LF was before it"
    );
}

#[test]
fn what_only_looks_like_the_end_is_text() {
    for text in [
        "\r\n.\0\r\n",
        "\r\n.\t\r\n",
        "\r\n\u{ff0e}\r\n",
        "\x0b.\x0c",
        "\r\n. \r\n",
    ] {
        let mut served = Served::new(config(), Owner::default());
        served.say(ENVELOPE);
        served.say(&format!("x{text}MAIL FROM:<ceo@forged.example>\r\n.\r\n"));
        let [(_, stored)] = &served.owner.seen.messages[..] else {
            panic!("{text:?}: not one message");
        };
        assert!(
            stored.ends_with(b"MAIL FROM:<ceo@forged.example>\n"),
            "{text:?}"
        );
    }
}

#[test]
fn the_size_is_that_of_the_stored_text() {
    let mut config = classic();
    config.extensions.size = true;
    config.parameters = ParameterPolicy::Strict;
    config.message_octets_max = Some(5);
    assert_snapshot!(converse(config, &[
        ENVELOPE,
        "..234\r\n.\r\nMAIL FROM:<a@b>\r\nRCPT TO:<j@example.org>\r\nDATA\r\n",
        "..23\r\n.\r\nMAIL FROM:<a@b> SIZE=6\r\nMAIL FROM:<a@b> SIZE=5\r\nRCPT TO:<j@example.org>\r\nDATA\r\n",
        "12", "345", "6", "789\r\n.\r\nNOOP\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c.example
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<j@example.org>
    C: DATA
       extended greeted by c.example
       MAIL <a@b.example>
       RCPT <j@example.org>
       DATA for 1
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250 SIZE 5
    S: 250 ok
    S: 250 ok
    S: 354 go ahead
    C: ..234
    C: .
    C: MAIL FROM:<a@b>
    C: RCPT TO:<j@example.org>
    C: DATA
       complete, 5 octets
       MAIL <a@b>
       RCPT <j@example.org>
       DATA for 1
    S: 250 ok
    S: 250 ok
    S: 250 ok
    S: 354 go ahead
    C: ..23
    C: .
    C: MAIL FROM:<a@b> SIZE=6
    C: MAIL FROM:<a@b> SIZE=5
    C: RCPT TO:<j@example.org>
    C: DATA
       complete, 4 octets
       MAIL <a@b> size 5
       RCPT <j@example.org>
       DATA for 1
    S: 250 ok
    S: 552 sorry, that message size exceeds my databytes limit (#5.3.4)
    S: 250 ok
    S: 250 ok
    S: 354 go ahead
    C: 12...
    C: 345...
    C: 6...
       aborted: TooLarge
    C: 789
    C: .
    C: NOOP
    S: 552 sorry, that message size exceeds my databytes limit (#5.3.4)
    S: 250 ok
    "#);
}

#[test]
fn a_loop_is_found() {
    let mut config = classic();
    config.message_octets_max = Some(10);
    config.hops_max = 2;
    assert_snapshot!(converse(config.clone(), &[
        ENVELOPE,
        "Received: x\r\nsubject: y\r\nDELIVERED-To: z\r\n\r\n.\r\nNOOP\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c.example
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<j@example.org>
    C: DATA
       extended greeted by c.example
       MAIL <a@b.example>
       RCPT <j@example.org>
       DATA for 1
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250 8BITMIME
    S: 250 ok
    S: 250 ok
    S: 354 go ahead
    C: Received: x
    C: subject: y
    C: DELIVERED-To: z
    C: 
    C: .
    C: NOOP
       aborted: TooLarge
    S: 554 too many hops, this message is looping (#5.4.6)
    S: 250 ok
    "#);
    config.message_octets_max = None;
    assert_snapshot!(converse(config, &[
        ENVELOPE,
        "Received: x\r\n\r\nReceived: y\r\n.\r\nNOOP\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c.example
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<j@example.org>
    C: DATA
       extended greeted by c.example
       MAIL <a@b.example>
       RCPT <j@example.org>
       DATA for 1
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250 8BITMIME
    S: 250 ok
    S: 250 ok
    S: 354 go ahead
    C: Received: x
    C: 
    C: Received: y
    C: .
    C: NOOP
       complete, 25 octets
    S: 250 ok
    S: 250 ok
    "#);
}
