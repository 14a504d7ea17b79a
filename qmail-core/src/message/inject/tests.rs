use proptest::prelude::*;

use super::*;
use crate::Escaped;
use crate::control::Set;
use crate::header::{Part, Splitter};

const STAMP: Stamp = Stamp {
    seconds: 1_700_000_000,
    unique: 77,
    sequence: None,
};

fn settings() -> Settings {
    let qualifier = Qualifier::new(b"dh.example", b"dd.example", b"pd.example").unwrap();
    Settings::new(qualifier, Options::new("id.example"), Identity::new("joe"))
}

fn feed(injection: &mut Injection<'_>, header: &[u8]) -> Result<(), InjectError> {
    feed_pieces(injection, &[header])
}

fn feed_pieces(injection: &mut Injection<'_>, pieces: &[&[u8]]) -> Result<(), InjectError> {
    let mut splitter = Splitter::with_mbox_lines(1_000_000);
    for mut piece in pieces.iter().copied() {
        while let Some(part) = splitter.next(&mut piece).unwrap() {
            match part {
                Part::Field(field) => injection.field(&field)?,
                Part::Body { .. } => return Ok(()),
            }
        }
    }
    while let Some(Part::Field(field)) = splitter.finish() {
        injection.field(&field)?;
    }
    Ok(())
}

fn injected(settings: &Settings, header: &[u8]) -> Result<Message, InjectError> {
    let mut injection = Injection::new(settings);
    feed(&mut injection, header)?;
    injection.finish(STAMP)
}

/// The envelope on a line, then the header.
fn show(message: &Message) -> String {
    let recipients: Vec<_> = message
        .recipients
        .iter()
        .map(|address| Escaped(address).to_string())
        .collect();
    let header = String::from_utf8_lossy(&message.header);
    format!(
        "{} -> {}\n{header}",
        Escaped(&message.sender),
        recipients.join(" ")
    )
}

#[test]
fn a_bare_message_becomes_complete() {
    let message = injected(&settings(), b"Subject: hi\n").unwrap();
    insta::assert_snapshot!(show(&message), @r"
    joe@dh.example -> 
    Date: 14 Nov 2023 22:13:20 -0000
    Message-ID: <20231114221320.77.qmail@id.example>
    From: joe@dh.example
    Cc: recipient list not shown: ;
    Subject: hi
    ");
}

#[test]
fn everything_at_once() {
    let mut settings = settings();
    settings.from.name = Some(b"Joe \"Q\" Public".to_vec());
    settings.options.mailing_lists = Set::parse(b"list@lists.example\n");
    let message = injected(
        &settings,
        b"From joe Thu Jan  1 00:00:00 1970\n\
          To : Ann <ann>, team: bob@here (Bob),\n\x20eve@cs+;\n\
          Cc: LIST@lists.example\n\
          Bcc: mallory\n\
          Content-Length: 7\n\
          X-Odd: a,\n\tb\n\
          Reply-To: joe\n",
    )
    .unwrap();
    insta::assert_snapshot!(show(&message), @r#"
    joe@dh.example -> eve@cs.pd.example bob@here.dd.example ann@dh.example LIST@lists.example mallory@dh.example
    Date: 14 Nov 2023 22:13:20 -0000
    Message-ID: <20231114221320.77.qmail@id.example>
    From: "Joe \"Q\" Public" <joe@dh.example>
    Mail-Followup-To: LIST@lists.example,
      ann@dh.example,
      bob@here.dd.example,
      eve@cs.pd.example
    MBOX-Line: From joe Thu Jan  1 00:00:00 1970
    To: Ann <ann@dh.example>, team: bob@here.dd.example (Bob), eve@cs.pd.example;
    Cc: LIST@lists.example
    X-Odd: a,
    	b
    Reply-To: joe@dh.example
    "#);
}

#[test]
fn a_resent_message_goes_to_the_resent_recipients() {
    let message = injected(
        &settings(),
        b"Resent-To: b\nResent-Bcc: secret\nTo: a\nFrom: x@y.z\n",
    )
    .unwrap();
    insta::assert_snapshot!(show(&message), @r"
    joe@dh.example -> b@dh.example secret@dh.example
    Resent-Date: 14 Nov 2023 22:13:20 -0000
    Resent-Message-ID: <20231114221320.77.qmail@id.example>
    Resent-From: joe@dh.example
    Resent-To: b@dh.example
    To: a@dh.example
    From: x@y.z
    ");
}

#[test]
fn senders_in_order_of_rank() {
    let mut letters = settings();
    letters.from.host = Some(b"cs+".to_vec());
    assert_eq!(
        injected(&letters, b"").unwrap().sender,
        b"joe@cs.pd.example"
    );
    letters.options.verp_per_recipient = true;
    assert_eq!(
        injected(&letters, b"").unwrap().sender,
        b"joe-@cs.pd.example-@[]"
    );
    letters.options.verp_per_message = true;
    assert_eq!(
        injected(&letters, b"").unwrap().sender,
        b"joe-1700000000.77-@cs.pd.example-@[]"
    );
    let path = b"Return-Path: <a>, <b>\nReturn-Path: <c>\n";
    assert_eq!(
        injected(&letters, path).unwrap().sender,
        b"b@dh.example-@[]"
    );
    letters.options.drop_return_path = true;
    letters.options.verp_per_recipient = false;
    letters.options.verp_per_message = false;
    letters.sender_user = Some(b"s u".to_vec());
    letters.sender_host = Some(b"[10.0.0.1]".to_vec());
    assert_eq!(injected(&letters, path).unwrap().sender, b"s u@[10.0.0.1]");
    let mut injection = Injection::new(&letters);
    injection.sender(b"list-@x-@[]").unwrap();
    assert_eq!(injection.finish(STAMP).unwrap().sender, b"list-@x-@[]");
}

#[test]
fn arguments_are_taken_literally() {
    let qualifier = settings().qualifier;
    for (argument, address) in [
        ("", Some("")),
        ("a", Some("a@dh.example")),
        ("x y@h", Some("x y@h.dd.example")),
        ("\"q\"@h", Some("\"q\"@h.dd.example")),
        ("a@b@h.i", Some("a@b@h.i")),
        ("a@h (comment) . i", Some("a@h.i")),
        ("a@[1.2.3.4]", Some("a@[1.2.3.4]")),
        ("a@", Some("a@dh.example")),
        ("#@[]", Some("#@[]")),
        ("a@h(", None),
        ("a@h,b", None),
        ("a\nTroot@h", None),
        ("a@h\nTroot", None),
        ("a@h i", None),
        ("a@\"h\\\r\"", None),
        ("a@h\0", None),
    ] {
        let have = complete_argument(argument.as_bytes(), &qualifier).ok();
        assert_eq!(have.as_deref(), address.map(str::as_bytes), "{argument:?}");
    }
}

/// Difference from the classic program: nobody is no recipient.
#[test]
fn empty_recipients_are_none() {
    let settings = settings();
    let message = injected(&settings, b"To: <>, @, @x, a, <@y>\n").unwrap();
    assert_eq!(
        message.recipients.iter().collect::<Vec<_>>(),
        [b"a@dh.example"]
    );
    let mut injection = Injection::new(&settings);
    for argument in [&b""[..], b"@x"] {
        assert_eq!(
            injection.recipient(argument),
            Err(InjectError::Address(argument.to_vec()))
        );
    }
}

/// Difference from the classic program: of a malformed field no recipient is taken, and it is remembered.
#[test]
fn a_malformed_field_is_kept_and_remembered() {
    let message = injected(&settings(), b"To: a@x.org, b (c\nBcc: (d\n").unwrap();
    assert!(message.header.ends_with(b"\nTo: a@x.org, b (c\n"));
    assert!(message.recipients.is_empty());
    assert_eq!(
        message.malformed.unwrap().to_string(),
        "unable to parse this line:\nTo: a@x.org, b (c"
    );
    let message = injected(&settings(), b"To: a (c\nCc: b\n").unwrap();
    assert_eq!((message.recipients.len(), message.malformed), (1, None));
}

#[test]
fn a_sender_field_must_be_understood() {
    for header in [
        &b"From: a (x\n"[..],
        b"Return-Path: a@x.org>\n",
        b"Errors-To: <a\n",
    ] {
        let error = injected(&settings(), header).unwrap_err();
        assert!(
            matches!(&error, InjectError::Field { field, .. } if field == header),
            "{error}"
        );
    }
    let mut dropping = settings();
    dropping.options.drop_from = true;
    dropping.options.drop_return_path = true;
    injected(&dropping, b"From: a (x\nReturn-Path: a@x.org>\n").unwrap();
}

/// Difference from the classic program: nothing puts a line break into an envelope or a header.
#[test]
fn no_line_break_gets_in() {
    for header in [
        &b"To: \"a\\\n b\"@x\n"[..],
        b"Cc: a\\\r@x\n",
        b"Bcc: \"\0\"@x\n",
    ] {
        assert!(
            injected(&settings(), header).is_err(),
            "{}",
            Escaped(header)
        );
    }
    let mut named = settings();
    named.from.name = Some(b"a\nBcc: x@y\0".to_vec());
    let header = injected(&named, b"").unwrap().header;
    assert!(
        String::from_utf8(header)
            .unwrap()
            .contains("From: \"a Bcc: x@y \" <joe@dh.example>\n")
    );
    for (user, host) in [("a\nb", "h"), ("a", "h\n"), ("a", "h\0")] {
        let mut bad = settings();
        bad.from.user = user.into();
        bad.from.host = Some(host.into());
        assert_eq!(injected(&bad, b""), Err(InjectError::Identity));
    }
}

/// Difference from the classic program: a header in CR LF loses its CRs.
#[test]
fn crlf_becomes_lf() {
    let message = injected(&settings(), b"To: a,\r\n b\r\nSubject: x\r\n y\r\n").unwrap();
    assert!(message.crlf);
    assert!(
        message
            .header
            .ends_with(b"To: a@dh.example, b@dh.example\nSubject: x\n y\n")
    );
    let message = injected(&settings(), b"Subject: x\r\nX: y\n").unwrap();
    assert!(!message.crlf);
    assert!(message.header.ends_with(b"Subject: x\r\nX: y\n"));
}

#[test]
fn arguments_come_before_the_header() {
    let settings = settings();
    for (from_header, recipients) in [(true, 4), (false, 1)] {
        let mut injection = Injection::new(&settings);
        injection.recipients_from_header(from_header);
        injection.recipient(b"arg").unwrap();
        feed(&mut injection, b"To: a, b\nApparently-To: c\n").unwrap();
        let message = injection.finish(STAMP).unwrap();
        assert_eq!(message.recipients.len(), recipients);
        assert_eq!(
            message.recipients.iter().next(),
            Some(&b"arg@dh.example"[..])
        );
        assert!(message.header.ends_with(b"Apparently-To: c@dh.example\n"));
    }
}

const PIECES: &[&[u8]] = &[
    b"To: ann, Bob <bob@x.org>\n",
    b"Cc: team: a@x.org, \"b\n c\"@y;\r\n",
    b"From: joe (Joe)\n",
    b"Bcc: (broken\n",
    b"Resent-To: r\n",
    b"Return-Path: <s@x>\n",
    b"From mbox line\n",
    b"Subject : x\n\ty\n",
    b" continued\n",
    b"no field\n",
    b"\r\n",
    b"\n",
    b"X:",
];

proptest! {
    /// Wherever the input is cut, the message is the same; what it was made of, made again, is the same but for what was
    /// taken away.
    #[test]
    fn no_cut_changes_a_message(
        pieces in proptest::collection::vec(prop::sample::select(PIECES), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let header = pieces.concat();
        let settings = settings();
        let make = |pieces: &[&[u8]]| {
            let mut injection = Injection::new(&settings);
            feed_pieces(&mut injection, pieces)?;
            injection.finish(STAMP)
        };
        let whole = make(&[&header]);
        let (start, end) = header.split_at(cut.index(header.len() + 1));
        prop_assert_eq!(&make(&[start, end]), &whole);
        let octets: Vec<_> = header.chunks(1).collect();
        prop_assert_eq!(&make(&octets), &whole);
        if let Ok(message) = whole {
            let again = make(&[&message.header]).unwrap();
            prop_assert_eq!(String::from_utf8_lossy(&again.header), String::from_utf8_lossy(&message.header));
        }
    }
}
