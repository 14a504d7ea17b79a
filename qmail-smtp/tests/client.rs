//! Conversations with the client session, as its server and its owner see them.

mod common;

use common::client::{Owner, Sending, config, converse, message};
use insta::assert_snapshot;
use qmail_core::{Address, Machine, ReversePath};
use qmail_smtp::BodyType;
use qmail_smtp::client::{
    Cause, Config, Event, Notify, PartialLine, RcptParameters, Return, Session, StartError,
    Transaction, UnsendableError,
};

fn one() -> [(Transaction, Vec<u8>); 1] {
    [message(
        "a@b.example",
        &["c@d.example"],
        "Subject: x\n\nhi\n",
    )]
}

fn three() -> [(Transaction, Vec<u8>); 1] {
    [message("a@b", &["c@d", "e@f", "g@h"], "x\n")]
}

/// A server that announces PIPELINING, up to the reply to EHLO.
const GREETING: &str = "220 hi\r\n";
const EHLO: &str = "250-mx\r\n250 PIPELINING\r\n";

#[test]
fn a_plain_server() {
    assert_snapshot!(converse(config(), one(), &[
        "220 hi\r\n", "250 x\r\n", "250 x\r\n", "250 x\r\n", "354 go\r\n", "250 ok\r\n", "221 bye\r\n",
    ]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250 x
    C: MAIL FROM:<a@b.example>
    S: 250 x
    C: RCPT TO:<c@d.example>
    S: 250 x
       recipient 0: 250 x
    C: DATA
    S: 354 go
    C: Subject: x
    C: 
    C: hi
    C: .
    S: 250 ok
       done: 250 ok
    C: QUIT
    S: 221 bye
       closed
    "#);
}

#[test]
fn everything_that_may_is_sent_at_once() {
    let mut transaction = three()[0].clone();
    transaction.0.octets = Some(3);
    transaction.0.body = Some(BodyType::EightBitMime);
    assert_snapshot!(converse(config(), [transaction, one()[0].clone()], &[
        GREETING,
        "250-mx\r\n250-8bitmime\r\n250-Size 1000\r\n250-X\r\n250 pipelining\r\n",
        "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n450 later\r\n354 go\r\n",
        "250 2.0.0 taken\r\n",
        "250 ok\r\n250 ok\r\n354 go\r\n",
        "250 taken\r\n",
        "221 bye\r\n",
    ]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250-8bitmime
    S: 250-Size 1000
    S: 250-X
    S: 250 pipelining
    C: MAIL FROM:<a@b> SIZE=3 BODY=8BITMIME
    C: RCPT TO:<c@d>
    C: RCPT TO:<e@f>
    C: RCPT TO:<g@h>
    C: DATA
    S: 250 ok
    S: 250 ok
    S: 550 5.1.1 no
    S: 450 later
    S: 354 go
       recipient 0: 250 ok
       recipient 1: 550 5.1.1 no
       recipient 2: 450 later
    C: x
    C: .
    S: 250 2.0.0 taken
       done: 250 2.0.0 taken
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<c@d.example>
    C: DATA
    S: 250 ok
    S: 250 ok
    S: 354 go
       recipient 0: 250 ok
    C: Subject: x
    C: 
    C: hi
    C: .
    S: 250 taken
       done: 250 taken
    C: QUIT
    S: 221 bye
       closed
    "#);
}

#[test]
fn ehlo_refused_means_helo() {
    assert_snapshot!(converse(config(), one(), &[
        "220-hi\r\n220 there\r\n", "500 what\r\n", "250 mx.test\r\n", "250 ok\r\n",
    ]), @r#"
    S: 220-hi
    S: 220 there
    C: EHLO client.example
    S: 500 what
    C: HELO client.example
    S: 250 mx.test
    C: MAIL FROM:<a@b.example>
    S: 250 ok
    C: RCPT TO:<c@d.example>
    "#);
    let mut classic = config();
    classic.extended = false;
    assert_snapshot!(converse(classic, one(), &["220 hi\r\n", "250 x\r\n"]), @r#"
    S: 220 hi
    C: HELO client.example
    S: 250 x
    C: MAIL FROM:<a@b.example>
    "#);
}

#[test]
fn refusals_before_a_transaction_are_temporary() {
    assert_snapshot!(converse(config(), one(), &["554 go away\r\n"]), @r#"
    S: 554 go away
       failed at Greeting, Temporary 4.0.0: the server refused: 554 go away
       closed: the server refused: 554 go away
    C: QUIT
    "#);
    assert_snapshot!(converse(config(), one(), &["250 wrong\r\n"]), @r#"
    S: 250 wrong
       failed at Greeting, Temporary 4.5.0: unexpected reply: 250 wrong
       closed: unexpected reply: 250 wrong
    C: QUIT
    "#);
    assert_snapshot!(converse(config(), one(), &["220 x\r\n", "550 bad name\r\n", "550-bad\r\n550 name\r\n"]), @r#"
    S: 220 x
    C: EHLO client.example
    S: 550 bad name
    C: HELO client.example
    S: 550-bad
    S: 550 name
       failed at Hello, Temporary 4.0.0: the server refused: 550-bad / 550 name
       closed: the server refused: 550-bad / 550 name
    C: QUIT
    "#);
}

#[test]
fn a_refused_sender_is_forgotten_by_rset() {
    let [first] = three();
    let [second] = one();
    assert_snapshot!(converse(config(), [first, second], &[
        GREETING, EHLO,
        "550-not you\r\n550 5.7.1 really\r\n503 a\r\n503 b\r\n503 c\r\n",
        "503 MAIL first\r\n",
        "250 flushed\r\n250 ok\r\n250 ok\r\n354 go\r\n",
        "250 ok\r\n",
    ]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250 PIPELINING
    C: MAIL FROM:<a@b>
    C: RCPT TO:<c@d>
    C: RCPT TO:<e@f>
    C: RCPT TO:<g@h>
    C: DATA
    S: 550-not you
    S: 550 5.7.1 really
    S: 503 a
    S: 503 b
    S: 503 c
    S: 503 MAIL first
       failed at Mail, Permanent 5.0.0: the server refused: 550-not you / 550 5.7.1 really
    C: RSET
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<c@d.example>
    C: DATA
    S: 250 flushed
    S: 250 ok
    S: 250 ok
    S: 354 go
       recipient 0: 250 ok
    C: Subject: x
    C: 
    C: hi
    C: .
    S: 250 ok
       done: 250 ok
    C: QUIT
    "#);
    assert_snapshot!(converse(config(), one(), &[GREETING, "250 x\r\n", "451 greylisted\r\n"]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250 x
    C: MAIL FROM:<a@b.example>
    S: 451 greylisted
       failed at Mail, Temporary 4.0.0: the server refused: 451 greylisted
    C: QUIT
    "#);
}

#[test]
fn no_recipient_means_no_message() {
    // One by one: DATA is never sent.
    assert_snapshot!(converse(config(), [three()[0].clone(), one()[0].clone()], &[
        GREETING, "250 x\r\n", "250 ok\r\n", "550 no c\r\n", "553-no\r\n553 e\r\n", "450 busy\r\n", "250 flushed\r\n",
    ]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250 x
    C: MAIL FROM:<a@b>
    S: 250 ok
    C: RCPT TO:<c@d>
    S: 550 no c
       recipient 0: 550 no c
    C: RCPT TO:<e@f>
    S: 553-no
    S: 553 e
       recipient 1: 553-no / 553 e
    C: RCPT TO:<g@h>
    S: 450 busy
       recipient 2: 450 busy
       failed at Rcpt, Permanent 5.1.0: the server accepted no recipient
    C: RSET
    S: 250 flushed
    C: MAIL FROM:<a@b.example>
    "#);
    // Ahead: a server that wants text for nobody gets an empty one.
    assert_snapshot!(converse(config(), [three()[0].clone(), one()[0].clone()], &[
        GREETING, EHLO, "250 ok\r\n550 no\r\n550 no\r\n550 no\r\n354 go\r\n", "554 no recipients\r\n", "250 flushed\r\n",
    ]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250 PIPELINING
    C: MAIL FROM:<a@b>
    C: RCPT TO:<c@d>
    C: RCPT TO:<e@f>
    C: RCPT TO:<g@h>
    C: DATA
    S: 250 ok
    S: 550 no
    S: 550 no
    S: 550 no
    S: 354 go
       recipient 0: 550 no
       recipient 1: 550 no
       recipient 2: 550 no
    C: .
    S: 554 no recipients
       failed at Rcpt, Permanent 5.1.0: the server accepted no recipient
    C: RSET
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<c@d.example>
    C: DATA
    S: 250 flushed
    "#);
    assert_snapshot!(converse(config(), three(), &[
        GREETING, EHLO, "250 ok\r\n550 no\r\n550 no\r\n550 no\r\n", "503 RCPT first\r\n",
    ]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250 PIPELINING
    C: MAIL FROM:<a@b>
    C: RCPT TO:<c@d>
    C: RCPT TO:<e@f>
    C: RCPT TO:<g@h>
    C: DATA
    S: 250 ok
    S: 550 no
    S: 550 no
    S: 550 no
       recipient 0: 550 no
       recipient 1: 550 no
       recipient 2: 550 no
    S: 503 RCPT first
       failed at Rcpt, Permanent 5.1.0: the server accepted no recipient
    C: QUIT
    "#);
}

#[test]
fn a_sender_that_is_refused_cannot_be_sent_for() {
    assert_snapshot!(converse(config(), one(), &[GREETING, EHLO, "550 no\r\n250 ok\r\n354 go\r\n"]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250 PIPELINING
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<c@d.example>
    C: DATA
    S: 550 no
    S: 250 ok
    S: 354 go
       failed at Mail, Permanent 5.0.0: the server refused: 550 no
       closed: the server refused: 550 no
    "#);
}

#[test]
fn refused_text_is_classed_by_its_code() {
    for (packets, expected) in [
        (
            &["554 no valid\r\n"][..],
            "failed at Data, Permanent 5.0.0: the server refused: 554 no valid",
        ),
        (
            &["451 4.7.1 slow\r\n"],
            "failed at Data, Temporary 4.7.1: the server refused: 451 4.7.1 slow",
        ),
        (
            &["421 4.3.2 down\r\n"],
            "failed at Data, Temporary 4.3.2: the server refused: 421 4.3.2 down",
        ),
        (
            &["354 go\r\n", "554 5.7.1 spam\r\n"],
            "failed at BodyEnd, Permanent 5.7.1: the server refused: 554 5.7.1 spam",
        ),
        (
            &["354 go\r\n", "452 full\r\n"],
            "failed at BodyEnd, Temporary 4.0.0: the server refused: 452 full",
        ),
        (
            &["250 what?\r\n"],
            "failed at Data, Temporary 4.5.0: unexpected reply: 250 what?",
        ),
        (
            &["354 go\r\n", "354 go\r\n"],
            "failed at BodyEnd, Temporary 4.5.0: unexpected reply: 354 go",
        ),
        (
            &["354 go\r\n", "+OK\r\n"],
            "failed at BodyEnd, Temporary 4.5.0, possible duplicate: the server does not speak SMTP: a reply does not begin with a reply code",
        ),
        (
            &["999 go\r\n"],
            "failed at Data, Temporary 4.5.0: the server does not speak SMTP: a reply does not begin with a reply code",
        ),
    ] {
        let mut sending = Sending::new(config(), Owner::new(one()));
        for packet in [GREETING, "250 x\r\n", "250 ok\r\n", "250 ok\r\n"]
            .iter()
            .chain(packets)
        {
            sending.say(packet);
        }
        let found = sending
            .owner
            .events
            .iter()
            .find(|event| event.starts_with("failed"));
        assert_eq!(found.map(String::as_str), Some(expected));
    }
}

#[test]
fn an_extra_reply_is_never_a_success() {
    assert_snapshot!(converse(config(), one(), &[
        GREETING, EHLO, "250 ok\r\n250 ok\r\n250 extra\r\n354 go\r\n250 ok\r\n",
    ]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250 PIPELINING
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<c@d.example>
    C: DATA
    S: 250 ok
    S: 250 ok
    S: 250 extra
    S: 354 go
    S: 250 ok
       recipient 0: 250 ok
       failed at Data, Temporary 4.5.0: unexpected reply: 250 extra
       closed: unexpected reply: 250 extra
    "#);
    // Replies that come before the text has gone out.
    assert_snapshot!(converse(config(), one(), &[GREETING, EHLO, "250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n"]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250 PIPELINING
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<c@d.example>
    C: DATA
    S: 250 ok
    S: 250 ok
    S: 354 go
    S: 250 ok
       recipient 0: 250 ok
       failed at Body, Temporary 4.5.0: unexpected reply: 250 ok
       closed: unexpected reply: 250 ok
    "#);
    let mut sending = Sending::new(config(), Owner::new(one()));
    for packet in [GREETING, EHLO, "250 ok\r\n250 ok\r\n354 go\r\n25"] {
        sending.say(packet);
    }
    assert_eq!(
        sending.owner.events[1],
        "failed at Body, Temporary 4.5.0: the server spoke out of turn"
    );
    // The end of the text is there to be sent, and was not.
    let mut sending = Sending::new(config(), Owner::new(one()));
    sending.say(GREETING);
    sending.say(EHLO);
    let session = &mut sending.session;
    session.receive(sending.now, b"250 ok\r\n250 ok\r\n354 go\r\n");
    session.poll_event();
    session.receive(sending.now, b"354 go\r\n");
    assert!(matches!(session.poll_event(), Some(Event::BodyWanted)));
    session.end_body();
    session.receive(sending.now, b"25");
    sending.drain();
    sending.give(b"0 ok\r\n");
    assert_eq!(
        sending.owner.events,
        [
            "failed at BodyEnd, Temporary 4.5.0: the server spoke out of turn",
            "closed: the server spoke out of turn"
        ]
    );
    let mut sending = Sending::new(config(), Owner::new(one()));
    for packet in [GREETING, EHLO, "250 ok\r\n350 odd\r\n"] {
        sending.say(packet);
    }
    assert_eq!(
        sending.owner.events[0],
        "failed at Rcpt, Temporary 4.5.0: unexpected reply: 350 odd"
    );
}

#[test]
fn a_server_may_refuse_text_before_its_end() {
    let now = common::start();
    let mut session = Session::new(config().into(), now);
    let mut sink = Vec::new();
    for packet in [GREETING, "250 x\r\n"] {
        session.receive(now, packet.as_bytes());
        session.poll_transmit(&mut sink);
    }
    assert!(matches!(session.poll_event(), Some(Event::Ready { .. })));
    session.start(one()[0].0.clone()).expect("sendable");
    for packet in ["250 x\r\n", "250 x\r\n", "354 go\r\n"] {
        session.receive(now, packet.as_bytes());
        while session.poll_event().is_some() {}
        session.poll_transmit(&mut sink);
    }
    session.body(b"some text\n");
    session.poll_transmit(&mut sink);
    while session.poll_event().is_some() {}
    session.receive(now, b"552 too much\r\n");
    let Some(Event::Failed(failure)) = session.poll_event() else {
        panic!("a failure");
    };
    assert!(matches!(failure.cause, Cause::Refused(_)));
    sink.clear();
    assert!(!session.poll_transmit(&mut sink), "QUIT would be text");
    assert!(session.is_closed());
}

#[test]
fn a_partial_line_can_be_refused() {
    let mut classic = config();
    classic.partial_line = PartialLine::Refuse;
    let partial = || [message("a@b", &["c@d"], "a\nb")];
    let packets = [
        GREETING,
        "250 x\r\n",
        "250 x\r\n",
        "250 x\r\n",
        "354 go\r\n",
    ];
    assert_snapshot!(converse(classic, partial(), &packets), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250 x
    C: MAIL FROM:<a@b>
    S: 250 x
    C: RCPT TO:<c@d>
    S: 250 x
       recipient 0: 250 x
    C: DATA
    S: 354 go
    C: a
    C: b...
       failed at Body, Permanent 5.6.2: the last line of the message has no end
       closed: the last line of the message has no end
    "#);
    assert_snapshot!(converse(config(), partial(), &packets), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250 x
    C: MAIL FROM:<a@b>
    S: 250 x
    C: RCPT TO:<c@d>
    S: 250 x
       recipient 0: 250 x
    C: DATA
    S: 354 go
    C: a
    C: b...
    C: 
    C: .
    "#);
}

#[test]
fn addresses_are_quoted() {
    let messages = [message(
        "a b@x.example",
        &[
            "c\"d\\e@y",
            ".dot@y",
            "at@at@y",
            "plain+x@Y.Example",
            "@y",
            "noat",
            "\x01@y",
        ],
        "",
    )];
    assert_snapshot!(converse(config(), messages, &[GREETING, EHLO]), @r#"
    S: 220 hi
    C: EHLO client.example
    S: 250-mx
    S: 250 PIPELINING
    C: MAIL FROM:<"a b"@x.example>
    C: RCPT TO:<"c\\"d\\\\e"@y>
    C: RCPT TO:<".dot"@y>
    C: RCPT TO:<"at@at"@y>
    C: RCPT TO:<plain+x@Y.Example>
    C: RCPT TO:<""@y>
    C: RCPT TO:<noat>
    C: RCPT TO:<"\x01"@y>
    C: DATA
    "#);
    let mut sending = Sending::new(config(), Owner::new([message("", &["c@d"], "")]));
    sending.say(GREETING);
    sending.say("250 x\r\n");
    assert!(sending.sent.ends_with(b"MAIL FROM:<>\r\n"));
}

#[test]
fn nothing_that_breaks_a_line_is_sent() {
    for name in ["", "x\r\nMAIL FROM:<a>", "x\ny", "x\0"] {
        assert_eq!(
            Config::new(name).map(|_| ()),
            Err(UnsendableError),
            "{name:?}"
        );
    }
    let mut sending = Sending::new(config(), Owner::new([]));
    let address = |text: &str| Address::new(text.to_owned()).expect("short");
    let sender = |text: &str| ReversePath::new(text.to_owned()).expect("short");
    assert_eq!(
        sending
            .session
            .start(Transaction::new(sender("a@b"), vec![address("c@d")])),
        Err(StartError::NotReady)
    );
    sending.owner.stay = true;
    sending.say(GREETING);
    sending.say("250-x\r\n250 SIZE 10\r\n");
    let sent = sending.sent.len();
    for evil in [
        "a\r\nb@c",
        "a\nb@c",
        "a@b>\r\nRCPT TO:<x@y",
        "a@b> NOTIFY=NEVER",
        "a@b>",
        "a@b c",
        "a@b\x7f",
    ] {
        assert_eq!(
            sending
                .session
                .start(Transaction::new(sender(evil), vec![address("c@d")])),
            Err(StartError::Sender),
            "{evil:?}"
        );
        assert_eq!(
            sending.session.start(Transaction::new(
                sender("a@b"),
                vec![address("c@d"), address(evil)]
            )),
            Err(StartError::Recipient { index: 1 }),
            "{evil:?}"
        );
    }
    assert_eq!(
        sending
            .session
            .start(Transaction::new(sender("a@b"), vec![])),
        Err(StartError::NoRecipient)
    );
    let mut large = Transaction::new(sender("a@b"), vec![address("c@d")]);
    large.octets = Some(11);
    assert_eq!(
        sending.session.start(large.clone()),
        Err(StartError::TooLarge { octets_max: 10 })
    );
    sending.drain();
    assert_eq!(sending.sent.len(), sent, "nothing was sent");
    large.octets = Some(10);
    assert_eq!(sending.session.start(large), Ok(()));
}

#[test]
fn an_owner_may_give_up() {
    let mut sending = Sending::new(config(), Owner::new(one()));
    for packet in [GREETING, "250 x\r\n", "250 x\r\n", "250 x\r\n"] {
        sending.say(packet);
    }
    sending.session.receive(sending.now, b"354 go\r\n");
    while sending.session.poll_event().is_some() {}
    sending.session.body(b"half a message");
    sending.session.abort();
    sending.drain();
    assert_snapshot!(sending.owner.events.join("\n"), @r#"
    recipient 0: 250 x
    failed at Body, Temporary 4.3.0: given up
    closed: given up
    "#);
    assert!(
        sending.sent.ends_with(b"DATA\r\n"),
        "the text was never sent"
    );
}

#[test]
fn a_huge_limit_is_none() {
    let now = common::start();
    for (size, expected) in [
        ("SIZE 99999999999999999999999999", None),
        ("SIZE 0", None),
        ("SIZE", None),
        ("SIZE x", None),
        ("SIZE 10", Some(10)),
    ] {
        let mut session = Session::new(config().into(), now);
        session.receive(now, format!("220 x\r\n250-x\r\n250 {size}\r\n").as_bytes());
        let Some(Event::Ready { extensions }) = session.poll_event() else {
            panic!("ready");
        };
        assert!(extensions.size);
        assert_eq!(extensions.message_octets_max, expected, "{size}");
    }
}

#[test]
fn wishes_about_notifications_go_to_who_knows_them() {
    let wishing = || {
        let [(mut transaction, body)] = one();
        let mut parameters = RcptParameters::default();
        parameters.notify = Some(Notify {
            failure: true,
            delay: true,
            ..Notify::default()
        });
        parameters.original = Some("rfc822;c+x@d.example".into());
        transaction.ret = Some(Return::Headers);
        transaction.envelope_id = Some("a=1".into());
        transaction.parameters = vec![parameters];
        [(transaction, body)]
    };
    let sent = |ehlo: &str| {
        let replies = [
            "220 hi\r\n",
            ehlo,
            "250 x\r\n",
            "250 x\r\n",
            "354 go\r\n",
            "250 ok\r\n",
            "221 bye\r\n",
        ];
        let transcript = converse(config(), wishing(), &replies);
        let commands = transcript
            .lines()
            .filter(|line| line.starts_with("C: MAIL") || line.starts_with("C: RCPT"));
        commands.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_snapshot!(sent("250-mx\r\n250 DSN\r\n"), @r"
    C: MAIL FROM:<a@b.example> RET=HDRS ENVID=a+3D1
    C: RCPT TO:<c@d.example> NOTIFY=FAILURE,DELAY ORCPT=rfc822;c+2Bx@d.example
    ");
    assert_snapshot!(sent("250 mx\r\n"), @r"
    C: MAIL FROM:<a@b.example>
    C: RCPT TO:<c@d.example>
    ");

    let refused = |change: fn(&mut Transaction)| {
        let [(mut transaction, _)] = wishing();
        change(&mut transaction);
        let mut sending = Sending::new(config(), Owner::new([]));
        sending.owner.stay = true;
        sending.say("220 hi\r\n");
        sending.say("250-x\r\n250 DSN\r\n");
        sending.session.start(transaction)
    };
    for change in [
        (|it| it.envelope_id = Some("".into())) as fn(&mut Transaction),
        |it| it.envelope_id = Some("a\r\nRSET".into()),
        |it| it.envelope_id = Some("+".repeat(34).into()),
        |it| it.parameters[0].original = Some("c@d.example".into()),
        |it| it.parameters[0].original = Some("rfc822;\n".into()),
    ] {
        assert_eq!(refused(change), Err(StartError::Parameters));
    }
}
