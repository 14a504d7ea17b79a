//! An SMTP server that keeps mail in memory and prints it: what an embedder would start from.
//!
//! ```text
//! cargo run -p qmail-smtp --example memory_server                            # talks to itself once, and ends
//! cargo run -p qmail-smtp --example memory_server -- --listen 127.0.0.1:2525  # serves until interrupted
//! ```
//!
//! The machine `server::Session` asks, `Mailroom` answers, and `Pump` moves the octets. Everything that a real server does
//! differently is in `Mailroom`: which recipients exist, where text goes, and when a message is safe.
#![expect(
    clippy::disallowed_methods,
    reason = "a program has a clock and sockets"
)]

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use qmail_core::pump::Pump;
use qmail_core::{Address, EnhancedStatus, Envelope, Reply, ReversePath};
use qmail_smtp::client;
use qmail_smtp::server::{Config, Event, Session, Verdict};
use tokio::io::{AsyncRead, AsyncWrite};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = Config::new("mail.example.org");
    config.message_octets_max = Some(10_000_000);
    let config = Arc::new(config);
    let mailroom = Arc::new(Mailroom::default());

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["--demo"] => demonstrate(config, mailroom).await,
        ["--listen", address] => {
            let listener = tokio::net::TcpListener::bind(address).await?;
            eprintln!("listening on {}", listener.local_addr()?);
            loop {
                let (stream, peer) = listener.accept().await?;
                // One write per batch of replies is worth nothing if the kernel waits for more of them.
                stream.set_nodelay(true)?;
                let (config, mailroom) = (Arc::clone(&config), Arc::clone(&mailroom));
                tokio::spawn(async move {
                    if let Err(error) = serve(config, &mailroom, stream).await {
                        eprintln!("{peer}: {error}");
                    }
                });
            }
        }
        _ => Err("usage: memory_server [--demo | --listen ADDRESS:PORT]".into()),
    }
}

/// The mail that has come in.
#[derive(Default)]
struct Mailroom {
    messages: Mutex<Vec<(Envelope, Vec<u8>)>>,
}

impl Mailroom {
    /// Mail for example.org only: a server without such a rule relays for everybody.
    fn accepts(&self, recipient: &Address) -> Verdict {
        let ours = recipient
            .domain()
            .is_none_or(|domain| domain.eq_ignore_ascii_case(b"example.org"));
        if ours {
            return Verdict::Accept;
        }
        Verdict::Reply(Reply::new(
            553,
            Some(EnhancedStatus::permanent(7, 1)),
            "sorry, that domain isn't in my list of allowed rcpthosts",
        ))
    }

    /// A server that keeps its promises writes to a disk here, and waits for it.
    fn keep(&self, envelope: Envelope, text: Vec<u8>) -> Verdict {
        println!("from <{}>", envelope.sender);
        for recipient in &envelope.recipients {
            println!("to <{recipient}>");
        }
        println!("{}", String::from_utf8_lossy(&text));
        match self.messages.lock() {
            Ok(mut messages) => messages.push((envelope, text)),
            Err(_) => return Verdict::Reply(Reply::new(451, None, "try again")),
        }
        Verdict::Accept
    }
}

/// One connection, from greeting to end.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    config: Arc<Config>,
    mailroom: &Mailroom,
    stream: S,
) -> std::io::Result<()> {
    let session = Session::new(config, Instant::now());
    let mut pump = Pump::new(session, stream, Instant::now);
    let mut draft = None;
    while let Some(event) = pump.next_event().await? {
        let session = pump.machine();
        match event {
            Event::Mail { question, .. } => session.answer_mail(question, Verdict::Accept),
            Event::Rcpt {
                question,
                recipient,
                ..
            } => session.answer_rcpt(question, mailroom.accepts(&recipient)),
            Event::Data { question, envelope } => {
                draft = Some((envelope, Vec::new()));
                session.answer_data(question, Verdict::Accept);
            }
            Event::Body(chunk) => {
                if let Some((_, text)) = &mut draft {
                    text.extend_from_slice(&chunk);
                }
            }
            Event::BodyEnd { question, .. } => {
                let verdict = match draft.take() {
                    Some((envelope, text)) => mailroom.keep(envelope, text),
                    None => Verdict::Reply(Reply::new(451, None, "try again")),
                };
                session.answer_body_end(question, verdict);
            }
            Event::Aborted { reason } => {
                eprintln!("a message is void: {reason:?}");
                draft = None;
            }
            _ => {}
        }
    }
    Ok(())
}

/// Sends one message to a server at the other end of a pipe in memory.
async fn demonstrate(config: Arc<Config>, mailroom: Arc<Mailroom>) -> Result<(), Box<dyn Error>> {
    let (here, there) = tokio::io::duplex(4096);
    let server = serve(config, &mailroom, there);
    let client = send(
        here,
        b"Subject: hello\n\nA line.\n.and one that begins with a dot\n",
    );
    let (served, sent) = tokio::join!(server, client);
    served?;
    sent?;
    let messages = mailroom
        .messages
        .lock()
        .map_or(0, |messages| messages.len());
    match messages {
        1 => Ok(()),
        count => Err(format!("{count} messages came in").into()),
    }
}

/// What a client does with `client::Session`.
async fn send<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    text: &[u8],
) -> Result<(), Box<dyn Error>> {
    use client::Event;

    let config = client::Config::new("client.example.org")?;
    let session = client::Session::new(Arc::new(config), Instant::now());
    let mut pump = Pump::new(session, stream, Instant::now);
    let mut transaction = Some(client::Transaction::new(
        ReversePath::new("joe@example.org")?,
        vec![
            Address::new("postmaster@example.org")?,
            Address::new("stranger@elsewhere.example")?,
        ],
    ));
    let mut chunks = text.chunks(20);
    while let Some(event) = pump.next_event().await? {
        let session = pump.machine();
        match event {
            Event::Ready { .. } => match transaction.take() {
                Some(transaction) => session.start(transaction)?,
                None => session.quit(),
            },
            Event::Recipient { index, reply } => eprintln!("recipient {index}: {reply}"),
            Event::BodyWanted => match chunks.next() {
                Some(chunk) => session.body(chunk),
                None => session.end_body(),
            },
            Event::Done { reply } => eprintln!("done: {reply}"),
            Event::Failed(failure) => return Err(failure.cause.to_string().into()),
            _ => {}
        }
    }
    Ok(())
}
