use super::*;
use crate::control::Set;
use crate::header::{Part, Splitter};

const STAMP: Stamp = Stamp {
    seconds: 1_700_000_000,
    unique: 77,
    sequence: None,
};

fn settings() -> ComposeSettings {
    let rules = HostRules::standard(b"dh.example", b"dd.example", b"pd.example");
    let mut settings = ComposeSettings::new(rules, Options::new("id.example"));
    settings.from = Some(Mailbox::new(&b"joe@dh.example"[..]));
    settings
}

fn composed(settings: &ComposeSettings, header: &[u8]) -> Result<Composed, ControlOctet> {
    let mut composition = Composition::new(settings);
    let mut splitter = Splitter::new(1_000_000);
    let mut rest = header;
    while let Some(Part::Field(field)) = splitter.next(&mut rest).unwrap() {
        composition.field(&field);
    }
    while let Some(Part::Field(field)) = splitter.finish() {
        composition.field(&field);
    }
    composition.finish(STAMP)
}

fn show(message: &Composed) -> String {
    let mut sink = Vec::new();
    message.write_envelope(&mut sink);
    sink.extend_from_slice(&message.header);
    String::from_utf8_lossy(&sink).into_owned()
}

#[test]
fn everything_in_its_order() {
    let mut settings = settings();
    settings.options.mailing_lists = Set::parse(b"list@x.org\n");
    let message = composed(
        &settings,
        b"X-First: 1\n\
          Subject: s\n\
          Cc: LIST@x.org\n\
          To: The Boss <b>, team: c@here (C);\n\
          Bcc: d@cs+, <>\n\
          Date: Mon (x), 15 Aug 98 13:32 cdt\n\
          message-id: <kept>\n\
          Resent-To: q r\n\
          Received: by x;\n y\n\
          Content-Length: 3\n\
          Reply-To: joe\n",
    )
    .unwrap();
    insta::assert_snapshot!(show(&message), @r#"
    Envelope-Sender: joe@dh.example
    Envelope-Recipients:
      b@dh.example,
      c@here.dd.example,
      LIST@x.org,
      d@cs.pd.example,
    Resent-To: q r
    Received: by x;
     y
    Date: 15 Aug 1998 13:32:00 -0500
    message-id: <kept>
    From: joe@dh.example
    Reply-To: joe@dh.example
    Mail-Followup-To: "The Boss" <b@dh.example>, "team C" <c@here.dd.example>,
      LIST@x.org
    To: "The Boss" <b@dh.example>, "team C" <c@here.dd.example>
    Cc: LIST@x.org
    X-First: 1
    Subject: s
    "#);
}

#[test]
fn an_empty_message_becomes_complete() {
    insta::assert_snapshot!(show(&composed(&settings(), b"").unwrap()), @r"
    Envelope-Sender: joe@dh.example
    Envelope-Recipients:
    Date: 14 Nov 2023 22:13:20 -0000
    Message-ID: <20231114221320.77.qmail@id.example>
    From: joe@dh.example
    Cc: recipient list not shown: ;
    ");
}

#[test]
fn senders_in_order_of_rank() {
    let mut settings = settings();
    let path = b"Return-Path: <r>\n";
    let both = b"Return-Path: <r>\nEnvelope-Sender: e\n";
    assert_eq!(composed(&settings, path).unwrap().sender, b"r@dh.example");
    assert_eq!(composed(&settings, both).unwrap().sender, b"e@dh.example");
    assert_eq!(
        composed(&settings, b"Return-Path: <>\n").unwrap().sender,
        b""
    );
    settings.options.drop_return_path = true;
    settings.options.verp_per_recipient = true;
    assert_eq!(
        composed(&settings, path).unwrap().sender,
        b"joe-@dh.example-@[]"
    );
    settings.options.verp_per_message = true;
    settings.sender = Some(b"s u@cs+".to_vec());
    assert_eq!(
        composed(&settings, b"").unwrap().sender,
        b"s u-1700000000.77-@cs.pd.example-@[]"
    );
    settings.envelope_fields = false;
    settings.options.verp_per_message = false;
    settings.options.verp_per_recipient = false;
    assert_eq!(
        composed(&settings, both).unwrap().sender,
        b"s u@cs.pd.example"
    );
}

/// Difference from the classic programs: nothing puts a line break into an envelope or a header.
#[test]
fn no_line_break_gets_in() {
    for header in [
        &b"To: \"a\\\n b\"@x\n"[..],
        b"Cc: a\\\r@x\n",
        b"Bcc: \"\0\"@x\n",
    ] {
        assert!(
            composed(&settings(), header).is_err(),
            "{}",
            crate::Escaped(header)
        );
    }
    let settings = settings();
    let mut composition = Composition::new(&settings);
    assert!(composition.recipient(b"a\nTroot").is_err());
    composition.from(Mailbox {
        name: Some(b"a\nBcc: b".into()),
        address: Some(b"x@y.z".into()),
    });
    let header = composition.finish(STAMP).unwrap().header;
    assert!(
        String::from_utf8(header)
            .unwrap()
            .contains("From: \"a Bcc: b\" <x@y.z>\n")
    );
}
