//! What senders are told.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use qmail_core::{Draft, Envelope, Origin, Receipt, Submit, SubmitError};

use super::world::{World, deferred, failed};

#[test]
fn a_failure_is_told_to_the_sender() {
    let mut world = World::new();
    world.script.answer("b@far", &[failed()]);
    world.script.answer("joe-c@virtual", &[failed()]);
    world.submit("s s@far", &["b@far", "c@far", "c@virtual"]);
    world.drain();
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <s_s@far> qp 99 uid 7
    starting delivery 1: msg 1 to local joe-c@virtual
    starting delivery 2: msg 1 to remote b@far
    delivery 1: failure: no_such_user/
    delivery 2: failure: no_such_user/
    starting delivery 3: msg 1 to remote c@far
    delivery 3: success: accepted/
    bounce msg 1 qp 99
    end msg 1
    new msg 2
    info msg 2: bytes 564 from <> qp 99 uid 7
    starting delivery 4: msg 2 to remote s_s@far
    delivery 4: success: accepted/
    end msg 2
    ");
    let jobs = world.script.jobs.lock().unwrap();
    let bounce = jobs.last().unwrap();
    assert_eq!(
        (&bounce.sender[..], &bounce.recipients[0][..]),
        ("", "s s@far")
    );
    insta::assert_snapshot!(bounce.text, @r#"
    Received: (qmail 99 invoked for bounce); 9 Sep 2001 01:46:40 -0000
    Date: 9 Sep 2001 01:46:40 -0000
    From: MAILER-DAEMON@here
    To: "s s"@far
    Subject: failure notice

    Hi. This is the qmail-send program at here.
    I'm afraid I wasn't able to deliver your message to the following addresses.
    This is a permanent error; I've given up. Sorry it didn't work out.

    <c@virtual>:
    no such user

    <b@far>:
    no such user

    --- Below this line is a copy of the message.

    Return-Path: <"s s"@far>
    Received: (qmail 99 invoked from network); 9 Sep 2001 01:46:40 -0000
    Subject: test

    body
    "#);
}

#[test]
fn a_bounce_that_fails_goes_to_the_postmaster() {
    let mut world = World::with(|config| config.bounce_from = "robot".into());
    world.script.answer("b@far", &[failed()]);
    world.script.answer("s@far", &[failed()]);
    world.submit("s@far", &["b@far"]);
    world.drain();
    let jobs = world.script.jobs.lock().unwrap();
    let bounce = jobs.last().unwrap();
    assert_eq!(
        (&bounce.sender[..], &bounce.recipients[0][..]),
        ("#@[]", "postmaster@here")
    );
    insta::assert_snapshot!(bounce.text, @"
    Received: (qmail 99 invoked for bounce); 9 Sep 2001 01:46:40 -0000
    Date: 9 Sep 2001 01:46:40 -0000
    From: robot@here
    To: postmaster@here
    Subject: failure notice

    Hi. This is the qmail-send program at here.
    I tried to deliver a bounce message to this address, but the bounce bounced!

    <s@far>:
    no such user

    --- Below this line is the original bounce.

    Return-Path: <>
    Received: (qmail 99 invoked for bounce); 9 Sep 2001 01:46:40 -0000
    Date: 9 Sep 2001 01:46:40 -0000
    From: robot@here
    To: s@far
    Subject: failure notice

    Hi. This is the qmail-send program at here.
    I'm afraid I wasn't able to deliver your message to the following addresses.
    This is a permanent error; I've given up. Sorry it didn't work out.

    <b@far>:
    no such user

    --- Below this line is a copy of the message.

    Return-Path: <s@far>
    Received: (qmail 99 invoked from network); 9 Sep 2001 01:46:40 -0000
    Subject: test

    body
    ");
}

#[test]
fn a_double_bounce_that_fails_is_discarded() {
    let mut world = World::new();
    *world.script.otherwise.lock().unwrap() = Some(failed());
    world.submit("s@far", &["b@far"]);
    world.drain();
    assert_eq!(world.count(), 0);
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <s@far> qp 99 uid 7
    starting delivery 1: msg 1 to remote b@far
    delivery 1: failure: no_such_user/
    bounce msg 1 qp 99
    end msg 1
    new msg 2
    info msg 2: bytes 529 from <> qp 99 uid 7
    starting delivery 2: msg 2 to remote s@far
    delivery 2: failure: no_such_user/
    bounce msg 2 qp 99
    end msg 2
    new msg 3
    info msg 3: bytes 904 from <#@[]> qp 99 uid 7
    starting delivery 3: msg 3 to local postmaster@here
    delivery 3: failure: no_such_user/
    triple bounce: discarding bounce/3
    end msg 3
    ");
}

#[test]
fn without_a_postmaster_double_bounces_are_discarded() {
    let mut world = World::with(|config| config.double_bounce_to = None);
    world.script.answer("b@far", &[failed()]);
    world.submit("", &["b@far"]);
    world.drain();
    assert_eq!(world.count(), 0);
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <> qp 99 uid 7
    starting delivery 1: msg 1 to remote b@far
    delivery 1: failure: no_such_user/
    warning: no doublebounceto; discarding bounce/1
    end msg 1
    ");
}

#[test]
fn a_recipient_that_rewriting_makes_too_long_fails() {
    let mut world = World::new();
    let long = format!("{}@virtual", "x".repeat(994));
    world.submit("s@far", &[&long]);
    world.drain();
    assert_eq!(world.count(), 0);
    let jobs = world.script.jobs.lock().unwrap();
    assert!(
        jobs[0]
            .text
            .contains("x@virtual>:\nSorry, this address is too long after rewriting. (#5.1.3)\n")
    );
    assert!(
        world
            .log()
            .contains("\nwarning: recipient too long after rewriting: msg 1 to xxx")
    );
}

#[test]
fn recipients_that_fail_together_are_all_told_of() {
    for (seed, one_in) in [(1, 0), (2, 0), (3, 4), (4, 4)] {
        let mut world = World::with(|config| {
            config.limits.local_max = 20;
            config.limits.remote_max = 20;
        });
        let recipients: Vec<String> = (0..10)
            .flat_map(|number| [format!("u{number}@here"), format!("u{number}@far{number}")])
            .collect();
        for recipient in &recipients {
            world.script.answer(recipient, &[failed(), failed()]);
        }
        let all: Vec<&str> = recipients.iter().map(String::as_str).collect();
        world.submit("s@far", &all);
        world.spool.shuffle(seed, one_in);
        world.drain();
        assert_eq!(world.count(), 0);
        let jobs = world.script.jobs.lock().unwrap();
        let bounce = jobs.iter().find(|job| job.recipients == ["s@far"]);
        let text = &bounce.expect("a bounce").text;
        for recipient in &recipients {
            let note = format!("<{recipient}>:\nno such user\n\n");
            assert_eq!(text.matches(&note).count(), 1, "{recipient} in {text}");
        }
    }
}

#[test]
fn a_bounce_is_queued_before_its_message_goes() {
    let mut world = World::new();
    world.script.answer("b@far", &[failed()]);
    world.settle();
    world.submit("s@far", &["b@far"]);
    world.spool.fail("begin", 1);
    world.settle();
    assert_eq!(world.count(), 1);
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <s@far> qp 99 uid 7
    starting delivery 1: msg 1 to remote b@far
    delivery 1: failure: no_such_user/
    warning: trouble injecting bounce message, will try later (qq write error or disk full: cannot write begin: played)
    ");
    world.spool.calls();
    world.advance(123);
    assert_eq!(world.count(), 0);
    insta::assert_snapshot!(world.spool.calls().join("\n"), @"
    failures 1
    sender 1
    content 1
    begin 
    clear_failures 1
    remove 1
    content 2
    remove 2
    ");
}

#[test]
fn a_bounce_is_not_sent_twice_when_its_notes_stay() {
    let mut world = World::new();
    world.script.answer("b@far", &[failed()]);
    world.spool.fail("clear_failures", 2);
    world.spool.fail("remove", 1);
    world.submit("s@far", &["b@far"]);
    world.drain();
    assert_eq!(world.count(), 0);
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <s@far> qp 99 uid 7
    starting delivery 1: msg 1 to remote b@far
    delivery 1: failure: no_such_user/
    bounce msg 1 qp 99
    warning: trouble finishing: cannot write clear_failures: played; will try again later
    new msg 2
    info msg 2: bytes 529 from <> qp 99 uid 7
    starting delivery 2: msg 2 to remote s@far
    delivery 2: success: accepted/
    end msg 2
    warning: trouble finishing: cannot write remove: played; will try again later
    warning: trouble finishing: cannot write clear_failures: played; will try again later
    end msg 1
    ");
}

#[test]
fn the_last_attempt_of_several_recipients_makes_one_bounce() {
    let mut world = World::with(|config| config.limits.lifetime_seconds = 0);
    world.script.answer("a@here", &[deferred(), deferred()]);
    world.script.answer("b@far", &[deferred(), deferred()]);
    world.submit("s@far", &["a@here", "b@far"]);
    world.drain();
    let jobs = world.script.jobs.lock().unwrap();
    assert_eq!(jobs.len(), 5);
    let text = &jobs.last().unwrap().text;
    assert!(text.contains("<a@here>:") && text.contains("<b@far>:"));
}

/// A place that has the messages of the queue at hand, and tells what it was asked to quote.
#[derive(Default)]
struct Quoting(Arc<Mutex<Vec<String>>>);

struct QuotingDraft(String, Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Submit for Quoting {
    async fn begin(&self, _: Origin) -> Result<Box<dyn Draft>, SubmitError> {
        Ok(Box::new(QuotingDraft(String::new(), Arc::clone(&self.0))))
    }
}

#[async_trait]
impl Draft for QuotingDraft {
    async fn write(&mut self, chunk: Bytes) -> Result<(), SubmitError> {
        self.0.push_str(&String::from_utf8_lossy(&chunk));
        Ok(())
    }

    async fn quote(&mut self, message: u64, octets_max: Option<u64>) -> Result<bool, SubmitError> {
        self.0.push_str(&format!("[{message} {octets_max:?}]\n"));
        Ok(true)
    }

    async fn commit(self: Box<Self>, _: Envelope) -> Result<Receipt, SubmitError> {
        self.1.lock().unwrap().push(self.0);
        Ok(Receipt::new(0, 0, 1))
    }
}

#[test]
fn who_takes_bounces_may_quote_the_message_itself() {
    for (limit, quoted) in [(None, "[1 None]\n"), (Some(20), "[1 Some(20)]\n")] {
        let bounces = Quoting::default();
        let taken = Arc::clone(&bounces.0);
        let mut world = World::bouncing_to(Arc::new(bounces), |config| {
            config.bounce_message_octets_max = limit;
        });
        world.script.answer("b@far", &[failed()]);
        world.submit("s@far", &["b@far"]);
        world.drain();
        let taken = taken.lock().unwrap();
        assert_eq!(taken.len(), 1);
        assert!(
            taken[0].contains(quoted) && !taken[0].contains("\nbody"),
            "{}",
            taken[0]
        );
    }
}
