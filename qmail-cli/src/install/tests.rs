//! Installations in a scratch root whose accounts all are the one that runs the test.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::PathBuf;

use rustix::process::{getegid, geteuid};

use super::*;

struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    /// A root with every account, or with none.
    fn new(accounts: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let etc = directory.path().join("etc");
        fs::create_dir(&etc).unwrap();
        if accounts {
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            let users = [
                "root", "alias", "qmaild", "qmaill", "qmailp", "qmailq", "qmailr", "qmails",
            ];
            let passwd: String = users
                .iter()
                .map(|user| format!("{user}:x:{uid}:{gid}::/:/bin/false\n"))
                .collect();
            fs::write(etc.join("passwd"), passwd).unwrap();
            fs::write(
                etc.join("group"),
                format!("qmail:x:{gid}:\nnofiles:x:{gid}:\n"),
            )
            .unwrap();
        }
        fs::write(directory.path().join("program"), "#!/bin/sh\n").unwrap();
        Self { directory }
    }

    fn target(&self) -> Target {
        Target {
            root: self.directory.path().to_owned(),
            home: PathBuf::from("/var/qmail"),
            program: self.directory.path().join("program"),
            replace: false,
            link: false,
            setuid_queue: false,
        }
    }

    fn home(&self) -> PathBuf {
        self.directory.path().join("var/qmail")
    }

    fn install(&self, target: &Target) -> Vec<Step> {
        let steps = plan(target).unwrap();
        apply(target, &steps, |_| {}).unwrap();
        steps
    }
}

#[test]
fn without_accounts_they_come_first() {
    let scratch = Scratch::new(false);
    let steps = plan(&scratch.target()).unwrap();
    let words: Vec<_> = steps.iter().take(10).map(Step::to_string).collect();
    assert_eq!(words[0], "add the group nofiles");
    assert_eq!(words[2], "add the user alias in the group nofiles");
    let home = format!(
        "make the directory {}, root:qmail 0755",
        scratch.home().display()
    );
    assert_eq!(words[9], home);
    assert!(!scratch.home().exists(), "a plan does nothing");
}

#[test]
fn accounts_are_added_by_the_names_that_the_control_file_has() {
    let scratch = Scratch::new(false);
    let control = scratch.home().join("control");
    fs::create_dir_all(&control).unwrap();
    fs::write(
        control.join("accounts"),
        "nofiles=mailnofiles\nqmaild=mailnet\nkeys=mailkeys\n",
    )
    .unwrap();
    let words = |steps: Vec<Step>| -> Vec<_> { steps.iter().map(Step::to_string).collect() };
    let steps = words(plan(&scratch.target()).unwrap());
    for step in [
        "add the group mailnofiles",
        "add the user mailnet in the group mailnofiles",
        "add the user mailkeys in the group mailnofiles",
        "add the user qmailq in the group qmail",
    ] {
        assert!(steps.iter().any(|words| words == step), "{step}: {steps:?}");
    }
    assert!(!steps.iter().any(|words| words.contains("the user qmaild")));
    fs::write(control.join("accounts"), "qmaild\n").unwrap();
    let error = plan(&scratch.target()).unwrap_err();
    assert!(error.to_string().contains("qmaild=mailnet"), "{error}");
}

#[test]
fn a_new_tree_is_made_and_then_nothing_is_left_to_do() {
    let scratch = Scratch::new(true);
    let target = scratch.target();
    scratch.install(&target);
    let home = scratch.home();
    let queue = home.join("queue");
    let trigger = fs::metadata(queue.join("lock/trigger")).unwrap();
    assert!(trigger.file_type().is_fifo());
    assert_eq!(trigger.permissions().mode() & 0o7777, 0o622);
    assert_eq!(fs::metadata(queue.join("lock/tcpto")).unwrap().len(), 1024);
    let smtpd = fs::read_link(home.join("bin/qmail-smtpd")).unwrap();
    assert_eq!(smtpd, Path::new("qmail"));
    assert!(home.join("man/man8/qmail-smtpd.8").exists());
    assert_eq!(plan(&target).unwrap(), []);
}

#[test]
fn modes_are_mended_and_content_stays() {
    let scratch = Scratch::new(true);
    let target = scratch.target();
    scratch.install(&target);
    let home = scratch.home();
    fs::write(home.join("control/me"), "mail.example.org\n").unwrap();
    fs::write(home.join("queue/todo/42"), "u0\0p1\0F\0T\0").unwrap();
    fs::set_permissions(home.join("queue"), fs::Permissions::from_mode(0o777)).unwrap();
    let steps = scratch.install(&target);
    let mended = format!(
        "change the mode of {} from 0777 to 0750",
        home.join("queue").display()
    );
    assert_eq!(
        steps.iter().map(Step::to_string).collect::<Vec<_>>(),
        [mended]
    );
    assert_eq!(
        fs::read(home.join("control/me")).unwrap(),
        b"mail.example.org\n"
    );
    assert!(home.join("queue/todo/42").exists());
}

#[test]
fn what_stands_in_the_way_is_named_and_left() {
    let scratch = Scratch::new(true);
    let target = scratch.target();
    fs::create_dir_all(scratch.home().join("queue")).unwrap();
    fs::write(scratch.home().join("queue/mess"), "").unwrap();
    let error = plan(&target).unwrap_err().to_string();
    assert!(
        error.ends_with("queue/mess is no directory: move it away and run this again"),
        "{error}"
    );
}

#[test]
fn programs_of_before_are_put_aside_and_given_back() {
    let scratch = Scratch::new(true);
    let mut target = scratch.target();
    let bin = scratch.home().join("bin");
    fs::create_dir_all(&bin).unwrap();
    fs::write(bin.join("qmail-smtpd"), "the one of before").unwrap();
    let page = scratch.home().join("man/man8/qmail-smtpd.8");
    fs::create_dir_all(page.parent().unwrap()).unwrap();
    fs::write(&page, "its page").unwrap();
    let error = plan(&target).unwrap_err().to_string();
    assert!(error.contains("--replace"), "{error}");

    target.replace = true;
    scratch.install(&target);
    assert!(fs::read_link(bin.join("qmail-smtpd")).is_ok());
    let aside = scratch.home().join("bin.before/qmail-smtpd");
    assert_eq!(fs::read(&aside).unwrap(), b"the one of before");
    assert!(fs::read_to_string(&page).unwrap().starts_with(".ie"));
    assert_eq!(plan(&target).unwrap(), []);

    let steps = give_back(&target).unwrap();
    apply(&target, &steps, |_| {}).unwrap();
    assert_eq!(
        fs::read(bin.join("qmail-smtpd")).unwrap(),
        b"the one of before"
    );
    assert!(!aside.exists());
    assert_eq!(fs::read(&page).unwrap(), b"its page");
    let left: Vec<_> = fs::read_dir(&bin).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing of ours is left: {left:?}");
}

#[test]
fn a_program_that_a_package_keeps_is_linked() {
    let scratch = Scratch::new(true);
    let mut target = scratch.target();
    target.link = true;
    scratch.install(&target);
    let program = scratch.home().join("bin/qmail");
    // As the scratch root calls it.
    assert_eq!(fs::read_link(&program).unwrap(), Path::new("/program"));
    assert_eq!(plan(&target).unwrap(), []);
    target.link = false;
    scratch.install(&target);
    assert!(program.is_file() && !program.is_symlink());
}

#[test]
fn the_mode_of_the_program_is_mended() {
    let scratch = Scratch::new(true);
    let target = scratch.target();
    scratch.install(&target);
    let program = scratch.home().join("bin/qmail");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
    let steps = scratch.install(&target);
    assert_eq!(
        steps.iter().map(Step::to_string).collect::<Vec<_>>(),
        [format!(
            "change the mode of {} from 0777 to 0755",
            program.display()
        )]
    );
}

/// The files for systemd say what an installation is, in their own words.
#[test]
fn the_snippets_for_systemd_are_those_of_the_tree() {
    let snippet = |name: &str| {
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        let text = fs::read_to_string(packaging.join(name)).unwrap();
        let lines = text
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let target = Target {
        root: "/".into(),
        ..Scratch::new(false).target()
    };
    let users = accounts::steps(&target, &Ids::default());
    let users = users.into_iter().map(|step| match step {
        Step::AddGroup(name) => format!("g {name} -"),
        Step::AddUser { name, group, home } => {
            format!(
                "u {name} -:{group} \"qmail\" {} /usr/sbin/nologin",
                home.display()
            )
        }
        other => panic!("{other}"),
    });
    assert_eq!(users.collect::<Vec<_>>(), snippet("sysusers.d/qmail.conf"));

    let things = tree::tree().into_iter().chain(tree::aliases());
    // systemd-tmpfiles goes through no directory of one user to one of another.
    let things =
        things.filter(|(path, _)| !path.starts_with("queue") || path == Path::new("queue"));
    let things = things.map(|(path, item)| {
        let kind = match item.kind {
            tree::Kind::Directory => "d",
            tree::Kind::File { .. } => "f",
            tree::Kind::Fifo => "p",
        };
        let path = Path::new("/var/qmail").join(path);
        let (path, Owner { user, group }) = (path.display().to_string(), item.owner);
        let path = path.trim_end_matches('/');
        format!("{kind} {path} {:04o} {user} {group}", item.mode)
    });
    assert_eq!(things.collect::<Vec<_>>(), snippet("tmpfiles.d/qmail.conf"));
}

#[test]
fn qmail_queue_may_be_setuid() {
    let scratch = Scratch::new(true);
    let mut target = scratch.target();
    scratch.install(&target);
    if !crate::applet::applet_names().contains(&"qmail-queue") {
        return;
    }
    target.setuid_queue = true;
    let steps = scratch.install(&target);
    assert_eq!(steps.len(), 1, "{steps:?}");
    let queue = fs::metadata(scratch.home().join("bin/qmail-queue")).unwrap();
    assert_eq!(queue.permissions().mode() & 0o7777, 0o4711);
    assert_eq!(plan(&target).unwrap(), []);
}
