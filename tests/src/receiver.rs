//! `qmail serve` as a host called `mail.test` with one user, ann, that takes mail for itself and sends none out.

use std::fs;
use std::path::Path;

use crate::server::{Client, Server};

/// Starts it on free loopback ports, with these control files besides, in a split queue, where the text of a message is a file.
///
/// # Panics
///
/// If its home cannot be written.
pub fn start(program: &str, home: &Path, files: &[(&str, &str)], arguments: &[&str]) -> Server {
    let control = home.join("control");
    fs::create_dir_all(&control).expect("a home");
    for (name, text) in [
        ("me", "mail.test\n"),
        ("rcpthosts", "mail.test\n"),
        ("concurrencyremote", "0\n"),
    ]
    .iter()
    .chain(files)
    {
        fs::write(control.join(name), text).expect("a control file");
    }
    let mailbox = format!("ann={}", home.join("ann/Maildir").display());
    let mut all = vec!["--mailbox", &mailbox, "--spool", "split"];
    all.extend(arguments);
    Server::start_free(program, home, &all)
}

/// A client behind a proxy, at 192.0.2.`last`. `proxyclients` must have 127.0.0.1.
pub fn proxied(server: &Server, last: u8) -> Client {
    let mut client = Client::open(server.smtp());
    client.send(&proxy_header(last));
    client
}

/// What a proxy says of such a client.
pub fn proxy_header(last: u8) -> Vec<u8> {
    format!("PROXY TCP4 192.0.2.{last} 198.51.100.1 4000 25\r\n").into_bytes()
}

/// Sends a message.
///
/// # Panics
///
/// If it is not taken.
pub fn send(client: &mut Client, recipient: &str) {
    client.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    client.expect(&format!("RCPT TO:<{recipient}>"), "250");
    client.expect("DATA", "354");
    client.expect("Subject: x\r\n\r\nx\r\n.", "250");
}

/// The one message in ann's Maildir, once it is there.
///
/// # Panics
///
/// If there is none.
pub fn delivered(server: &Server) -> String {
    server.wait_for_ends(1);
    let new = fs::read_dir(server.home.join("ann/Maildir/new")).expect("a Maildir");
    only_text(new)
}

/// The one message in the queue.
///
/// # Panics
///
/// If there is none.
pub fn queued(home: &Path) -> String {
    let mess = fs::read_dir(home.join("queue/mess")).expect("a queue");
    let parts = mess.map(|part| part.expect("a part of the queue").path());
    only_text(parts.flat_map(|part| fs::read_dir(part).expect("a part of the queue")))
}

fn only_text(mut entries: impl Iterator<Item = std::io::Result<fs::DirEntry>>) -> String {
    let entry = entries.next().and_then(Result::ok).expect("a message");
    fs::read_to_string(entry.path()).expect("a message")
}
