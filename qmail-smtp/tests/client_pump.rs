//! A client whose server speaks while it is still sent the text.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and any instant serves as a start"
)]

use std::sync::Arc;
use std::time::Instant;

use qmail_core::pump::Pump;
use qmail_core::{Address, ReversePath};
use qmail_smtp::client::{Cause, Config, Event, Protocol, Session, Stage, Transaction};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufStream};
use tokio::io::{DuplexStream, duplex};

/// What fits into the connection: much less than the text.
const CONNECTION_OCTETS: usize = 1024;

const CHUNK: &[u8] = &[b'x'; 10_000];

/// What a server does when it has read a little of the text.
#[derive(Clone, Copy)]
enum Then {
    /// Says this, reads the rest, and refuses it.
    GoesOn(&'static str),
    /// Says this, and hangs up.
    HangsUp(&'static str),
    /// Says this, and neither reads nor hangs up.
    Waits(&'static str),
    /// Reads the rest, and takes it.
    Takes,
}

async fn server(stream: DuplexStream, then: Then) {
    let mut stream = BufStream::new(stream);
    let mut say = "220 hi\r\n";
    loop {
        stream.write_all(say.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap_or(0) == 0 {
            return;
        }
        say = match line.get(..4).unwrap_or_default() {
            "EHLO" | "LHLO" | "MAIL" | "RCPT" => "250 ok\r\n",
            "DATA" => {
                stream.write_all(b"354 go\r\n").await.unwrap();
                stream.flush().await.unwrap();
                stream.read_exact(&mut [0; 100]).await.unwrap();
                match then {
                    Then::GoesOn(words) | Then::HangsUp(words) | Then::Waits(words) => {
                        stream.write_all(words.as_bytes()).await.unwrap();
                        stream.flush().await.unwrap();
                    }
                    Then::Takes => {}
                }
                match then {
                    Then::HangsUp(_) => return,
                    Then::Waits(_) => std::future::pending().await,
                    Then::GoesOn(_) | Then::Takes => {}
                }
                let mut line = Vec::new();
                while line != b".\r\n" {
                    line.clear();
                    if stream.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                match then {
                    Then::Takes => "250 taken\r\n",
                    _ => "554 refused\r\n",
                }
            }
            _ => "221 bye\r\n",
        };
    }
}

/// What a client makes of it that sends `chunks` and puts the end behind the last of them: the reply it takes for the one to the
/// text, or why there is none.
async fn client(
    stream: DuplexStream,
    protocol: Protocol,
    chunks: usize,
) -> Result<u16, (Stage, Cause)> {
    let mut config = Config::new("client.example").unwrap();
    config.protocol = protocol;
    let session = Session::new(Arc::new(config), Instant::now());
    let mut pump = Pump::new(session, stream, Instant::now).hearing();
    let mut left = chunks;
    while let Ok(Some(event)) = pump.next_event().await {
        let session = pump.machine();
        match event {
            Event::Ready { .. } => {
                let to = vec![Address::new("joe@far.example").unwrap()];
                let transaction = Transaction::new(ReversePath::Null, to);
                session.start(transaction).unwrap();
            }
            Event::BodyWanted => {
                session.body(CHUNK);
                left -= 1;
                if left == 0 {
                    session.body(b"\n");
                    session.end_body();
                }
            }
            Event::Done { reply } => return Ok(reply.code()),
            Event::Failed(failure) => {
                assert!(!failure.possible_duplicate);
                return Err((failure.stage, failure.cause));
            }
            _ => {}
        }
    }
    panic!("neither done nor failed");
}

async fn both(protocol: Protocol, chunks: usize, then: Then) -> Result<u16, (Stage, Cause)> {
    let (here, there) = duplex(CONNECTION_OCTETS);
    tokio::select! {
        result = client(here, protocol, chunks) => result,
        () = async { server(there, then).await; std::future::pending().await } => unreachable!(),
    }
}

#[tokio::test]
async fn what_is_said_amid_the_text_is_no_reply_to_it_and_no_success() {
    for protocol in [Protocol::Smtp, Protocol::Lmtp] {
        for chunks in [1, 2, 7] {
            assert_eq!(both(protocol, chunks, Then::Takes).await, Ok(250));
            for words in ["250 early\r\n", "250 ear"] {
                for then in [Then::GoesOn(words), Then::HangsUp(words)] {
                    let failure = both(protocol, chunks, then).await.unwrap_err();
                    assert!(
                        matches!(failure, (Stage::Body | Stage::BodyEnd, _)),
                        "{chunks} {words}: {failure:?}"
                    );
                }
            }
            let words = "552 5.3.4 too big\r\n";
            for then in [
                Then::GoesOn(words),
                Then::HangsUp(words),
                Then::Waits(words),
            ] {
                let (stage, cause) = both(protocol, chunks, then).await.unwrap_err();
                assert!(
                    matches!(&cause, Cause::Refused(reply) if reply.code() == 552),
                    "{chunks}: {cause:?}"
                );
                assert_eq!(stage, Stage::Body);
            }
        }
    }
}
