//! The steps of a scenario, and what is seen in the end.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use regex::bytes::Regex;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

use super::super::failure::{Doing, Failure};
use super::super::mask::{compile, translate};
use super::super::octets::{Octets, from_text, to_text};
use super::super::process;
use super::super::run::Observation;
use super::super::tree;
use super::log::{Labels, lines, normalize};
use super::world::{SPLIT, World, number};
use super::{INJECT, Inject, Plant, START, START_ARGUMENT, SignalName, Step};

/// How long a step waits for something that should come at once.
const WAIT: Duration = Duration::from_secs(20);

/// How long a step goes on waiting once the system has ended: what it started may still write to the log.
const GRACE: Duration = Duration::from_secs(1);

/// How often a step looks whether what it waits for has come.
const TICK: Duration = Duration::from_millis(20);

/// How long the queue must stay the same to be taken as settled.
const SETTLE: Duration = Duration::from_millis(150);

/// How long the queue may take to settle.
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// What was noted on the way.
#[derive(Default)]
struct Notes {
    inject: Vec<Value>,
    stop: Vec<Value>,
    queue: Vec<Value>,
    schedule: Vec<Value>,
    run: Vec<Value>,
}

/// A scenario that is under way.
struct Play<'a> {
    world: World<'a>,
    /// Whether the system was started and not stopped or killed since; its place in the list of processes.
    running: Option<Pid>,
    notes: Notes,
}

impl World<'_> {
    /// Plays all steps and says what was seen.
    pub(super) fn run(self) -> Result<Observation, Failure> {
        let scenario = self.scenario;
        let mut play = Play {
            world: self,
            running: None,
            notes: Notes::default(),
        };
        for step in &scenario.steps {
            play.step(step)?;
        }
        if play.running.is_some() {
            play.stop()?;
        }
        play.observation()
    }
}

impl Play<'_> {
    fn step(&mut self, step: &Step) -> Result<(), Failure> {
        match step {
            Step::Start {} => self.start(),
            Step::Inject(inject) => self.inject(inject),
            Step::Wait {
                log,
                count,
                timeout,
            } => {
                let pattern = log_pattern(log)?;
                let timeout = Duration::try_from_secs_f64(*timeout).unwrap_or(WAIT);
                self.until(log, timeout, |play| Ok(play.matching(&pattern)? >= *count))
            }
            Step::Drain {} => self.drain(),
            Step::Signal(name) => self.signal(signal(*name)),
            Step::Stop {} => self.stop(),
            Step::Kill {} => self.kill(),
            Step::Sleep(seconds) => {
                thread::sleep(Duration::try_from_secs_f64(*seconds).unwrap_or_default());
                Ok(())
            }
            Step::Age { birth, due } => self.age(*birth, *due).doing("setting times"),
            Step::Control(files) => (files.0.iter())
                .try_for_each(|(name, content)| self.world.set_control(name, content.as_ref()))
                .doing("writing control files"),
            Step::Remote(script) => {
                (self.world.set_remote(script)).doing("writing the script of the remote program")
            }
            Step::Plant(plant) => self.plant(plant).doing("planting a message"),
            Step::Queue {} => self.note_queue(),
            Step::Schedule {} => self.note_schedule(),
            Step::Run(words) => self.run(words),
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        let status = log_pattern("^status: local 0/")?;
        let already = self.matching(&status)?;
        let log = File::options()
            .append(true)
            .open(self.log_path())
            .doing("opening the log")?;
        let mut command = self
            .world
            .command(START, &[Octets(START_ARGUMENT.as_bytes().to_vec())])?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().doing("sharing the log")?)
            .stderr(log);
        let child = self.world.processes.start(&mut command)?;
        self.running = Some(process::pid(child));
        self.until("start", WAIT, |play| {
            Ok(play.matching(&status)? > already || play.ended().is_some())
        })
    }

    fn inject(&mut self, inject: &Inject) -> Result<(), Failure> {
        let info = log_pattern("^info msg ")?;
        let before = self.matching(&info)?;
        let envelope = match &inject.envelope {
            Some(envelope) => envelope.0.clone(),
            None => {
                let mut envelope = [b"F", &inject.sender.0[..], b"\0"].concat();
                for recipient in &inject.recipients {
                    envelope.extend([b"T", &recipient.0[..], b"\0"].concat());
                }
                envelope.push(0);
                envelope
            }
        };
        let message = match &inject.message {
            Some(message) => self.world.substitute(&message.0),
            None => b"Subject: test\n\nbody\n".to_vec(),
        };
        let [message, envelope] = [("m", message), ("e", envelope)].map(|(name, content)| {
            let path = self.world.root.join(name);
            fs::write(&path, content).and_then(|()| File::open(&path))
        });
        let done = self.world.run_with_files(
            INJECT,
            message.doing("writing the message")?,
            envelope.doing("writing the envelope")?,
        )?;
        self.notes.inject.push(done.exit.into());
        if !inject.wait || done.exit != 0 || self.running.is_none() {
            return Ok(());
        }
        self.until("preprocessing", WAIT, |play| {
            let todo = play.world.files(&["todo"]).doing("listing todo")?;
            Ok(play.matching(&info)? > before && !todo.iter().any(|path| number(path).is_some()))
        })
    }

    fn drain(&mut self) -> Result<(), Failure> {
        // A message that is moving between two directories could be missed by one look.
        let empty = |play: &Self| -> Result<bool, Failure> {
            let left = play.world.files(&["todo", "mess", "todo"]);
            Ok(left.doing("listing the queue")?.is_empty())
        };
        self.until("an empty queue", WAIT, |play| {
            if !empty(play)? {
                return Ok(false);
            }
            thread::sleep(Duration::from_millis(100));
            empty(play)
        })
    }

    fn signal(&self, signal: Signal) -> Result<(), Failure> {
        let pid = self.running_pid()?;
        kill_process(pid, signal).doing("sending a signal")
    }

    fn stop(&mut self) -> Result<(), Failure> {
        if self.ended().is_none() {
            self.signal(Signal::TERM)?;
        }
        self.running_pid()?;
        self.until("the exit", WAIT, |play| Ok(play.ended().is_some()))?;
        self.notes.stop.push(self.ended().into());
        self.running = None;
        Ok(())
    }

    fn kill(&mut self) -> Result<(), Failure> {
        self.signal(Signal::KILL)?;
        self.until("the end", WAIT, |play| Ok(play.ended().is_some()))?;
        self.running = None;
        // Whatever it started notices and ends.
        thread::sleep(Duration::from_millis(300));
        Ok(())
    }

    fn age(&self, birth: Option<i64>, due: Option<i64>) -> std::io::Result<()> {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_err(std::io::Error::other)?
            .as_secs();
        let before_now = |age: i64| {
            let time = now.checked_add_signed(age.checked_neg()?)?;
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time))
        };
        for (names, age) in [(&["info"][..], birth), (&["local", "remote"], due)] {
            let Some(age) = age else { continue };
            let time = before_now(age).ok_or(std::io::ErrorKind::InvalidInput)?;
            for path in self.world.files(names)? {
                tree::set_time(&path, time)?;
            }
        }
        Ok(())
    }

    fn plant(&self, plant: &Plant) -> std::io::Result<()> {
        let queue = self.world.qmail.join("queue");
        let born = queue.join("pid/planted");
        let message = plant.mess.as_ref().map(|mess| &mess.0[..]);
        fs::write(&born, self.world.substitute(message.unwrap_or_default()))?;
        let number = fs::metadata(&born)?.ino();
        let split = |name: &str| queue.join(format!("{name}/{}/{number}", number % SPLIT));
        let flat = |name: &str| queue.join(format!("{name}/{number}"));
        if plant.mess.is_some() {
            let path = split("mess");
            fs::hard_link(&born, &path)?;
            self.world.own(&path, "qmailq", Some(0o644))?;
            if let Some(age) = plant.age {
                tree::set_age(&path, age)?;
            }
            fs::remove_file(&born)?;
        }
        for (name, content) in [("intd", &plant.intd), ("todo", &plant.todo)] {
            if let Some(content) = content {
                fs::write(flat(name), &content.0)?;
                self.world.own(&flat(name), "qmailq", Some(0o644))?;
            }
        }
        if plant.todo.is_some() && plant.intd.is_none() && !plant.nointd {
            fs::hard_link(flat("todo"), flat("intd"))?;
        }
        for (path, content) in [
            (split("info"), &plant.info),
            (split("local"), &plant.local),
            (split("remote"), &plant.remote),
            (flat("bounce"), &plant.bounce),
        ] {
            if let Some(content) = content {
                fs::write(&path, &content.0)?;
                self.world.own(&path, "qmails", Some(0o600))?;
            }
        }
        for (name, content) in &plant.noise.0 {
            let path = queue.join(name.as_os());
            fs::write(&path, &content.0)?;
            self.world.own(&path, "qmailq", Some(0o644))?;
            if let Some(age) = plant.age {
                tree::set_age(&path, age)?;
            }
        }
        Ok(())
    }

    /// Notes the queue once it no longer changes.
    fn note_queue(&mut self) -> Result<(), Failure> {
        static SUBMITTER: LazyLock<Regex> =
            LazyLock::new(|| compile(r"\Au\d+\x00p\d+\x00").expect("this pattern compiles"));
        let end = Instant::now() + SETTLE_MAX;
        let mut last = None;
        let contents = loop {
            thread::sleep(SETTLE);
            let now = self.contents();
            if now.is_some() && now == last {
                break now.unwrap_or_default();
            }
            if Instant::now() > end {
                return Err(self.stuck("the queue does not settle"));
            }
            last = now;
        };
        let mut labels = self.labels();
        let mut shown = Map::new();
        for (path, mut content) in contents {
            let relative = path
                .strip_prefix(self.world.qmail.join("queue"))
                .map_err(std::io::Error::other)
                .doing("naming a queue file")?;
            let mut place = to_text(relative.as_os_str().as_encoded_bytes());
            let directory = place.split('/').next().unwrap_or_default().to_owned();
            if let Some(number) = number(&path) {
                place = format!("{directory}/{}", labels.of(number.to_string().as_bytes()));
            }
            if directory == "intd" || directory == "todo" {
                content = SUBMITTER
                    .replace(&content, &b"u<uid>\0p<pid>\0"[..])
                    .into_owned();
            }
            shown.insert(place, self.world.shown(&content).into());
        }
        self.notes.queue.push(shown.into());
        Ok(())
    }

    /// All files of the queue, in the order in which they are labelled; `None` if one vanished meanwhile.
    fn contents(&self) -> Option<Vec<(PathBuf, Vec<u8>)>> {
        let files = self.world.files(&[
            "pid", "mess", "intd", "todo", "info", "local", "remote", "bounce",
        ]);
        (files.ok()?.into_iter())
            .map(|path| fs::read(&path).ok().map(|content| (path, content)))
            .collect()
    }

    fn note_schedule(&mut self) -> Result<(), Failure> {
        let mut labels = self.labels();
        let mut shown = Map::new();
        for (channel, directory) in [("local", "local"), ("remote", "remote")] {
            let files = self.world.files(&[directory]).doing("listing the queue")?;
            for path in files {
                let split = path.parent().and_then(|parent| parent.file_name());
                let info = self.world.qmail.join("queue/info");
                let info = info
                    .join(split.unwrap_or_default())
                    .join(path.file_name().unwrap_or_default());
                let [due, birth] = [&path, &info].map(|path| fs::metadata(path).doing("a time"));
                let name = to_text(path.file_name().unwrap_or_default().as_encoded_bytes());
                shown.insert(
                    format!("{}/{channel}", labels.of(name.as_bytes())),
                    (due?.mtime() - birth?.mtime()).into(),
                );
            }
        }
        self.notes.schedule.push(shown.into());
        Ok(())
    }

    fn run(&mut self, words: &[Octets]) -> Result<(), Failure> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(Failure::Case("a run step names no program".to_owned()));
        };
        let done = self.world.run_program(&to_text(&program.0), arguments)?;
        let stdout = self.labels().replace_in(&done.stdout);
        self.notes.run.push(self.world.shown(&stdout).into());
        Ok(())
    }

    /// What was seen in all.
    fn observation(self) -> Result<Observation, Failure> {
        let (log, _) = normalize(&self.read_log(), |line| self.world.shown(line));
        let world = &self.world;
        let after = tree::read(&world.homes).doing("reading the homes")?;
        let homes: Map<_, _> = after
            .iter()
            .filter(|(path, content)| world.homes_before.get(*path) != Some(*content))
            .map(|(path, content)| (world.shown(&path.0), world.shown(content).into()))
            .collect();
        let mut seen = Observation::new();
        seen.insert("log".into(), json!(log));
        seen.insert("remote".into(), self.remote_attempts()?.into());
        seen.insert("homes".into(), homes.into());
        for (key, noted) in [
            ("inject", self.notes.inject),
            ("stop", self.notes.stop),
            ("queue", self.notes.queue),
            ("schedule", self.notes.schedule),
            ("run", self.notes.run),
        ] {
            seen.insert(key.into(), noted.into());
        }
        Ok(seen)
    }

    /// What the remote program was given, in the order of the attempts.
    fn remote_attempts(&self) -> Result<Vec<Value>, Failure> {
        let log = self.world.root.join("remote/log");
        let mut attempts: BTreeMap<PathBuf, Map<String, Value>> = BTreeMap::new();
        for path in tree::paths(&log).doing("reading the remote attempts")? {
            if path.is_dir() {
                attempts.entry(path).or_default();
            } else if let (Some(attempt), Some(key)) = (path.parent(), path.file_name()) {
                let content = fs::read(&path).doing("reading a remote attempt")?;
                (attempts.entry(attempt.to_owned()).or_default()).insert(
                    to_text(key.as_encoded_bytes()),
                    self.world.shown(&content).into(),
                );
            }
        }
        let mut attempts: Vec<Value> = attempts.into_values().map(Value::from).collect();
        if self.world.scenario.sort_remote {
            // In the order of the keys as `scenario.py` writes them, which decides between equal hosts.
            attempts.sort_by_key(|attempt| {
                ["host", "sender", "recipient", "message"]
                    .map(|key| attempt.get(key).map(Value::to_string))
            });
        }
        Ok(attempts)
    }

    /// Waits until something is so, but not much longer than the system runs.
    fn until(
        &self,
        what: &str,
        timeout: Duration,
        test: impl Fn(&Self) -> Result<bool, Failure>,
    ) -> Result<(), Failure> {
        let mut end = Instant::now() + timeout;
        let mut ended = None;
        while !test(self)? {
            if ended.is_none() {
                ended = self.ended();
                if ended.is_some() {
                    end = end.min(Instant::now() + GRACE);
                }
            }
            if Instant::now() > end {
                return Err(self.stuck(&match ended {
                    None => format!("timed out waiting for {what}"),
                    Some(exit) => format!("waited for {what}, but {START} exited {exit}"),
                }));
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    fn stuck(&self, what: &str) -> Failure {
        Failure::Stuck {
            what: what.to_owned(),
            log: to_text(&self.read_log()),
        }
    }

    fn running_pid(&self) -> Result<Pid, Failure> {
        let nothing = || Failure::Case("the system is not running".to_owned());
        self.running.ok_or_else(nothing)
    }

    /// The exit code of the started process if it has ended.
    fn ended(&self) -> Option<i32> {
        process::poll(self.running?)
    }

    fn log_path(&self) -> PathBuf {
        self.world.root.join("log")
    }

    fn read_log(&self) -> Vec<u8> {
        fs::read(self.log_path()).unwrap_or_default()
    }

    fn matching(&self, pattern: &Regex) -> Result<usize, Failure> {
        let log = fs::read(self.log_path()).doing("reading the log")?;
        Ok(lines(&log).filter(|line| pattern.is_match(line)).count())
    }

    fn labels(&self) -> Labels {
        normalize(&self.read_log(), to_text).1
    }
}

/// A pattern of a step, for single lines.
fn log_pattern(pattern: &str) -> Result<Regex, Failure> {
    let octets = from_text(pattern)
        .ok_or_else(|| Failure::Case(format!("{pattern}: a character above U+00FF")))?;
    compile(&translate(&octets)).map_err(|error| Failure::Case(error.to_string()))
}

fn signal(name: SignalName) -> Signal {
    match name {
        SignalName::Alrm => Signal::ALARM,
        SignalName::Hup => Signal::HUP,
        SignalName::Term => Signal::TERM,
        SignalName::Int => Signal::INT,
        SignalName::Usr1 => Signal::USR1,
        SignalName::Usr2 => Signal::USR2,
    }
}
