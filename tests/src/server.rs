//! `qmail serve` as a child process, and clients that talk to it line by line.
//!
//! Everything waits at most [`PATIENCE`]: a test that hangs fails instead.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, Socket, Type};

use crate::tls::{Identity, Wire};

/// Longest time to wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A server that runs until it is dropped, which kills it.
pub struct Server {
    child: Child,
    output: Arc<Output>,
    /// Where it was told to live.
    pub home: PathBuf,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    lines: Vec<String>,
    open: usize,
}

impl Server {
    /// Starts `program serve --home HOME ARGUMENTS`, and waits until it listens (or not, if it ends first).
    pub fn start(program: &str, home: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.arg("serve").arg("--home").arg(home).args(arguments);
        Self::spawn(&mut command, home)
    }

    /// Starts a command that is a server of this home sooner or later, and waits as [`Server::start`] does.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn spawn(command: &mut Command, home: &Path) -> Self {
        command
            .env_remove("QMAIL_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let output = Arc::new(Output::default());
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        output.lock().open = 2;
        collect(&output, stdout);
        collect(&output, stderr);
        let server = Self {
            child,
            output,
            home: home.to_owned(),
        };
        let ready =
            |line: &String| line.starts_with("status: local 0/") || line.starts_with("listening: ");
        server.wait_for(|lines| lines.iter().any(ready));
        server
    }

    /// Starts a server on free loopback ports.
    pub fn start_free(program: &str, home: &Path, arguments: &[&str]) -> Self {
        let mut all = vec!["--smtp", "127.0.0.1:0", "--pop3", "127.0.0.1:0"];
        all.extend(arguments);
        Self::start(program, home, &all)
    }

    /// All lines written so far, of both outputs.
    pub fn lines(&self) -> Vec<String> {
        self.output.lock().lines.clone()
    }

    /// Waits until the lines written fulfil `enough`, or the program has closed its outputs; returns whether they do.
    pub fn wait_for(&self, enough: impl Fn(&[String]) -> bool) -> bool {
        let lines = self.output.lock();
        let (lines, _) = self
            .output
            .changed
            .wait_timeout_while(lines, PATIENCE, |lines| {
                lines.open > 0 && !enough(&lines.lines)
            })
            .unwrap_or_else(PoisonError::into_inner);
        enough(&lines.lines)
    }

    /// Waits for a line that contains `part`.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub fn wait_for_line(&self, part: &str) -> String {
        let found = |lines: &[String]| lines.iter().find(|line| line.contains(part)).cloned();
        self.wait_for(|lines| found(lines).is_some());
        found(&self.lines()).unwrap_or_else(|| panic!("no line {part:?} in {:#?}", self.lines()))
    }

    /// Waits until this many messages are done with.
    ///
    /// # Panics
    ///
    /// If they are not, in time.
    pub fn wait_for_ends(&self, count: usize) {
        let ended = |lines: &[String]| {
            let ends = lines.iter().filter(|line| line.starts_with("end msg "));
            ends.count() >= count
        };
        assert!(self.wait_for(ended), "{count} ends in {:#?}", self.lines());
    }

    /// Where it takes mail.
    pub fn smtp(&self) -> SocketAddr {
        self.listener("smtp")
    }

    /// Where it gives mail out.
    pub fn pop3(&self) -> SocketAddr {
        self.listener("pop3")
    }

    /// Where `service` listens, as the log calls it.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn listener(&self, service: &str) -> SocketAddr {
        let prefix = format!("listening: {service} ");
        let line = self.wait_for_line(&prefix);
        line[prefix.len()..].parse().expect("an address")
    }

    /// The first user: address and password, as the first start prints them.
    pub fn first_user(&self) -> (String, String) {
        let line = self.wait_for_line("  password ");
        let (user, secret) = line.split_once("  password ").expect("just found");
        let address = user.strip_prefix("user ").expect("user ADDRESS");
        (address.to_owned(), secret.to_owned())
    }

    /// Process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.id()).expect("small")).expect("not 0");
        kill_process(pid, signal).expect("it is our child");
    }

    /// Waits for the end.
    ///
    /// # Panics
    ///
    /// If it does not come.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                self.wait_for(|_| false);
                return status;
            }
            assert!(Instant::now() < until, "still running: {:#?}", self.lines());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("Linux");
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        number.expect("VmRSS").parse().expect("a number")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn collect(output: &Arc<Output>, from: impl Read + Send + 'static) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line).into_owned();
            output.lock().lines.push(line);
            output.changed.notify_all();
        }
        output.lock().open -= 1;
        output.changed.notify_all();
    });
}

/// A client that sends lines and reads replies.
pub struct Client {
    reader: BufReader<Wire>,
}

impl Client {
    /// Connects, and reads the greeting.
    ///
    /// # Panics
    ///
    /// If nobody listens, or nobody greets.
    pub fn connect(address: SocketAddr) -> (Self, String) {
        let mut client = Self::open(address);
        let greeting = client.reply();
        (client, greeting)
    }

    /// Connects.
    ///
    /// # Panics
    ///
    /// If nobody listens.
    pub fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).expect("somebody listens"))
    }

    /// Connects from an address of this host.
    ///
    /// # Panics
    ///
    /// If nobody listens, or it is no address of this host.
    pub fn open_from(local: Ipv4Addr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let local = SocketAddr::from((local, 0));
        socket.bind(&local.into()).expect("an address of this host");
        socket.connect(&address.into()).expect("somebody listens");
        Self::over(socket.into())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        stream.set_nodelay(true).expect("a socket");
        Self {
            reader: BufReader::new(Wire::Clear(stream)),
        }
    }

    /// Goes on by TLS. What came before is forgotten.
    #[must_use]
    pub fn encrypted(self, identity: &Identity) -> Self {
        let wire = self.reader.into_inner().encrypted(identity);
        Self {
            reader: BufReader::new(wire),
        }
    }

    /// Sends octets as they are.
    ///
    /// # Panics
    ///
    /// If the server has closed.
    pub fn send(&mut self, octets: &[u8]) {
        assert!(self.try_send(octets), "the server reads");
    }

    /// Sends octets; `false` if the server has closed.
    pub fn try_send(&mut self, octets: &[u8]) -> bool {
        let wire = self.reader.get_mut();
        wire.write_all(octets).and_then(|()| wire.flush()).is_ok()
    }

    /// Sends a line and reads the reply.
    pub fn command(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends a line; the reply must begin with `start`.
    ///
    /// # Panics
    ///
    /// If it does not.
    pub fn expect(&mut self, line: &str, start: &str) -> String {
        let reply = self.command(line);
        assert!(reply.starts_with(start), "{line}: {reply}");
        reply
    }

    /// One reply, with all lines of an SMTP one; empty at the end of the connection.
    pub fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let line = self.line();
            let more = line.as_bytes().get(3) == Some(&b'-') && !line.starts_with('-');
            reply.push_str(&line);
            if !more {
                return reply;
            }
            reply.push('\n');
        }
    }

    /// One line without its CR LF; empty at the end of the connection.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let read = self.reader.read_until(b'\n', &mut line);
        // A server that closes with our octets unread resets the connection: that is an end too.
        if read.is_err() {
            line.clear();
        }
        let line = String::from_utf8_lossy(&line);
        line.trim_end_matches(['\r', '\n']).to_owned()
    }

    /// All lines up to a lone dot, joined as they came, dots undone.
    ///
    /// # Panics
    ///
    /// If the connection ends before.
    pub fn multi_line(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = self.reader.read_until(b'\n', &mut line);
            assert!(read.is_ok_and(|read| read > 0), "cut off");
            if line == b".\r\n" {
                return text;
            }
            let stuffed = usize::from(line.starts_with(b"."));
            text.extend_from_slice(&line[stuffed..]);
        }
    }
}

/// Sends one message by SMTP; `text` has CR LF lines and stuffed dots already. Returns the reply to it.
pub fn send_mail(server: SocketAddr, sender: &str, recipients: &[&str], text: &[u8]) -> String {
    let (mut client, _) = Client::connect(server);
    client.expect("EHLO client.example", "250");
    client.expect(&format!("MAIL FROM:<{sender}>"), "250");
    for recipient in recipients {
        client.expect(&format!("RCPT TO:<{recipient}>"), "250");
    }
    client.expect("DATA", "354");
    client.send(text);
    client.send(b".\r\n");
    let reply = client.reply();
    client.expect("QUIT", "221");
    reply
}

/// Logs in by POP3.
pub fn log_in(server: SocketAddr, user: &str, secret: &str) -> Client {
    let (mut client, greeting) = Client::connect(server);
    assert!(greeting.starts_with("+OK"), "{greeting}");
    client.expect(&format!("USER {user}"), "+OK");
    client.expect(&format!("PASS {secret}"), "+OK");
    client
}

/// All messages of a mailbox by POP3.
pub fn fetch_all(server: SocketAddr, user: &str, secret: &str) -> Vec<Vec<u8>> {
    let mut client = log_in(server, user, secret);
    let stat = client.expect("STAT", "+OK");
    let count: usize = stat
        .split(' ')
        .nth(1)
        .and_then(|count| count.parse().ok())
        .expect("a count");
    let messages = (1..=count)
        .map(|number| {
            client.expect(&format!("RETR {number}"), "+OK");
            client.multi_line()
        })
        .collect();
    client.expect("QUIT", "+OK");
    messages
}
