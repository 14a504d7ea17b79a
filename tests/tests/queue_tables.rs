//! What the programs around the tables of hosts say when these are not there: their words are interface.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// Runs a program in a home.
fn run(home: &Path, name: &str) -> Output {
    let bin = tempfile::tempdir().unwrap();
    let link = bin.path().join(name);
    symlink(PROGRAM, &link).unwrap();
    Command::new(link).env("QMAIL_HOME", home).output().unwrap()
}

fn words(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).unwrap()
}

/// By qmail-tcpto(8): its words stand where the list would be, those of qmail-tcpok do not.
#[test]
fn a_table_of_timeouts_that_is_not_there_is_told_in_the_classic_words() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let told = |step: &str| {
        let output = run(home, "qmail-tcpto");
        assert_eq!(output.status.code(), Some(111), "{step}");
        assert_eq!(words(&output.stderr), "", "{step}");
        let line = words(&output.stdout);
        let start = format!("fatal: unable to {step}: ");
        assert!(line.starts_with(&start) && line.ends_with('\n'), "{line}");

        let output = run(home, "qmail-tcpok");
        assert_eq!(output.status.code(), Some(111), "{step}");
        assert_eq!(words(&output.stdout), "", "{step}");
        let line = words(&output.stderr);
        let start = format!("qmail-tcpok: fatal: unable to {step}: ");
        assert!(line.starts_with(&start), "{line}");
    };
    told("chdir");
    fs::create_dir_all(home.join("queue/lock")).unwrap();
    told("open tcpto");
    fs::create_dir(home.join("queue/lock/tcpto")).unwrap();
    told("open tcpto");
    fs::remove_dir(home.join("queue/lock/tcpto")).unwrap();
    fs::write(home.join("queue/lock/tcpto"), [0; 1024]).unwrap();
    for name in ["qmail-tcpto", "qmail-tcpok"] {
        let output = run(home, name);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(words(&output.stdout) + &words(&output.stderr), "", "{name}");
    }
}

/// By qmail-newmrh(8).
#[test]
fn a_list_of_hosts_that_is_not_there_is_told_in_the_classic_words() {
    let home = tempfile::tempdir().unwrap();
    let told = |home: &Path, words_wanted: &str| {
        let output = run(home, "qmail-newmrh");
        assert_eq!(output.status.code(), Some(111));
        let line = words(&output.stderr);
        assert!(line.starts_with(words_wanted), "{line}");
    };
    told(
        &home.path().join("nowhere"),
        "qmail-newmrh: fatal: unable to chdir to ",
    );
    told(
        home.path(),
        "qmail-newmrh: fatal: unable to read control/morercpthosts: ",
    );
}
