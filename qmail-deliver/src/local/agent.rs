//! The local delivery agent: what qmail-local(8) does for one mailbox.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use qmail_core::dot_qmail::{Mailbox, Owner, SenderOf, from_line, return_path, variables};
use qmail_core::{
    Address, Body, Content, Envelope, Origin, Outcome, Receipt, Report, ReversePath, StatusClass,
    Submit, SubmitError,
};
use tokio::task::spawn_blocking;

use super::content::FileContent;
use super::lookup::{self, Found, HomeState, home_of, told};
use super::mbox::Mbox;
use super::plan::{Did, Plan, Step};
use super::program::{How, Programs};
use super::{Strictness, deferred, failed, trace};
use crate::Maildirs;

/// Delivers messages to mailboxes by their owners' instruction files (dot-qmail(5)), with the rights of this process.
///
/// | instruction | needs | without it |
/// |---|---|---|
/// | `./Maildir/`, `./Mailbox` | nothing | |
/// | `\|program` | [`with_programs`](Self::with_programs) | the message is deferred |
/// | `&address` | [`with_submit`](Self::with_submit) | the message is deferred |
///
/// Cheap to clone.
#[derive(Clone)]
pub struct LocalAgent {
    maildirs: Maildirs,
    now: fn() -> SystemTime,
    programs: Option<Programs>,
    submit: Option<Arc<dyn Submit>>,
    strictness: Strictness,
}

/// What is delivered to a mailbox.
#[derive(Clone, Copy)]
pub struct Parcel<'a> {
    /// Envelope sender.
    pub sender: &'a ReversePath,
    /// The text.
    pub content: ParcelContent<'a>,
}

/// Where the text of a [`Parcel`] is.
#[derive(Clone, Copy)]
pub enum ParcelContent<'a> {
    /// In a file, which programs get as it is.
    File(&'a FileContent),
    /// Anywhere. Programs get a copy, in a file without name in the directory for temporary files.
    Any(&'a dyn Content),
}

impl ParcelContent<'_> {
    fn as_content(&self) -> &dyn Content {
        match self {
            Self::File(file) => *file,
            Self::Any(content) => *content,
        }
    }
}

impl LocalAgent {
    /// Delivers into files and Maildirs only. `now` dates the `From ` lines of mbox files.
    pub fn new(maildirs: Maildirs, now: fn() -> SystemTime) -> Self {
        Self {
            maildirs,
            now,
            programs: None,
            submit: None,
            strictness: Strictness::default(),
        }
    }

    /// Is more or less strict with the files of users than [`Strictness::default`].
    #[must_use]
    pub fn with_strictness(mut self, strictness: Strictness) -> Self {
        self.strictness = strictness;
        self
    }

    /// Also runs programs.
    #[must_use]
    pub fn with_programs(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// Also forwards: this takes the messages.
    #[must_use]
    pub fn with_submit(mut self, submit: Arc<dyn Submit>) -> Self {
        self.submit = Some(submit);
        self
    }

    /// Delivers one message to one mailbox. `default_delivery` is the instruction file of those who have none, or an empty one.
    ///
    /// The report of a delivery is what programs printed, if that is captured, followed by what there is to say: `did 1+0+0`, or
    /// why it failed.
    pub async fn deliver(
        &self,
        mailbox: &Mailbox,
        default_delivery: &Bytes,
        parcel: Parcel<'_>,
    ) -> Outcome {
        let line = mailbox.delivered_to();
        let (looked, checked) = tokio::join!(
            look(self.strictness, mailbox, default_delivery),
            trace::open_checked(parcel.content.as_content(), &line)
        );
        let (home, found) = match looked {
            Ok(looked) => looked,
            Err(outcome) => return outcome,
        };
        match home {
            Ok(HomeState { sticky: false, .. }) => {}
            Ok(HomeState { sticky: true, .. }) => {
                return deferred(
                    "Home directory is sticky: user is editing his .qmail file. (#4.2.1)\n",
                );
            }
            Err(outcome) => return outcome,
        }
        self.carry_out(mailbox, parcel, checked, found).await
    }

    /// Delivers into this Maildir, whatever the mailbox's instructions and the state of its home.
    pub(super) async fn deliver_into(
        &self,
        maildir: &Path,
        mailbox: &Mailbox,
        parcel: Parcel<'_>,
    ) -> Outcome {
        let line = mailbox.delivered_to();
        let checked = trace::open_checked(parcel.content.as_content(), &line).await;
        let maildir = Bytes::copy_from_slice(maildir.as_os_str().as_bytes());
        let found = Ok(Found {
            plan: Plan {
                steps: vec![Step::Maildir(maildir)],
                error: None,
            },
            default: None,
            owner: Owner::Nobody,
        });
        self.carry_out(mailbox, parcel, checked, found).await
    }

    async fn carry_out(
        &self,
        mailbox: &Mailbox,
        parcel: Parcel<'_>,
        checked: io::Result<Option<Box<dyn Body>>>,
        found: Result<Found, Outcome>,
    ) -> Outcome {
        let body = match checked {
            Ok(Some(body)) => body,
            Ok(None) => {
                return failed(
                    "This message is looping: it already has my Delivered-To line. (#5.4.6)\n",
                );
            }
            Err(error) if error.kind() == io::ErrorKind::NotSeekable => {
                return deferred("Unable to rewind message. (#4.3.0)\n");
            }
            Err(_) => return deferred(UNREADABLE),
        };
        let found = match found {
            Ok(found) => found,
            Err(outcome) => return outcome,
        };
        let since = (self.now)().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut run = Run {
            agent: self,
            mailbox,
            parcel,
            new_sender: mailbox.new_sender(parcel.sender, found.owner),
            default: found.default,
            seconds: since.as_secs(),
            reading: Some(body),
            input: None,
            printed: Vec::new(),
        };
        let outcome = run.all(&found.plan).await;
        with_output(run.printed, outcome)
    }

    /// What would be done for a mailbox. Nothing is done, and no message is needed.
    ///
    /// # Errors
    ///
    /// Nothing would be done: the outcome says why.
    pub async fn rehearse(
        &self,
        mailbox: &Mailbox,
        default_delivery: &Bytes,
    ) -> Result<Rehearsal, Outcome> {
        let (home, found) = look(self.strictness, mailbox, default_delivery).await?;
        let home = home?;
        Ok(Rehearsal {
            home_is_sticky: home.sticky,
            group_may_write: home.group_may_write,
            plan: found?.plan,
        })
    }
}

/// What [`LocalAgent::rehearse`] finds.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The home directory is marked as being worked on: deliveries wait.
    pub home_is_sticky: bool,
    /// Everybody of its group may write to the home directory, and so decide what is done with its owner's mail.
    pub group_may_write: bool,
    /// What the instructions say.
    pub plan: Plan,
}

impl std::fmt::Debug for LocalAgent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalAgent")
            .field("programs", &self.programs)
            .field("submit", &self.submit.is_some())
            .finish_non_exhaustive()
    }
}

type Looked = (Result<HomeState, Outcome>, Result<Found, Outcome>);

/// Looks at all files of the mailbox's owner at once. What is wrong with the home comes before what is wrong with a file.
async fn look(
    strictness: Strictness,
    mailbox: &Mailbox,
    default_delivery: &Bytes,
) -> Result<Looked, Outcome> {
    let (mailbox, default_delivery) = (mailbox.clone(), default_delivery.clone());
    let looked = spawn_blocking(move || {
        (
            lookup::check_home(strictness, &home_of(&mailbox)),
            lookup::find(strictness, &mailbox, &default_delivery),
        )
    });
    // The runtime is being shut down.
    looked
        .await
        .map_err(|_| deferred("Temporary failure in qmail-local. (#4.3.0)\n"))
}

/// One delivery being carried out.
struct Run<'a> {
    agent: &'a LocalAgent,
    mailbox: &'a Mailbox,
    parcel: Parcel<'a>,
    new_sender: Vec<u8>,
    default: Option<Vec<u8>>,
    seconds: u64,
    /// The reading that the loop check began; the first instruction has it.
    reading: Option<Box<dyn Body>>,
    /// The copy of the message for programs, once there is one.
    input: Option<File>,
    printed: Vec<u8>,
}

impl Run<'_> {
    /// Does what the plan says; the first step that fails ends it.
    async fn all(&mut self, plan: &Plan) -> Outcome {
        let mut did = Did::default();
        let mut forwards = Vec::new();
        let mut stopped = false;
        for step in &plan.steps {
            did.count(step);
            let done = match step {
                Step::Mbox(name) => self.mbox(name).await,
                Step::Maildir(name) => self.maildir(name).await,
                Step::Program(command) => match self.program(command).await {
                    Ok(how) => {
                        stopped = how == How::Stop;
                        Ok(())
                    }
                    Err(outcome) => Err(outcome),
                },
                Step::Forward(address) => {
                    forwards.push(address);
                    Ok(())
                }
            };
            if let Err(outcome) = done {
                return outcome;
            }
            if stopped {
                break;
            }
        }
        if let Some(error) = plan.error.filter(|_| !stopped) {
            return Outcome::Deferred(Report::new(format!("{error}\n")));
        }
        if forwards.is_empty() {
            return Outcome::Delivered(Report::new(did.to_string()));
        }
        match self.forward(&forwards).await {
            Ok(receipt) => Outcome::Delivered(Report::new(format!("{did}qp {}\n", receipt.qp))),
            Err(outcome) => outcome,
        }
    }

    async fn body(&mut self) -> Result<Box<dyn Body>, Outcome> {
        match self.reading.take() {
            Some(body) => Ok(body),
            None => {
                let opened = self.parcel.content.as_content().open().await;
                opened.map_err(|_| deferred(UNREADABLE))
            }
        }
    }

    async fn maildir(&mut self, name: &[u8]) -> Result<(), Outcome> {
        let mut body = self.body().await?;
        let mut head = return_path(self.parcel.sender);
        head.extend(self.mailbox.delivered_to());
        let maildir = home_of(self.mailbox).join(OsStr::from_bytes(name));
        let delivered = self
            .agent
            .maildirs
            .deliver(&maildir, head.into(), body.as_mut());
        delivered.await.map(drop).map_err(|error| error.outcome())
    }

    async fn mbox(&mut self, name: &[u8]) -> Result<(), Outcome> {
        let mut body = self.body().await?;
        let mut head = from_line(self.parcel.sender, self.seconds);
        head.extend(return_path(self.parcel.sender));
        head.extend(self.mailbox.delivered_to());
        let mbox = Mbox {
            path: home_of(self.mailbox).join(OsStr::from_bytes(name)),
            may_be_link: self.agent.strictness.mbox_links,
            now: self.agent.now,
        };
        let appended = mbox.append(head, body.as_mut()).await;
        appended.map_err(|error| error.outcome(name))
    }

    async fn program(&mut self, command: &[u8]) -> Result<How, Outcome> {
        let Some(programs) = &self.agent.programs else {
            return Err(deferred("Programs are not run here. (#4.3.5)\n"));
        };
        let input = self.input().await?;
        let sender = SenderOf {
            message: self.parcel.sender,
            forwards: &self.new_sender,
        };
        let variables = variables(self.mailbox, sender, self.default.as_deref(), self.seconds);
        let ended = programs
            .run(command, &home_of(self.mailbox), &variables, input)
            .await
            .map_err(|error| told("Unable to run ", b"/bin/sh", &error, "(#4.3.0)"))?;
        self.printed.extend(ended.output);
        match ended.how {
            How::Done | How::Stop => Ok(ended.how),
            How::Deferred => Err(deferred("")),
            How::Failed => Err(failed("")),
            How::Crashed => Err(deferred("Aack, child crashed. (#4.3.0)\n")),
            How::TooLong => Err(deferred("Program ran too long and was stopped. (#4.3.0)\n")),
        }
    }

    /// The message as a file, at its first octet.
    async fn input(&mut self) -> Result<File, Outcome> {
        let input = match (self.parcel.content, &self.input) {
            (ParcelContent::File(file), _) => {
                self.reading = None;
                file.rewound()
            }
            (ParcelContent::Any(_), Some(copy)) => rewound(copy),
            (ParcelContent::Any(_), None) => {
                let mut body = self.body().await?;
                match copy(body.as_mut()).await {
                    Ok(copy) => rewound(self.input.insert(copy)),
                    Err(error) => Err(error),
                }
            }
        };
        input.map_err(|_| deferred(UNREADABLE))
    }

    /// Sends the message on, with our line in front, to all these.
    async fn forward(&mut self, to: &[&Bytes]) -> Result<Receipt, Outcome> {
        let Some(submit) = &self.agent.submit else {
            return Err(deferred("Mail is not forwarded here. (#4.3.5)\n"));
        };
        let mut body = self.body().await?;
        let too_long = |_| unforwarded(&SubmitError::AddressTooLong);
        let sender = ReversePath::new(self.new_sender.clone()).map_err(too_long)?;
        let recipients: Result<Vec<_>, _> = to
            .iter()
            .map(|&address| Address::new(address.clone()))
            .collect();
        let envelope = Envelope::new(sender, recipients.map_err(too_long)?);
        let uid = rustix::process::getuid().as_raw();
        let sent = async {
            let mut draft = submit.begin(Origin::Uid(uid)).await?;
            draft.write(self.mailbox.delivered_to().into()).await?;
            while let Some(chunk) = body.next().await.map_err(SubmitError::Write)? {
                draft.write(chunk).await?;
            }
            draft.commit(envelope).await
        };
        sent.await.map_err(|error: SubmitError| unforwarded(&error))
    }
}

fn unforwarded(error: &SubmitError) -> Outcome {
    let report = Report::new(format!(
        "Unable to forward message: {error} (#{}).\n",
        error.status()
    ));
    match error.class() {
        StatusClass::Permanent => Outcome::Failed(report),
        _ => Outcome::Deferred(report),
    }
}

/// Puts what programs printed in front of a report.
fn with_output(mut printed: Vec<u8>, outcome: Outcome) -> Outcome {
    if printed.is_empty() {
        return outcome;
    }
    printed.extend_from_slice(outcome.report().as_bytes());
    let report = Report::new(printed);
    match outcome {
        Outcome::Delivered(_) => Outcome::Delivered(report),
        Outcome::Deferred(_) => Outcome::Deferred(report),
        Outcome::Failed(_) => Outcome::Failed(report),
    }
}

/// Copies a message into a file without name.
async fn copy(body: &mut dyn Body) -> io::Result<File> {
    let mut copy = spawn_blocking(tempfile::tempfile).await??;
    while let Some(chunk) = body.next().await? {
        copy = spawn_blocking(move || copy.write_all(&chunk).map(|()| copy)).await??;
    }
    Ok(copy)
}

fn rewound(mut file: &File) -> io::Result<File> {
    file.rewind()?;
    file.try_clone()
}

const UNREADABLE: &str = "Unable to read message. (#4.3.0)\n";
