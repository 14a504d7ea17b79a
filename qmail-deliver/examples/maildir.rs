//! Delivery to users of this host: what an embedder would start from who takes mail in and stores it in Maildirs.
//!
//! ```text
//! cargo run -p qmail-deliver --example maildir                    # in a directory of its own, and removes it
//! cargo run -p qmail-deliver --example maildir -- HOME < message  # to joe, whose home is HOME
//! ```
#![expect(clippy::disallowed_methods, reason = "a program has a clock and files")]

use std::error::Error;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use qmail_core::{Address, Delivery, Job, MemoryContent, Outcome, ReversePath};
use qmail_deliver::{
    AssignedUsers, FirstOf, FixedUsers, LocalAgent, LocalDelivery, Maildirs, User,
};

const MESSAGE: &str = "From: ann@example.net\nTo: joe@example.org\nSubject: hello\n\nA line.\n";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1) {
        Some(home) => {
            let mut message = Vec::new();
            if !std::io::stdin().is_terminal() {
                std::io::stdin().read_to_end(&mut message)?;
            }
            deliver(Path::new(&home), message).await
        }
        None => {
            let scratch = tempfile::tempdir()?;
            deliver(scratch.path(), MESSAGE.into()).await?;
            for file in std::fs::read_dir(scratch.path().join("Maildir/new"))? {
                let file: PathBuf = file?.path();
                println!("{}:\n{}", file.display(), std::fs::read_to_string(&file)?);
            }
            Ok(())
        }
    }
}

async fn deliver(home: &Path, message: Vec<u8>) -> Result<(), Box<dyn Error>> {
    Maildirs::create(&home.join("Maildir"))?;

    // Who gets mail here: joe, under two names, and whoever users/assign of a mail system knows.
    let joe = User::new("joe", home);
    let fixed = FixedUsers::new()
        .with("joe", joe.clone())
        .with("postmaster", joe);
    let users = FirstOf(vec![
        Arc::new(fixed),
        Arc::new(AssignedUsers::new("/var/qmail")),
    ]);

    // One for the whole process: deliveries to one Maildir then share the work of making it durable.
    let maildirs = Maildirs::new("mail.example.org", std::process::id(), SystemTime::now);
    let delivery = LocalDelivery::new(Arc::new(users), LocalAgent::new(maildirs, SystemTime::now));

    let recipients = vec![
        Address::new("joe@example.org")?,
        Address::new("nobody-we-know@example.org")?,
    ];
    let outcomes = delivery
        .deliver(Job {
            message: 0,
            content: Arc::new(MemoryContent(message.into())),
            sender: ReversePath::new("ann@example.net")?,
            recipients: recipients.clone(),
        })
        .await;
    for (recipient, outcome) in recipients.iter().zip(&outcomes) {
        let text = String::from_utf8_lossy(outcome.report().as_bytes());
        let what = match outcome {
            Outcome::Delivered(_) => "delivered",
            Outcome::Deferred(_) => "to be tried again",
            Outcome::Failed(_) => "failed",
        };
        println!("{recipient}: {what}: {}", text.trim_end());
    }
    match outcomes[..] {
        [Outcome::Delivered(_), Outcome::Failed(_)] => Ok(()),
        _ => Err("joe should have mail, and nobody else".into()),
    }
}
