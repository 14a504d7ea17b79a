//! Every entry of `cases/hostile.json` is played by somebody.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use qmail_tests::conformance::HostileClients;
use qmail_tests::hostile::ids;
use serde_json::Value;

/// Who plays the entries of an area.
enum Player {
    /// `conformance.rs`, all that a client sends.
    Clients,
    /// Tests in these files and directories, each of which names the entries that it plays.
    Tests(&'static [&'static str]),
    /// The tests that the table in `tests/README.md` names.
    Table,
}

use Player::{Clients, Table, Tests};

const PLAYERS: &[(&str, Player)] = &[
    ("smtp-server/smuggling", Clients),
    ("smtp-server/starttls", Clients),
    ("smtp-server/state", Clients),
    ("smtp-server/limits", Clients),
    ("smtp-server/address", Clients),
    ("smtp-server/injection", Clients),
    ("smtp-server/timeouts", Clients),
    ("smtp-server/auth", Clients),
    ("smtp-server/extensions", Clients),
    ("smtp-server/i18n", Clients),
    ("pop3-server", Clients),
    ("smtp-client", Tests(&["tests/tests/hostile_remote.rs"])),
    ("netstring", Tests(&["tests/tests/hostile_wire.rs"])),
    ("qmtp-server", Tests(&["tests/tests/hostile_wire.rs"])),
    ("qmqp-server", Tests(&["tests/tests/hostile_wire.rs"])),
    ("qmqp-client", Tests(&["tests/tests/hostile_wire.rs"])),
    ("ident-client", Tests(&["tests/tests/hostile_wire.rs"])),
    ("proxy-protocol", Tests(&["tests/tests/hostile_wire.rs"])),
    (
        "dns-client",
        Tests(&["qmail-deliver/src/resolver/hickory/hostile.rs"]),
    ),
    ("loops-and-bounces", Tests(TESTS)),
    ("header-rewrite", Tests(TESTS)),
    ("submission-cli", Tests(TESTS)),
    ("dot-qmail", Tests(TESTS)),
    ("config-files", Tests(TESTS)),
    ("cdb", Tests(TESTS)),
    ("delivery-fault", Tests(TESTS)),
    ("queue-fault", Table),
];

const TESTS: &[&str] = &["tests/tests", "qmail-deliver/src", "qmail-cli/src"];

fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the repository").to_owned()
}

fn cases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/hostile.json")
}

/// The text of all sources below a path, but of this one.
fn sources(path: &Path) -> String {
    if path.is_dir() {
        let entries = fs::read_dir(path).expect("a directory");
        return entries
            .map(|entry| sources(&entry.expect("an entry").path()))
            .collect();
    }
    let is_source = path.extension().is_some_and(|it| it == "rs" || it == "py");
    if !is_source || path.ends_with(file!()) {
        return String::new();
    }
    fs::read_to_string(path).expect("a source")
}

/// Whether a row of the table names a test for this entry, and its file has it.
fn is_in_table(table: &str, id: &str) -> bool {
    let start = format!("| {id} |");
    let row = table.lines().find(|line| line.starts_with(&start));
    let mut names = row.unwrap_or_default().split('`').skip(1).step_by(2);
    let (Some(file), Some(test)) = (names.next(), names.next()) else {
        return false;
    };
    let text = fs::read_to_string(repository().join(file)).unwrap_or_default();
    text.contains(&format!("fn {test}("))
}

#[test]
fn no_entry_is_left_alone() {
    let mut alone = Vec::new();
    for (area, player) in PLAYERS {
        match player {
            Clients => {
                let clients = HostileClients::read(&cases(), area).expect("the cases");
                let played: BTreeSet<_> = clients.names().into_iter().collect();
                let all = ids(area).into_iter();
                alone.extend(all.filter(|id| !played.contains(&format!("hostile/{id}"))));
            }
            Table => {
                let table = fs::read_to_string(repository().join("tests/README.md"));
                let table = table.expect("the table");
                alone.extend(ids(area).into_iter().filter(|id| !is_in_table(&table, id)));
            }
            Tests(paths) => {
                let text: String = (paths.iter())
                    .map(|path| sources(&repository().join(path)))
                    .collect();
                alone.extend(ids(area).into_iter().filter(|id| !text.contains(id)));
            }
        }
    }
    assert!(alone.is_empty(), "played by nobody: {alone:#?}");
}

#[test]
fn every_area_has_a_player() {
    let file = fs::read(cases()).expect("the cases");
    let entries: Vec<Value> = serde_json::from_slice(&file).expect("JSON");
    let areas: BTreeSet<_> = entries
        .iter()
        .map(|entry| entry["area"].as_str().expect("an area"))
        .collect();
    assert_eq!(areas, PLAYERS.iter().map(|(area, _)| *area).collect());
}
