//! A server that says anything: the session survives and comes to an end, and no message counts as done unless its final
//! dot was sent.
#![no_main]

use std::sync::Arc;
use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use qmail_core::sasl::client::Login;
use qmail_core::{Address, Machine, ReversePath};
use qmail_smtp::client::{Config, Event, Protocol, Session, StartTls, Transaction};

fuzz_target!(|input: &[u8]| {
    let [size, habits, input @ ..] = input else {
        return;
    };
    let now = Instant::now();
    let mut config = Config::new("client.example").expect("a plain name");
    if habits & 1 != 0 {
        config.protocol = Protocol::Lmtp;
    }
    config.start_tls = match habits >> 1 & 3 {
        0 => StartTls::Never,
        1 => StartTls::Required,
        _ => StartTls::IfOffered,
    };
    let mut session = Session::new(Arc::new(config), now);
    if habits & 8 != 0 {
        let login = Login::new("joe", "secret").with_nonce("nonce");
        session = session.with_login(login);
    }
    let (mut sent, mut texts, mut outcomes, mut started) = (Vec::new(), 0, 0, 0);
    for mut piece in input.chunks(usize::from(*size) + 1) {
        while !piece.is_empty() {
            let taken = session.receive(now, piece);
            piece = &piece[taken..];
            let mut progress = taken > 0;
            loop {
                if let Some(event) = session.poll_event() {
                    settle(&mut session, event, &mut started, &mut outcomes, &mut texts);
                } else if !session.poll_transmit(&mut sent) {
                    break;
                }
                progress = true;
            }
            assert!(progress, "stuck");
        }
    }
    session.handle_eof(now);
    while let Some(event) = session.poll_event() {
        settle(&mut session, event, &mut started, &mut outcomes, &mut texts);
    }
    assert!(session.is_closed());
    assert!(outcomes == started || (started == 0 && outcomes == 1));
});

fn settle(
    session: &mut Session,
    event: Event,
    started: &mut u32,
    outcomes: &mut u32,
    texts: &mut u32,
) {
    match event {
        Event::Ready { .. } if *started < 3 => {
            *started += 1;
            let address = |text| Address::new(text).expect("a short address");
            session
                .start(Transaction::new(
                    ReversePath::Address(address("a b@c")),
                    vec![address("d@e"), address("f@g")],
                ))
                .expect("it is sendable");
        }
        Event::Ready { .. } => session.quit(),
        Event::StartTls => session.tls_started(),
        Event::BodyWanted => {
            *texts += 1;
            session.body(b"x\n.\n");
            session.end_body();
        }
        Event::Done { reply } => {
            assert!(*texts > 0 && (200..300).contains(&reply.code()));
            *outcomes += 1;
        }
        Event::Failed(failure) => {
            let _ = (failure.class(), failure.status(), failure.cause.to_string());
            *outcomes += 1;
        }
        _ => {}
    }
}
