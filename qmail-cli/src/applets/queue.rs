//! `qmail queue`: looks at a queue, and has things done with its messages.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clap::{Args, Parser, Subcommand, ValueEnum};
use qmail_core::route::Tables;
use qmail_queue::split::SendMutex;
use qmail_queue::{
    Disk, Filter, Form, Intake, JournalSpool, MessageId, Pattern, RealDisk, SystemClock, Workers,
    count_messages,
};

use crate::applet::{Applet, Call, Kind};
use crate::home::{Home, ReceiverControls, SpoolKind};
use crate::queue_desk::{
    Frame, Request, Resting, Sink, Source, Verb, Watched, ask, open_spool, perform,
};
use crate::{command_line, exit, queue_convert, stdio};

pub(crate) const APPLET: Applet = Applet {
    names: &["queue"],
    kind: Kind::Command,
    summary: "look at the queue of a home, and have things done with its messages",
    run,
};

const AFTER_HELP: &str = "\
The queue may be running or not. One that `qmail serve` or our qmail-send runs is asked over the socket run/queue of its home; qmail-send \
takes orders only where its user may make that socket (a directory `run` of the home that belongs to qmails). A queue that nobody runs \
is worked on directly: what only a running queue can do, attempts and bounces, happens at its next start. One that another program \
runs which cannot be asked, such as a classic qmail-send, can be counted, listed and shown; the ALRM signal has that program retry \
everything.

A queue is converted while nobody runs it. Until all messages are copied the old form stays as it is; broken off at any moment, the
old form or the new one counts, whole, and the next start or the next conversion puts in order what was left. It takes the room of both
forms on the disk for a while.

Each message that something was done with, or not, is told in a line. The exit status is 0 if all was done, 111 if something was not.

Examples:
  qmail queue list --age 2h --recipient @example.org
  qmail queue show 4711
  qmail queue hold --sender 'list-*@example.org'
  qmail queue delete 4711 --bounce
  qmail queue convert --to journal
  QMAIL_HOME=./qmail-home qmail queue list --json";

/// Looks at the queue of a home, and has things done with its messages.
#[derive(Debug, Parser)]
#[command(name = "qmail queue", after_help = AFTER_HELP)]
pub(crate) struct Arguments {
    /// The home whose queue is meant [default: $QMAIL_HOME, else /var/qmail]
    #[arg(long, value_name = "DIR", global = true)]
    home: Option<PathBuf>,

    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Ask(Question),
    /// Convert a queue that nobody runs to the other form, with all that is known of its messages; their numbers change
    Convert {
        /// The form that it is to have
        #[arg(long, value_enum)]
        to: FormOption,
        /// Leave behind what is no message or cannot be read, and keep the old queue beside the new one, as queue/kept-1
        #[arg(long)]
        despite_damage: bool,
    },
}

/// What a queue can be asked, or told to do.
#[derive(Debug, Subcommand)]
enum Question {
    /// Print the number of queued messages
    Count,
    /// List messages, the oldest first
    List {
        #[command(flatten)]
        filter: FilterOptions,
    },
    /// Show all that is known of messages, with their headers
    Show {
        /// Numbers of messages
        #[arg(required = true, value_name = "MESSAGE")]
        messages: Vec<u64>,
    },
    /// Try nothing of messages until they are released, not even after a restart; what is being tried runs to its end
    Hold {
        #[command(flatten)]
        which: Which,
    },
    /// Try held messages again, at once
    Release {
        #[command(flatten)]
        which: Which,
    },
    /// Try messages now that wait for their time
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Route recipients anew that are not done with: they go into a new message, whose age begins anew, and the old one ends
    Reroute {
        #[command(flatten)]
        which: Which,
        /// What virtualdomains put before local recipients when they were routed, if it is another prefix today
        #[arg(long, value_name = "PREFIX")]
        prefix: Option<String>,
    },
    /// End messages without a word to their senders
    Delete {
        #[command(flatten)]
        which: Which,
        /// Tell the sender by a bounce
        #[arg(long)]
        bounce: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormOption {
    /// A log in queue/journal: the fast one
    Journal,
    /// qmail's own directories, which the classic programs know
    Split,
}

impl From<FormOption> for Form {
    fn from(option: FormOption) -> Self {
        match option {
            FormOption::Journal => Self::Journal,
            FormOption::Split => Self::Split,
        }
    }
}

/// Messages by number, by what they are like, or all.
#[derive(Debug, Args)]
struct Which {
    /// Numbers of messages
    #[arg(value_name = "MESSAGE", conflicts_with_all = ["sender", "recipient", "age", "reason", "held", "all"])]
    messages: Vec<u64>,

    #[command(flatten)]
    filter: FilterOptions,

    /// All messages
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct FilterOptions {
    /// From this sender: an address, @DOMAIN, a pattern with *, or <> for the null sender
    #[arg(long, value_name = "PATTERN")]
    sender: Option<String>,

    /// Still waiting for this recipient: an address, @DOMAIN, or a pattern with *
    #[arg(long, value_name = "PATTERN")]
    recipient: Option<String>,

    /// Routed at least so long ago: 90s, 5m, 2h, 3d
    #[arg(long, value_name = "TIME", value_parser = duration)]
    age: Option<Duration>,

    /// With this text in what the last deferral said; known only to a queue that runs
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// Held
    #[arg(long)]
    held: bool,
}

impl FilterOptions {
    fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        filter.sender = self.sender.as_ref().map(Pattern::new);
        filter.recipient = self.recipient.as_ref().map(Pattern::new);
        filter.age_min = self.age;
        filter.reason = self.reason.as_ref().map(|text| text.clone().into_bytes());
        filter.held = self.held.then_some(true);
        filter
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    const WANTED: &str = "write a number and a unit: 90s, 5m, 2h, 3d";
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(WANTED),
    };
    let number: u64 = number.parse().map_err(|_| WANTED)?;
    Ok(Duration::from_secs(number.saturating_mul(unit)))
}

fn run(call: &Call) -> ExitCode {
    let arguments: Arguments = match command_line::parse(call) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let home = Home::choose(arguments.home, None);
    let question = match arguments.command {
        Command::Ask(question) => question,
        Command::Convert { to, despite_damage } => {
            return queue_convert::run(&home, to.into(), despite_damage, arguments.json);
        }
    };
    let request = match lower(&question, arguments.json) {
        Ok(request) => request,
        Err(words) => return exit::fatal("qmail queue", &words, exit::PERMANENT),
    };
    // Names can be counted without asking anybody; what is in memory cannot.
    if request.verb == Verb::Count && !request.json && SpoolKind::of(&home.queue()).is_some() {
        return count(&home);
    }
    match ask(&home, &request, show) {
        Ok(Some(code)) => ExitCode::from(code),
        Ok(None) => work_here(&home, &request),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let words = format_args!("the queue of {}: {error}", home.path().display());
            exit::fatal("qmail queue", &words, exit::TEMPORARY)
        }
    }
}

fn lower(question: &Question, json: bool) -> Result<Request, &'static str> {
    let (verb, which) = match question {
        Question::Count => (Verb::Count, None),
        Question::List { .. } => (Verb::List, None),
        Question::Show { .. } => (Verb::Show, None),
        Question::Hold { which } => (Verb::Hold, Some(which)),
        Question::Release { which } => (Verb::Release, Some(which)),
        Question::Retry { which } => (Verb::Retry, Some(which)),
        Question::Reroute { which, prefix } => {
            let prefix = prefix.clone().unwrap_or_default();
            (Verb::Reroute(prefix.into()), Some(which))
        }
        Question::Delete { which, bounce } => (Verb::Delete(*bounce), Some(which)),
    };
    let (ids, mut filter) = match (question, which) {
        (Question::Show { messages }, _) => (messages.as_slice(), Filter::default()),
        (Question::List { filter }, _) => (&[][..], filter.filter()),
        (_, Some(which)) => (which.messages.as_slice(), which.filter.filter()),
        (_, None) => (&[][..], Filter::default()),
    };
    if let Some(which) = which
        && ids.is_empty()
        && !which.all
        && filter == Filter::default()
    {
        return Err("which messages? give their numbers, a filter such as --sender, or --all");
    }
    // Of many, those that it can be done with.
    match verb {
        Verb::Release if ids.is_empty() => filter.held = Some(true),
        Verb::Retry if ids.is_empty() => filter.held = filter.held.or(Some(false)),
        _ => {}
    }
    Ok(Request {
        verb,
        ids: ids.iter().copied().map(MessageId).collect(),
        filter,
        json,
    })
}

/// A part of an answer, as it came.
fn show(letter: u8, text: &[u8]) -> io::Result<()> {
    if letter == b'o' {
        let mut out = io::stdout().lock();
        out.write_all(text)?;
        return out.flush();
    }
    let line = [b"qmail queue: ", text, b"\n"].concat();
    io::stderr().write_all(&line)
}

/// Does it in this process, with the files.
fn work_here(home: &Home, request: &Request) -> ExitCode {
    let worked = open(home).and_then(|source| {
        stdio::run(async move {
            let mut sink = Here(ExitCode::SUCCESS);
            let performed = perform(&*source, request, &mut sink).await;
            performed.map(|()| sink.0)
        })
        .and_then(|performed| performed)
    });
    match worked {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => exit::fatal(
            "qmail queue",
            &format_args!(
                "cannot work on the queue {}: {error}; name the home with --home or QMAIL_HOME",
                home.queue().display()
            ),
            exit::TEMPORARY,
        ),
    }
}

fn open(home: &Home) -> io::Result<Arc<dyn Source>> {
    let queue = home.queue();
    let open = || open_spool(home, Workers::threads(4)?);
    let lock = match SendMutex::lock(&queue) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Ok(Arc::new(Watched { spool: open()? }));
        }
        Err(error) => return Err(error),
    };
    let spool = open()?;
    let uid = rustix::process::getuid().as_raw();
    let clock = Arc::new(SystemClock::new()?);
    // Without control files only the names of virtual domains are not known.
    let tables = match ReceiverControls::read(home) {
        Ok(controls) => controls.tables,
        Err(_) => Arc::new(Tables::new("")),
    };
    Ok(Arc::new(Resting {
        submit: Arc::new(Intake::new(
            Arc::clone(&spool),
            clock,
            std::process::id(),
            uid,
        )),
        spool,
        uid,
        tables,
        _lock: Some(lock),
    }))
}

fn count(home: &Home) -> ExitCode {
    let queue = home.queue();
    let counted = match SpoolKind::of(&queue) {
        Some(SpoolKind::Journal) => RealDisk::open(home.journal())
            .map_err(told)
            .and_then(|disk| {
                let disk: Arc<dyn Disk> = Arc::new(disk);
                JournalSpool::view(&disk, &Workers::inline()).map_err(told)
            })
            .map(|journal| journal.count() as u64),
        Some(_) => RealDisk::open(&queue)
            .and_then(|disk| count_messages(&disk))
            .map_err(told),
        // One that is kept in memory has only its lock here.
        None => RealDisk::open(&queue).map(|_| 0).map_err(told),
    };
    match counted {
        Ok(count) => {
            exit::print(&format!("{count}\n"));
            ExitCode::SUCCESS
        }
        Err(error) => exit::fatal(
            "qmail queue",
            &format_args!(
                "cannot read the queue {}: {error}; name the home with --home or QMAIL_HOME",
                queue.display()
            ),
            exit::TEMPORARY,
        ),
    }
}

fn told(error: impl std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Standard output and standard error.
struct Here(ExitCode);

#[async_trait]
impl Sink for Here {
    async fn send(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Out(text) => show(b'o', text.as_bytes()),
            Frame::Error(text) => show(b'e', text.as_bytes()),
            Frame::Exit(code) => {
                self.0 = ExitCode::from(code);
                Ok(())
            }
        }
    }
}
