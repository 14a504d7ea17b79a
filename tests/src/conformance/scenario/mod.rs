//! Scenarios: a whole running system, injected mail, scripted outcomes, signals and crashes.

mod log;
mod steps;
mod world;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::case::Node;
use super::failure::Failure;
use super::mask::Mask;
use super::octets::{Octets, Table};
use super::programs::Programs;
use super::run::Observation;

/// A scenario. The fields are the keys of `tests/README.md`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// `area/what-it-pins`, unique among all cases.
    pub name: String,
    /// The behaviour, and the manual page or RFC that says so.
    pub why: String,
    /// Files under `QMAIL_HOME/control`.
    #[serde(default)]
    control: Table<Octets>,
    /// Local users and the files in their homes.
    #[serde(default)]
    users: Table<Table<Node>>,
    /// Files of the user to whom mail for everybody else goes.
    #[serde(default)]
    alias: Table<Node>,
    /// What `qmail-remote` answers about each recipient, at the first attempt, the second, and so on.
    #[serde(default)]
    remote: RemoteScript,
    /// What happens, in order.
    steps: Vec<Step>,
    /// Masks beside the built-in ones.
    #[serde(default)]
    mask: Vec<Mask>,
    /// Whether the order of the remote attempts is free.
    #[serde(default)]
    sort_remote: bool,
    /// The keys that `scenario.py --record` fills in; of no meaning here.
    #[serde(default, rename = "record")]
    _record: Vec<String>,
    /// What must be seen; a key that is absent is not compared.
    pub expect: Map<String, Value>,
}

impl Scenario {
    /// Whether a file of a user says to send mail on. What delivers it must then be able to put it into the queue, as must what makes
    /// bounces where the machine has the classic users: for that the classic qmail-queue is setuid, in the one home that it knows; in a
    /// home of one's own all run as the same user.
    fn forwards(&self) -> bool {
        let of_users = self.users.0.iter().flat_map(|(_, files)| &files.0);
        let mut files = self.alias.0.iter().chain(of_users);
        files.any(|(_, file)| {
            let content = file.describe().content.0;
            content
                .split(|&octet| octet == b'\n')
                .any(|line| line.starts_with(b"&"))
        })
    }
}

/// Outcomes by recipient.
type RemoteScript = Table<Vec<RemoteOutcome>>;

/// What `qmail-remote` does at one attempt.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum RemoteOutcome {
    /// Prints this and exits 0 at once.
    Output(Octets),
    /// Sleeps, prints and exits.
    Described {
        #[serde(default)]
        output: Octets,
        #[serde(default)]
        exit: u8,
        #[serde(default)]
        sleep: u32,
    },
}

/// One thing that happens. The names are those of the case files.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Step {
    /// Starts the system and waits for its first status line.
    Start {},
    Inject(Inject),
    /// Waits until so many log lines match in all.
    Wait {
        log: String,
        #[serde(default = "one")]
        count: usize,
        #[serde(default = "wait_seconds")]
        timeout: f64,
    },
    /// Waits until the queue is empty.
    Drain {},
    /// Sends a signal to the started process.
    Signal(SignalName),
    /// Sends TERM and waits for the exit.
    Stop {},
    /// Kills the started process, as a crash.
    Kill {},
    /// Waits this many seconds.
    Sleep(f64),
    /// Sets times of queue files to so many seconds ago: of `info`, and of `local` and `remote`. Negative: to come.
    Age {
        birth: Option<i64>,
        due: Option<i64>,
    },
    /// Writes control files, or removes those that are null.
    Control(Table<Option<Octets>>),
    /// Replaces the script of `qmail-remote`.
    Remote(RemoteScript),
    Plant(Box<Plant>),
    /// Notes all queue files.
    Queue {},
    /// Notes how long after its birth each message is due.
    Schedule {},
    /// Runs a program and notes what it prints.
    Run(Vec<Octets>),
}

/// A message that is handed to the queue program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inject {
    message: Option<Octets>,
    #[serde(default)]
    sender: Octets,
    #[serde(default)]
    recipients: Vec<Octets>,
    /// The raw envelope, in place of sender and recipients.
    envelope: Option<Octets>,
    /// Whether to wait until the message was looked at.
    #[serde(default = "yes")]
    wait: bool,
}

/// A message that is put into the queue in a given state.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Plant {
    mess: Option<Octets>,
    intd: Option<Octets>,
    todo: Option<Octets>,
    info: Option<Octets>,
    local: Option<Octets>,
    remote: Option<Octets>,
    bounce: Option<Octets>,
    /// Whether `todo` comes without its `intd`.
    nointd: bool,
    /// Seconds since the message, and the noise, were made.
    age: Option<f64>,
    /// Other files, by path under the queue.
    noise: Table<Octets>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum SignalName {
    Alrm,
    Hup,
    Term,
    Int,
    Usr1,
    Usr2,
}

fn one() -> usize {
    1
}

fn wait_seconds() -> f64 {
    20.0
}

fn yes() -> bool {
    true
}

/// The programs that every scenario runs: the system, the queue, and what makes users known.
const START: &str = "qmail-start";
const INJECT: &str = "qmail-queue";
const NEWU: &str = "qmail-newu";

/// What [`START`] is given: the default delivery.
const START_ARGUMENT: &str = "./Mailbox";

/// Runs a scenario and says what was seen.
///
/// # Errors
///
/// It came to no result: a program is missing or hangs, something waited for did not come, or the scenario could not be set
/// up.
pub fn run_scenario(scenario: &Scenario, programs: &Programs) -> Result<Observation, Failure> {
    // Before anything is made: a program that is not there yet must cost no time.
    for program in [START, INJECT, NEWU] {
        programs.find(program)?;
    }
    for step in &scenario.steps {
        if let Step::Run(words) = step
            && let Some(program) = words.first()
        {
            programs.find(&super::octets::to_text(&program.0))?;
        }
    }
    world::World::build(scenario, programs)?.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_step() {
        let scenario: Scenario = serde_json::from_str(
            r#"{"name": "a/b", "why": "w", "users": {"joe": {".qmail": "./M/\n"}}, "alias": {".qmail-root": "&x\n"},
                "remote": {"a@b": ["r\u0000Kok\n", {"output": "", "exit": 1, "sleep": 2}]}, "sort_remote": true,
                "steps": [{"start": {}}, {"inject": {"sender": "s", "recipients": ["r"], "wait": false}},
                    {"wait": {"log": "^x", "count": 2}}, {"drain": {}}, {"signal": "ALRM"}, {"stop": {}}, {"kill": {}},
                    {"sleep": 0.5}, {"age": {"birth": 5}}, {"control": {"me": null}}, {"remote": {}},
                    {"plant": {"todo": "", "nointd": true, "noise": {"intd/x": ""}}}, {"queue": {}}, {"schedule": {}},
                    {"run": ["qmail-qread"]}],
                "expect": {}}"#,
        )
        .unwrap();
        assert_eq!(scenario.steps.len(), 15);
        for step in [
            r#"{"pause": 1}"#,
            r#"{"plant": {"mail": ""}}"#,
            r#"{"signal": "KILL"}"#,
            r#"{"start": {}, "stop": {}}"#,
        ] {
            assert!(serde_json::from_str::<Step>(step).is_err(), "{step}");
        }
    }
}
