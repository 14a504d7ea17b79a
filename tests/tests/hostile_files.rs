//! Hostile control files and databases: the entries of `cases/hostile.json` for config-files and cdb.

use std::fs;
use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use qmail_core::Address;
use qmail_core::cdb::{Cdb, Writer};
use qmail_core::users::write_cdb;
use qmail_deliver::{AssignedUsers, UserDirectory as _};
use qmail_tests::hostile;
use qmail_tests::local::{Delivered, Mailbox};
use qmail_tests::server::{Client, PATIENCE, Server};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

fn mailbox() -> Mailbox {
    Mailbox::new(Path::new(PROGRAM))
}

/// A home for `local.test` with this control file.
fn home(file: &str, text: &[u8]) -> tempfile::TempDir {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let control = scratch.path().join("control");
    fs::create_dir(&control).expect("a directory");
    for (name, text) in [
        ("me", &b"local.test\n"[..]),
        ("rcpthosts", b"local.test\n"),
        (file, text),
    ] {
        fs::write(control.join(name), text).expect("a file");
    }
    scratch
}

/// A server that must not start: its last words, on one line.
fn refused(file: &str, text: &[u8]) -> String {
    let home = home(file, text);
    let started = Instant::now();
    let mut serve = Command::new(PROGRAM);
    serve
        .args(["serve", "--smtp", "127.0.0.1:0", "--pop3", "none", "--home"])
        .arg(home.path());
    serve
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = serve.spawn().expect("it runs");
    while child.try_wait().expect("our child").is_none() && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    let output = child.wait_with_output().expect("our child");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(111), "{file}: {words}");
    assert!(words.contains(&format!("control/{file}")), "{words}");
    assert_eq!(words.lines().count(), 1, "{words}");
    assert!(started.elapsed() < Duration::from_secs(20), "{file}");
    words
}

/// What a server answers to RCPT for this address.
fn asked(server: &Server, recipient: &str) -> String {
    let (mut client, _) = Client::connect(server.smtp());
    client.expect("HELO x.test", "250");
    client.expect("MAIL FROM:<s@x.test>", "250");
    client.command(&format!("RCPT TO:<{recipient}>"))
}

#[test]
fn hostile_control_files() {
    for id in hostile::ids("config-files") {
        match id.as_str() {
            "CFG-locals-crlf" => {
                let words = refused("locals", b"good.test\nlocal.test\r\n");
                assert!(words.contains("line 2"), "{words}");
            }
            "CFG-rcpthosts-missing" => {
                let home = home("unused", b"");
                fs::remove_file(home.path().join("control/rcpthosts")).expect("it was there");
                let server = Server::start_free(PROGRAM, home.path(), &[]);
                assert!(asked(&server, "x@elsewhere.test").starts_with("553 "));
                assert!(asked(&server, "postmaster@local.test").starts_with("250 "));
                server.wait_for_line("control/rcpthosts is missing");
            }
            "CFG-virtualdomains-colon" => bad_virtual_domains(),
            "CFG-int-overflow" => {
                for file in [
                    "concurrencyremote",
                    "concurrencylocal",
                    "queuelifetime",
                    "timeoutsmtpd",
                    "databytes",
                ] {
                    let words = refused(file, b"99999999999999999999\n");
                    assert!(words.contains("line 1"), "{words}");
                }
            }
            "CFG-huge-file" => {
                let words = refused("locals", &b"a.test\n".repeat(15_000_000));
                assert!(words.contains("larger than"), "{words}");
            }
            "CFG-smtproutes-bad" => {
                for line in ["local.test:[::1]:99999", "x:host:abc"] {
                    let words = refused(
                        "smtproutes",
                        format!("good.test:relay.test\n{line}\n").as_bytes(),
                    );
                    assert!(words.contains("line 2"), "{words}");
                }
            }
            "CFG-aliases-pipe" => programs_of_aliases(),
            "CFG-aliases-dup" => {
                let mailbox = with_aliases("x: a\nx: b\n");
                assert_eq!(
                    rehearsed(&mailbox, "x@").stderr,
                    "from <original envelope sender>\nto <a@mail.test>\n"
                );
            }
            "CFG-newu-relative-home" => relative_home(),
            _ => panic!("{id} is new: say here what must be seen"),
        }
    }
}

/// Lines that say something count; the one that says nothing is told, with its number.
fn bad_virtual_domains() {
    let home = home(
        "virtualdomains",
        b"virt.test:\n:catch\nbad\n.virt.test:bob\n",
    );
    let server = Server::start_free(PROGRAM, home.path(), &[]);
    server.wait_for_line("control/virtualdomains, line 3, `bad`");
    for (recipient, code) in [
        ("a@virt.test", "553"),
        ("a@b.virt.test", "553"),
        ("a@local.test", "250"),
    ] {
        let reply = asked(&server, recipient);
        assert!(reply.starts_with(code), "{recipient}: {reply}");
    }
}

/// A mailbox whose mail system has these aliases.
fn with_aliases(aliases: &str) -> Mailbox {
    let mailbox = mailbox();
    mailbox.write("aliases", aliases);
    let made = mailbox
        .command("newaliases")
        .arg(mailbox.path("aliases"))
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{made:?}");
    mailbox
}

fn rehearsed(mailbox: &Mailbox, recipient: &str) -> Delivered {
    let mut command = mailbox.command("fastforward");
    command
        .arg("-n")
        .arg(mailbox.path("aliases.cdb"))
        .env("RECIPIENT", recipient);
    mailbox.run(command)
}

/// A program of an alias runs for a message that is delivered to it, as whoever runs fastforward; a look at it runs nothing.
fn programs_of_aliases() {
    let mailbox = with_aliases("x: \"|touch CANARY; id -u >uid\"\n");
    assert_eq!(
        rehearsed(&mailbox, "x@").stderr,
        "run !touch CANARY; id -u >uid\nno forwarding\n"
    );
    assert!(!mailbox.path("CANARY").exists());
    let mut command = mailbox.command("fastforward");
    command
        .arg(mailbox.path("aliases.cdb"))
        .env("RECIPIENT", "x@")
        .env("SENDER", "s@x.test");
    command.current_dir(mailbox.home()).stdin(Stdio::null());
    let delivered = mailbox.run(command);
    assert_eq!(delivered.exit, 0, "{delivered:?}");
    assert_eq!(
        mailbox.read("uid").trim(),
        rustix::process::geteuid().as_raw().to_string()
    );
}

fn relative_home() {
    let mailbox = mailbox();
    fs::write(
        mailbox.qmail().join("users/assign"),
        "=b:b:1:1:/b:::\n=a:a:1000:1000:home/a:::\n.\n",
    )
    .expect("a file");
    let made = mailbox.run(mailbox.command("qmail-newu"));
    assert_eq!(made.exit, 111, "{made:?}");
    assert!(
        made.stderr
            .starts_with("qmail-newu: fatal: bad format in users/assign"),
        "{made:?}"
    );
    assert!(made.stderr.contains("line 2"), "{made:?}");
    assert!(!mailbox.qmail().join("users/cdb").exists());
}

/// The hash that the entries' generators write: that of the key `a`.
const HASH_OF_A: u32 = (5381u32 * 33) ^ b'a' as u32;

fn words(numbers: impl IntoIterator<Item = u32>) -> Vec<u8> {
    numbers.into_iter().flat_map(u32::to_le_bytes).collect()
}

#[test]
fn hostile_databases() {
    for id in hostile::ids("cdb") {
        let file = match id.as_str() {
            "CDB-empty" => Vec::new(),
            "CDB-all-zero" => vec![0; 2048],
            "CDB-full-table-loop" => [
                words([2048, 2].repeat(256)),
                words([HASH_OF_A, 2064, HASH_OF_A, 2064, 1, 1]),
                b"bb".to_vec(),
            ]
            .concat(),
            "CDB-klen-huge" => [
                words([2048, 1].repeat(256)),
                words([HASH_OF_A, 2056, u32::MAX, u32::MAX]),
                b"a".to_vec(),
            ]
            .concat(),
            "CDB-replace-live" => {
                every_lookup_sees_one_table();
                continue;
            }
            "CDB-over-4G-write" => {
                no_database_is_larger_than_its_format();
                continue;
            }
            _ => panic!("{id} is new: say here what must be seen"),
        };
        looked_up(&id, &file);
    }
}

/// In the library and in each program that reads one: nothing is found, or the file is at fault for now.
fn looked_up(id: &str, file: &[u8]) {
    let found = Cdb::new(file).map(|table| table.get(b"a").map(|data| data.is_some()));
    assert!(!matches!(found, Ok(Ok(true))), "{id}");
    let mailbox = mailbox();
    fs::write(mailbox.path("aliases.cdb"), file).expect("a file");
    for recipient in ["a", "a@", "a@x.test"] {
        let delivered = rehearsed(&mailbox, recipient);
        assert!(matches!(delivered.exit, 100 | 111), "{id}: {delivered:?}");
    }
    fs::write(mailbox.qmail().join("users/cdb"), file).expect("a file");
    let users = AssignedUsers::new(mailbox.qmail());
    let address = Address::new("a@local.test").expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    assert!(
        !matches!(runtime.block_on(users.find(&address)), Ok(Some(_))),
        "{id}"
    );
}

fn every_lookup_sees_one_table() {
    let mailbox = mailbox();
    let users = mailbox.qmail().join("users");
    // Large and small by turns, so that a mixture would be damaged.
    let tables = [1u32, 2].map(|version| {
        let others: String = (0..version * 500)
            .map(|number| format!("=u{number}:u:9:9:/u:::\n"))
            .collect();
        let assign = format!("{others}=a:a{version}:{version}:{version}:/home/a{version}:::\n.\n");
        write_cdb(assign.as_bytes(), Cursor::new(Vec::new()))
            .expect("room")
            .into_inner()
    });
    let replace = |round: usize| {
        fs::write(users.join("cdb.tmp"), &tables[round % 2]).expect("room");
        fs::rename(users.join("cdb.tmp"), users.join("cdb")).expect("a file");
    };
    replace(0);
    let ended = AtomicBool::new(false);
    let directory = AssignedUsers::new(mailbox.qmail());
    let address = Address::new("a@local.test").expect("an address");
    std::thread::scope(|scope| {
        let (ended, directory, address) = (&ended, &directory, &address);
        let readers = [0, 1].map(|_| {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .expect("a runtime");
                let mut seen = [0u32; 2];
                while !ended.load(Ordering::Relaxed) {
                    let user = runtime
                        .block_on(directory.find(address))
                        .expect("a table")
                        .expect("a user");
                    assert_eq!(
                        (user.uid, &user.name[..]),
                        (user.gid, format!("a{}", user.uid).as_bytes())
                    );
                    seen[user.uid as usize - 1] += 1;
                }
                seen
            })
        });
        (1..3000).for_each(replace);
        ended.store(true, Ordering::Relaxed);
        for reader in readers {
            let [first, second] = reader.join().expect("no panic");
            assert!(first > 0 && second > 0, "{first} {second}");
        }
    });
}

/// A file that keeps nothing but its length.
#[derive(Default)]
struct Length(u64);

impl Write for Length {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0 += octets.len() as u64;
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Length {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Ok(self.0)
    }
}

fn no_database_is_larger_than_its_format() {
    let mut writer = Writer::new(Length::default()).expect("room");
    let data = vec![b'x'; 64 << 20];
    let mut added = 0;
    let error = loop {
        match writer.add(b"key", &data) {
            Ok(()) => added += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((added, error.kind()), (63, io::ErrorKind::FileTooLarge));
    // What was added before is still a database that a reader can address.
    let Length(octets) = writer.finish().expect("room");
    assert!(octets < 1 << 32);
}
