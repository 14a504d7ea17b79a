//! Hosts that send mail to each other: `qmail serve` with the control files for it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use crate::server::Server;

/// Writes control files of a home.
///
/// # Panics
///
/// If they cannot be written.
pub fn control(home: &Path, files: &[(&str, &str)]) {
    let control = home.join("control");
    fs::create_dir_all(&control).expect("a directory");
    for (name, text) in files {
        fs::write(control.join(name), text).expect("a control file");
    }
}

/// A port that nobody listens at, for a while.
///
/// # Panics
///
/// If there is none left.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("a free port")
}

/// A host `a.example` that sends everything else to `next`, with these control files too.
pub fn sender(program: &str, home: &Path, next: SocketAddr, more: &[(&str, &str)]) -> Server {
    let routes = format!(":{}:{}\n", next.ip(), next.port());
    control(
        home,
        &[
            ("me", "a.example\n"),
            ("rcpthosts", "a.example\n"),
            ("relayclients", "127.0.0.1\n"),
            ("smtproutes", &routes),
        ],
    );
    control(home, more);
    Server::start_free(program, home, &[])
}

/// A host `b.example` that takes mail for itself at `address`, from nobody else.
pub fn receiver(program: &str, home: &Path, address: SocketAddr) -> Server {
    control(home, &[("me", "b.example\n"), ("rcpthosts", "b.example\n")]);
    let address = address.to_string();
    let listeners = ["--smtp", &address, "--pop3", "127.0.0.1:0"];
    Server::start(program, home, &listeners)
}
