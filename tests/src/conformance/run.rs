//! Runs one case of a program in a scratch home and says what was seen.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use regex::bytes::{NoExpand, Regex};
use serde_json::{Map, Value, json};
use socket2::{Domain, Socket, Type};

use super::accounts;
use super::case::{Case, StdinFile, WorkingDirectory};
use super::failure::{Doing, Failure};
use super::machine::{self, NOBODY};
use super::mask;
use super::octets::{Octets, from_text, replace, to_text};
use super::process::{Done, Processes, Streams};
use super::programs::{Programs, SYSTEM_PATH};
use super::server::Server;
use super::tree;
use crate::dns::NameServer;

/// What was seen, under the keys of a case's `expect`.
pub type Observation = Map<String, Value>;

/// The port that `@PORT@` stands for where there is no scripted server: nobody listens at it.
const PORT_OF_NOBODY: u16 = 9;

/// How long the far side of a TCP connection may go on reading once the program has ended.
const TALK_LINGER: Duration = Duration::from_secs(5);

/// Runs a case and says what was seen.
///
/// # Errors
///
/// The case came to no result: a program is missing, hangs, or the case could not be set up.
pub fn run_case(case: &Case, programs: &Programs) -> Result<Observation, Failure> {
    missing(case, programs).map_or(Ok(()), Err)?;
    World::build(case, programs)?.run()
}

/// The first program that the case would run and that is not there.
///
/// This is looked at before anything is made: a program that is not there yet must cost no time.
pub(crate) fn missing(case: &Case, programs: &Programs) -> Option<Failure> {
    for (program, arguments) in every_program(case) {
        if let Err(failure) = programs.find(&program) {
            return Some(failure);
        }
        if program != "sh" {
            continue;
        }
        let script = match arguments {
            [option, script, ..] if option.0 == b"-c" => &script.0[..],
            _ => b"",
        };
        // Some scripts read functions from files of the case.
        let files = case.home.0.iter().chain(&case.qmail.0);
        let sourced = files
            .filter(|(path, _)| path.0.ends_with(b".sh"))
            .map(|(_, node)| node.describe().content.0);
        if let Some(missing) = [script.to_vec()]
            .into_iter()
            .chain(sourced)
            .find_map(|script| programs.missing_in_script(&script))
        {
            return Some(Failure::Missing(missing.to_owned()));
        }
    }
    None
}

/// The programs that a case runs, in order, with their arguments.
fn every_program(case: &Case) -> impl Iterator<Item = (String, &[Octets])> {
    let before = case
        .before
        .iter()
        .filter_map(|words| words.split_first())
        .map(|(program, arguments)| (to_text(&program.0), arguments));
    before.chain([(case.program.clone(), &case.args[..])])
}

/// The scratch home of a case and everything that was set up for it.
struct World<'a> {
    case: &'a Case,
    programs: &'a Programs,
    /// Declared before `work`: what still runs is killed before its files are removed.
    processes: Processes,
    /// Only kept alive.
    _name_server: Option<NameServer>,
    server: Option<Server>,
    ip: Ipv4Addr,
    port: u16,
    qmail: PathBuf,
    home: PathBuf,
    captured: PathBuf,
    /// The environment of every program of the case.
    environment: Vec<(OsString, OsString)>,
    /// What stands before every program on the command line.
    wrap: Vec<OsString>,
    /// The ports of a connection that was descriptors 0 and 1, and the tokens that stand for them.
    ports: Vec<(u16, &'static [u8])>,
    work: tempfile::TempDir,
}

impl<'a> World<'a> {
    fn build(case: &'a Case, programs: &'a Programs) -> Result<Self, Failure> {
        let (work, root) = scratch("conform.")?;
        let (qmail, home, captured) = (root.join("qmail"), root.join("home"), root.join("queued"));
        for directory in [
            &qmail.join("control"),
            &qmail.join("alias"),
            &qmail.join("users"),
            &home,
            &captured,
        ] {
            fs::create_dir_all(directory).doing("making the home")?;
        }

        let ip = random_loopback();
        let address = match case.server_port {
            Some(port) => SocketAddrV4::new(ip, port),
            None => SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
        };
        let server = match case.server {
            Some(_) => Some(Server::bind(address.into()).doing("listening")?),
            None => None,
        };
        let port = server.as_ref().map_or(PORT_OF_NOBODY, Server::port);

        let mut world = Self {
            case,
            programs,
            processes: Processes::default(),
            _name_server: None,
            server,
            ip,
            port,
            qmail,
            home,
            captured,
            environment: Vec::new(),
            wrap: Vec::new(),
            ports: Vec::new(),
            work,
        };
        world.make_files()?;
        world.make_environment();
        world.make_wrap(&root)?;
        Ok(world)
    }

    fn make_files(&self) -> Result<(), Failure> {
        symlink(self.programs.directory(), self.qmail.join("bin")).doing("linking bin")?;
        for (name, content) in &self.case.control.0 {
            fs::write(
                self.qmail.join("control").join(name.as_os()),
                self.substitute(&content.0),
            )
            .doing("writing a control file")?;
        }
        tree::write(&self.qmail, &self.case.qmail, |octets| {
            self.substitute(octets)
        })
        .doing("making the files under QMAIL_HOME")?;
        tree::write(&self.home, &self.case.home, |octets| {
            self.substitute(octets)
        })
        .doing("making the files of the home")?;
        if self.case.unprivileged && machine::is_root() {
            tree::give(&self.home, NOBODY, NOBODY).doing("giving away the home")?;
        }
        Ok(())
    }

    fn make_environment(&mut self) {
        let mut environment = BTreeMap::from(
            [
                ("PATH", search_path(&[self.programs.directory()])),
                ("QMAIL_HOME", self.qmail.clone().into()),
                ("QMAILQUEUE", self.programs.capture().into()),
                ("QCAP", self.captured.clone().into()),
                ("QCAP_EXIT", self.case.queue_exit.to_string().into()),
            ]
            .map(|(name, value)| (OsString::from(name), value)),
        );
        for (name, value) in &self.case.env.0 {
            let value = Octets(self.substitute(&value.0));
            environment.insert(name.to_os(), value.to_os());
        }
        self.environment = environment.into_iter().collect();
    }

    fn make_wrap(&mut self, root: &Path) -> Result<(), Failure> {
        let mut replaced = Vec::new();
        if let Some(table) = &self.case.dns {
            let file = root.join("resolv.conf");
            let configuration = format!("nameserver {}\noptions timeout:1 attempts:1\n", self.ip);
            fs::write(&file, configuration).doing("writing resolv.conf")?;
            let table = self.substitute(table.to_string().as_bytes());
            let zone = serde_json::from_slice(&table)
                .map_err(|error| Failure::Case(format!("dns: {error}")))?;
            self._name_server = Some(
                NameServer::start(zone, (self.ip, 53).into()).doing("starting the name server")?,
            );
            replaced.push((file, "/etc/resolv.conf"));
        }
        if machine::wants_users(self.case) {
            let (passwd, group) = (root.join("passwd"), root.join("group"));
            accounts::write(&passwd, &group, &self.qmail).doing("writing users")?;
            replaced.extend([(passwd, "/etc/passwd"), (group, "/etc/group")]);
        }
        if !replaced.is_empty() {
            self.wrap
                .extend(["unshare", "-m", "sh", "-c", REPLACE, "sh"].map(OsString::from));
            for (file, place) in replaced {
                self.wrap.extend([file.into(), place.into()]);
            }
            self.wrap.push("--".into());
        }
        if self.case.unprivileged && machine::is_root() {
            self.wrap.extend([
                self.programs.helper().into(),
                "drop".into(),
                NOBODY.to_string().into(),
            ]);
        }
        Ok(())
    }

    fn run(mut self) -> Result<Observation, Failure> {
        for words in &self.case.before {
            let Some((program, arguments)) = words.split_first() else {
                continue;
            };
            let program = to_text(&program.0);
            let command = self.command(&program, arguments, &[])?;
            let done = self.execute(command, Streams::Pipes(Vec::new()))?;
            if done.exit != 0 {
                return Err(Failure::before(&program, done.exit, &done.stderr));
            }
        }
        let home_before = tree::read(&self.home).doing("reading the home")?;
        let qmail_before = tree::read(&self.qmail).doing("reading QMAIL_HOME")?;

        let server = match (self.server.take(), &self.case.server) {
            (Some(server), Some(script)) => Some(server.start(script.clone())),
            _ => None,
        };
        let done = self.run_program();
        let received = server.map(super::server::Running::finish);
        let done = done?;

        let home_after = tree::read(&self.home).doing("reading the home")?;
        let qmail_after = tree::read(&self.qmail).doing("reading QMAIL_HOME")?;
        let mut seen = Observation::new();
        seen.insert("exit".into(), done.exit.into());
        seen.insert("stdout".into(), self.shown(&done.stdout).into());
        seen.insert("stderr".into(), self.shown(&done.stderr).into());
        seen.insert("files".into(), self.changes(&home_before, &home_after));
        seen.insert(
            "qmail_files".into(),
            self.changes(&qmail_before, &qmail_after),
        );
        seen.insert("queued".into(), self.queued()?);
        if !self.case.stat.is_empty() {
            let described = self.case.stat.iter().map(|path| {
                let octets = Octets(from_text(path).unwrap_or_default());
                let description = tree::describe(&self.home.join(octets.as_os()));
                (path.clone(), Value::from(description))
            });
            seen.insert("stat".into(), described.collect::<Map<_, _>>().into());
        }
        if let Some(received) = received {
            let shown = received.iter().map(|octets| self.shown(octets));
            seen.insert("server".into(), shown.collect::<Vec<_>>().into());
        }
        Ok(seen)
    }

    /// Runs the program under test.
    fn run_program(&mut self) -> Result<Done, Failure> {
        let stdin = self.substitute(&self.case.stdin.0);
        let outermost = if self.case.net67 {
            vec![
                self.programs.helper().into(),
                "net67".into(),
                self.port.to_string().into(),
            ]
        } else {
            Vec::new()
        };
        let command = self.command(&self.case.program, &self.case.args, &outermost)?;
        if self.case.tcp {
            return self.execute_over_tcp(command, stdin);
        }
        let path = match &self.case.stdin_file {
            StdinFile::Own(false) => return self.execute(command, Streams::Pipes(stdin)),
            StdinFile::Own(true) => {
                let path = self.work.path().join("stdin");
                fs::write(&path, &stdin).doing("writing the standard input")?;
                path
            }
            StdinFile::Named(path) => self.home.join(path.as_os()),
        };
        let file = File::open(path).doing("opening the standard input")?;
        self.execute(command, Streams::From(file.into()))
    }

    /// A command line with directory and environment.
    fn command(
        &self,
        program: &str,
        arguments: &[Octets],
        outermost: &[OsString],
    ) -> Result<Command, Failure> {
        let program = self.programs.find(program)?.into_os_string();
        let mut words = outermost.iter().chain(&self.wrap).chain([&program]);
        let mut command = Command::new(words.next().unwrap_or(&program));
        command
            .args(words)
            .args(arguments.iter().map(|argument| {
                let argument = Octets(self.substitute(&argument.0));
                argument.to_os()
            }))
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(match self.case.cwd {
                WorkingDirectory::Home => &self.home,
                WorkingDirectory::Qmail => &self.qmail,
            });
        Ok(command)
    }

    fn execute(&mut self, command: Command, streams: Streams) -> Result<Done, Failure> {
        self.processes.run(command, streams, self.case.timeout())
    }

    /// Runs the program with a TCP connection as descriptors 0 and 1; what comes back over it is its output.
    fn execute_over_tcp(&mut self, command: Command, stdin: Vec<u8>) -> Result<Done, Failure> {
        let (near, mut far) = connection(self.ip).doing("connecting")?;
        let port = |address: std::io::Result<SocketAddr>| address.map_or(0, |it| it.port());
        self.ports = vec![
            (port(near.local_addr()), b"@LPORT@"),
            (port(far.local_addr()), b"@RPORT@"),
        ];
        let (tell, told) = channel();
        let mut reader = far.try_clone().doing("sharing the connection")?;
        thread::spawn(move || {
            // The program need not read it all.
            let _ = far.write_all(&stdin);
            let _ = far.shutdown(Shutdown::Write);
        });
        thread::spawn(move || {
            let mut back = Vec::new();
            // What was read before a reset counts.
            let _ = reader.read_to_end(&mut back);
            let _ = tell.send(back);
        });
        let other = near.try_clone().doing("sharing the connection")?;
        let streams = Streams::Given(OwnedFd::from(near).into(), OwnedFd::from(other).into());
        let mut done = self.execute(command, streams)?;
        done.stdout = told
            .recv_timeout(TALK_LINGER)
            .map_err(|_| Failure::TimedOut(TALK_LINGER))?;
        Ok(done)
    }

    /// Puts in what the tokens stand for.
    fn substitute(&self, octets: &[u8]) -> Vec<u8> {
        let octets = replace(octets, b"@HOME@", self.home.as_os_str().as_bytes());
        let octets = replace(&octets, b"@QMAIL@", self.qmail.as_os_str().as_bytes());
        let octets = replace(&octets, b"@PORT@", self.port.to_string().as_bytes());
        replace(&octets, b"@IP@", self.ip.to_string().as_bytes())
    }

    /// Puts the tokens back in, and masks what differs from run to run.
    fn shown(&self, octets: &[u8]) -> String {
        let octets = replace(octets, self.home.as_os_str().as_bytes(), b"@HOME@");
        let mut octets = replace(&octets, self.qmail.as_os_str().as_bytes(), b"@QMAIL@");
        if self.case.server.is_some() {
            octets = replace(&octets, format!(":{}", self.port).as_bytes(), b":@PORT@");
        }
        octets = replace(&octets, self.ip.to_string().as_bytes(), b"@IP@");
        for (port, token) in &self.ports {
            let number = Regex::new(&format!(r"(?-u)\b{port}\b")).expect("a number is a pattern");
            octets = number.replace_all(&octets, NoExpand(token)).into_owned();
        }
        for mask in mask::built_in().iter().chain(&self.case.mask) {
            octets = mask.apply(&octets);
        }
        to_text(&octets)
    }

    /// What differs between two readings of a tree: the new content, or null for what is gone.
    fn changes(
        &self,
        before: &BTreeMap<Octets, Vec<u8>>,
        after: &BTreeMap<Octets, Vec<u8>>,
    ) -> Value {
        let gone = before.keys().filter(|path| !after.contains_key(path));
        let mut paths: Vec<_> = after.keys().chain(gone).collect();
        paths.sort();
        let mut changed = Map::new();
        for path in paths {
            if before.get(path) == after.get(path) {
                continue;
            }
            let mut shown = self.shown(&path.0);
            // Two unique names are the same once they are masked.
            while changed.contains_key(&shown) {
                shown.push('+');
            }
            let content = after.get(path).map(|content| self.shown(content));
            changed.insert(shown, content.into());
        }
        changed.into()
    }

    /// The messages that came to the queue program with an envelope, in the order in which they came.
    fn queued(&self) -> Result<Value, Failure> {
        let mut messages: Vec<_> = tree::paths(&self.captured)
            .doing("reading what was queued")?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|end| end == "mess"))
            .collect();
        messages.sort();
        let mut queued = Vec::new();
        for message in messages {
            let Ok(envelope) = fs::read(message.with_extension("env")) else {
                continue;
            };
            let message = fs::read(&message).doing("reading what was queued")?;
            queued
                .push(json!({"message": self.shown(&message), "envelope": self.shown(&envelope)}));
        }
        Ok(queued.into())
    }
}

/// Puts files in the place of others, pair by pair up to `--`, and runs what follows.
const REPLACE: &str = r#"
while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 111; shift 2; done
shift; exec "$@""#;

/// A directory for one case that everybody may enter, and its path without links in it.
pub(crate) fn scratch(prefix: &str) -> Result<(tempfile::TempDir, PathBuf), Failure> {
    umask();
    let work = tempfile::Builder::new()
        .prefix(prefix)
        .rand_bytes(8)
        .tempdir()
        .doing("making a scratch directory")?;
    fs::set_permissions(work.path(), fs::Permissions::from_mode(0o755))
        .doing("opening the scratch directory")?;
    let root = fs::canonicalize(work.path()).doing("finding the scratch directory")?;
    Ok((work, root))
}

/// The mask that files of the cases are made with, here and in the programs.
fn umask() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
}

/// Writes an executable file.
pub(crate) fn write_program(path: &Path, text: &[u8]) -> std::io::Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

/// A search path: these directories, then the system's.
pub(crate) fn search_path(directories: &[&Path]) -> OsString {
    let mut path = OsString::new();
    for directory in directories {
        path.push(directory);
        path.push(":");
    }
    path.push(SYSTEM_PATH);
    path
}

/// An address under 127 that no other case is likely to use.
fn random_loopback() -> Ipv4Addr {
    let random = RandomState::new().build_hasher().finish().to_le_bytes();
    let octet = |at: usize| 2 + random[at] % 248;
    Ipv4Addr::new(127, octet(0), octet(1), octet(2))
}

/// The two ends of a connection whose far end has this address.
fn connection(far: Ipv4Addr) -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddrV4::new(far, 0).into())?;
    socket.connect(&listener.local_addr()?.into())?;
    let (near, _) = listener.accept()?;
    Ok((near, socket.into()))
}
