//! Messages on their way, as log, deliveries and spool see it.

use std::sync::atomic::Ordering;

use futures::executor::block_on;
use qmail_core::{Envelope, ReversePath};

use super::world::{START, World, address, deferred, delivered, failed};
use crate::{Channel, Position};

fn times(world: &World) -> Vec<u64> {
    let jobs = world.script.jobs.lock().unwrap();
    jobs.iter().map(|job| job.at - START).collect()
}

#[test]
fn a_message_is_delivered_at_once() {
    let mut world = World::new();
    world.settle();
    let receipt = world.submit("s@far", &["a@here", "b@far"]);
    assert_eq!(
        (receipt.message, receipt.accepted, receipt.qp),
        (1, START, 99)
    );
    world.settle();
    insta::assert_snapshot!(world.lines.lock().unwrap().join("\n"), @"
status: local 0/1 remote 0/1
new msg 1
info msg 1: bytes 89 from <s@far> qp 99 uid 7
starting delivery 1: msg 1 to local a@here
status: local 1/1 remote 0/1
starting delivery 2: msg 1 to remote b@far
status: local 1/1 remote 1/1
delivery 1: success: accepted/
status: local 0/1 remote 1/1
delivery 2: success: accepted/
status: local 0/1 remote 0/1
end msg 1
");
    assert_eq!(world.count(), 0);
}

#[test]
fn a_message_for_nobody_ends() {
    let mut world = World::new();
    world.submit("s@far", &[]);
    world.settle();
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <s@far> qp 99 uid 7
    end msg 1
    ");
    assert_eq!(world.count(), 0);
}

#[test]
fn nothing_is_read_back_for_new_mail() {
    let mut world = World::new();
    world.settle();
    world.spool.calls();
    world.submit("s@far", &["b@far"]);
    world.settle();
    insta::assert_snapshot!(world.spool.calls().join("\n"), @"
    begin 
    content 1
    remove 1
    ");
}

#[test]
fn only_who_is_left_by_the_first_try_is_written_down() {
    let mut world = World::new();
    world.script.recipients_max.store(10, Ordering::SeqCst);
    world.settle();
    world.spool.calls();
    world.script.answer("b@far", &[deferred()]);
    world.script.answer("c@far", &[failed()]);
    world.submit("s@far", &["a@far", "b@far", "c@far"]);
    world.settle();
    insta::assert_snapshot!(world.spool.calls().join("\n"), @"
    begin 
    content 1
    route 1
    ");
    let left =
        world
            .spool
            .inner
            .recipients(crate::MessageId(1), Channel::Remote, Position::START, 9);
    let left: Vec<_> = block_on(left).unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((&left[0].address, left[0].done), (&address("b@far"), false));
    // Its age counts from the first try.
    world.advance(399);
    assert_eq!(world.script.tried()["b@far"], 1);
    world.advance(1);
    assert_eq!(world.count(), 0);
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <s@far> qp 99 uid 7
    starting delivery 1: msg 1 to remote a@far
    starting delivery 2: msg 1 to remote b@far
    starting delivery 3: msg 1 to remote c@far
    delivery 1: success: accepted/
    delivery 2: deferral: busy_now/
    delivery 3: failure: no_such_user/
    starting delivery 4: msg 1 to remote b@far
    delivery 4: success: accepted/
    bounce msg 1 qp 99
    end msg 1
    new msg 2
    info msg 2: bytes 529 from <> qp 99 uid 7
    starting delivery 5: msg 2 to remote s@far
    delivery 5: success: accepted/
    end msg 2
    ");
}

#[test]
fn what_makes_more_than_one_job_is_routed_first() {
    for (sender, recipients) in [
        ("s@far", &["a@here", "b@far"][..]),
        ("s@far", &["b@far", "c@near"]),
        ("list-@lists-@[]", &["b@far", "c@far"]),
    ] {
        let mut world = World::new();
        world.script.recipients_max.store(10, Ordering::SeqCst);
        world.submit(sender, recipients);
        world.settle();
        let calls = world.spool.calls();
        assert!(calls.contains(&"route 1".to_owned()), "{calls:?}");
        assert_eq!(world.count(), 0);
    }
}

#[test]
fn what_waits_for_a_held_channel_is_routed() {
    let mut world = World::with(|config| config.limits.remote_max = 0);
    world.submit("s@far", &["b@far"]);
    world.settle();
    let left =
        world
            .spool
            .inner
            .recipients(crate::MessageId(1), Channel::Remote, Position::START, 9);
    assert_eq!(block_on(left).unwrap().len(), 1);
}

#[test]
fn a_first_try_is_not_repeated_for_lack_of_a_disk() {
    let mut world = World::new();
    world.script.answer("b@far", &[deferred()]);
    world.spool.fail("route", 3);
    world.submit("s@far", &["b@far"]);
    world.settle();
    world.advance(123);
    world.advance(123);
    assert_eq!(world.script.tried()["b@far"], 1);
    world.drain();
    assert_eq!(times(&world), [0, 400]);
    assert_eq!(world.count(), 0);
}

#[test]
fn marks_are_made_recipient_by_recipient() {
    let mut world = World::new();
    world.settle();
    world.spool.calls();
    world.script.answer("b@far", &[deferred()]);
    world.script.answer("c@far", &[failed()]);
    world.submit("s@far", &["a@far", "b@far", "c@far"]);
    world.settle();
    insta::assert_snapshot!(world.spool.calls().join("\n"), @"
    begin 
    route 1
    content 1
    recipients 1 remote 0
    mark_done 1 remote [0]
    note_failure 1
    recipients 1 remote 0
    mark_done 1 remote [2]
    ");
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <s@far> qp 99 uid 7
    starting delivery 1: msg 1 to remote a@far
    delivery 1: success: accepted/
    starting delivery 2: msg 1 to remote b@far
    delivery 2: deferral: busy_now/
    starting delivery 3: msg 1 to remote c@far
    delivery 3: failure: no_such_user/
    ");
    world.advance(400);
    insta::assert_snapshot!(world.log(), @"
    starting delivery 4: msg 1 to remote b@far
    delivery 4: success: accepted/
    bounce msg 1 qp 99
    end msg 1
    new msg 2
    info msg 2: bytes 529 from <> qp 99 uid 7
    starting delivery 5: msg 2 to remote s@far
    delivery 5: success: accepted/
    end msg 2
    ");
}

#[test]
fn deferrals_follow_the_schedule() {
    let mut world = World::new();
    world
        .script
        .answer("a@here", &[deferred(), deferred(), deferred()]);
    world.submit("s@far", &["a@here"]);
    world.drain();
    assert_eq!(times(&world), [0, 100, 400, 900]);

    let mut world = World::new();
    world.script.answer("b@far", &[deferred(), deferred()]);
    world.submit("s@far", &["b@far"]);
    world.drain();
    assert_eq!(times(&world), [0, 400, 1600]);
}

#[test]
fn an_alarm_makes_everything_due_and_changes_no_age() {
    let mut world = World::new();
    world.script.answer("b@far", &[deferred(), deferred()]);
    world.submit("s@far", &["b@far"]);
    world.settle();
    world.advance(100);
    world.queue.retry_all();
    world.drain();
    // (isqrt(100) + 20)² = 900
    assert_eq!(times(&world), [0, 100, 900]);
}

#[test]
fn a_message_too_long_in_the_queue_fails() {
    let mut world = World::with(|config| config.limits.lifetime_seconds = 1600);
    *world.script.otherwise.lock().unwrap() = Some(deferred());
    world.script.answer("s@far", &[delivered()]);
    world.submit("s@far", &["b@far"]);
    world.drain();
    // Exactly at its lifetime a message is not too old.
    assert_eq!(times(&world), [0, 400, 1600, 3600, 3600]);
    let log = world.log();
    assert!(log.contains(
        "failure: busy_now/I'm_not_going_to_try_again;_this_message_has_been_in_the_queue_too_long./"
    ));
    let jobs = world.script.jobs.lock().unwrap();
    assert!(jobs.last().unwrap().text.contains(
        "\n<b@far>:\nbusy now\nI'm not going to try again; this message has been in the queue too long.\n\n--- Below"
    ));
}

#[test]
fn recipients_of_one_host_share_jobs() {
    let mut world = World::new();
    world.script.recipients_max.store(100, Ordering::SeqCst);
    let recipients = (0..1_000).map(|number| address(&format!("r{number}@far")));
    let sender = ReversePath::new("s@far").unwrap();
    world.submit_envelope(Envelope::new(sender, recipients.collect()));
    world.settle();
    let jobs = world.script.jobs.lock().unwrap();
    assert_eq!(jobs.len(), 10);
    assert!(jobs.iter().all(|job| job.recipients.len() == 100));
    assert_eq!(jobs[0].recipients[..2], ["r0@far", "r1@far"]);
    assert_eq!(world.count(), 0);
}

#[test]
fn ten_thousand_recipients_are_read_page_by_page() {
    let mut world = World::with(|config| config.limits.remote_max = 20);
    world.script.recipients_max.store(100, Ordering::SeqCst);
    let recipients: Vec<_> = (0..10_000)
        .map(|number| address(&format!("r{number}@h{}", number % 7)))
        .collect();
    for number in (0..10_000).step_by(3) {
        let recipient = format!("r{number}@h{}", number % 7);
        world.script.answer(&recipient, &[deferred()]);
    }
    let sender = ReversePath::new("s@far").unwrap();
    world.submit_envelope(Envelope::new(sender, recipients));
    world.drain();
    let tried = world.script.tried();
    assert_eq!(tried.len(), 10_000);
    for (recipient, times) in &tried {
        let number: usize = recipient[1..recipient.find('@').unwrap()].parse().unwrap();
        assert_eq!(
            *times,
            if number.is_multiple_of(3) { 2 } else { 1 },
            "{recipient}"
        );
    }
    // Ten pages of seven hosts take 20 jobs each; the second round has a third of the recipients.
    assert!(world.script.jobs.lock().unwrap().len() <= 10 * 21 + 10 * 14);
    assert_eq!(world.count(), 0);
}

#[test]
fn a_list_has_a_sender_for_each_recipient() {
    let mut world = World::new();
    world.script.recipients_max.store(100, Ordering::SeqCst);
    world.script.answer("b@far", &[failed()]);
    world.script.answer("c@far", &[failed()]);
    world.submit("list-@lists-@[]", &["a@far", "b@far", "c@far", "d@virtual"]);
    world.settle();
    let jobs = world.script.jobs.lock().unwrap();
    let senders: Vec<&str> = jobs.iter().map(|job| &job.sender[..]).collect();
    assert_eq!(
        senders,
        [
            "list-joe-d=virtual@lists",
            "list-a=far@lists",
            "list-b=far@lists",
            "list-c=far@lists",
            ""
        ]
    );
    // One bounce for all, to the list without the mark.
    let bounce = jobs.last().unwrap();
    assert_eq!(bounce.recipients, ["list-@lists"]);
    assert!(bounce.text.contains("\nReturn-Path: <list-@lists>\n"));
}

#[test]
fn a_held_channel_holds_nobody_else() {
    let mut world = World::with(|config| config.limits.local_max = 0);
    world.submit("s@far", &["a@here", "b@far"]);
    world.settle();
    assert_eq!(
        world.script.tried().into_keys().collect::<Vec<_>>(),
        ["b@far"]
    );
    assert_eq!(world.queue.counts().local_waiting, 1);
    let mut limits = world.config.limits;
    limits.local_max = 1;
    world.queue.set_limits(limits);
    world.settle();
    assert_eq!(world.count(), 0);
}

#[test]
fn slots_are_used_and_never_exceeded() {
    for (limit, most) in [(1, 1), (3, 3), (5, 5), (20, 19)] {
        let mut world = World::with(|config| config.limits.remote_max = limit);
        world.script.shut.store(true, Ordering::SeqCst);
        let recipients: Vec<String> = (0..40).map(|number| format!("r@h{number}")).collect();
        let recipients: Vec<&str> = recipients.iter().map(|text| &text[..]).collect();
        world.submit("s@far", &recipients);
        world.settle();
        // What is kept free for new mail is not used by further recipients of one message.
        assert_eq!(world.script.running.load(Ordering::SeqCst), most);
        world.script.open();
        world.settle();
        assert_eq!(world.script.running_max.load(Ordering::SeqCst), most);
        assert_eq!(world.script.tried().len(), 40);
        assert_eq!(world.count(), 0);
    }
}

#[test]
fn one_destination_cannot_take_all_slots() {
    let mut world = World::with(|config| {
        config.limits.remote_max = 10;
        config.limits.remote_destination_max = 2;
    });
    world.script.shut.store(true, Ordering::SeqCst);
    for number in 0..300 {
        world.submit("s@far", &[&format!("r{number}@slow")]);
    }
    world.settle();
    assert_eq!(world.script.running.load(Ordering::SeqCst), 2);
    world.submit("s@far", &["r@quick"]);
    world.settle();
    assert_eq!(world.script.running.load(Ordering::SeqCst), 3);
    world.script.open();
    world.settle();
    assert_eq!(world.script.running_max.load(Ordering::SeqCst), 3);
    assert_eq!(world.script.tried().len(), 301);
    assert_eq!(world.count(), 0);
}

#[test]
fn a_backlog_does_not_delay_new_mail() {
    let mut world = World::with(|config| config.limits.remote_max = 4);
    *world.script.otherwise.lock().unwrap() = Some(deferred());
    for number in 0..2_000 {
        world.submit("s@far", &[&format!("r{number}@h{number}")]);
    }
    world.settle();
    world.script.jobs.lock().unwrap().clear();
    world.script.shut.store(true, Ordering::SeqCst);
    // Everything is due, and slow.
    world.advance(3_600);
    assert_eq!(world.script.running.load(Ordering::SeqCst), 3);
    world.submit("s@far", &["new@host"]);
    world.settle();
    assert_eq!(
        world.script.jobs.lock().unwrap().last().unwrap().recipients,
        ["new@host"]
    );
}

#[test]
fn a_delivery_that_breaks_its_word_defers() {
    use async_trait::async_trait;
    use qmail_core::{Delivery, Job, Outcome};

    struct Broken;

    #[async_trait]
    impl Delivery for Broken {
        async fn deliver(&self, job: Job) -> Vec<Outcome> {
            assert!(job.recipients[0].local_part() != b"panic", "played");
            Vec::new()
        }
    }

    let mut world = World::with_delivery(|config| config.limits.remote_max = 2, Broken);
    world.submit("s@far", &["panic@far", "silent@far"]);
    world.settle();
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <s@far> qp 99 uid 7
    starting delivery 1: msg 1 to remote panic@far
    starting delivery 2: msg 1 to remote silent@far
    delivery 1: deferral: The_delivery_crashed._(#4.3.0)/
    delivery 2: report mangled, will defer
    ");
    assert_eq!(world.count(), 1);
    world.advance(1_000_000);
    let log = world.log();
    let failure = "failure: The_delivery_crashed._(#4.3.0)/I'm_not_going_to_try_again;";
    assert_eq!(log.matches(failure).count(), 1, "{log}");
    // Nobody has said what became of the other one.
    assert!(
        log.contains("delivery 4: report mangled, will defer"),
        "{log}"
    );
    assert_eq!(log.matches("failure: ").count(), 1, "{log}");
    assert_eq!(world.count(), 1);
}

#[test]
fn who_lost_all_deliveries_of_a_channel_tells_of_none() {
    use async_trait::async_trait;
    use futures::FutureExt;
    use futures::channel::oneshot;
    use futures::future::Shared;
    use qmail_core::{Delivery, Job, Outcome};

    /// Without an outcome from the moment on at which the sender is dropped.
    struct Lost(Shared<oneshot::Receiver<()>>);

    #[async_trait]
    impl Delivery for Lost {
        async fn deliver(&self, _job: Job) -> Vec<Outcome> {
            let _ = self.0.clone().await;
            Vec::new()
        }
    }

    let (alive, gone) = oneshot::channel();
    let delivery = Lost(gone.shared());
    let mut world = World::with_delivery(|config| config.limits.remote_max = 2, delivery);
    world.submit("s@far", &["a@far"]);
    world.submit("s@far", &["b@far"]);
    world.settle();
    world.log();
    world.queue.stop_without(Channel::Remote);
    drop(alive);
    world.settle();
    assert!(world.has_ended());
    assert_eq!(world.log(), "status: exiting");
    assert_eq!(world.count(), 2);
}
