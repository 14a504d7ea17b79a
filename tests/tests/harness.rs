//! The conformance harness itself, on small shell scripts that pose as programs: what it sees is what they did.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use qmail_tests::conformance::{
    Case, Failure, HostileClients, Observation, Outcome, Programs, Scenario, differences, run_case,
    run_scenario,
};
use serde_json::{Value, json};

/// Programs with these texts, run by `sh`.
struct Posing {
    _directory: tempfile::TempDir,
    programs: Programs,
}

impl Posing {
    fn new(scripts: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a scratch directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
        for (name, script) in scripts {
            let path = directory.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        let helper = Path::new(env!("CARGO_BIN_EXE_conform-helper"));
        let programs = Programs::in_directory(directory.path(), helper).expect("the directory");
        Self {
            _directory: directory,
            programs,
        }
    }

    /// Runs a case, with `name`, `why` and `expect` added to it.
    fn run(&self, mut case: Value) -> Result<Observation, Failure> {
        case["name"] = "harness/case".into();
        case["why"] = "to see what is seen".into();
        case["expect"] = json!({});
        let case: Case = serde_json::from_str(&case.to_string()).expect("a case");
        run_case(&case, &self.programs)
    }

    /// Runs a case and checks what is seen of it, under the keys that `want` has.
    fn check(&self, case: Value, want: Value) {
        let seen = self.run(case).expect("the case runs");
        let Value::Object(want) = want else {
            panic!("what is wanted is an object");
        };
        let difference = differences(&want, &seen);
        assert!(difference.is_empty(), "\n{difference}");
    }

    fn play(&self, mut scenario: Value) -> Result<Observation, Failure> {
        scenario["name"] = "harness/scenario".into();
        scenario["why"] = "to see what is seen".into();
        scenario["expect"] = json!({});
        let scenario: Scenario = serde_json::from_str(&scenario.to_string()).expect("a scenario");
        run_scenario(&scenario, &self.programs)
    }
}

#[test]
fn sees_output_exit_and_environment() {
    let posing = Posing::new(&[(
        "show",
        r#"cat; echo "$0 $# $1 $2 $A"; pwd; echo "$QMAIL_HOME" >&2; exit 7"#,
    )]);
    posing.check(
        json!({"program": "show", "args": ["a b", "@HOME@/\u{e9}"], "env": {"A": "@QMAIL@"}, "stdin": "in\u{ff}@PORT@\n",
            "mask": [["\\S*/show", "show"]]}),
        json!({"exit": 7, "stdout": "in\u{ff}9\nshow 2 a b @HOME@/\u{e9} @QMAIL@\n@HOME@\n", "stderr": "@QMAIL@\n",
            "queued": [], "files": {}, "qmail_files": {}}),
    );
    posing.check(
        json!({"program": "show", "cwd": "qmail", "mask": [["\\A.*\n", ""]]}),
        json!({"stdout": "@QMAIL@\n"}),
    );
    posing.check(
        json!({"program": "sh", "args": ["-c", "kill -TERM $$"]}),
        json!({"exit": -15, "stdout": ""}),
    );
    // Nothing of the environment of the tests comes through.
    let seen = posing
        .run(json!({"program": "sh", "args": ["-c", "env | sed 's/=.*//' | sort"], "env": {"Z": ""}}))
        .unwrap();
    let names: Vec<_> = seen["stdout"]
        .as_str()
        .unwrap()
        .split_whitespace()
        .collect();
    for name in names {
        assert!(
            [
                "PATH",
                "PWD",
                "QCAP",
                "QCAP_EXIT",
                "QMAILQUEUE",
                "QMAIL_HOME",
                "Z",
                "_",
                "OLDPWD",
                "SHLVL"
            ]
            .contains(&name),
            "{name}"
        );
    }
}

#[test]
fn makes_files_and_sees_their_changes() {
    let posing = Posing::new(&[(
        "work",
        r#"cat "$QMAIL_HOME/control/me" d/old
echo new >d/old; rm gone; ln -s nowhere link; echo x >Maildir/new/1700000000.P1.host; echo y >Maildir/new/1700000001.P2.host
chmod 751 d; echo z >"$QMAIL_HOME/users/made"; find aged -mtime +0 | wc -l | tr -d ' '"#,
    )]);
    posing.check(
        json!({"program": "work", "control": {"me": "host @HOME@\n"}, "stat": ["d", "secret", "gone"],
            "home": {"d/old": "old\n", "gone": "g", "kept": "k", "Maildir/new/": "",
                "secret": {"content": "", "mode": "0600"}, "aged": {"content": "", "age": 100_000}}}),
        json!({"exit": 0, "stdout": "host @HOME@\nold\n1\n",
            "files": {"d/old": "new\n", "gone": null, "link": "-> nowhere",
                "Maildir/new/<unique>": "x\n", "Maildir/new/<unique>+": "y\n"},
            "qmail_files": {"users/made": "z\n"},
            "stat": {"d": "dir 0751", "secret": "file 0600", "gone": null}}),
    );
}

#[test]
fn captures_what_is_queued() {
    let posing = Posing::new(&[(
        "inject",
        r#"for i in 1 2; do printf 'Fs\0Tr%s\0\0' $i >e; cat >m; "$QMAILQUEUE" <m 1<e; echo $?; done"#,
    )]);
    posing.check(
        json!({"program": "inject", "stdin": "message\n"}),
        json!({"stdout": "0\n0\n", "queued": [
            {"message": "message\n", "envelope": "Fs\0Tr1\0\0"}, {"message": "", "envelope": "Fs\0Tr2\0\0"}]}),
    );
    posing.check(
        json!({"program": "inject", "queue_exit": 53}),
        json!({"stdout": "53\n53\n"}),
    );
}

#[test]
fn runs_programs_before_in_the_same_environment() {
    let posing = Posing::new(&[
        (
            "prepare",
            r#"echo "$1$A" >prepared; [ "$1" = fail ] && echo why >&2 && exit 5; exit 0"#,
        ),
        ("work", "cat prepared"),
    ]);
    posing.check(
        json!({"program": "work", "before": [["prepare", "@HOME@"]], "env": {"A": "!"}}),
        json!({"stdout": "@HOME@!\n", "files": {}}),
    );
    let failure = posing
        .run(json!({"program": "work", "before": [["prepare", "fail"]]}))
        .unwrap_err();
    assert_eq!(failure.to_string(), "before: prepare exited 5: why\n");
}

#[test]
fn gives_a_seekable_file_as_standard_input() {
    // Two programs that read one after the other from a shared place in a file, which a pipe has not.
    let script = "head -c 2 >/dev/null; [ -f /dev/stdin ] && echo file || echo pipe; cat";
    let posing = Posing::new(&[("read", script)]);
    posing.check(
        json!({"program": "read", "stdin": "abc", "stdin_file": true}),
        json!({"stdout": "file\nc"}),
    );
    posing.check(
        json!({"program": "read", "home": {"in": "xyz"}, "stdin_file": "in"}),
        json!({"stdout": "file\nz"}),
    );
    let seen = posing
        .run(json!({"program": "read", "stdin": "abc"}))
        .unwrap();
    assert!(seen["stdout"].as_str().unwrap().starts_with("pipe\n"));
}

#[test]
fn connects_descriptors_6_and_7_to_the_scripted_server() {
    let posing = Posing::new(&[(
        "client",
        r#"read -r greeting <&6; echo "$greeting"; printf 'HELO x\r\n' >&7; read -r reply <&6; echo "$reply"; printf 'QUIT\r\n' >&7; cat"#,
    )]);
    posing.check(
        json!({"program": "client", "net67": true, "stdin": "in",
            "server": [[["send", "220 port @PORT@\r\n"], ["line"], ["send", "250\r\n"], ["until", "QUIT\r\n"], ["close"]]]}),
        json!({"exit": 0, "stdout": "220 port @PORT@\r\n250\r\nin", "server": ["HELO x\r\nQUIT\r\n"], "stderr": ""}),
    );
}

#[test]
fn connects_descriptors_0_and_1_by_tcp() {
    let posing = Posing::new(&[(
        "serve",
        "read -r line; echo \"got $line @LPORT@\"; cat; echo err >&2; exit 4",
    )]);
    posing.check(
        json!({"program": "serve", "tcp": true, "stdin": "one\ntwo"}),
        json!({"exit": 4, "stdout": "got one @LPORT@\ntwo", "stderr": "err\n"}),
    );
}

#[test]
fn runs_as_nobody_where_the_runner_is_root() {
    let posing = Posing::new(&[("who", "id -u; id -G; echo x >file")]);
    let seen = posing
        .run(json!({"program": "who", "unprivileged": true, "home": {"d/f": ""}}))
        .unwrap();
    assert_eq!(seen["files"], json!({"file": "x\n"}));
    if rustix::process::geteuid().is_root() {
        assert_eq!(seen["stdout"], "65534\n65534\n");
    }
}

#[test]
fn a_missing_program_costs_no_time() {
    let posing = Posing::new(&[("qmail-smtpd", "sleep 60")]);
    let started = Instant::now();
    for case in [
        json!({"program": "qmail-qread"}),
        json!({"program": "qmail-smtpd", "before": [["qmail-newu"]]}),
        json!({"program": "sh", "args": ["-c", "sleep 60; echo x | qmail-inject"]}),
        json!({"program": "sh", "args": ["-c", ". ./t.sh; go"], "home": {"t.sh": "go() { sleep 60; qmail-queue; }"}}),
    ] {
        let failure = posing.run(case.clone()).unwrap_err();
        assert!(matches!(failure, Failure::Missing(_)), "{case}: {failure}");
    }
    let failure = posing.play(json!({"steps": [{"start": {}}]})).unwrap_err();
    assert!(matches!(failure, Failure::Missing(name) if name == "qmail-start"));
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_program_that_hangs_is_killed() {
    let posing = Posing::new(&[("hang", "sleep 60 & sleep 60")]);
    let started = Instant::now();
    let failure = posing
        .run(json!({"program": "hang", "timeout": 0.2}))
        .unwrap_err();
    assert!(matches!(failure, Failure::TimedOut(_)), "{failure}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

/// A queue manager of a few lines: one message at a time, every recipient remote, `todo` is all of its queue.
const START: &str = r#"
[ -f "$QMAIL_HOME/control/me" ] || { echo "cannot start"; exit 111; }
echo "status: local 0/10 remote 0/20"
trap 'echo "status: exiting"; exit 0' TERM
trap 'echo "got ALRM"' ALRM
d=0
cd "$QMAIL_HOME/queue/todo"
while :; do
    for n in *; do
        [ -f "$n" ] || continue
        m=../mess/$((n % 23))/$n
        sender=$(tr '\000' '\n' <"$n" | sed -n 's/^F//p')
        recipient=$(tr '\000' '\n' <"$n" | sed -n 's/^T//p')
        echo "new msg $n"
        echo "info msg $n: bytes 17 from <$sender> qp 99 uid 3"
        d=$((d + 1))
        echo "starting delivery $d: msg $n to remote $recipient"
        echo "delivery $d: $(qmail-remote far "$sender" "$recipient" <"$m" | tr -d '\000\n')/"
        echo "end msg $n"
        cat "$m" >>"$QMAIL_HOME/../homes/joe/Mailbox"
        rm "$n" "$m"
    done
    sleep 0.02
done
"#;

const QUEUE: &str = r#"
q=$QMAIL_HOME/queue
cat >"$q/pid/$$"
n=$(ls -i "$q/pid/$$" | sed 's/^ *//; s/ .*//')
ln "$q/pid/$$" "$q/mess/$((n % 23))/$n"
rm "$q/pid/$$"
cat <&1 >"$q/intd/$n"
mv "$q/intd/$n" "$q/todo/$n"
"#;

fn queue_manager() -> Posing {
    Posing::new(&[
        ("qmail-start", START),
        ("qmail-queue", QUEUE),
        (
            "qmail-newu",
            r#"grep -q '^=joe:joe:' "$QMAIL_HOME/users/assign" || exit 111"#,
        ),
        ("qmail-qread", r##"echo "msg #1 of $#""##),
    ])
}

#[test]
fn plays_a_scenario() {
    let posing = queue_manager();
    let seen = posing
        .play(json!({
            "control": {"me": "x\n"}, "users": {"joe": {".qmail": "@HOMES@\n"}},
            "remote": {"b@far": ["rZlater\n\0", {"output": "rKgone\n\0"}]},
            "steps": [
                {"start": {}},
                {"inject": {"sender": "a@b", "recipients": ["b@far"]}},
                {"drain": {}},
                {"inject": {"message": "in @QMAIL@\n", "sender": "", "recipients": ["b@far"]}},
                {"signal": "ALRM"},
                {"wait": {"log": "^got A", "count": 1}},
                {"drain": {}},
                {"run": ["qmail-qread", "x"]},
                {"stop": {}},
                {"control": {"me": null}},
                {"start": {}},
                {"stop": {}}],
        }))
        .unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&seen).unwrap(), @r#"
    {
      "homes": {
        "joe/Mailbox": "Subject: test\n\nbody\nin @QMAIL@\n"
      },
      "inject": [
        0,
        0
      ],
      "log": {
        "": [
          "got ALRM",
          "status: exiting",
          "cannot start"
        ],
        "m1": [
          "new msg m1",
          "info msg m1: bytes <n> from <a@b> qp <pid> uid <uid>",
          "starting delivery d1: msg m1 to remote b@far",
          "delivery d1: rZlater/",
          "end msg m1"
        ],
        "m2": [
          "new msg m2",
          "info msg m2: bytes <n> from <> qp <pid> uid <uid>",
          "starting delivery d1: msg m2 to remote b@far",
          "delivery d1: rKgone/",
          "end msg m2"
        ]
      },
      "queue": [],
      "remote": [
        {
          "host": "far",
          "message": "Subject: test\n\nbody\n",
          "recipient": "b@far",
          "sender": "a@b"
        },
        {
          "host": "far",
          "message": "in @QMAIL@\n",
          "recipient": "b@far",
          "sender": ""
        }
      ],
      "run": [
        "msg #? of 1\n"
      ],
      "schedule": [],
      "stop": [
        0,
        111
      ]
    }
    "#);
}

#[test]
fn notes_a_planted_queue() {
    let posing = queue_manager();
    let seen = posing
        .play(json!({
            "control": {"me": "x\n"}, "users": {"joe": {}},
            "steps": [
                {"plant": {"mess": "m\n", "info": "Fa\0", "local": "Tb\0", "bounce": "b", "age": 5}},
                {"plant": {"mess": "n\n", "intd": "u5\0p6\0Fa\0", "noise": {"pid/left": "over"}}},
                {"age": {"birth": 1000, "due": -400}},
                {"queue": {}},
                {"schedule": {}}],
        }))
        .unwrap();
    // Messages are called by the order of their numbers, which the file system chooses.
    let (first, second) = match seen["queue"][0]["mess/m1"] == "m\n" {
        true => ("m1", "m2"),
        false => ("m2", "m1"),
    };
    let expected = [
        (format!("mess/{first}"), "m\n"),
        (format!("info/{first}"), "Fa\0"),
        (format!("local/{first}"), "Tb\0"),
        (format!("bounce/{first}"), "b"),
        (format!("mess/{second}"), "n\n"),
        (format!("intd/{second}"), "u<uid>\0p<pid>\0Fa\0"),
        ("pid/left".to_owned(), "over"),
    ];
    let expected: serde_json::Map<_, _> = expected
        .into_iter()
        .map(|(name, content)| (name, json!(content)))
        .collect();
    assert_eq!(seen["queue"], json!([expected]));
    // There they are called anew, and only one of them is waiting to be delivered.
    assert_eq!(seen["schedule"], json!([{"m1/local": 1400}]));
}

#[test]
fn a_system_that_ended_is_not_waited_for() {
    let posing = Posing::new(&[
        ("qmail-start", "echo gone; exit 3"),
        ("qmail-queue", "exit 0"),
        ("qmail-newu", "exit 0"),
    ]);
    let started = Instant::now();
    let failure = posing
        .play(json!({"steps": [{"start": {}}, {"wait": {"log": "never"}}]}))
        .unwrap_err();
    assert_eq!(
        failure.to_string(),
        "waited for never, but qmail-start exited 3; log:\ngone\n"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_hostile_client_is_judged_by_what_happened() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hostile.json");
    let message = "EHLO c\r\nMAIL FROM:<s@remote.test>\r\nRCPT TO:<alice@local.test>\r\nDATA\r\nSubject: t\r\n\r\nx\r\n.\r\nQUIT\r\n";
    let delete = "USER alice\r\nPASS secret\r\nDELE 1\r\nQUIT\r\n";
    let entry = |id: &str, area: &str, input: &str, expect: Value| json!({"id": id, "area": area, "why": "", "must": "", "role": "client-sends", "input": input, "expect": expect});
    let entries = json!([
        entry(
            "right",
            "smtp-server/x",
            message,
            json!({"queued": 1, "body": "Subject: t\n\nx\n", "closed": "yes", "last_replies": ["250", "2"], "never_reply": "5"})
        ),
        entry("count", "smtp-server/x", message, json!({"queued": [0, 2]})),
        entry(
            "sender",
            "smtp-server/x",
            message,
            json!({"never_envelope_sender": "s@remote.test"})
        ),
        entry(
            "route",
            "smtp-server/x",
            message,
            json!({"never_route": "local.test"})
        ),
        entry(
            "body",
            "smtp-server/x",
            message,
            json!({"body_if_queued_contains": "Subject: other"})
        ),
        entry(
            "reply",
            "smtp-server/x",
            message,
            json!({"never_reply": "354"})
        ),
        entry(
            "closed",
            "smtp-server/x",
            "NOOP\r\n",
            json!({"closed": "yes"})
        ),
        entry(
            "deleted",
            "pop3-server",
            delete,
            json!({"deleted": 1, "replies": ["+OK", "+OK", "+OK", "+OK", "+OK"]})
        ),
        entry("not-deleted", "pop3-server", delete, json!({"deleted": 0})),
        entry("elsewhere", "smtp-client", "", json!({})),
    ]);
    fs::write(&file, entries.to_string()).unwrap();

    let mut passed = Vec::new();
    for area in ["smtp-server/", "pop3-server"] {
        let clients = HostileClients::read(&file, area).unwrap();
        for (name, _, outcome) in clients
            .run(env!("CARGO_BIN_EXE_qmail-under-test"), "")
            .cases
        {
            match outcome {
                Outcome::Passed => passed.push(name),
                Outcome::Failed(why) => {
                    assert!(
                        !why.contains("the server did not do its part"),
                        "{name}: {why}"
                    );
                }
                Outcome::Skipped(why) => panic!("{name}: {why}"),
            }
        }
    }
    assert_eq!(passed, ["hostile/right", "hostile/deleted"]);
}
