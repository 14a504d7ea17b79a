//! `qmail-remote`: sends the message on descriptor 0 to a host by SMTP, and reports on descriptor 1.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Address, Body, CHUNK_OCTETS_MAX, Content, Job, Outcome, Report, ReversePath};
use qmail_deliver::{
    Connect, HickoryResolver, RemoteConfig, RemoteDelivery, RemoteReport, Stream, TcpConnect,
};
use qmail_smtp::client::{PartialLine, Timeouts};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::time::timeout;

use crate::applet::{Applet, Call, Kind};
use crate::home::{Home, RemoteControls};
use crate::policy::own_addresses;
use crate::stdio;
use crate::timeout_table::{self, TimeoutFile};
use crate::ucspi::unix_seconds;

pub(crate) const APPLET: Applet = Applet {
    names: &["qmail-remote"],
    kind: Kind::Classic,
    summary: "send a message to another host by SMTP",
    run,
};

/// timeoutremote when it is not set.
const TIMEOUT: Duration = Duration::from_secs(1200);

/// How long a server may take to say goodbye, once all is reported.
const QUIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Exits 0 in every case: what happened is in the report.
fn run(call: &Call) -> ExitCode {
    let report = match prepare(&call.arguments) {
        Ok(sending) => stdio::run(sending.send()).unwrap_or_else(|_| RESOURCES.report()),
        Err(trouble) => trouble.report(),
    };
    if let Some(report) = report {
        print(&report);
    }
    ExitCode::SUCCESS
}

fn print(report: &RemoteReport) {
    let mut octets = Vec::new();
    report.write(&mut octets);
    let mut out = io::stdout().lock();
    let _ = out.write_all(&octets).and_then(|()| out.flush());
}

/// Why nothing was tried.
struct Trouble {
    permanent: bool,
    text: &'static str,
}

const USAGE: Trouble = Trouble {
    permanent: true,
    text: "I (qmail-remote) was invoked improperly. (#5.3.5)\n",
};
const HOME: Trouble = temporary("Unable to switch to home directory. (#4.3.0)\n");
const CONTROLS: Trouble = temporary("Unable to read control files. (#4.3.0)\n");
const UNREADABLE: Trouble = temporary("Unable to read message. (#4.3.0)\n");
const RESOURCES: Trouble = temporary("System resources temporarily unavailable. (#4.3.0)\n");

const fn temporary(text: &'static str) -> Trouble {
    Trouble {
        permanent: false,
        text,
    }
}

impl Trouble {
    fn report(&self) -> Option<RemoteReport> {
        let report = Report::new(self.text);
        Some(RemoteReport {
            recipients: Vec::new(),
            message: if self.permanent {
                Outcome::Failed(report)
            } else {
                Outcome::Deferred(report)
            },
        })
    }
}

/// A message and all that is needed to send it.
struct Sending {
    host: Bytes,
    job: Job,
    config: RemoteConfig,
    connect: NotedConnect,
    seed: u64,
}

fn prepare(arguments: &[OsString]) -> Result<Sending, Trouble> {
    let [host, sender, recipients @ ..] = arguments else {
        return Err(USAGE);
    };
    if recipients.is_empty() {
        return Err(USAGE);
    }
    let octets = |argument: &OsString| Bytes::copy_from_slice(argument.as_bytes());
    let sender = ReversePath::new(octets(sender)).map_err(|_| USAGE)?;
    let recipients = recipients
        .iter()
        .map(|recipient| Address::new(octets(recipient)))
        .collect::<Result<_, _>>()
        .map_err(|_| USAGE)?;
    let home = Home::choose(None, None);
    std::env::set_current_dir(home.path()).map_err(|_| HOME)?;
    let controls = RemoteControls::read(&home).map_err(|_| CONTROLS)?;
    let message = io::stdin().as_fd().try_clone_to_owned();
    let message = Message::new(message.map_err(|_| RESOURCES)?.into()).map_err(|_| UNREADABLE)?;
    let connect = NotedConnect {
        table: timeout_table::path(&home),
        wait: controls.connect_timeout,
    };
    Ok(Sending {
        host: octets(host),
        job: Job {
            message: 0,
            content: Arc::new(message),
            sender,
            recipients,
        },
        config: config(controls)?,
        connect,
        seed: SysRng.try_next_u64().map_err(|_| RESOURCES)?,
    })
}

fn config(controls: RemoteControls) -> Result<RemoteConfig, Trouble> {
    let mut config = RemoteConfig::new(controls.helo_host).map_err(|_| CONTROLS)?;
    config.session.timeouts = Timeouts::all(controls.timeout.unwrap_or(TIMEOUT));
    config.session.timeouts.quit = QUIT_TIMEOUT;
    config.session.partial_line = PartialLine::Refuse;
    config.routes = controls.routes;
    config.tls = controls.tls;
    config.own_addresses = own_addresses().map_err(|_| RESOURCES)?;
    // The connector keeps the time by itself, to note it; this is the second line of defence.
    config.connect_timeout = controls.connect_timeout + Duration::from_secs(1);
    Ok(config)
}

impl Sending {
    /// Reports before it says goodbye: who waits for the report need not wait for that.
    async fn send(self) -> Option<RemoteReport> {
        let Ok(resolver) = HickoryResolver::system() else {
            return RESOURCES.report();
        };
        let remote = RemoteDelivery::new(
            self.config,
            Arc::new(resolver),
            Arc::new(self.connect),
            Instant::now,
            self.seed,
        );
        print(&remote.send_to(&self.host, &self.job).await);
        remote.close().await;
        None
    }
}

/// TCP, with the table of hosts that did not answer. A table that cannot be used is not used.
struct NotedConnect {
    table: PathBuf,
    wait: Duration,
}

#[async_trait]
impl Connect for NotedConnect {
    fn leaves_alone(&self, address: IpAddr) -> bool {
        let known = TimeoutFile::open(&self.table).and_then(|file| file.read());
        known.is_ok_and(|table| table.excludes(address, unix_seconds(), std::process::id()))
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let host = address.ip();
        let connected = match timeout(self.wait, TcpConnect.connect(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        // Who refuses is there.
        let timed_out = matches!(&connected, Err(error) if error.kind() == io::ErrorKind::TimedOut);
        if let Ok(file) = TimeoutFile::open(&self.table)
            && let Ok(mut table) = file.read()
        {
            let changed = if timed_out {
                table.timed_out(host, unix_seconds());
                true
            } else {
                table.connected(host)
            };
            if changed {
                let _ = file.write(&table);
            }
        }
        connected
    }
}

/// The message on descriptor 0, a file.
struct Message {
    file: File,
    /// Where it starts.
    start: u64,
}

impl Message {
    /// What comes by a pipe goes into a file without a name first: it is read to be looked through, and again to be sent.
    fn new(mut file: File) -> io::Result<Self> {
        if let Ok(start) = file.stream_position() {
            return Ok(Self { file, start });
        }
        let mut copy = tempfile::tempfile()?;
        io::copy(&mut file, &mut copy)?;
        Ok(Self {
            file: copy,
            start: 0,
        })
    }
}

#[async_trait]
impl Content for Message {
    async fn open(&self) -> io::Result<Box<dyn Body>> {
        let mut file = self.file.try_clone()?;
        file.seek(io::SeekFrom::Start(self.start))?;
        Ok(Box::new(Text(file)))
    }

    fn octets(&self) -> u64 {
        let size = self.file.metadata().map_or(0, |metadata| metadata.len());
        size.saturating_sub(self.start)
    }
}

struct Text(File);

#[async_trait]
impl Body for Text {
    /// Blocks: nothing else is to be done meanwhile.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let mut chunk = vec![0; CHUNK_OCTETS_MAX];
        loop {
            match self.0.read(&mut chunk) {
                Ok(octets) => {
                    chunk.truncate(octets);
                    return Ok((octets > 0).then(|| chunk.into()));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
