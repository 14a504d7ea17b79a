//! Whole sessions over a stream in memory, and what goes wrong behind them.
#![expect(
    clippy::disallowed_methods,
    reason = "the clock is handed to the code under test"
)]

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, DuplexStream, duplex};

use super::*;
use crate::{Greeting, Listing, MaildropError, MemoryMaildrops, Timestamp};

/// `joe` has the password `secret`; for `busy` nothing can be told.
struct Passwords;

#[async_trait]
impl PasswordChecker for Passwords {
    async fn check(&self, credentials: &Credentials) -> Result<Account, LoginError> {
        match credentials.name().as_ref() {
            b"joe" if credentials.fit(b"secret") => Ok(Account::new("joe")),
            b"busy" => Err(LoginError::Unavailable {
                reason: "no database".to_owned(),
            }),
            _ => Err(LoginError::Refused),
        }
    }

    fn can_apop(&self) -> bool {
        true
    }
}

/// A maildrop with one message, and one thing wrong with it.
#[derive(Clone, Copy, PartialEq)]
enum Broken {
    Opening,
    Listing,
    Reading,
    Removing,
}

#[async_trait]
impl Maildrops for Broken {
    async fn open(&self, _: &Account) -> Result<Box<dyn Maildrop>, MaildropError> {
        match self {
            Self::Opening => Err(MaildropError::InUse),
            _ => Ok(Box::new(*self)),
        }
    }
}

#[async_trait]
impl Maildrop for Broken {
    async fn list(&mut self) -> Result<Listing, MaildropError> {
        if *self == Self::Listing {
            return Err(MaildropError::Unreadable(
                io::ErrorKind::NotADirectory.into(),
            ));
        }
        let mut listing = Listing::new();
        listing.push(100, b"a").expect("an id");
        Ok(listing)
    }

    async fn open(&mut self, _: usize) -> io::Result<Box<dyn Body>> {
        Ok(Box::new(HalfMessage(false)))
    }

    async fn commit(&mut self, _: &Deletions) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// A message whose second chunk cannot be read.
struct HalfMessage(bool);

#[async_trait]
impl Body for HalfMessage {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.0 = true;
        Ok(Some("half".into()))
    }
}

fn session() -> Session {
    let greeting = Greeting::Apop(Timestamp::of_process(7, 99, b"host"));
    Session::new(Arc::default(), greeting, Instant::now())
}

/// Sends all of `input` at once, ends it, and gives what came back.
async fn served(maildrops: &dyn Maildrops, input: &str) -> (Served, String) {
    let (client, server) = duplex(1 << 20);
    let (served, output) = tokio::join!(
        serve(session(), server, Instant::now, &Passwords, maildrops),
        talk(client, input)
    );
    (served, output)
}

async fn talk(mut client: DuplexStream, input: &str) -> String {
    client.write_all(input.as_bytes()).await.expect("room");
    client.shutdown().await.expect("an end");
    let mut output = String::new();
    client.read_to_string(&mut output).await.expect("text");
    output
}

#[tokio::test]
async fn mail_is_read_and_removed() {
    let maildrops = MemoryMaildrops::default();
    maildrops.add("joe", "Subject: one\n\n1\n");
    maildrops.add("joe", "Subject: two\n\n2\n");
    let (served, output) = served(
        &maildrops,
        "USER joe\r\nPASS secret\r\nRETR 1\r\nTOP 2 0\r\nDELE 1\r\nQUIT\r\n",
    )
    .await;
    assert_eq!(
        output,
        "+OK <7.99@host>\r\n+OK \r\n+OK \r\n+OK \r\nSubject: one\r\n\r\n1\r\n.\r\n\
        +OK \r\nSubject: two\r\n\r\n.\r\n+OK \r\n+OK \r\n"
    );
    assert_eq!(served.end, End::Updated);
    assert_eq!((served.retrieved, served.deleted), (2, 1));
    assert!(served.trouble.is_none());
    assert_eq!(maildrops.messages("joe"), ["Subject: two\n\n2\n"]);
}

#[tokio::test]
async fn a_lost_connection_removes_nothing() {
    let maildrops = MemoryMaildrops::default();
    maildrops.add("joe", "Subject: one\n\n1\n");
    let (served, _) = served(&maildrops, "USER joe\r\nPASS secret\r\nDELE 1\r\nQUI").await;
    assert_eq!(served.end, End::Disconnected);
    assert_eq!(served.account, Some(Account::new("joe")));
    assert_eq!(maildrops.messages("joe").len(), 1);
}

#[tokio::test]
async fn a_client_that_is_gone_stops_a_message() {
    let maildrops = MemoryMaildrops::default();
    maildrops.add("joe", vec![b'x'; 10_000_000]);
    let (mut client, server) = duplex(1 << 16);
    let (served, ()) = tokio::join!(
        serve(session(), server, Instant::now, &Passwords, &maildrops),
        async {
            let input = b"USER joe\r\nPASS secret\r\nDELE 1\r\nRSET\r\nRETR 1\r\nDELE 1\r\n";
            client.write_all(input).await.expect("room");
            client.read_exact(&mut [0; 100_000]).await.expect("text");
            drop(client);
        }
    );
    assert_eq!(served.end, End::Disconnected);
    assert!(served.broken.is_some() && served.trouble.is_none());
    assert_eq!(maildrops.messages("joe").len(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_take_the_last_words_is_not_waited_for() {
    let config = Config {
        idle: std::time::Duration::from_millis(200),
        ..Config::default()
    };
    let session = Session::new(config.into(), Greeting::Plain, Instant::now());
    let maildrops = MemoryMaildrops::default();
    // There is room for the greeting, and not for the goodbye.
    let (mut client, server) = duplex(8);
    let (served, ()) = tokio::join!(
        timeout(
            std::time::Duration::from_secs(20),
            serve(session, server, Instant::now, &Passwords, &maildrops)
        ),
        async { client.write_all(b"QUIT\r\n").await.expect("room") }
    );
    assert_eq!(served.expect("an end").end, End::Quit);
}

#[tokio::test]
async fn a_login_fails_for_a_reason() {
    let none = MemoryMaildrops::default();
    let (served, output) = served(
        &none,
        "USER joe\r\nPASS x\r\nUSER busy\r\nPASS x\r\nQUIT\r\n",
    )
    .await;
    assert_eq!(
        output,
        "+OK <7.99@host>\r\n+OK \r\n-ERR authorization failed\r\n\
        +OK \r\n-ERR [SYS/TEMP] passwords cannot be checked now, try again later\r\n+OK \r\n"
    );
    assert_eq!(served.end, End::Quit);
    let trouble = served.trouble.map(|error| error.to_string());
    assert_eq!(
        trouble.as_deref(),
        Some("passwords cannot be checked: no database")
    );
}

#[tokio::test]
async fn a_maildrop_fails_in_its_ways() {
    for (broken, commands, last_words, end) in [
        (
            Broken::Opening,
            "",
            "+OK \r\n-ERR [IN-USE] another session has this maildrop\r\n",
            End::LoginFailed,
        ),
        (
            Broken::Listing,
            "",
            "+OK \r\n-ERR unable to scan $HOME/Maildir\r\n",
            End::LoginFailed,
        ),
        (
            Broken::Reading,
            "RETR 1\r\n",
            "+OK \r\nhalf",
            End::BodyBroken,
        ),
        (
            Broken::Removing,
            "DELE 1\r\n",
            "+OK \r\n-ERR unable to unlink all deleted messages\r\n",
            End::UpdatedInPart,
        ),
    ] {
        let input = format!("USER joe\r\nPASS secret\r\n{commands}QUIT\r\n");
        let (served, output) = served(&broken, &input).await;
        assert!(output.ends_with(last_words), "{output}");
        assert_eq!(served.end, end);
        assert!(served.trouble.is_some());
    }
}

#[tokio::test]
async fn replies_to_one_batch_come_in_one_write() {
    let maildrops = MemoryMaildrops::default();
    maildrops.add("joe", "Subject: one\n\n1\n");
    let (mut client, server) = duplex(1 << 20);
    let serving = async {
        let account = Account::new("joe");
        let maildrop = maildrops.open(&account).await.expect("a maildrop");
        serve_maildrop(Arc::default(), server, Instant::now, maildrop).await
    };
    tokio::join!(serving, async {
        let mut buffer = [0; 1000];
        let length = client.read(&mut buffer).await.expect("text");
        assert_eq!(&buffer[..length], b"+OK \r\n");
        client
            .write_all(b"STAT\r\nLIST\r\nRETR 1\r\nNOOP\r\n")
            .await
            .expect("room");
        let length = client.read(&mut buffer).await.expect("text");
        assert_eq!(
            buffer[..length].escape_ascii().to_string(),
            b"+OK 1 16\r\n+OK \r\n1 16\r\n.\r\n+OK \r\nSubject: one\r\n\r\n1\r\n.\r\n+OK \r\n"
                .escape_ascii()
                .to_string()
        );
        drop(client);
    });
}
