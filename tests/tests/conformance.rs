//! The conformance cases, one test for each file of `tests/cases/`. `tests/README.md` says how to read and change them.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use qmail_tests::conformance::{Cases, HostileClients, NotPassing, Programs, Report};

/// A test for each file, and the list of the files.
macro_rules! conformance {
    ($($test:ident: $file:literal,)*) => {
        $(
            #[test]
            fn $test() {
                run($file);
            }
        )*

        const FILES: &[&str] = &[$($file),*];
    };
}

conformance! {
    local_dotforward: "local-dotforward.json",
    local_fastforward: "local-fastforward.json",
    local_files: "local-files.json",
    local_forward: "local-forward.json",
    local_lspawn: "local-lspawn.json",
    local_programs: "local-programs.json",
    local_search: "local-search.json",
    local_serial: "local-serial.json",
    local_tools: "local-tools.json",
    local_users: "local-users.json",
    message_envelope: "message-envelope.json",
    message_grammar: "message-grammar.json",
    message_inject: "message-inject.json",
    message_newinject: "message-newinject.json",
    message_ofmipd: "message-ofmipd.json",
    message_quoting: "message-quoting.json",
    message_sendmail: "message-sendmail.json",
    message_tools822: "message-tools822.json",
    queue_analog: "queue-analog.json",
    queue_clean: "queue-clean.json",
    queue_config: "queue-config.json",
    queue_scenarios: "queue-scenarios.json",
    queue_spawn: "queue-spawn.json",
    queue_submit: "queue-submit.json",
    queue_tables: "queue-tables.json",
    queue_view: "queue-view.json",
    wire_pop3: "wire-pop3.json",
    wire_qmtp_qmqp: "wire-qmtp-qmqp.json",
    wire_remote: "wire-remote.json",
    wire_smtpd_control: "wire-smtpd-control.json",
    wire_smtpd_data: "wire-smtpd-data.json",
    wire_smtpd_dialogue: "wire-smtpd-dialogue.json",
    wire_tcp: "wire-tcp.json",
}

/// Hostile clients against `qmail serve`: their file, and the areas that are played.
const HOSTILE: &str = "hostile.json";
const HOSTILE_AREAS: &[&str] = &["smtp-server/", "pop3-server"];

#[test]
fn hostile_smtp_clients() {
    run_hostile(HOSTILE_AREAS[0]);
}

#[test]
fn hostile_pop3_clients() {
    run_hostile(HOSTILE_AREAS[1]);
}

fn run_hostile(area: &str) {
    let clients = HostileClients::read(&cases_directory().join(HOSTILE), area)
        .expect("the hostile clients are readable");
    let report = clients.run(env!("CARGO_BIN_EXE_qmail-under-test"), &only());
    judge(&format!("{HOSTILE} {area}"), &report, &clients.names());
}

/// Runs the cases of a file and judges them by the list.
fn run(file: &str) {
    let cases = Cases::read(&cases_directory().join(file)).expect("the cases are readable");
    let report = cases.run(&programs(), &only());
    let names: Vec<_> = cases.names().into_iter().map(str::to_owned).collect();
    judge(file, &report, &names);
}

/// Only the cases whose name contains this are run.
fn only() -> String {
    std::env::var("CONFORM_ONLY").unwrap_or_default()
}

/// Judges a report by the list, or says what the list should be.
fn judge(label: &str, report: &Report, names: &[String]) {
    match std::env::var("CONFORM_LIST").as_deref() {
        Ok("") | Err(_) => {}
        Ok("write") => {
            let _exclusive = LIST.lock().unwrap_or_else(PoisonError::into_inner);
            let mut list = read_list();
            report.update(&mut list);
            fs::write(list_path(), list.to_text()).expect("the list is writable");
            return say(&format!("{label}: its part of the list is written\n"));
        }
        Ok(_) => {
            let mut list = NotPassing::default();
            let listed = read_list();
            for name in names {
                list.set(name, listed.contains(name));
            }
            report.update(&mut list);
            return say(&list.to_text());
        }
    }

    let verdict = {
        let _exclusive = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        report.judge(&read_list())
    };
    let lacking: String = report
        .lacking()
        .iter()
        .map(|(need, count)| format!("; {count} need {need}"))
        .collect();
    say(&format!(
        "{label}: {} passed, {} listed as not passing yet, {} skipped{lacking}\n",
        verdict.passed, verdict.listed, verdict.skipped
    ));
    assert!(verdict.errors.is_empty(), "\n{}", verdict.errors);
}

/// Prints past the test harness, which would keep the output of a test that passes to itself.
fn say(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[test]
fn every_file_of_cases_is_run() {
    let present: BTreeSet<_> = fs::read_dir(cases_directory())
        .expect("the directory of cases is readable")
        .map(|entry| entry.expect("its entries too").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let known = FILES.iter().chain([&HOSTILE]);
    assert_eq!(present, known.map(|&name| name.to_owned()).collect());
}

#[test]
fn every_name_is_that_of_one_case_and_every_listed_name_is_that_of_a_case() {
    let mut names = BTreeSet::new();
    for file in FILES {
        let cases = Cases::read(&cases_directory().join(file)).expect("the cases are readable");
        for name in cases.names() {
            assert!(names.insert(name.to_owned()), "two cases are named {name}");
        }
    }
    for area in HOSTILE_AREAS {
        let clients = HostileClients::read(&cases_directory().join(HOSTILE), area)
            .expect("the hostile clients are readable");
        for name in clients.names() {
            assert!(!names.contains(&name), "two cases are named {name}");
            names.insert(name);
        }
    }
    let list = {
        let _exclusive = LIST.lock().unwrap_or_else(PoisonError::into_inner);
        read_list()
    };
    let unknown: Vec<_> = list.names().filter(|&name| !names.contains(name)).collect();
    assert!(
        unknown.is_empty(),
        "listed as not passing, but no cases: {unknown:?}"
    );
}

/// Guards the file with the list, which `CONFORM_LIST=write` changes.
static LIST: Mutex<()> = Mutex::new(());

fn read_list() -> NotPassing {
    NotPassing::read(&list_path()).expect("the list is readable")
}

fn list_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("not-passing.txt")
}

fn cases_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases")
}

/// The programs under test: those of this build or, where `CONFORM_BIN` names a directory, those in it.
///
/// The tests of all files share them; the last one removes what was made for them.
fn programs() -> Arc<Programs> {
    static SHARED: Mutex<Weak<Programs>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(programs) = shared.upgrade() {
        return programs;
    }
    let helper = Path::new(env!("CARGO_BIN_EXE_conform-helper"));
    let programs = match std::env::var_os("CONFORM_BIN") {
        Some(directory) => Programs::in_directory(Path::new(&directory), helper),
        None => Programs::linked(
            Path::new(env!("CARGO_BIN_EXE_qmail-under-test")),
            helper,
            &qmail_cli::applet_names(),
        ),
    };
    let programs = Arc::new(programs.expect("the programs can be linked"));
    *shared = Arc::downgrade(&programs);
    programs
}
