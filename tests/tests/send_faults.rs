//! qmail-send when what is around it goes wrong (`cases/hostile.json`, queue-fault): its helpers die or say nonsense, its files
//! are taken away.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use qmail_tests::manager::{Manager, Plumbing, make_home, put_message};
use rustix::process::Signal;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

const CONTROL: [(&str, &str); 1] = [("me", "mx.example.org\n")];

fn start(home: &Path) -> Manager {
    plumbing(home).start().unwrap()
}

fn plumbing(home: &Path) -> Plumbing<'_> {
    Plumbing {
        program: PROGRAM,
        home,
        limit: Some(120),
        cleans: true,
    }
}

/// A home, and a manager that runs in it.
fn running() -> (tempfile::TempDir, Manager) {
    let home = tempfile::tempdir().unwrap();
    make_home(home.path(), &CONTROL).unwrap();
    let mut manager = start(home.path());
    manager.wait_for("status: local 0/10 remote 0/20");
    (home, manager)
}

/// The recipients of a message of the remote channel, as its file has them.
fn remote(home: &Path, id: u64) -> Option<String> {
    let path = home.join(format!("queue/remote/{}/{id}", id % 23));
    fs::read(path)
        .ok()
        .map(|file| String::from_utf8(file).unwrap())
}

#[test]
fn nonsense_of_a_spawner_touches_no_other_delivery() {
    let (home, mut manager) = running();
    let id = put_message(home.path(), &["a@far.example", "b@far.example"]).unwrap();
    let first = manager.remote.request();
    let second = manager.remote.request();
    assert_eq!(first.message, format!("{}/{id}", id % 23).as_bytes());
    assert_ne!(first.delivery, second.delivery);
    // Nobody's number, a number beyond all, no letter, a report without end.
    manager.remote.report(b"\x07Kok\n\0\xffDno\n\0");
    manager.wait_for("warning: internal error: delivery report out of range");
    manager.wait_for("warning: internal error: delivery report out of range");
    manager.remote.report(&[first.delivery, b'?', 0]);
    manager.wait_for("delivery 1: report mangled, will defer");
    let mut long = vec![second.delivery, b'K'];
    long.resize(1_000_000, b'x');
    manager.remote.report(&long);
    // What was said about a delivery twice was said about none.
    manager.remote.report(&[0, first.delivery, b'D', 0]);
    let line = manager.wait_for("delivery 2: success: ");
    assert!(line.len() < 10_100, "{}", line.len());
    manager.signal(Signal::TERM);
    manager.wait_for("status: exiting");
    assert!(manager.wait().success());
    let out_of_range = "warning: internal error: delivery report out of range";
    let told = manager.seen.iter().filter(|line| *line == out_of_range);
    assert_eq!(told.count(), 3);
    let left = remote(home.path(), id).unwrap();
    assert!(
        left.contains("\0Db@far.example") || left.starts_with("Db@far.example"),
        "{left}"
    );
    assert!(left.contains("Ta@far.example"), "{left}");
}

#[test]
fn a_lost_spawner_ends_it_and_no_recipient_is_lost() {
    for remote_dies in [false, true] {
        let (home, mut manager) = running();
        let id = put_message(home.path(), &["a@far.example"]).unwrap();
        manager.remote.request();
        let dying = match remote_dies {
            true => &mut manager.remote,
            false => &mut manager.local,
        };
        dying.reports = None;
        manager.wait_for("alert: oh no! lost spawn connection! dying...");
        if !remote_dies {
            // The other one's deliveries are waited for.
            manager.remote.report(b"\0Kfine\n\0");
            manager.wait_for("delivery 1: success: fine/");
        }
        manager.wait_for("status: exiting");
        assert!(manager.wait().success());
        // What the lost one was at is told of by that one line.
        let told = |line: &&String| line.starts_with("delivery 1: ");
        let told = manager.seen.iter().filter(told).count();
        assert_eq!(told, usize::from(!remote_dies), "{:#?}", manager.seen);
        let left = remote(home.path(), id);
        let wanted = remote_dies.then_some("Ta@far.example\0");
        assert_eq!(left.as_deref(), wanted);
    }
}

#[test]
fn a_lost_cleaner_ends_it_and_no_message_is_lost() {
    let home = tempfile::tempdir().unwrap();
    make_home(home.path(), &CONTROL).unwrap();
    let mut manager = Plumbing {
        cleans: false,
        ..plumbing(home.path())
    }
    .start()
    .unwrap();
    let id = put_message(home.path(), &["a@far.example"]).unwrap();
    manager.wait_for("alert: oh no! lost qmail-clean connection! dying...");
    manager.wait_for("status: exiting");
    assert!(manager.wait().success());
    assert!(home.path().join(format!("queue/todo/{id}")).exists());
    let mut manager = start(home.path());
    manager.remote.request();
    manager.remote.report(b"\0Kfine\n\0");
    manager.wait_for(&format!("end msg {id}"));
}

#[test]
fn what_keeps_it_from_starting_is_one_line() {
    let alert = |plumbing: Plumbing<'_>| {
        let mut manager = plumbing.start().unwrap();
        assert_eq!(manager.wait().code(), Some(111), "{:#?}", manager.seen);
        manager.seen.join("\n")
    };
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let cannot = |words: &str| format!("alert: cannot start: {words}");
    let nowhere = home.join("nowhere");
    assert_eq!(
        alert(plumbing(&nowhere)),
        cannot("unable to switch to home directory")
    );
    assert_eq!(alert(plumbing(home)), cannot("unable to read controls"));
    fs::create_dir(home.join("control")).unwrap();
    fs::write(home.join("control/me"), "mx.example.org\n").unwrap();
    assert_eq!(
        alert(plumbing(home)),
        cannot("unable to switch to queue directory")
    );
    fs::create_dir(home.join("queue")).unwrap();
    assert_eq!(alert(plumbing(home)), cannot("unable to open mutex"));
    fs::remove_dir(home.join("queue")).unwrap();
    make_home(home, &CONTROL).unwrap();
    let dead = Plumbing {
        limit: None,
        ..plumbing(home)
    };
    assert_eq!(alert(dead), cannot("hath the daemon spawn no fire?"));
    // Messages of a wider queue would never be seen.
    fs::create_dir(home.join("queue/mess/23")).unwrap();
    let words = alert(plumbing(home));
    assert!(words.contains("mess/23"), "{words}");
    fs::remove_dir(home.join("queue/mess/23")).unwrap();
    fs::remove_dir(home.join("queue/info/7")).unwrap();
    let words = alert(plumbing(home));
    assert!(words.contains("info/7"), "{words}");
}

#[test]
fn a_lock_that_is_taken_away_lets_no_second_one_in() {
    let (home, mut manager) = running();
    fs::remove_file(home.path().join("queue/lock/sendmutex")).unwrap();
    let mut second = start(home.path());
    assert_eq!(second.wait().code(), Some(111));
    assert_eq!(
        second.seen,
        ["alert: cannot start: qmail-send is already running"]
    );
    manager.signal(Signal::TERM);
    assert!(manager.wait().success());
}

#[test]
fn control_files_that_cannot_be_read_again_leave_the_old_ones() {
    let (home, mut manager) = running();
    let control = home.path().join("control");
    for name in ["locals", "virtualdomains"] {
        fs::create_dir(control.join(name)).unwrap();
        manager.signal(Signal::HUP);
        manager.wait_for(&format!("alert: unable to reread control/{name}"));
        fs::remove_dir(control.join(name)).unwrap();
    }
    put_message(home.path(), &["a@mx.example.org"]).unwrap();
    assert_eq!(manager.local.request().recipient, b"a@mx.example.org");
}

#[test]
fn a_trigger_that_is_a_file_is_told_and_mail_is_found_at_the_start() {
    let home = tempfile::tempdir().unwrap();
    make_home(home.path(), &CONTROL).unwrap();
    let trigger = home.path().join("queue/lock/trigger");
    fs::remove_file(&trigger).unwrap();
    fs::write(&trigger, "x").unwrap();
    put_message(home.path(), &["a@far.example"]).unwrap();
    let mut manager = start(home.path());
    let line = manager.wait_for("warning: no trigger: ");
    assert!(line.contains("remove it"), "{line}");
    manager.remote.request();
}

#[test]
fn no_more_is_started_than_the_spawner_can_do() {
    let home = tempfile::tempdir().unwrap();
    make_home(home.path(), &CONTROL).unwrap();
    let mut manager = Plumbing {
        limit: Some(2),
        ..plumbing(home.path())
    }
    .start()
    .unwrap();
    manager.wait_for("status: local 0/2 remote 0/2");
    put_message(
        home.path(),
        &["a@far.example", "b@far.example", "c@far.example"],
    )
    .unwrap();
    let numbers =
        [manager.remote.request(), manager.remote.request()].map(|request| request.delivery);
    assert_eq!(numbers, [0, 1]);
    manager.remote.report(&[1, b'Z', b'\n', 0]);
    // The number that is free is used again.
    assert_eq!(manager.remote.request().delivery, 1);
}

/// README.md says which test plays which entry of `cases/hostile.json`; here it is held to it.
#[test]
fn every_entry_has_a_test_where_the_readme_says() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(tests.join("README.md")).unwrap();
    let rows = readme.lines().filter_map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, entry, file, test, _] = cells[..] else {
            return None;
        };
        let file = file.strip_prefix('`')?.strip_suffix('`')?;
        let test = test.strip_prefix('`')?.split('`').next()?;
        file.ends_with(".rs").then_some((entry, file, test))
    });
    let rows: Vec<_> = rows.collect();
    for (entry, file, test) in &rows {
        let text = fs::read_to_string(tests.join("..").join(file)).unwrap();
        assert!(
            text.contains(&format!("fn {test}(")),
            "{entry}: {file} {test}"
        );
    }
    let cases = fs::read(tests.join("cases/hostile.json")).unwrap();
    let entries: Vec<serde_json::Value> = serde_json::from_slice(&cases).unwrap();
    let entries = entries
        .iter()
        .filter(|entry| entry["area"] == "queue-fault");
    for entry in entries {
        let id = entry["id"].as_str().unwrap();
        assert!(
            rows.iter().any(|(name, ..)| *name == id),
            "{id} is not in README.md"
        );
    }
}
