//! The recipes of `docs/recipes.md`, each followed to the letter under `qmail serve` and sent mail through.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use qmail_tests::recipes::{self, Recipe};
use qmail_tests::server::Server;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

fn recipe(title: &str) -> Recipe {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recipes.md");
    let page = fs::read_to_string(page).expect("the page");
    let mut recipes = recipes::read(&page).into_iter();
    let found = recipes.find(|recipe| recipe.title == title);
    found.unwrap_or_else(|| panic!("no recipe {title}"))
}

/// A mail system of its own that follows recipes.
struct World {
    scratch: tempfile::TempDir,
    server: Option<Server>,
    delivered: usize,
}

impl World {
    /// A home with the users of the page and these recipes, and a server that runs in it.
    fn following(titles: &[&str]) -> Self {
        let world = Self::prepared(titles);
        world.started()
    }

    fn prepared(titles: &[&str]) -> Self {
        let world = Self {
            scratch: tempfile::tempdir().expect("a scratch directory"),
            server: None,
            delivered: 0,
        };
        let bin = world.path("bin");
        fs::create_dir_all(world.path("control")).expect("a directory");
        fs::create_dir_all(&bin).expect("a directory");
        let mut install = Command::new(PROGRAM);
        install.args(["applets", "--install"]).arg(&bin);
        assert!(install.output().expect("it runs").status.success());
        world.write("control/me", "mail.example.org\n");
        // Nobody listens there: what goes out waits.
        world.write("control/smtproutes", ":127.0.0.1:1\n");
        for title in ["Users"].iter().chain(titles) {
            recipe(title).follow(world.home());
        }
        world
    }

    fn started(mut self) -> Self {
        self.server = Some(Server::start_free(PROGRAM, self.home(), &[]));
        self
    }

    fn home(&self) -> &Path {
        self.scratch.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    fn script(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it was started")
    }

    /// Has a program of this host send a message.
    fn send(&self, sender: &str, recipient: &str, message: &str) {
        let mut inject = Command::new(self.path("bin/qmail-inject"));
        inject
            .args(["-a", "-f", sender, "--", recipient])
            .stdin(Stdio::piped());
        let mut child = recipes::in_home(&mut inject, self.home())
            .spawn()
            .expect("it runs");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(message.as_bytes()).expect("it reads");
        drop(input);
        assert!(child.wait().expect("it ends").success());
    }

    /// Sends a message, and waits until it and what it sets off are done with: this many messages in all.
    fn deliver(&mut self, sender: &str, recipient: &str, message: &str, messages: usize) {
        self.send(sender, recipient, message);
        self.delivered += messages;
        self.server().wait_for_ends(self.delivered);
    }

    /// The messages in a Maildir.
    fn maildir(&self, name: &str) -> Vec<String> {
        let new = self.path(name).join("new");
        let files = fs::read_dir(new)
            .expect("a Maildir")
            .map(|file| file.expect("a file").path());
        let mut files: Vec<_> = files.collect();
        files.sort();
        files
            .iter()
            .map(|file| fs::read_to_string(file).expect("a message"))
            .collect()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }
}

const HELLO: &str = "Subject: hello\n\nhello\n";

fn starts_with(message: &str, sender: &str) -> bool {
    message.starts_with(&format!("Return-Path: <{sender}>\n"))
}

#[test]
fn a_mailing_list_with_an_owner() {
    let mut world = World::following(&["A mailing list with an owner"]);
    world.deliver("sue@x.example", "friends@mail.example.org", HELLO, 2);
    for user in ["joe", "ann"] {
        let messages = world.maildir(&format!("users/{user}/Maildir"));
        let sender = format!("friends-owner-{user}=mail.example.org@mail.example.org");
        assert!(starts_with(&messages[0], &sender), "{messages:?}");
    }
    // A bounce tells who, and comes to the owner alone.
    let bounce = "friends-owner-joe=mail.example.org@mail.example.org";
    world.deliver("", bounce, "Subject: failure notice\n\n", 2);
    assert_eq!(world.maildir("users/joe/Maildir").len(), 1);
    let owners = world.maildir("users/ann/Maildir");
    assert!(
        owners
            .iter()
            .any(|message| message.contains(&format!("Delivered-To: {bounce}\n")))
    );
    // Nothing but addresses is done, whoever writes into the list.
    world.write(
        "alias/.qmail-friends",
        "+list\n&joe@mail.example.org\n|touch planted\n",
    );
    world.send("sue@x.example", "friends@mail.example.org", HELLO);
    world
        .server()
        .wait_for_line("prog_delivery_but_has_x_bit_set");
    assert!(!world.path("alias/planted").exists());
}

#[test]
fn away_from_home() {
    let mut world = World::following(&["Away from home"]);
    let told = |world: &World| {
        let away = |message: &&String| message.contains("Subject: away\n");
        world
            .maildir("users/ann/Maildir")
            .iter()
            .filter(away)
            .count()
    };
    // To joe, his answer to ann; what goes elsewhere waits.
    world.deliver("ann@mail.example.org", "joe@mail.example.org", HELLO, 2);
    world
        .server()
        .wait_for_line(" to remote joe@elsewhere.example");
    assert_eq!(told(&world), 1);
    let answer = &world.maildir("users/ann/Maildir")[0];
    assert!(starts_with(answer, ""), "{answer}");
    assert!(answer.contains("\nAuto-Submitted: auto-replied\n"));
    // Once is enough; bounces, lists and other answers get none; a sender is data and nothing else.
    for (sender, header) in [
        ("ann@mail.example.org", ""),
        ("", ""),
        ("friends-owner-joe=x@mail.example.org", ""),
        ("ann@mail.example.org", "Auto-Submitted: auto-replied\n"),
        ("ann@mail.example.org", "List-Id: <friends>\n"),
        ("ann@mail.example.org", "Precedence: bulk\n"),
    ] {
        world.deliver(
            sender,
            "joe@mail.example.org",
            &format!("{header}{HELLO}"),
            1,
        );
        assert_eq!(told(&world), 1, "{sender} {header}");
    }
    world.deliver(
        "$(touch x);`touch x`@[127.0.0.1]",
        "joe@mail.example.org",
        HELLO,
        1,
    );
    assert!(!world.path("users/joe/x").exists());
    assert_eq!(world.maildir("users/joe/Maildir").len(), 8);
}

#[test]
fn a_virtual_domain() {
    let mut world = World::following(&["A virtual domain"]);
    world.deliver("s@x.example", "info@virt.example", HELLO, 1);
    assert!(
        world.maildir("users/joe/Maildir")[0]
            .contains("Delivered-To: joe-virt-info@virt.example\n")
    );
    world.deliver("s@x.example", "Any.Body@virt.example", HELLO, 2);
    assert!(
        world.maildir("users/ann/Maildir")[0]
            .contains("Delivered-To: joe-virt-Any.Body@virt.example\n")
    );
    world.deliver("s@x.example", "web@one.hosts.example", HELLO, 1);
    assert_eq!(
        world.read("users/joe/hosts-mail"),
        "web@one.hosts.example\n"
    );
    // From outside, too: these are hosts that mail is taken for, and others are not.
    let (mut client, _) = qmail_tests::server::Client::connect(world.server().smtp());
    client.expect("EHLO x.example", "250");
    client.expect("MAIL FROM:<s@x.example>", "250");
    client.expect("RCPT TO:<info@virt.example>", "250");
    client.expect("RCPT TO:<web@two.hosts.example>", "250");
}

#[test]
fn etc_aliases_taken_over() {
    let mut world = World::following(&["/etc/aliases taken over"]);
    world.deliver("s@x.example", "postmaster@mail.example.org", HELLO, 2);
    assert_eq!(world.maildir("users/joe/Maildir").len(), 1);
    world.deliver("s@x.example", "staff@mail.example.org", HELLO, 2);
    assert_eq!(world.maildir("users/joe/Maildir").len(), 2);
    assert_eq!(world.maildir("users/ann/Maildir").len(), 1);
    world.deliver("s@x.example", "archive@mail.example.org", HELLO, 1);
    assert!(world.read("alias/archived").ends_with("\n\nhello\n"));
    world.send("s@x.example", "nobody@mail.example.org", HELLO);
    world
        .server()
        .wait_for_line("Sorry,_no_mailbox_here_by_that_name");
}

#[test]
fn uucp() {
    let mut world = World::prepared(&["UUCP"]);
    world.script(
        "bin/uux",
        "#!/bin/sh\nprintf '%s\\n' \"$@\" >\"$QMAIL_HOME/uux\"; cat >>\"$QMAIL_HOME/uux\"\n",
    );
    world = world.started();
    world.deliver("sue@x.example", "a b@far.example", HELLO, 1);
    let uux = world.read("uux");
    let (arguments, message) = uux.split_once("Return-Path: ").expect("a message");
    assert_eq!(
        arguments,
        "-\n-r\n-gC\n-asue@x.example\npeer!rmail\n(a b@far.example)\n"
    );
    assert!(
        message.starts_with("<sue@x.example>\n") && message.ends_with("\n\nhello\n"),
        "{message}"
    );
}

/// A host that takes mail for these domains, and a `tcpclient` in the home of `world` that reaches it whatever host is named, since
/// port 25 and names are not ours to give.
fn peer(world: &World, domains: &[&str]) -> (tempfile::TempDir, Server) {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let domains = domains.join("\n") + "\n";
    fs::create_dir(scratch.path().join("control")).expect("a directory");
    for (file, text) in [
        ("me", &*domains),
        ("locals", &*domains),
        ("rcpthosts", &*domains),
    ] {
        fs::write(scratch.path().join("control").join(file), text).expect("a file");
    }
    let server = Server::start_free(
        PROGRAM,
        scratch.path(),
        &["--no-deliver", "--spool", "split"],
    );
    let script = format!(
        "#!/bin/sh\noptions=$1\n[ \"$2 $4\" = '-- 25' ] || exit 100\nshift 4\nexec {PROGRAM} tcpclient $options -- 127.0.0.1 {} \"$@\"\n",
        server.smtp().port(),
    );
    fs::remove_file(world.path("bin/tcpclient")).expect("it was installed");
    world.script("bin/tcpclient", &script);
    (scratch, server)
}

/// Envelopes of the messages that wait in a queue, without their first records.
fn queued(home: &Path) -> Vec<String> {
    let todo = fs::read_dir(home.join("queue/todo")).expect("a queue");
    let files = todo.map(|file| file.expect("a file").path());
    let envelopes = files.map(|file| fs::read(file).expect("an envelope"));
    let shown = envelopes.map(|envelope| {
        let records = envelope
            .split(|&octet| octet == 0)
            .filter(|record| !record.is_empty());
        let told = records.filter(|record| matches!(record[0], b'F' | b'T'));
        let told: Vec<_> = told.map(String::from_utf8_lossy).collect();
        told.join(" ")
    });
    let mut shown: Vec<_> = shown.collect();
    shown.sort();
    shown
}

/// Deliveries of this second are left for later.
fn age(maildir: &Path) {
    let old = Instant::now() + Duration::from_millis(1100);
    std::thread::sleep(old - Instant::now());
    assert!(
        fs::read_dir(maildir.join("new"))
            .expect("a Maildir")
            .next()
            .is_some()
    );
}

#[test]
fn a_site_with_a_dial_up_line() {
    let mut world = World::following(&["A site with a dial-up line"]);
    let (there, _server) = peer(&world, &["far.example", "near.example"]);
    world.deliver("joe@mail.example.org", "bob@far.example", HELLO, 1);
    world.deliver("joe@mail.example.org", "a b@near.example", HELLO, 1);
    assert_eq!(world.maildir("alias/pppdir").len(), 2);
    assert!(queued(there.path()).is_empty());
    age(&world.path("alias/pppdir"));
    recipe("A site with a dial-up line").run("when the line is up", world.home());
    assert!(world.maildir("alias/pppdir").is_empty());
    assert_eq!(
        queued(there.path()),
        [
            "Fjoe@mail.example.org Ta b@near.example",
            "Fjoe@mail.example.org Tbob@far.example"
        ]
    );
}

#[test]
fn the_provider_s_side_autoturn() {
    let mut world = World::following(&["The provider's side: AutoTURN"]);
    let (there, _server) = peer(&world, &["customer.example"]);
    world.deliver("sue@x.example", "bob@customer.example", HELLO, 1);
    assert_eq!(world.maildir("autoturn/127.0.0.1").len(), 1);
    age(&world.path("autoturn/127.0.0.1"));
    // A customer connects, and has nothing to send.
    let mut service = Command::new(world.path("bin/tcpserver"));
    service
        .args(["-1RHl0", "127.0.0.1", "0"])
        .arg(world.path("bin/autoturn"))
        .stdout(Stdio::piped());
    let mut service = recipes::in_home(&mut service, world.home())
        .spawn()
        .expect("it runs");
    let mut port = String::new();
    let output = service.stdout.take().expect("a pipe");
    BufReader::new(output).read_line(&mut port).expect("a port");
    let port: u16 = port.trim().parse().expect("a number");
    let (mut client, _) = qmail_tests::server::Client::connect(([127, 0, 0, 1], port).into());
    client.expect("QUIT", "221");
    // The connection ends once everything was handed over.
    assert_eq!(client.line(), "");
    service.kill().expect("our child");
    service.wait().expect("our child");
    assert!(world.maildir("autoturn/127.0.0.1").is_empty());
    assert_eq!(
        queued(there.path()),
        ["Fsue@x.example Tbob@customer.example"]
    );
}

#[test]
fn copies_of_all_mail() {
    let mut world = World::following(&["Copies of all mail"]);
    world.deliver(
        "sue@x.example",
        "joe@mail.example.org",
        "Message-ID: <1@x>\n\nhello\n",
        1,
    );
    assert_eq!(world.maildir("users/joe/Maildir").len(), 1);
    let copy = world.read("alias/msg-log");
    assert!(
        copy.contains("\nDelivered-To: log@mail.example.org\n")
            && copy.contains("\nMessage-ID: <1@x>\n")
    );
    let line = world.server().wait_for_line("success: Message-ID:_<1@x>/");
    let hash = line
        .split("<1@x>/")
        .nth(1)
        .and_then(|rest| rest.split("__-/").next());
    assert!(hash.is_some_and(|hash| hash.len() == 64), "{line}");
}

/// Whatever the page comes to say, each of its recipes is followed by a test of that name.
#[test]
fn every_recipe_has_its_test() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/recipes.md");
    let page = fs::read_to_string(page).expect("the page");
    let this = include_str!("recipes.rs");
    for Recipe { title, .. } in recipes::read(&page) {
        assert!(
            this.contains(&format!("&[\"{title}\"]")) || title == "Users",
            "{title}"
        );
    }
}
