//! LMTP, and what a server limits: RFC 2033, RFC 6531, RFC 9422.

mod common;

use common::client::{Owner, Sending, config, converse, message};
use insta::assert_snapshot;
use qmail_core::{Address, ReversePath};
use qmail_smtp::client::{Config, Event, Protocol, StartError, Transaction};

fn lmtp() -> Config {
    let mut config = config();
    config.protocol = Protocol::Lmtp;
    config
}

fn three() -> [(Transaction, Vec<u8>); 1] {
    [message("a@b", &["c@d", "e@f", "g@h"], "x\n")]
}

const OPENING: [&str; 2] = ["220 hi\r\n", "250-mx\r\n250 PIPELINING\r\n"];

#[test]
fn each_accepted_recipient_has_its_own_last_word() {
    assert_snapshot!(converse(lmtp(), three(), &[
        OPENING[0],
        OPENING[1],
        "250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n",
        "250 c has it\r\n452 g is full\r\n",
        "221 bye\r\n",
    ]), @r"
    S: 220 hi
    C: LHLO client.example
    S: 250-mx
    S: 250 PIPELINING
    C: MAIL FROM:<a@b>
    C: RCPT TO:<c@d>
    C: RCPT TO:<e@f>
    C: RCPT TO:<g@h>
    C: DATA
    S: 250 ok
    S: 250 ok
    S: 550 no
    S: 250 ok
    S: 354 go
       recipient 0: 250 ok
       recipient 1: 550 no
       recipient 2: 250 ok
    C: x
    C: .
    S: 250 c has it
    S: 452 g is full
       final 0: 250 c has it
       final 2: 452 g is full
       done: 250 c has it
    C: QUIT
    S: 221 bye
       closed
    ");
}

#[test]
fn nobody_has_it_unless_somebody_has() {
    let envelope = "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n";
    let events = |last: &[&str]| {
        let mut sending = Sending::new(lmtp(), Owner::new(three()));
        for packet in OPENING.iter().chain([&envelope]).chain(last) {
            sending.say(packet);
        }
        sending.eof();
        sending.owner.events.split_off(3)
    };
    assert_eq!(
        events(&["550 a\r\n550 b\r\n", "450 c\r\n"])[..4],
        [
            "final 0: 550 a",
            "final 1: 550 b",
            "final 2: 450 c",
            "failed at BodyEnd, Permanent 5.1.0: the server accepted no recipient",
        ]
    );
    // Who was told of has it; of the others nobody knows.
    assert_eq!(
        events(&["250 a\r\n", "550 b\r\n"])[..3],
        [
            "final 0: 250 a",
            "final 1: 550 b",
            "failed at BodyEnd, Temporary 4.4.2, possible duplicate: connection died",
        ]
    );
    assert_eq!(
        events(&["250 a\r\n421 down\r\n"])[..2],
        [
            "final 0: 250 a",
            "failed at BodyEnd, Temporary 4.0.0: the server refused: 421 down",
        ]
    );
    assert_eq!(
        events(&["250 a\r\n354 what\r\n"])[1],
        "failed at BodyEnd, Temporary 4.5.0: unexpected reply: 354 what"
    );
}

#[test]
fn an_lmtp_server_has_no_helo_and_takes_no_text_for_nobody() {
    let refused = converse(lmtp(), three(), &["220 hi\r\n", "500 what\r\n"]);
    assert!(
        refused.contains("failed at Hello") && !refused.contains("HELO"),
        "{refused}"
    );
    let nobody = "250 ok\r\n550 ok\r\n550 ok\r\n550 ok\r\n354 go\r\n";
    let nobody = converse(lmtp(), three(), &[OPENING[0], OPENING[1], nobody]);
    assert!(
        nobody.ends_with("closed: the server accepted no recipient\n"),
        "{nobody}"
    );
}

#[test]
fn cuts_change_nothing() {
    let packets = [
        OPENING[0],
        OPENING[1],
        "250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n",
        "250 c has it\r\n452-g\r\n452 is full\r\n",
        "221 bye\r\n",
    ];
    let run = |pieces: &mut dyn FnMut(usize, &'static [u8]) -> Vec<&'static [u8]>| {
        let mut sending = Sending::new(lmtp(), Owner::new(three()));
        for (place, packet) in packets.iter().enumerate() {
            for piece in pieces(place, packet.as_bytes()) {
                sending.give(piece);
            }
        }
        (sending.owner.events, sending.sent)
    };
    let whole = run(&mut |_, packet| vec![packet]);
    assert_eq!(whole.0.last().map(String::as_str), Some("closed"));
    for (place, packet) in packets.iter().enumerate() {
        for cut in 1..packet.len() {
            let once = run(&mut |at, packet| match at == place {
                true => vec![&packet[..cut], &packet[cut..]],
                false => vec![packet],
            });
            assert_eq!(once, whole, "{packet:?} at {cut}");
        }
    }
    let octets = run(&mut |_, packet| packet.chunks(1).collect());
    assert_eq!(octets, whole, "octet by octet");
}

/// A session that is ready, at a server that announces this.
fn ready(announced: &str) -> Sending {
    let mut owner = Owner::new([]);
    owner.stay = true;
    let mut sending = Sending::new(config(), owner);
    sending.say("220 hi\r\n");
    sending.say(&format!("250-mx\r\n{announced}250 PIPELINING\r\n"));
    sending
}

#[test]
fn internationalized_addresses_go_where_they_are_understood() {
    let start = |sending: &mut Sending, sender: &str, recipients: &[&str]| {
        let (transaction, _) = message(sender, recipients, "");
        let result = sending.session.start(transaction);
        sending.drain();
        result
    };
    let mut old = ready("");
    assert_eq!(
        start(&mut old, "\u{e9}@b", &["c@d"]),
        Err(StartError::Utf8Sender)
    );
    assert_eq!(
        start(&mut old, "a@b", &["c@d", "c@\u{e9}"]),
        Err(StartError::Utf8Recipient { index: 1 })
    );
    let mut new = ready("250-SMTPUTF8\r\n");
    assert_eq!(start(&mut new, "\u{e9}@b", &["c d@\u{e9}"]), Ok(()));
    let sent = String::from_utf8(new.sent).expect("UTF-8");
    assert!(
        sent.ends_with("MAIL FROM:<\u{e9}@b> SMTPUTF8\r\nRCPT TO:<\"c d\"@\u{e9}>\r\nDATA\r\n"),
        "{sent}"
    );
    // Octets that are no UTF-8 are carried as they always were.
    let latin = Address::new(&b"\xe9@d"[..]).expect("an address");
    let transaction = Transaction::new(ReversePath::Null, vec![latin]);
    assert_eq!(old.session.start(transaction), Ok(()));
}

#[test]
fn a_server_says_how_much_it_takes_at_once() {
    for (announced, recipients, result) in [
        ("RCPTMAX=2", &["a@b", "c@b"][..], Ok(())),
        (
            "RCPTMAX=2",
            &["a@b", "c@b", "d@b"],
            Err(StartError::TooManyRecipients { most: 2 }),
        ),
        ("RCPTDOMAINMAX=1", &["a@b", "c@B"], Ok(())),
        (
            "RCPTDOMAINMAX=1 RCPTMAX=5",
            &["a@b", "c@B", "d@e", "f@b"],
            Err(StartError::TooManyRecipients { most: 2 }),
        ),
    ] {
        let mut sending = ready(&format!("250-LIMITS {announced}\r\n"));
        let (transaction, _) = message("x@y", recipients, "");
        assert_eq!(sending.session.start(transaction), result, "{announced}");
    }
    let mut sending = Sending::new(config(), Owner::new([]));
    sending.say("220 hi\r\n");
    let octets = b"250-mx\r\n250 LIMITS MAILMAX=7\r\n";
    qmail_core::Machine::receive(&mut sending.session, sending.now, octets);
    let event = qmail_core::Machine::poll_event(&mut sending.session);
    let Some(Event::Ready { extensions }) = event else {
        panic!("{event:?}");
    };
    assert_eq!(extensions.limits.mail_max, Some(7));
}
