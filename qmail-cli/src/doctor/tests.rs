use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use qmail_deliver::FixedResolver;

use super::*;

struct Scratch {
    directory: tempfile::TempDir,
    home: Home,
}

impl Scratch {
    fn new(controls: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::choose(Some(directory.path().to_owned()), None);
        fs::create_dir(home.control()).unwrap();
        for (name, text) in controls {
            fs::write(home.control().join(name), text).unwrap();
        }
        Self { directory, home }
    }

    fn world<'a>(&'a self, resolver: Option<&'a dyn Resolver>) -> World<'a> {
        World {
            home: &self.home,
            now: SystemTime::now(),
            own_addresses: vec![[192, 0, 2, 7].into()],
            resolver,
            rules: vec![self.directory.path().join("rules.cdb")],
            room: plenty,
        }
    }

    fn examine(&self, resolver: Option<&dyn Resolver>) -> Vec<String> {
        words(examine_now(&self.world(resolver)))
    }
}

fn examine_now(world: &World<'_>) -> Vec<Finding> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(examine(world))
}

fn plenty(_: &Path) -> Option<Room> {
    Some(Room {
        octets: 1 << 40,
        files: Some(1 << 30),
    })
}

fn words(findings: Vec<Finding>) -> Vec<String> {
    findings
        .into_iter()
        .map(|finding| format!("{}: {}", finding.severity.name(), finding.what))
        .collect()
}

const GOOD: [(&str, &str); 3] = [
    ("me", "mail.example.org\n"),
    ("locals", "mail.example.org\nexample.org\n"),
    ("rcpthosts", "mail.example.org\n.example.org\nexample.org\n"),
];

fn good_names() -> FixedResolver {
    FixedResolver::new()
        .with_address("mail.example.org", [192, 0, 2, 7])
        .with_mx("mail.example.org", 0, "mail.example.org")
        .with_mx("example.org", 0, "mail.example.org")
}

#[test]
fn nothing_is_wrong_with_a_good_home() {
    assert_eq!(Scratch::new(&GOOD).examine(Some(&good_names())), [""; 0]);
}

#[test]
fn what_cannot_be_read_is_an_error() {
    let scratch = Scratch::new(&[("me", "mail.example.org\n"), ("databytes", "10M\n")]);
    let findings = examine_now(&scratch.world(None));
    assert_eq!(findings[0].severity, Severity::Error);
    assert!(findings[0].what.contains("databytes"), "{findings:?}");
    assert!(
        findings[0].remedy.contains("decimal digits"),
        "{findings:?}"
    );
}

#[test]
fn a_home_that_is_none_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::choose(Some(directory.path().join("none")), None);
    let world = World {
        home: &home,
        now: SystemTime::now(),
        own_addresses: Vec::new(),
        resolver: None,
        rules: Vec::new(),
        room: plenty,
    };
    let found = words(examine_now(&world));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("error: there is no "), "{found:?}");
}

#[test]
fn open_relays_are_errors() {
    let scratch = Scratch::new(&GOOD);
    fs::write(scratch.home.control().join("relayclients"), "0.0.0.0/0\n").unwrap();
    let record = qmail_core::tcprules::records(b":allow,RELAYCLIENT=\"\"").unwrap();
    let file = fs::File::create(scratch.directory.path().join("rules.cdb")).unwrap();
    let mut cdb = qmail_core::cdb::Writer::new(file).unwrap();
    for record in record {
        cdb.add(&record.key, &record.data).unwrap();
    }
    drop(cdb.finish().unwrap());
    let found = scratch.examine(None);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found
            .iter()
            .all(|words| words.ends_with("this is an open relay")),
        "{found:?}"
    );
}

#[test]
fn domains_that_contradict_each_other_are_told() {
    let scratch = Scratch::new(&[
        ("me", "mail.example.org\n"),
        ("locals", "example.org\n"),
        ("rcpthosts", "example.org\n"),
        (
            "virtualdomains",
            "Example.org:joe\nshop.example.net:joe-shop\n:alias-all\nno.example:\n",
        ),
    ]);
    assert_eq!(
        scratch.examine(None),
        [
            "warning: example.org is in control/locals and in control/virtualdomains; locals counts",
            "warning: shop.example.net is delivered here, but not in control/rcpthosts: other hosts cannot send to it",
        ]
    );
}

#[test]
fn stale_databases_and_open_directories_are_errors() {
    let scratch = Scratch::new(&GOOD);
    let home = scratch.home.path();
    let users = scratch.home.users();
    fs::create_dir(&users).unwrap();
    fs::write(users.join("cdb"), "").unwrap();
    let old = SystemTime::now() - Duration::from_secs(60);
    fs::File::open(users.join("cdb"))
        .unwrap()
        .set_modified(old)
        .unwrap();
    fs::write(users.join("assign"), ".\n").unwrap();
    fs::set_permissions(&users, fs::Permissions::from_mode(0o777)).unwrap();
    let found = scratch.examine(None);
    assert_eq!(
        found,
        [
            "error: users/cdb is older than users/assign: the changes do not count yet".to_owned(),
            format!(
                "error: everybody may write {}",
                home.join("users").display()
            ),
        ]
    );
}

#[test]
fn names_that_lead_elsewhere_are_told() {
    let scratch = Scratch::new(&GOOD);
    let elsewhere = FixedResolver::new()
        .with_address("mx.example.net", [198, 51, 100, 1])
        .with_mx("mail.example.org", 0, "mx.example.net")
        .with_mx("example.org", 0, "");
    assert_eq!(
        scratch.examine(Some(&elsewhere)),
        [
            "error: example.org is delivered here, but its MX record says that it takes no mail",
            "warning: control/me is mail.example.org, which has no address in the DNS: other hosts may refuse mail from it",
            "warning: mail.example.org is delivered here, but none of its mail exchangers has an address of this host",
        ]
    );
}

#[test]
fn a_clock_that_was_ahead_is_told() {
    let scratch = Scratch::new(&GOOD);
    let future = SystemTime::now() + Duration::from_secs(3600);
    let me = fs::File::open(scratch.home.control().join("me")).unwrap();
    me.set_modified(future).unwrap();
    let found = scratch.examine(None);
    assert!(found[0].contains("changed in the future"), "{found:?}");
    let mut world = scratch.world(None);
    world.now = SystemTime::UNIX_EPOCH;
    let found = words(examine_now(&world));
    assert_eq!(found, ["error: the clock is years behind"]);
}

#[test]
fn a_held_channel_is_told() {
    let mut controls = GOOD.to_vec();
    controls.push(("concurrencyremote", "0\n"));
    let found = Scratch::new(&controls).examine(None);
    assert_eq!(
        found,
        ["warning: control/concurrencyremote is 0: this mail waits in the queue"]
    );
}

#[test]
fn a_classic_home_without_aliases_is_told() {
    let scratch = Scratch::new(&GOOD);
    let bin: PathBuf = scratch.home.path().join("bin");
    fs::create_dir(bin).unwrap();
    let found = scratch.examine(None);
    assert!(
        found
            .iter()
            .any(|words| words.contains("mail for postmaster bounces")),
        "{found:?}"
    );
}

#[test]
fn homes_that_others_may_write_to_are_told() {
    let scratch = Scratch::new(&GOOD);
    let mut assign = String::new();
    for (name, mode) in [("own", 0o755), ("group", 0o775), ("all", 0o777)] {
        let home = scratch.directory.path().join(name);
        fs::create_dir(&home).unwrap();
        fs::set_permissions(&home, fs::Permissions::from_mode(mode)).unwrap();
        assign += &format!("={name}:{name}:1:1:{}:::\n", home.display());
    }
    fs::create_dir(scratch.home.users()).unwrap();
    fs::write(scratch.home.users().join("assign"), assign + ".\n").unwrap();
    let path = |name: &str| scratch.directory.path().join(name).display().to_string();
    let told = scratch.examine(None);
    let about = |start: &str, name: &str| {
        told.iter()
            .any(|words| words.starts_with(start) && words.contains(&path(name)))
    };
    assert!(about("error: everybody may write ", "all"), "{told:?}");
    assert!(about("warning: the group of ", "group"), "{told:?}");
    assert!(
        !told.iter().any(|words| words.contains(&path("own"))),
        "{told:?}"
    );
}

#[test]
fn a_full_disk_is_told() {
    let scratch = Scratch::new(&GOOD);
    let left = |room: fn(&Path) -> Option<Room>| {
        let mut world = scratch.world(None);
        world.room = room;
        let findings = words(examine_now(&world));
        let path = scratch.home.path().display().to_string();
        findings.join("\n").replace(&path, "HOME")
    };
    let full = left(|_| {
        Some(Room {
            octets: 63 << 20,
            files: Some(999),
        })
    });
    assert_eq!(
        full,
        "error: 63 MiB are left on the disk of HOME\nerror: room for 999 files is left on the disk of HOME"
    );
    let low = left(|_| {
        Some(Room {
            octets: 1000 << 20,
            files: Some(19_999),
        })
    });
    assert_eq!(
        low,
        "warning: 1000 MiB are left on the disk of HOME\nwarning: room for 19999 files is left on the disk of HOME"
    );
    let without_a_number = left(|_| {
        Some(Room {
            octets: 1 << 30,
            files: None,
        })
    });
    assert_eq!(without_a_number, "");
}

#[test]
fn files_that_parts_of_the_system_cannot_read_are_errors() {
    let scratch = Scratch::new(&GOOD);
    let closed = scratch.home.control().join("rcpthosts");
    for name in ["rcpthosts", "servercert.pem"] {
        let path = scratch.home.control().join(name);
        fs::write(&path, "mail.example.org\nexample.org\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    }
    let told = || {
        let findings = examine_now(&scratch.world(None)).into_iter();
        let mut found = findings.filter(|finding| finding.what.contains("not everybody may read"));
        (found.next(), found.next())
    };
    // The one user of `qmail serve` owns what it reads.
    assert_eq!(told(), (None, None));
    fs::create_dir(scratch.home.path().join("bin")).unwrap();
    let (Some(first), None) = told() else {
        panic!("the key is secret, and the list is not");
    };
    assert_eq!(first.severity, Severity::Error);
    assert_eq!(first.remedy, format!("chmod a+r {}", closed.display()));
}

#[test]
fn accounts_that_are_missing_or_shared_are_told() {
    let told = |accounts: &str| {
        let scratch = Scratch::new(&[GOOD[0], GOOD[1], GOOD[2], ("accounts", accounts)]);
        fs::create_dir(scratch.directory.path().join("bin")).unwrap();
        let mut findings = Findings::default();
        accounts::check(&scratch.world(None), &mut findings);
        words(findings.0)
    };
    assert_eq!(told(""), [""; 0]);
    assert_eq!(
        told("qmailr=no-such-user\nnofiles=no-such-group\n"),
        [
            "error: there is no user no-such-user, which is to be qmailr",
            "error: there is no group no-such-group, which is to be nofiles",
        ]
    );
    assert_eq!(
        told("qmaild=daemon\nqmailq=daemon\nkeys=daemon\n"),
        [
            "error: one user is qmaild and qmailq and keys: who breaks into one of these parties has the others, too"
        ]
    );
    assert_eq!(
        told("qmailp=daemon\n"),
        [""; 0],
        "it may have keys and passwords"
    );
    assert!(told("qmaild\n")[0].contains("accounts"));
}
