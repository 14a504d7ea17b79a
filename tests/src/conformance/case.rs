//! One case of a program: what is set up, what is run, what must be seen. The fields are the keys of `tests/README.md`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::mask::Mask;
use super::octets::{Octets, Table, from_text};

/// A case of a single program.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// `area/what-it-pins`, unique among all cases.
    pub name: String,
    /// The behaviour, and the manual page or RFC that says so.
    pub why: String,
    /// The program under test, by its classic name, or `sh` or `python3`.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<Octets>,
    /// Its environment, beside PATH and what finds the home and the queue.
    #[serde(default)]
    pub env: Table<Octets>,
    /// Where it runs.
    #[serde(default)]
    pub cwd: WorkingDirectory,
    /// Files under `QMAIL_HOME/control`.
    #[serde(default)]
    pub control: Table<Octets>,
    /// Files under `QMAIL_HOME`.
    #[serde(default)]
    pub qmail: Table<Node>,
    /// Files under the user's home.
    #[serde(default)]
    pub home: Table<Node>,
    /// Programs, with their arguments, that are run first in the same environment; each must exit 0.
    #[serde(default)]
    pub before: Vec<Vec<Octets>>,
    /// What the program reads on descriptor 0.
    #[serde(default)]
    pub stdin: Octets,
    /// Whether descriptor 0 is a seekable file.
    #[serde(default)]
    pub stdin_file: StdinFile,
    /// Whether the program is a client whose connection to the scripted server is descriptors 6 and 7.
    #[serde(default)]
    pub net67: bool,
    /// Paths under the user's home whose kind and mode are compared.
    #[serde(default)]
    pub stat: Vec<String>,
    /// What the machine must have: `root`, `user:NAME`.
    #[serde(default)]
    pub needs: Vec<String>,
    /// The exit code of the capturing queue program.
    #[serde(default)]
    pub queue_exit: u8,
    /// What the scripted server does, one list for each connection.
    pub server: Option<Vec<Vec<ServerStep>>>,
    /// A fixed port for that server, on a random loopback address.
    pub server_port: Option<u16>,
    /// Whether descriptors 0 and 1 are one TCP connection that carries `stdin` and then ends.
    #[serde(default)]
    pub tcp: bool,
    /// Names and records of the only name server there is.
    pub dns: Option<Value>,
    /// Whether the program runs as uid 65534 where the runner is root.
    #[serde(default)]
    pub unprivileged: bool,
    /// Masks beside the built-in ones.
    #[serde(default)]
    pub mask: Vec<Mask>,
    /// Seconds until the program is killed and the case has failed. 20 if absent.
    #[serde(default = "timeout_default")]
    timeout: f64,
    /// The keys that `run.py --record` fills in; of no meaning here.
    #[serde(default, rename = "record")]
    _record: Vec<String>,
    /// What must be seen; a key that is absent is not compared.
    pub expect: Map<String, Value>,
}

impl Case {
    /// How long each of the case's programs may run.
    pub fn timeout(&self) -> Duration {
        Duration::try_from_secs_f64(self.timeout).unwrap_or(Duration::from_secs(20))
    }
}

fn timeout_default() -> f64 {
    20.0
}

/// Where a case's program runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum WorkingDirectory {
    /// In the user's home.
    #[default]
    Home,
    /// In `QMAIL_HOME`.
    Qmail,
}

/// Whether and where a case's standard input is a file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum StdinFile {
    /// `true`: a file that holds `stdin`. `false`: a pipe.
    Own(bool),
    /// This file of the user's home.
    Named(Octets),
}

impl Default for StdinFile {
    fn default() -> Self {
        Self::Own(false)
    }
}

/// A file or directory to be made.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Node {
    /// A file with this content, or a directory if the path ends in a slash.
    Content(Octets),
    /// The same with more to be said about it.
    Described(Description),
}

impl Node {
    /// The same in the long form.
    pub fn describe(&self) -> Description {
        match self {
            Self::Content(content) => Description {
                content: content.clone(),
                ..Description::default()
            },
            Self::Described(description) => description.clone(),
        }
    }
}

/// What a file or directory is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The content of a file.
    #[serde(default)]
    pub content: Octets,
    /// Whether it is a directory.
    #[serde(default)]
    pub dir: bool,
    /// The mode in octal.
    pub mode: Option<String>,
    /// Seconds since it was modified.
    pub age: Option<f64>,
    /// Uid or user name.
    pub owner: Option<String>,
}

/// What a scripted server does next on a connection.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "Vec<Value>")]
pub enum ServerStep {
    /// Sends this.
    Send(Vec<u8>),
    /// Reads to the end of a line.
    Line,
    /// Reads until this was seen.
    Until(Vec<u8>),
    /// Closes the connection.
    Close,
    /// Waits.
    Sleep(Duration),
}

impl TryFrom<Vec<Value>> for ServerStep {
    type Error = String;

    fn try_from(step: Vec<Value>) -> Result<Self, String> {
        let refused = || format!("unknown step of a server: {}", Value::from(step.clone()));
        let octets = |text: &Value| text.as_str().and_then(from_text).ok_or_else(refused);
        let verb = step.first().and_then(Value::as_str).ok_or_else(refused)?;
        match (verb, &step[1..]) {
            ("send", [text]) => Ok(Self::Send(octets(text)?)),
            ("until", [text]) => match octets(text)? {
                marker if marker.is_empty() => Err(refused()),
                marker => Ok(Self::Until(marker)),
            },
            ("line", []) => Ok(Self::Line),
            ("close", []) => Ok(Self::Close),
            ("sleep", [seconds]) => seconds
                .as_f64()
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .map(Self::Sleep)
                .ok_or_else(refused),
            _ => Err(refused()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_key() {
        let case: Case = serde_json::from_str(
            r#"{"name": "a/b", "why": "w", "program": "sh", "args": ["-c", "\u00ff"], "env": {"A": "1"}, "cwd": "qmail",
                "control": {"me": "x\n"}, "qmail": {"users/cdb": ""},
                "home": {"d/": "", "f": {"content": "c", "mode": "0600", "age": 3, "owner": "alias"}, "e": {"dir": true}},
                "before": [["qmail-newu"]], "stdin": "in", "stdin_file": "f", "net67": true, "stat": ["f"],
                "needs": ["root"], "queue_exit": 51, "server": [[["send", "220\r\n"], ["line"], ["sleep", 0.5], ["close"]]],
                "server_port": 25, "tcp": true, "dns": {"a": {"A": ["127.0.0.1"]}}, "unprivileged": true,
                "mask": [["a", "b"]], "timeout": 3, "record": ["exit"], "expect": {"exit": 0}}"#,
        )
        .unwrap();
        assert_eq!(case.cwd, WorkingDirectory::Qmail);
        assert_eq!(case.timeout(), Duration::from_secs(3));
        assert_eq!(case.args[1].0, b"\xff");
        assert_eq!(
            case.server.unwrap()[0][2],
            ServerStep::Sleep(Duration::from_millis(500))
        );
        assert!(matches!(case.stdin_file, StdinFile::Named(path) if path.0 == b"f"));
        assert_eq!(case.home.0[1].1.describe().mode.as_deref(), Some("0600"));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let minimal = r#""name": "a", "why": "", "program": "sh", "expect": {}"#;
        assert!(serde_json::from_str::<Case>(&format!("{{{minimal}}}")).is_ok());
        for key in [
            r#""stdinfile": true"#,
            r#""cwd": "elsewhere""#,
            r#""server": [[["reset"]]]"#,
            r#""server": [[["send"]]]"#,
            r#""mask": [["(", ""]]"#,
            r#""home": {"f": {"made": "0600"}}"#,
        ] {
            assert!(
                serde_json::from_str::<Case>(&format!("{{{minimal}, {key}}}")).is_err(),
                "{key}"
            );
        }
    }
}
