//! A POP3 server over mail in memory, and a client that reads it: all that an embedding needs.
//!
//! `cargo run -p qmail-pop3 --features tokio --example memory_maildrop`

use std::sync::Arc;
use std::time::Instant;

use qmail_core::{Account, Credentials, LoginError, PasswordChecker};
use qmail_pop3::{Config, End, Greeting, MemoryMaildrops, Session, Timestamp, serve};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// One user whose password is known in clear, so that APOP works too.
struct OneUser;

#[async_trait::async_trait]
impl PasswordChecker for OneUser {
    async fn check(&self, credentials: &Credentials) -> Result<Account, LoginError> {
        if credentials.name() == "joe" && credentials.fit(b"tanstaaf") {
            return Ok(Account::new("joe"));
        }
        Err(LoginError::Refused)
    }

    fn can_apop(&self) -> bool {
        true
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program has a clock and sockets"
)]
#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let maildrops = MemoryMaildrops::default();
    maildrops.add("joe", "Subject: hello\n\nFirst things first.\n");
    maildrops.add("joe", "Subject: more\n\n.dots\n..are doubled on the way\n");

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let client = read_mail(listener.local_addr()?);

    let server = async {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A server that numbers its sessions shows `Timestamp::of_session`.
        let timestamp = Timestamp::of_process(std::process::id(), 0, b"pop.example.org");
        let config = Arc::new(Config::default());
        let session = Session::new(config, Greeting::Apop(timestamp), Instant::now());
        Ok(serve(session, stream, Instant::now, &OneUser, &maildrops).await)
    };

    let (served, ()) = tokio::try_join!(server, client)?;
    assert_eq!(served.end, End::Updated);
    assert_eq!(maildrops.messages("joe").len(), 1);
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a client has a socket")]
/// Shows a conversation, and deletes the first message.
async fn read_mail(server: std::net::SocketAddr) -> std::io::Result<()> {
    let stream = TcpStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    reply(&mut stream).await?;
    for (command, multi_line) in [
        ("CAPA", true),
        ("USER joe", false),
        ("PASS tanstaaf", false),
        ("STAT", false),
        ("UIDL", true),
        ("RETR 2", true),
        ("DELE 1", false),
        ("QUIT", false),
    ] {
        println!("C: {command}");
        stream
            .write_all(format!("{command}\r\n").as_bytes())
            .await?;
        if reply(&mut stream).await?.starts_with("+OK") && multi_line {
            while reply(&mut stream).await? != ".\r\n" {}
        }
    }
    Ok(())
}

async fn reply(stream: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    println!("S: {}", line.trim_end());
    Ok(line)
}
