//! Conversations with the server session, as its client and its owner see them.

mod common;

use common::server::{Owner, Served, classic, config, converse};
use insta::assert_snapshot;
use qmail_core::{EnhancedStatus, Reply};
use qmail_smtp::server::Verdict;

#[test]
fn one_message() {
    let mut config = config();
    config.message_octets_max = Some(1_000_000);
    assert_snapshot!(converse(config, &[
        "EHLO client.example\r\n",
        "MAIL FROM:<a@b.example> SIZE=30 BODY=8BITMIME\r\n",
        "RCPT TO:<\"j d\"@example.org>\r\n",
        "RCPT TO:<nobody@example.org>\r\n",
        "DATA\r\n",
        "Subject: hi\r\n\r\n..\r\n.\r\n",
        "QUIT\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO client.example
       extended greeted by client.example
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE 1000000
    S: 250 ENHANCEDSTATUSCODES
    C: MAIL FROM:<a@b.example> SIZE=30 BODY=8BITMIME
       MAIL <a@b.example> size 30 EightBitMime
    S: 250 2.1.0 ok
    C: RCPT TO:<"j d"@example.org>
       RCPT <j d@example.org>
    S: 250 2.1.5 ok
    C: RCPT TO:<nobody@example.org>
       RCPT <nobody@example.org>
    S: 550 5.1.1 no such mailbox
    C: DATA
       DATA for 1
    S: 354 go ahead
    C: Subject: hi
    C: 
    C: ..
    C: .
       complete, 15 octets
    S: 250 2.0.0 ok
    C: QUIT
       closed: Quit
    S: 221 2.0.0 mx.example.org
    "#);
}

#[test]
fn the_classic_texts() {
    assert_snapshot!(converse(classic(), &[
        "\r\nFOO bar\r\nMAILFROM:<a@b>\r\n",
        "RCPT TO:<j@example.org>\r\nDATA\r\n",
        "helo x\r\nmAiL    FROM:<a@b> BODY=whatever\r\nDATA\r\n",
        "RCPT TO: nobody@example.org foo\r\nrcpt   to: j@example.org foo\r\n",
        "NOOP x\r\nVRFY root\r\nHELP\r\n",
        "RSET\r\nRCPT TO:<j@example.org>\r\n",
        "EHLO y\r\nMAIL FROM:<>\nRCPT TO:<@r.example:j@example.org>\nDATA\n",
        ".\r\nMAIL FROM:<c@d>\r\n",
        "QUIT\r\nMAIL FROM:<never@looked.at>\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: 
    C: FOO bar
    C: MAILFROM:<a@b>
    S: 502 unimplemented (#5.5.1)
    S: 502 unimplemented (#5.5.1)
    S: 502 unimplemented (#5.5.1)
    C: RCPT TO:<j@example.org>
    C: DATA
    S: 503 MAIL first (#5.5.1)
    S: 503 MAIL first (#5.5.1)
    C: helo x
    C: mAiL    FROM:<a@b> BODY=whatever
    C: DATA
       greeted by x
       MAIL <a@b>
    S: 250 mx.example.org
    S: 250 ok
    S: 503 RCPT first (#5.5.1)
    C: RCPT TO: nobody@example.org foo
    C: rcpt   to: j@example.org foo
       RCPT <nobody@example.org>
       RCPT <j@example.org>
    S: 550 no such mailbox (#5.1.1)
    S: 250 ok
    C: NOOP x
    C: VRFY root
    C: HELP
    S: 250 ok
    S: 252 send some mail, i'll try my best
    S: 214 qmail in Rust: https://github.com/qmail-rs/qmail
    C: RSET
    C: RCPT TO:<j@example.org>
    S: 250 flushed
    S: 503 MAIL first (#5.5.1)
    C: EHLO y
    C: MAIL FROM:<>\n
    C: RCPT TO:<@r.example:j@example.org>\n
    C: DATA\n
       extended greeted by y
       MAIL <>
       RCPT <j@example.org>
       DATA for 1
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250 8BITMIME
    S: 250 ok
    S: 250 ok
    S: 354 go ahead
    C: .
    C: MAIL FROM:<c@d>
       complete, 0 octets
       MAIL <c@d>
    S: 250 ok
    S: 250 ok
    C: QUIT
    C: MAIL FROM:<never@looked.at>
       closed: Quit
    S: 221 mx.example.org
    "#);
}

#[test]
fn a_batch_is_answered_in_one_piece() {
    assert_snapshot!(converse(config(), &[
        "EHLO c.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<j@example.org>\r\nRCPT TO:<nobody@example.org>\r\nDATA\r\n",
        "one\r\n.\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<k@example.org>\r\nDATA\r\n",
        "two\r\n.\r\nQUIT\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c.example
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<j@example.org>
    C: RCPT TO:<nobody@example.org>
    C: DATA
       extended greeted by c.example
       MAIL <a@b.example>
       RCPT <j@example.org>
       RCPT <nobody@example.org>
       DATA for 1
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250 ENHANCEDSTATUSCODES
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 550 5.1.1 no such mailbox
    S: 354 go ahead
    C: one
    C: .
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<k@example.org>
    C: DATA
       complete, 4 octets
       MAIL <a@b.example>
       RCPT <k@example.org>
       DATA for 1
    S: 250 2.0.0 ok
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 354 go ahead
    C: two
    C: .
    C: QUIT
       complete, 4 octets
       closed: Quit
    S: 250 2.0.0 ok
    S: 221 2.0.0 mx.example.org
    "#);
}

#[test]
fn order_is_kept() {
    assert_snapshot!(converse(config(), &[
        "RCPT TO:<j@example.org>\r\n",
        "DATA\r\n",
        "MAIL FROM:<a@b>\r\nDATA\r\n",
        "RCPT TO:<nobody@example.org>\r\nDATA\r\n",
        // A second sender replaces the first, and its recipients go.
        "RCPT TO:<j@example.org>\r\nMAIL FROM:<c@d>\r\nDATA\r\n",
        // A malformed one leaves all as it was.
        "RCPT TO:<j@example.org>\r\nMAIL FROM <c@d>\r\nDATA\r\n",
        "x\r\n.\r\nRCPT TO:<j@example.org>\r\nHELO z\r\nDATA\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: RCPT TO:<j@example.org>
    S: 503 5.5.1 MAIL first
    C: DATA
    S: 503 5.5.1 MAIL first
    C: MAIL FROM:<a@b>
    C: DATA
       MAIL <a@b>
    S: 250 2.1.0 ok
    S: 503 5.5.1 RCPT first
    C: RCPT TO:<nobody@example.org>
    C: DATA
       RCPT <nobody@example.org>
    S: 550 5.1.1 no such mailbox
    S: 503 5.5.1 RCPT first
    C: RCPT TO:<j@example.org>
    C: MAIL FROM:<c@d>
    C: DATA
       RCPT <j@example.org>
       MAIL <c@d>
    S: 250 2.1.5 ok
    S: 250 2.1.0 ok
    S: 503 5.5.1 RCPT first
    C: RCPT TO:<j@example.org>
    C: MAIL FROM <c@d>
    C: DATA
       RCPT <j@example.org>
       DATA for 1
    S: 250 2.1.5 ok
    S: 555 5.5.4 syntax error
    S: 354 go ahead
    C: x
    C: .
    C: RCPT TO:<j@example.org>
    C: HELO z
    C: DATA
       complete, 2 octets
       greeted by z
    S: 250 2.0.0 ok
    S: 503 5.5.1 MAIL first
    S: 250 mx.example.org
    S: 503 5.5.1 MAIL first
    "#);
}

#[test]
fn doubtful_commands_are_refused() {
    assert_snapshot!(converse(config(), &[
        "MAIL FROM:<a@b\r\nMAIL FROM:<\"a@b>\r\nMAIL <a@b>\r\nMAIL FROM:<a@b> SMTPUTF8\r\n",
        "MAIL FROM:<a@b> SIZE=1x\r\nMAIL FROM:<a@b> SIZE=18446744073709551617\r\nMAIL FROM:<a\0b@c>\r\n",
        "MAIL FROM:<a@b>\r\nRCPT TO:<>\r\nRCPT TO:<a\x0bb@c>\r\nRCPT TO:<\"v@elsewhere\">\r\n",
        "RCPT TO:<j@example.org> NOTIFY=NEVER\r\n",
        "EHLO a\x1b[2J\r\nNOOP\0\r\nHELP \x1b[31m\rx\r\n",
        "\u{ff}\u{fd}\x03EHLO c\r\nSTARTTLS\r\nAUTH PLAIN AAAA\r\nETRN x\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: MAIL FROM:<a@b
    C: MAIL FROM:<"a@b>
    C: MAIL <a@b>
    C: MAIL FROM:<a@b> SMTPUTF8
    S: 555 5.5.4 syntax error
    S: 555 5.5.4 syntax error
    S: 555 5.5.4 syntax error
    S: 555 5.5.4 unknown parameter
    C: MAIL FROM:<a@b> SIZE=1x
    C: MAIL FROM:<a@b> SIZE=18446744073709551617
    C: MAIL FROM:<a\x00b@c>
    S: 501 5.5.4 bad parameter
    S: 552 5.3.4 sorry, that message size exceeds my databytes limit
    S: 555 5.5.4 syntax error
    C: MAIL FROM:<a@b>
    C: RCPT TO:<>
    C: RCPT TO:<a\x0bb@c>
    C: RCPT TO:<"v@elsewhere">
       MAIL <a@b>
    S: 250 2.1.0 ok
    S: 555 5.1.3 syntax error
    S: 555 5.5.4 syntax error
    S: 555 5.5.4 syntax error
    C: RCPT TO:<j@example.org> NOTIFY=NEVER
    S: 555 5.5.4 unknown parameter
    C: EHLO a\x1b[2J
    C: NOOP\x00
    C: HELP \x1b[31m\x0dx
    S: 501 5.5.4 syntax error
    S: 502 5.5.1 unimplemented
    S: 214 2.0.0 qmail in Rust: https://github.com/qmail-rs/qmail
    C: \xc3\xbf\xc3\xbd\x03EHLO c
    C: STARTTLS
    C: AUTH PLAIN AAAA
    C: ETRN x
    S: 502 5.5.1 unimplemented
    S: 502 5.5.1 unimplemented
    S: 502 5.5.1 unimplemented
    S: 502 5.5.1 unimplemented
    "#);
}

#[test]
fn what_follows_a_foreign_command_is_no_command() {
    assert_snapshot!(converse(config(), &[
        "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<j@example.org>\r\nBDAT 30 LAST\r\nMAIL FROM:<ceo@forged.example>\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: EHLO c
    C: MAIL FROM:<a@b>
    C: RCPT TO:<j@example.org>
    C: BDAT 30 LAST
    C: MAIL FROM:<ceo@forged.example>
       extended greeted by c
       MAIL <a@b>
       RCPT <j@example.org>
       closed: ForeignCommand
    S: 250-mx.example.org
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SIZE
    S: 250 ENHANCEDSTATUSCODES
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 502 5.5.1 unimplemented
    "#);
    assert_snapshot!(converse(config(), &[
        "POST / HTTP/1.1\r\nHELO x\r\nMAIL FROM:<a@b.test>\r\n\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: POST / HTTP/1.1
    C: HELO x
    C: MAIL FROM:<a@b.test>
    C: 
       closed: ForeignCommand
    S: 502 5.5.1 unimplemented
    "#);
}

#[test]
fn a_line_is_bounded() {
    let mut config = config();
    config.line_octets_max = 20;
    assert_snapshot!(converse(config, &[
        "NOOP 7890123456789\r\nNOOP 78901234567890\r\n",
        "NOOP 890123456789012345", "67890 RSET\r", "\nNOOP\r\n",
    ]), @r#"
    S: 220 mx.example.org ESMTP
    C: NOOP 7890123456789
    C: NOOP 78901234567890
    S: 250 2.0.0 ok
    S: 500 5.5.2 line too long
    C: NOOP 890123456789012345...
    C: 67890 RSET\x0d...
    C: \n
    C: NOOP
    S: 500 5.5.2 line too long
    S: 250 2.0.0 ok
    "#);
}

#[test]
fn the_envelope_is_bounded() {
    let mut bounded = config();
    bounded.recipients_max = 2;
    let packet = "MAIL FROM:<a@b>\r\nRCPT TO:<a@b>\r\nRCPT TO:<nobody@b>\r\nRCPT TO:<b@b>\r\nRCPT TO:<c@b>\r\n";
    assert_snapshot!(converse(bounded, &[packet]), @r#"
    S: 220 mx.example.org ESMTP
    C: MAIL FROM:<a@b>
    C: RCPT TO:<a@b>
    C: RCPT TO:<nobody@b>
    C: RCPT TO:<b@b>
    C: RCPT TO:<c@b>
       MAIL <a@b>
       RCPT <a@b>
       RCPT <nobody@b>
       RCPT <b@b>
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 550 5.1.1 no such mailbox
    S: 250 2.1.5 ok
    S: 452 4.5.3 too many recipients
    "#);
    let mut bounded = config();
    bounded.envelope_octets_max = 8;
    assert_snapshot!(converse(bounded, &[packet]), @r#"
    S: 220 mx.example.org ESMTP
    C: MAIL FROM:<a@b>
    C: RCPT TO:<a@b>
    C: RCPT TO:<nobody@b>
    C: RCPT TO:<b@b>
    C: RCPT TO:<c@b>
       MAIL <a@b>
       RCPT <a@b>
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 452 4.5.3 too many recipients
    S: 452 4.5.3 too many recipients
    S: 452 4.5.3 too many recipients
    "#);
}

#[test]
fn too_many_errors_end_the_session() {
    let mut config = config();
    config.errors_max = 2;
    assert_snapshot!(converse(config.clone(), &["A\r\nB\r\nNOOP\r\nC\r\nNOOP\r\n"]), @r#"
    S: 220 mx.example.org ESMTP
    C: A
    C: B
    C: NOOP
    C: C
    C: NOOP
       closed: TooManyErrors
    S: 502 5.5.1 unimplemented
    S: 502 5.5.1 unimplemented
    S: 250 2.0.0 ok
    S: 502 5.5.1 unimplemented
    S: 421 4.7.0 too many errors
    "#);
    config.idle_commands_max = 3;
    assert_snapshot!(converse(config, &["NOOP\r\nRSET\r\nHELP\r\nNOOP\r\nNOOP\r\n", "NOOP\r\n", "NOOP\r\n"]), @r#"
    S: 220 mx.example.org ESMTP
    C: NOOP
    C: RSET
    C: HELP
    C: NOOP
    C: NOOP
    S: 250 2.0.0 ok
    S: 250 2.0.0 flushed
    S: 214 2.0.0 qmail in Rust: https://github.com/qmail-rs/qmail
    S: 250 2.0.0 ok
    S: 250 2.0.0 ok
    C: NOOP
       closed: TooManyErrors
    S: 421 4.7.0 too many errors
    C: NOOP
    "#);
}

#[test]
fn trying_out_names_ends_the_session() {
    let mut config = config();
    config.errors_max = 1;
    config.idle_commands_max = 3;
    let names = "RCPT TO:<nobody@b>\r\n".repeat(5);
    assert_snapshot!(converse(config, &["MAIL FROM:<>\r\nRCPT TO:<a@b>\r\nRCPT TO:<a@b>\r\n", &names]), @r#"
    S: 220 mx.example.org ESMTP
    C: MAIL FROM:<>
    C: RCPT TO:<a@b>
    C: RCPT TO:<a@b>
       MAIL <>
       RCPT <a@b>
       RCPT <a@b>
    S: 250 2.1.0 ok
    S: 250 2.1.5 ok
    S: 250 2.1.5 ok
    C: RCPT TO:<nobody@b>
    C: RCPT TO:<nobody@b>
    C: RCPT TO:<nobody@b>
    C: RCPT TO:<nobody@b>
    C: RCPT TO:<nobody@b>
       RCPT <nobody@b>
       RCPT <nobody@b>
       RCPT <nobody@b>
       RCPT <nobody@b>
       closed: TooManyErrors
    S: 550 5.1.1 no such mailbox
    S: 550 5.1.1 no such mailbox
    S: 550 5.1.1 no such mailbox
    S: 550 5.1.1 no such mailbox
    S: 421 4.7.0 too many errors
    "#);
}

#[test]
fn the_owner_has_the_last_word() {
    let no = |code, text| {
        Verdict::Reply(Reply::new(
            code,
            Some(EnhancedStatus::permanent(7, 1)),
            text,
        ))
    };
    let mut served = Served::new(config(), Owner::default());
    served.owner.mail = no(553, "not you");
    served.say("MAIL FROM:<a@b>\r\nRCPT TO:<j@example.org>\r\n");
    served.owner.mail = Verdict::Reply(Reply::new(250, None, "welcome"));
    served.owner.data = no(554, "no more");
    served.say("MAIL FROM:<a@b>\r\nRCPT TO:<j@example.org>\r\nDATA\r\nRCPT TO:<j@example.org>\r\n");
    served.owner.data = Verdict::Reply(Reply::new(354, None, "speak"));
    served.owner.end = Verdict::Reply(Reply::new(
        250,
        Some(EnhancedStatus::success(0, 0)),
        "ok 1258000000 qp 42",
    ));
    served.say("MAIL FROM:<a@b>\r\nRCPT TO:<j@example.org>\r\nDATA\r\n");
    served.say("x\r\n.\r\n");
    served.owner.mail = Verdict::Close(Reply::new(421, None, "go\r\n250 away"));
    served.say("MAIL FROM:<a@b>\r\nNOOP\r\n");
    assert_snapshot!(served.transcript, @r#"
    S: 220 mx.example.org ESMTP
    C: MAIL FROM:<a@b>
    C: RCPT TO:<j@example.org>
       MAIL <a@b>
    S: 553 5.7.1 not you
    S: 503 5.5.1 MAIL first
    C: MAIL FROM:<a@b>
    C: RCPT TO:<j@example.org>
    C: DATA
    C: RCPT TO:<j@example.org>
       MAIL <a@b>
       RCPT <j@example.org>
       DATA for 1
    S: 250 welcome
    S: 250 2.1.5 ok
    S: 554 5.7.1 no more
    S: 503 5.5.1 MAIL first
    C: MAIL FROM:<a@b>
    C: RCPT TO:<j@example.org>
    C: DATA
       MAIL <a@b>
       RCPT <j@example.org>
       DATA for 1
    S: 250 welcome
    S: 250 2.1.5 ok
    S: 354 speak
    C: x
    C: .
       complete, 2 octets
    S: 250 2.0.0 ok 1258000000 qp 42
    C: MAIL FROM:<a@b>
    C: NOOP
       MAIL <a@b>
       closed: Refused
    S: 421-go?
    S: 421 250 away
    "#);
}
