//! `qmail serve` under a service manager, whose part is played here: it opens sockets, hears how the service is, and says when
//! to read again and to end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use command_fds::{CommandFdExt as _, FdMapping};
use qmail_tests::server::{Client, PATIENCE, Server, fetch_all, send_mail};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// The number of the first socket (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// Longest text of one message of a service.
const MESSAGE_OCTETS_MAX: usize = 4096;

/// Where a service says how it is.
struct Manager {
    directory: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { directory, socket }
    }

    fn home(&self) -> std::path::PathBuf {
        self.directory.path().join("home")
    }

    /// `qmail serve` with these sockets.
    fn command(&self, names: &str, sockets: Vec<OwnedFd>, arguments: &[&str]) -> Command {
        let mut command = serve(&self.home(), names, sockets, arguments);
        command.env("NOTIFY_SOCKET", self.directory.path().join("notify"));
        command
    }

    /// The next message that begins so; what comes before it is passed over.
    fn hear(&self, beginning: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut message = [0; MESSAGE_OCTETS_MAX];
        while Instant::now() < until {
            let octets = self.socket.recv(&mut message).expect(beginning);
            let text = std::str::from_utf8(&message[..octets]).unwrap();
            if text.starts_with(beginning) {
                return text.to_owned();
            }
        }
        panic!("{beginning} was not said");
    }
}

/// `qmail serve`, started as a service manager does it: only the process itself knows its number for LISTEN_PID.
fn serve(home: &Path, names: &str, sockets: Vec<OwnedFd>, arguments: &[&str]) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh", PROGRAM, "serve"])
        .arg("--home")
        .arg(home)
        .args(arguments)
        .env("LISTEN_FDS", sockets.len().to_string())
        .env("LISTEN_FDNAMES", names)
        .env_remove("QMAIL_HOME");
    let mappings = sockets.into_iter().zip(FIRST..);
    let mappings = mappings.map(|(parent_fd, child_fd)| FdMapping {
        parent_fd,
        child_fd,
    });
    command.fd_mappings(mappings.collect()).unwrap();
    command
}

fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

#[test]
fn sockets_are_served_by_their_names_and_nothing_else_is() {
    let manager = Manager::new();
    let (smtp, pop3) = (loopback(), loopback());
    let addresses = (smtp.local_addr().unwrap(), pop3.local_addr().unwrap());
    // A client that came before the service waits for it.
    let mut early = Client::open(addresses.0);
    let mut command = manager.command("pop3:smtp", vec![pop3.into(), smtp.into()], &[]);
    let mut server = Server::spawn(&mut command, &manager.home());
    assert_eq!(
        manager.hear("READY=1\n"),
        format!(
            "READY=1\nSTATUS=listening: smtp {}, pop3 {}\n",
            addresses.0, addresses.1
        )
    );
    assert_eq!((server.smtp(), server.pop3()), addresses);
    let greeting = early.reply();
    assert!(greeting.starts_with("220 "), "{greeting}");
    let (user, secret) = server.first_user();
    send_mail(addresses.0, "", &[&user], b"Subject: one\r\n\r\n");
    server.wait_for_ends(1);
    assert_eq!(fetch_all(addresses.1, &user, &secret).len(), 1);
    server.signal(Signal::TERM);
    assert!(manager.hear("STOPPING=1\n").contains("STATUS="));
    assert!(server.wait().success());
}

#[test]
fn reading_again_and_being_alive_are_told() {
    let manager = Manager::new();
    let mut command = manager.command("smtp", vec![loopback().into()], &[]);
    command.env("WATCHDOG_USEC", "200000");
    let server = Server::spawn(&mut command, &manager.home());
    manager.hear("READY=1\n");
    for _ in 0..3 {
        manager.hear("WATCHDOG=1\n");
    }
    server.signal(Signal::HUP);
    let reloading = manager.hear("RELOADING=1\n");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hear("READY=1\n");
    // What is no good is not read, but the answer comes.
    fs::write(manager.home().join("control/databytes"), "lots\n").unwrap();
    server.signal(Signal::HUP);
    manager.hear("RELOADING=1\n");
    manager.hear("READY=1\n");
    server.wait_for_line("unable to reread controls");
}

/// Exit code and words of a start that fails.
fn refused(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn sockets_that_cannot_be_used_are_told_in_one_line() {
    let scratch = tempfile::tempdir().unwrap();
    let unix = UnixListener::bind(scratch.path().join("socket")).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let listener = loopback();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let cases: [(&str, OwnedFd, &str); 6] = [
        ("web", loopback().into(), "a socket named `web`"),
        ("", loopback().into(), "a socket named ``"),
        ("smtp:pop3", loopback().into(), "look at LISTEN_FDS"),
        ("smtp", unix.into(), "smtp is no listening TCP socket"),
        ("pop3", udp.into(), "pop3 is no listening TCP socket"),
        ("smtp", connected.into(), "smtp is no listening TCP socket"),
    ];
    for (names, socket, words) in cases {
        let command = serve(&scratch.path().join("home"), names, vec![socket], &[]);
        let (code, said) = refused(command);
        assert_eq!((code, said.lines().count()), (Some(100), 1), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let encrypted = vec![loopback().into()];
    let command = serve(&scratch.path().join("home"), "smtps", encrypted, &[]);
    let (code, said) = refused(command);
    assert_eq!(code, Some(111), "{said}");
    assert!(said.contains("servercert.pem"), "{said}");
    let many = (0..65).map(|_| listener.try_clone().unwrap().into());
    let names = vec!["smtp"; 65].join(":");
    let command = serve(&scratch.path().join("home"), &names, many.collect(), &[]);
    let (code, said) = refused(command);
    assert_eq!(code, Some(100), "{said}");
    assert!(said.contains("opened 65 sockets, more than 64"), "{said}");
    for count in ["many", "-1", "4000000000", "65"] {
        let mut command = serve(&scratch.path().join("home"), "smtp", Vec::new(), &[]);
        command.env("LISTEN_FDS", count);
        let (code, said) = refused(command);
        assert_eq!((code, said.lines().count()), (Some(100), 1), "{said}");
        assert!(said.contains("service manager"), "{said}");
    }
}

#[test]
fn sockets_for_another_process_are_none_of_ours() {
    let scratch = tempfile::tempdir().unwrap();
    let mut command = Command::new(PROGRAM);
    command
        .args(["serve", "--smtp", "127.0.0.1:0", "--pop3", "none", "--home"])
        .arg(scratch.path().join("home"))
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "web");
    let server = Server::spawn(&mut command, scratch.path());
    let (_client, greeting) = Client::connect(server.smtp());
    assert!(greeting.starts_with("220 "), "{greeting}");
}
