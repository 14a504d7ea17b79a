//! Hostile circumstances for those who bring a message into the queue: the entries of `cases/hostile.json` for queue-fault and
//! submission-cli that meet qmail-queue and the spawners.
//!
//! Whatever goes wrong: exit 0 means that the whole message is queued, any other exit that it is not, and what is left of it is
//! swept up.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::Duration;

use futures::executor::block_on;
use qmail_core::{Address, Envelope, Origin, ReversePath};
use qmail_queue::split::format::parse_todo;
use qmail_queue::split::layout::{Directory, TRIGGER, message_id};
use qmail_queue::{Choices, Entry, Found, SimDisk, SplitSpool, Spool, Trouble, Workers};
use rustix::fs::StatVfsMountFlags;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A home with an empty queue, and links to the programs in `bin`.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        SplitSpool::create(make(scratch.path().join("queue"))).unwrap();
        let bin = make(scratch.path().join("bin"));
        for name in ["qmail-queue", "qmail-clean", "qmail-rspawn"] {
            symlink(env!("CARGO_BIN_EXE_qmail-under-test"), bin.join(name)).unwrap();
        }
        fs::write(scratch.path().join("envelope"), ENVELOPE).unwrap();
        Self(scratch)
    }

    fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.path().join(name)
    }

    fn shell(&self, script: &str) -> Command {
        let path = format!("{}:/usr/bin:/bin", self.path("bin").display());
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .current_dir(self.0.path())
            .env("PATH", path)
            .env("QMAIL_HOME", self.0.path());
        command
    }

    fn run(&self, script: &str) -> Output {
        self.shell(script).output().unwrap()
    }

    /// qmail-queue with a message that comes over a pipe.
    fn start(&self, text: &[u8]) -> Child {
        let mut child = self
            .shell("exec qmail-queue 1<envelope")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let _ = child.stdin.take().unwrap().write_all(text);
        child
    }

    /// The texts of all accepted messages, without the queue's own field. All of each is there.
    fn queued(&self) -> Vec<Vec<u8>> {
        let todo = fs::read_dir(self.path("queue/todo")).unwrap();
        todo.map(|entry| {
            let path = entry.unwrap().path();
            let id = message_id(Path::new(path.file_name().unwrap())).expect("a message");
            let todo = parse_todo(fs::read(&path).unwrap().into()).expect("a whole envelope");
            assert_eq!(todo.envelope, envelope());
            let text = fs::read(self.path("queue").join(Directory::mess(id).file(id))).unwrap();
            let end = text.iter().position(|&octet| octet == b'\n').unwrap();
            assert!(text.starts_with(b"Received: (qmail "));
            text[end + 1..].to_vec()
        })
        .collect()
    }

    /// How many files there are that belong to no accepted message.
    fn leftovers(&self) -> usize {
        let files = |directory: Directory| {
            let files = fs::read_dir(self.path("queue").join(directory.path())).unwrap();
            files
                .map(|file| file.unwrap().file_name())
                .collect::<Vec<_>>()
        };
        let accepted = files(Directory::Todo);
        Directory::all()
            .filter(|&directory| directory != Directory::Todo)
            .flat_map(files)
            .filter(|name| !accepted.contains(name))
            .count()
    }
}

const ENVELOPE: &[u8] = b"Fs@src.test\0Ta@far.test\0Tb@far.test\0\0";

fn envelope() -> Envelope {
    Envelope::new(
        ReversePath::new("s@src.test").unwrap(),
        ["a@far.test", "b@far.test"]
            .map(|address| Address::new(address).unwrap())
            .to_vec(),
    )
}

fn make(directory: PathBuf) -> PathBuf {
    fs::create_dir(&directory).unwrap();
    directory
}

/// QF-enospc-enqueue, QF-eio-fsync-once: on the simulated disk, at every operation.
#[test]
fn a_disk_that_fails_once_costs_one_message_and_nothing_else() {
    let begin = |disk: &SimDisk| {
        let spool = SplitSpool::over(std::sync::Arc::new(disk.clone()), Workers::inline());
        let accepted = block_on(submit(&spool));
        (spool, accepted)
    };
    let new_disk = || SimDisk::new(Directory::all().map(Directory::path));
    let calm = new_disk();
    assert!(begin(&calm).1);
    let mut refused = 0;
    for operation in 1..=calm.operations() {
        for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other] {
            let disk = new_disk();
            disk.plan(Trouble::Fail(operation, kind));
            let (spool, accepted) = begin(&disk);
            if accepted {
                // Only the removal of a name that is not needed any more may fail unnoticed.
                continue;
            }
            refused += 1;
            assert_eq!(count(&spool), 0, "refused, operation {operation}");
            // Nor does a crash bring it back.
            let mut choices = Choices::seeded(operation);
            for _ in 0..100 {
                let found = disk.after_crash(&mut choices);
                let found = SplitSpool::over(std::sync::Arc::new(found), Workers::inline());
                assert_eq!(count(&found), 0, "after a crash, operation {operation}");
            }
            // The disk is well again.
            assert!(block_on(submit(&spool)), "operation {operation}");
            assert_eq!(count(&spool), 1);
        }
    }
    assert!(refused > 10, "{refused}");
}

async fn submit(spool: &SplitSpool) -> bool {
    let entry = Entry {
        origin: Origin::Network,
        uid: 1,
        pid: 2,
        now: std::time::SystemTime::UNIX_EPOCH,
    };
    let mut draft = spool.begin(entry).await.unwrap();
    // More than is held in memory.
    let text = vec![b'x'; 100_000];
    draft.write(text.into()).await.is_ok() && draft.commit(&envelope()).await.is_ok()
}

fn count(spool: &SplitSpool) -> usize {
    let mut count = 0;
    block_on(spool.scan(&mut |found| {
        assert!(matches!(found, Found::Incoming(_)), "{found:?}");
        count += 1;
    }))
    .unwrap();
    count
}

/// QF-enospc-enqueue: on a real disk that is full.
#[test]
fn a_full_disk_takes_no_part_of_a_message() {
    let home = Home::new();
    // Only root may mount.
    let script = r#"
mount -t tmpfs -o size=1m tmpfs queue 2>/dev/null || { echo skipped; exit; }
mkdir queue/pid queue/intd queue/todo queue/bounce queue/lock
for d in mess info local remote; do for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22; do mkdir -p queue/$d/$i; done; done
head -c 100000 /dev/zero | tr '\0' x >m
taken=0; while qmail-queue <m 1<envelope; code=$?; [ $code = 0 ]; do taken=$((taken+1)); done; echo "exit $code"
echo "taken $((taken > 2)) $((taken == $(ls queue/todo | wc -l)))"
echo "texts $(($(find queue/mess -type f | wc -l) - taken)) newborn $(ls queue/pid | wc -l)"
id=$(ls queue/todo | head -n 1); rm queue/*/$id queue/mess/*/$id
qmail-queue <m 1<envelope; echo "exit $?"
"#;
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c", script])
        .current_dir(home.0.path())
        .env(
            "PATH",
            format!("{}:/usr/bin:/bin", home.path("bin").display()),
        )
        .env("QMAIL_HOME", home.0.path());
    let Ok(output) = command.output() else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || said.starts_with("skipped") {
        return;
    }
    assert_eq!(said, "exit 53\ntaken 1 1\ntexts 0 newborn 0\nexit 0\n");
}

/// QF-enomem, and too few descriptors.
#[test]
fn limits_of_the_caller_refuse_a_message_whole() {
    let home = Home::new();
    fs::write(home.path("m"), vec![b'x'; 100_000]).unwrap();
    let mut taken = 0;
    let mut take = |limit: String| {
        let script = format!("exec <m 1<envelope 2>/dev/null; ulimit {limit}; exec qmail-queue");
        let accepted = home.run(&script).status.success();
        taken += usize::from(accepted);
        assert_eq!(home.queued().len(), taken, "{limit}");
        accepted
    };
    let by_descriptors: Vec<bool> = (3..=24).map(|count| take(format!("-n {count}"))).collect();
    let by_memory: Vec<bool> = (1..50)
        .map(|step| take(format!("-v {}", step * 2_000)))
        .collect();
    for accepted in [by_descriptors, by_memory] {
        assert_eq!(
            (accepted[0], accepted.last()),
            (false, Some(&true)),
            "{accepted:?}"
        );
    }
}

/// SUB-signal-storm, and the part of QF-kill9-loop that is qmail-queue's.
#[test]
fn signals_at_any_instant_leave_a_whole_message_or_none() {
    const ROUNDS: u64 = 100;
    let home = Home::new();
    let mut random = 1_u64;
    let mut accepted = 0;
    for round in 0..ROUNDS {
        let text = format!("Subject: {round}\n\n{}", "body\n".repeat(40_000));
        let mut child = home.start(text.as_bytes());
        let pid = Pid::from_child(&child);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(round);
        sleep(Duration::from_micros(random >> 54));
        let deadly = [Signal::ALARM, Signal::KILL][(random >> 40) as usize % 2];
        for signal in [Signal::HUP, Signal::STOP, Signal::CONT, Signal::INT, deadly] {
            let _ = kill_process(pid, signal);
        }
        accepted += usize::from(child.wait().unwrap().success());
    }
    let queued = home.queued();
    // Killed after the message was there, it may not have said so.
    assert!(queued.len() >= accepted, "{} of {accepted}", queued.len());
    for text in queued {
        assert!(text.starts_with(b"Subject: ") && text.len() > 200_000);
    }
}

/// What the system sends for a bug, somebody else may send as well: nothing is accepted, and nothing left.
#[test]
fn signals_that_tell_of_a_bug_are_told_as_one() {
    for signal in [
        Signal::ILL,
        Signal::ABORT,
        Signal::FPE,
        Signal::BUS,
        Signal::SEGV,
        Signal::SYS,
    ] {
        let home = Home::new();
        let mut child = home
            .shell("exec qmail-queue 1<envelope")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        // It waits for the rest of a message that is too long to be held in memory, once it has a file for it.
        let text = "body\n".repeat(40_000);
        let mut message = child.stdin.take().unwrap();
        message.write_all(text.as_bytes()).unwrap();
        while home.leftovers() == 0 {
            sleep(Duration::from_millis(1));
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(81), "{signal:?}");
        assert_eq!(home.leftovers(), 0, "{signal:?}");
        assert!(home.queued().is_empty(), "{signal:?}");
    }
}

/// No file of its own takes the place of a descriptor that is closed.
#[test]
fn closed_descriptors_are_refused_before_there_is_a_file() {
    let home = Home::new();
    for (script, code) in [
        ("qmail-queue <&- 1<envelope", 54),
        ("echo text | qmail-queue 1<&-", 54),
        // What the start of every program of ours puts in their place.
        ("qmail-queue 0<>/dev/null 1<envelope", 54),
        ("qmail-queue </dev/null 1<envelope", 0),
    ] {
        assert_eq!(home.run(script).status.code(), Some(code), "{script}");
        assert_eq!(home.leftovers(), 0, "{script}");
        assert_eq!(home.queued().len(), usize::from(code == 0), "{script}");
    }
}

/// QF-trigger-lost.
#[test]
fn a_broken_trigger_costs_no_message() {
    let home = Home::new();
    let trigger = home.path("queue").join(TRIGGER);
    let mut expected = 0;
    let mut submit = |what: &str| {
        let output = home.run("echo text | qmail-queue 1<envelope");
        assert!(output.status.success(), "{what}");
        expected += 1;
        assert_eq!(home.queued().len(), expected, "{what}");
    };
    submit("nobody listens");
    fs::remove_file(&trigger).unwrap();
    submit("missing");
    fs::write(&trigger, "a file").unwrap();
    submit("a file");
    assert_eq!(fs::read(&trigger).unwrap(), b"a file", "it is left alone");
    fs::remove_file(&trigger).unwrap();
    symlink("/nonexistent", &trigger).unwrap();
    submit("a link to nowhere");
}

/// QF-eagain-pipes: whoever opened the pipes said that nobody is to wait.
#[test]
fn descriptors_that_do_not_wait_are_waited_for() {
    let home = Home::new();
    let (message, mut writer) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&message, true).unwrap();
    let child = home
        .shell("exec qmail-queue 1<envelope")
        .stdin(message)
        .spawn();
    let mut child = child.unwrap();
    for _ in 0..3 {
        sleep(Duration::from_millis(50));
        writer.write_all(b"line\n").unwrap();
    }
    drop(writer);
    assert!(child.wait().unwrap().success());
    assert_eq!(home.queued(), [b"line\nline\nline\n"]);
}

/// Differences wanted: the files go on each of the envelope's errors too, and a closed descriptor is not an empty message.
#[test]
fn what_is_refused_leaves_nothing() {
    let home = Home::new();
    let long = "x".repeat(1003);
    for (script, code) in [
        (
            format!("printf 'F{long}\\000\\000' >e; qmail-queue </dev/null 1<e"),
            11,
        ),
        (
            "printf 'Ts\\000\\000' >e; qmail-queue </dev/null 1<e".to_owned(),
            91,
        ),
        (
            "printf 'Fs\\000' >e; qmail-queue </dev/null 1<e".to_owned(),
            54,
        ),
        ("qmail-queue 0<&- 1<envelope".to_owned(), 54),
        ("qmail-queue </dev/null 1>&-".to_owned(), 54),
        ("qmail-queue </dev/null 1>out".to_owned(), 54),
        (
            "mkdir control control/queueextra; qmail-queue </dev/null 1<envelope".to_owned(),
            55,
        ),
        (
            "rmdir control/queueextra control; mv queue/intd .; qmail-queue </dev/null 1<envelope"
                .to_owned(),
            65,
        ),
        (
            "mv intd queue; mv queue/todo .; qmail-queue </dev/null 1<envelope".to_owned(),
            66,
        ),
        (
            "mv todo queue; qmail-queue </dev/null 1<envelope 2>&-".to_owned(),
            0,
        ),
    ] {
        let status = home.run(&script).status;
        assert_eq!(status.code(), Some(code), "{script}");
        if code != 65 && code != 66 {
            assert_eq!(home.leftovers(), 0, "{script}");
        }
    }
    assert_eq!(home.queued(), [b""]);
    assert_eq!(home.leftovers(), 0);
}

/// Differences wanted: a setuid program does not listen to its caller's environment, nor does it take the caller's word for what
/// program it is.
#[test]
fn a_setuid_binary_is_qmail_queue_alone_and_chooses_its_home() {
    const OWNER: u32 = 65_534;
    const CALLER: u32 = 65_533;
    let home = Home::new();
    let program = home.path("copy");
    fs::copy(env!("CARGO_BIN_EXE_qmail-under-test"), &program).unwrap();
    let set = chown(&program, Some(OWNER), None)
        .and_then(|()| fs::set_permissions(&program, Permissions::from_mode(0o4755)))
        .and_then(|()| fs::set_permissions(home.0.path(), Permissions::from_mode(0o755)));
    let mount = rustix::fs::statvfs(&program).unwrap();
    if set.is_err() || mount.f_flag.contains(StatVfsMountFlags::NOSUID) {
        // Only root can set this up.
        return;
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .arg0("qmail")
            .args(arguments)
            .env("QMAIL_HOME", home.0.path())
            .uid(CALLER)
            .gid(CALLER)
            .stdin(fs::File::open("/dev/null").unwrap())
            .stdout(fs::File::open(home.path("envelope")).unwrap());
        command.status().unwrap().code()
    };
    assert_ne!(run(&["version"]), Some(0));
    assert_eq!(home.queued().len(), 0, "not the home that the caller named");
}

/// Called by root, as from a script of the host, a program without setuid leaves what the queue's owner can deliver and remove.
#[test]
fn what_root_submits_belongs_to_the_owner_of_the_queue() {
    const OWNER: u32 = 65_534;
    let home = Home::new();
    let queue = home.path("queue");
    let directories = Directory::all().map(|directory| queue.join(directory.path()));
    for path in directories.chain([queue.clone()]) {
        if chown(path, Some(OWNER), None).is_err() {
            // Only root can set this up.
            return;
        }
    }
    fs::set_permissions(home.0.path(), Permissions::from_mode(0o755)).unwrap();
    assert!(
        home.run("echo text | qmail-queue 1<envelope")
            .status
            .success()
    );
    assert_eq!(home.queued().len(), 1);
    for directory in Directory::all() {
        for file in fs::read_dir(queue.join(directory.path())).unwrap() {
            let file = file.unwrap();
            assert_eq!(file.metadata().unwrap().uid(), OWNER, "{:?}", file.path());
        }
    }
    let todo = fs::read_dir(queue.join("todo")).unwrap().next().unwrap();
    let todo = parse_todo(fs::read(todo.unwrap().path()).unwrap().into()).unwrap();
    assert_eq!(todo.uid, 0, "who called is still known");
}

/// control/queueextra: QUEUE_EXTRA at run time.
#[test]
fn extra_recipients_come_first() {
    let home = Home::new();
    make(home.path("control"));
    fs::write(
        home.path("control/queueextra"),
        "# all mail\nlog\nlog2@far.test\n",
    )
    .unwrap();
    assert!(
        home.run("qmail-queue </dev/null 1<envelope")
            .status
            .success()
    );
    let todo = fs::read_dir(home.path("queue/todo"))
        .unwrap()
        .next()
        .unwrap();
    let todo = parse_todo(fs::read(todo.unwrap().path()).unwrap().into()).unwrap();
    let recipients: Vec<_> = todo
        .envelope
        .recipients
        .iter()
        .map(Address::as_bytes)
        .collect();
    let expected: [&[u8]; 4] = [b"log", b"log2@far.test", b"a@far.test", b"b@far.test"];
    assert_eq!(recipients, expected);
}

/// QF-spawn-garbage: a delivery program says what it should not, and a lot of it.
#[test]
fn a_delivery_program_out_of_control_disturbs_nobody_else() {
    let home = Home::new();
    fs::write(home.path("queue/mess/0/46"), "text\n").unwrap();
    let script = r#"
req() { printf "\\$1"; printf '%s\000%s\000%s\000' 0/46 s "$2"; }
cat >r <<'E'
#!/bin/sh
case "$3" in
flood@x) head -c 50000000 /dev/zero | tr '\0' x;;
two@x) printf 'Kone\0Dtwo\0Zthree\0';;
number@x) printf '\007Kforged\n\0\001Kforged\n\0';;
hang@x) exec >/dev/null 2>&1; (sleep 60)& printf 'Kx\0' >/dev/null;;
*) printf 'Kfine\n\0';;
esac
E
chown qmailq queue/mess/0/46 2>/dev/null
chmod 755 r; export QMAILREMOTE=$PWD/r
{ req 001 flood@x; req 002 two@x; req 003 number@x; req 004 hang@x; req 005 good@x; req 005 again@x; } | qmail-rspawn >out
tail -c +2 out | tr '\000\001\002\003\004\005\007' '|12345b' | tr '|' '\n' | sort | grep .
"#;
    let said = home.run(script).stdout;
    let unknown = "qmail-remote said nothing of the message.";
    let expected = format!(
        "1Z{unknown}\n2Konetwo\n3Z{unknown}\n4Zqmail-remote produced no output.\n5Kfine\n5ZInternal error: delnum in use. (#4.3.5)\n"
    );
    assert_eq!(String::from_utf8_lossy(&said), expected);
}

/// Differences wanted: a delivery program that cannot be run is something to mend here; mail waits for it.
#[test]
fn a_delivery_program_that_cannot_be_run_defers() {
    let home = Home::new();
    fs::write(home.path("queue/mess/0/46"), "text\n").unwrap();
    fs::write(home.path("no-program"), "text\n").unwrap();
    for program in ["/nonexistent", "no-program", "."] {
        let script = format!(
            "chown qmailq queue/mess/0/46 2>/dev/null; export QMAILREMOTE=$PWD/{program}; \
             printf '\\0010/46\\000s\\000a@x\\000' | qmail-rspawn | tail -c +2"
        );
        let said = home.run(&script).stdout;
        let expected = "\u{1}ZUnable to run qmail-remote.\n\0";
        assert_eq!(String::from_utf8_lossy(&said), expected, "{program}");
    }
}
