//! Any octets in any pieces: the session survives, ends its lines, and does the same as with the whole input at once.
#![no_main]

use std::sync::Arc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use qmail_core::sasl::{Finding, Inquiry, Mechanism, Verifier};
use qmail_core::{Account, LoginError, Machine};
use qmail_smtp::server::{BareCr, BareLf, Config, Dialect, Event, Login, Session, Verdict};

fuzz_target!(|input: &[u8]| {
    let [shape, input @ ..] = input else { return };
    let mut config = Config::new("mx.example.org");
    config.line_octets_max = 64;
    config.message_octets_max = Some(100);
    config.hops_max = 3;
    if shape & 1 == 1 {
        config.bare_lf = BareLf::Keep;
        config.bare_cr = BareCr::Keep;
    }
    if shape & 2 == 2 {
        config.extensions.chunking = true;
        config.extensions.smtp_utf8 = true;
        config.extensions.dsn = true;
        let mut login = Login::new(Mechanism::ALL.to_vec());
        login.in_clear = true;
        config.login = Some(login);
    }
    if shape & 4 == 4 {
        config.dialect = Dialect::Lmtp;
    }
    // What comes with STARTTLS in one piece is dropped, what comes later is not: cuts then make a difference.
    let cuts_differ = shape & 8 == 8;
    config.extensions.starttls = cuts_differ;
    let config = Arc::new(config);
    let whole = run(&config, input, usize::MAX);
    let cut = run(&config, input, usize::from(shape >> 4) + 1);
    if !cuts_differ {
        assert_eq!(cut, whole);
    }
});

/// What is sent, and what is accepted.
fn run(config: &Arc<Config>, input: &[u8], size: usize) -> (Vec<u8>, Vec<Vec<u8>>) {
    let now = Instant::now();
    let mut session = Session::new(Arc::clone(config), now).with_nonce("nonce");
    let (mut sent, mut accepted, mut text) = (Vec::new(), Vec::new(), Vec::new());
    for mut piece in input.chunks(size) {
        while !piece.is_empty() {
            let taken = session.receive(now, piece);
            piece = &piece[taken..];
            let mut progress = taken > 0;
            while let Some(event) = session.poll_event() {
                progress = true;
                settle(&mut session, event, &mut text, &mut accepted);
            }
            progress |= session.poll_transmit(&mut sent);
            assert!(progress, "stuck");
        }
    }
    while session.poll_transmit(&mut sent) {}
    session.handle_eof(now);
    while let Some(event) = session.poll_event() {
        settle(&mut session, event, &mut text, &mut accepted);
    }
    assert!(session.is_closed());
    for line in sent.split_inclusive(|&octet| octet == b'\n') {
        assert!(line.ends_with(b"\r\n") && line.len() <= 512);
    }
    (sent, accepted)
}

fn settle(session: &mut Session, event: Event, text: &mut Vec<u8>, accepted: &mut Vec<Vec<u8>>) {
    match event {
        Event::Mail {
            question, sender, ..
        } => {
            assert!(sender.as_bytes().iter().all(|&octet| octet >= b' '));
            session.answer_mail(question, Verdict::Accept);
        }
        Event::Rcpt {
            question,
            recipient,
            ..
        } => {
            assert!(!recipient.as_bytes().is_empty());
            assert!(recipient.as_bytes().iter().all(|&octet| octet >= b' '));
            session.answer_rcpt(question, Verdict::Accept);
        }
        Event::StartTls => session.tls_started(),
        Event::Login { question, inquiry } => {
            let found = match inquiry {
                Inquiry::Verifier { name } => {
                    let verifier = Verifier::decoy(&name, b"key");
                    Ok(Finding::Verifier(Account::new(name), verifier))
                }
                Inquiry::Check(credentials) if credentials.fit(b"p") => {
                    Ok(Finding::Account(Account::new(credentials.name().clone())))
                }
                _ => Err(LoginError::Refused),
            };
            session.answer_login(question, found);
        }
        Event::Data { question, .. } => {
            text.clear();
            session.answer_data(question, Verdict::Accept);
        }
        Event::Body(chunk) => text.extend_from_slice(&chunk),
        Event::BodyEnd { question, octets } => {
            assert_eq!(octets, text.len() as u64);
            assert!(octets <= 100);
            accepted.push(std::mem::take(text));
            session.answer_body_end(question, Verdict::Accept);
        }
        Event::Aborted { .. } => text.clear(),
        _ => {}
    }
}
