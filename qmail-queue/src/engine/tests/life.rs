//! Start, stop, crash, and messages that come by another way.

use std::future::Future;
use std::sync::atomic::Ordering;
use std::task::Context;

use futures::executor::block_on;
use futures::task::noop_waker_ref;
use qmail_core::{Envelope, Origin, ReversePath, Submit};

use super::world::{START, World, address, deferred};
use crate::{Channel, Clock, Entry, Intake, Position};

#[test]
fn a_stop_waits_for_what_runs_and_starts_nothing() {
    let mut world = World::new();
    world.script.shut.store(true, Ordering::SeqCst);
    world.submit("s@far", &["a@far", "b@far"]);
    world.settle();
    world.queue.stop();
    world.submit("s@far", &["c@far"]);
    world.settle();
    assert!(!world.has_ended());
    world.script.open();
    world.settle();
    assert!(world.has_ended());
    insta::assert_snapshot!(world.lines.lock().unwrap().join("\n"), @"
    status: local 0/1 remote 0/1
    new msg 1
    info msg 1: bytes 89 from <s@far> qp 99 uid 7
    starting delivery 1: msg 1 to remote a@far
    status: local 0/1 remote 1/1
    delivery 1: success: accepted/
    status: local 0/1 remote 0/1 exitasap
    status: exiting
    ");
    let marks = block_on(world.spool.inner.recipients(
        crate::MessageId(1),
        Channel::Remote,
        Position::START,
        9,
    ));
    let marks: Vec<bool> = marks
        .unwrap()
        .iter()
        .map(|recipient| recipient.done)
        .collect();
    assert_eq!(marks, [true, false]);

    world.restart();
    world.settle();
    assert_eq!(world.count(), 0);
    assert_eq!(
        world.script.tried().into_values().collect::<Vec<_>>(),
        [1, 1, 1]
    );
}

#[test]
fn a_stop_does_not_wait_for_a_long_listing() {
    let mut world = World::new();
    world.submit("s@far", &["b@far"]);
    world.spool.hang("scan");
    world.restart();
    world.settle();
    world.queue.stop();
    world.settle();
    assert!(world.has_ended());
    assert_eq!(world.log(), "status: exiting");
    assert_eq!(world.count(), 1);
}

#[test]
fn new_mail_does_not_wait_for_a_long_listing() {
    let mut world = World::new();
    world.submit("s@far", &["old@far"]);
    world.spool.hang("scan");
    world.restart();
    world.submit("s@far", &["new@far"]);
    world.submit("s@far", &["new@far", "new@here"]);
    world.settle();
    let tried = world.script.tried();
    assert_eq!(
        tried.into_keys().collect::<Vec<_>>(),
        ["new@far", "new@here"]
    );
    assert_eq!(world.count(), 1);
}

#[test]
fn what_comes_during_a_listing_is_delivered_once() {
    for seed in 1..300 {
        let mut world = World::with(|config| config.limits.remote_max = 2);
        for number in 0..4 {
            world
                .script
                .answer(&format!("old{number}@far"), &[deferred()]);
            world.submit("s@far", &[&format!("old{number}@far")]);
        }
        world.settle();
        world.spool.shuffle(seed, 0);
        world.restart();
        for number in 0..4 {
            for _ in 0..number {
                world.step();
            }
            let (one, two) = (format!("{number}@far"), format!("{number}@near"));
            world.submit("s@far", &[&one]);
            world.submit("s@far", &[&one, &two]);
        }
        world.queue.retry_all();
        world.drain();
        let tried = world.script.tried();
        assert_eq!(tried.len(), 12, "seed {seed}");
        assert!(
            tried.values().all(|&times| times == 2 || times == 1),
            "seed {seed}: {tried:?}"
        );
        assert_eq!(
            tried.values().sum::<usize>(),
            4 * 2 + 4 * 2 + 4,
            "seed {seed}"
        );
    }
}

#[test]
fn times_survive_a_stop_and_not_a_crash() {
    let mut world = World::new();
    world
        .script
        .answer("b@far", &[deferred(), deferred(), deferred()]);
    world.submit("s@far", &["b@far"]);
    world.settle();
    world.advance(50);
    world.spool.calls();
    world.queue.stop();
    world.settle();
    assert_eq!(
        world.spool.calls(),
        [format!("put_off 1 remote {}", START + 400)]
    );

    world.restart();
    world.settle();
    world.advance(349);
    assert_eq!(world.script.tried()["b@far"], 1);
    world.advance(1);
    assert_eq!(world.script.tried()["b@far"], 2);

    world.restart();
    world.settle();
    assert_eq!(world.script.tried()["b@far"], 3);

    // A time that the spool knows already is not written again.
    world.queue.stop();
    world.settle();
    world.restart();
    world.settle();
    world.spool.calls();
    world.queue.stop();
    world.settle();
    assert!(world.spool.calls().is_empty());
}

#[test]
fn an_alarm_survives_a_stop() {
    let mut world = World::new();
    world.script.answer("b@far", &[deferred()]);
    world.submit("s@far", &["b@far"]);
    world.settle();
    world.script.shut.store(true, Ordering::SeqCst);
    world.submit("s@far", &["c@far"]);
    world.settle();
    world.queue.retry_all();
    world.settle();
    world.queue.stop();
    world.script.open();
    world.settle();
    assert!(world.has_ended());
    world.restart();
    world.settle();
    assert_eq!(world.count(), 0);
}

#[test]
fn messages_left_at_any_step_are_finished() {
    let mut world = World::new();
    world.script.answer("b@far", &[super::world::failed()]);
    world.submit("s@far", &["b@far"]);
    let mut steps = 0;
    while world.step() {
        steps += 1;
    }
    for cut in 0..=steps {
        let mut world = World::new();
        world.script.answer("b@far", &[super::world::failed()]);
        world.submit("s@far", &["b@far"]);
        for _ in 0..cut {
            world.step();
        }
        world.restart();
        world.drain();
        assert_eq!(world.count(), 0, "{cut}");
        assert!(world.script.tried().contains_key("s@far"), "{cut}");
    }
}

#[test]
fn what_others_put_into_the_spool_is_found() {
    let mut world = World::new();
    world.settle();
    let others = Intake::new(
        std::sync::Arc::new(world.spool.clone()),
        std::sync::Arc::new(world.clock.clone()),
        5,
        6,
    );
    block_on(async {
        let draft = Submit::begin(&others, Origin::Uid(500)).await.unwrap();
        let sender = ReversePath::new("s@far").unwrap();
        let envelope = Envelope::new(sender, vec![address("b@far")]);
        draft.commit(envelope).await.unwrap();
    });
    world.settle();
    assert_eq!(world.count(), 1);
    world.queue.look();
    world.queue.look();
    world.submit("s@far", &["c@far"]);
    world.settle();
    assert_eq!(world.count(), 0);
    assert_eq!(
        world.script.tried().into_values().collect::<Vec<_>>(),
        [1, 1]
    );
    insta::assert_snapshot!(world.log(), @"
    new msg 2
    info msg 2: bytes 89 from <s@far> qp 99 uid 7
    starting delivery 1: msg 2 to remote c@far
    new msg 1
    info msg 1: bytes 66 from <s@far> qp 5 uid 500
    delivery 1: success: accepted/
    end msg 2
    starting delivery 2: msg 1 to remote b@far
    delivery 2: success: accepted/
    end msg 1
    ");
}

/// Another process puts a message into the spool. Gives its number.
fn put_beside(world: &World, to: &str) -> crate::MessageId {
    let others = Intake::new(
        std::sync::Arc::clone(&world.spool.inner),
        std::sync::Arc::new(world.clock.clone()),
        5,
        6,
    );
    block_on(async {
        let draft = Submit::begin(&others, Origin::Uid(500)).await.unwrap();
        let sender = ReversePath::new("s@far").unwrap();
        let receipt = draft.commit(Envelope::new(sender, vec![address(to)])).await;
        crate::MessageId(receipt.unwrap().message)
    })
}

#[test]
fn what_others_tell_of_is_tried_once_however_often_and_whatever_they_tell() {
    let mut world = World::new();
    world.settle();
    let id = put_beside(&world, "b@far");
    world.script.shut.store(true, Ordering::SeqCst);
    for id in [id, id, crate::MessageId(0), crate::MessageId(u64::MAX)] {
        world.queue.tell(id);
    }
    world.queue.look();
    world.settle();
    world.queue.tell(id);
    world.settle();
    // It is tried before it is routed.
    let incoming = world.spool.inner.incoming(id);
    assert!(block_on(incoming).is_ok());
    world.script.open();
    world.settle();
    // The word that came last of all is of nobody any more.
    world.queue.tell(id);
    world.settle();
    assert_eq!(world.count(), 0);
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 66 from <s@far> qp 5 uid 500
    starting delivery 1: msg 1 to remote b@far
    delivery 1: success: accepted/
    end msg 1
    ");
}

#[test]
fn what_others_tell_of_beyond_the_bound_is_looked_for() {
    let mut world = World::new();
    world.settle();
    let id = put_beside(&world, "b@far");
    for number in 0..crate::TOLD_MAX as u64 {
        world.queue.tell(crate::MessageId(1_000 + number));
    }
    world.queue.tell(id);
    world.settle();
    assert_eq!(world.count(), 0);
    assert_eq!(world.script.tried().into_values().collect::<Vec<_>>(), [1]);
}

#[test]
fn an_alarm_reaches_what_was_tried_before_it_was_routed() {
    let mut world = World::new();
    world.script.answer("b@far", &[deferred()]);
    world.spool.fail("route", 1);
    world.submit("s@far", &["b@far"]);
    world.settle();
    // It is deferred, and that could not be written down yet.
    world.queue.retry_all();
    world.settle();
    world.advance(crate::TROUBLE_WAIT.as_secs());
    assert_eq!(world.count(), 0);
    assert_eq!(world.script.tried().into_values().collect::<Vec<_>>(), [2]);
}

#[test]
fn a_commit_that_is_cut_short_is_found() {
    let mut world = World::new();
    world.settle();
    world.spool.shuffle(1, 0);
    let mut found = 0;
    for cut in 0..20 {
        let queue = world.queue.clone();
        let mut commit = Box::pin(async move {
            let draft = Submit::begin(&queue, Origin::Network).await.unwrap();
            let sender = ReversePath::new("s@far").unwrap();
            draft
                .commit(Envelope::new(sender, vec![address("b@far")]))
                .await
        });
        let mut context = Context::from_waker(noop_waker_ref());
        for _ in 0..cut {
            if commit.as_mut().poll(&mut context).is_ready() {
                break;
            }
        }
        found += world.count();
        drop(commit);
        world.settle();
        assert_eq!(world.count(), 0, "{cut}");
    }
    assert!(found > 0);
    assert_eq!(world.script.tried()["b@far"], found);
}

#[test]
fn a_listing_and_a_commit_at_once_deliver_once() {
    for seed in 1..300 {
        let mut world = World::new();
        world.spool.shuffle(seed, 0);
        world.submit("s@far", &["old@far"]);
        let mut commits: Vec<_> = (0..5)
            .map(|number| {
                let queue = world.queue.clone();
                Box::pin(async move {
                    let draft = Submit::begin(&queue, Origin::Network).await.unwrap();
                    let sender = ReversePath::new("s@far").unwrap();
                    let to = vec![address(&format!("{number}@far"))];
                    draft.commit(Envelope::new(sender, to)).await.unwrap();
                })
            })
            .collect();
        let mut context = Context::from_waker(noop_waker_ref());
        while !commits.is_empty() {
            world.queue.look();
            world.step();
            commits.retain_mut(|commit| commit.as_mut().poll(&mut context).is_pending());
        }
        world.settle();
        assert_eq!(world.count(), 0, "seed {seed}");
        let tried = world.script.tried();
        assert_eq!(tried.len(), 6, "seed {seed}");
        assert!(
            tried.values().all(|&times| times == 1),
            "seed {seed}: {tried:?}"
        );
    }
}

#[test]
fn a_damaged_envelope_is_told_once() {
    let mut world = World::new();
    world.submit("s@far", &["b@far"]);
    world.spool.damage(crate::MessageId(1));
    world.restart();
    for _ in 0..5 {
        world.settle();
        world.queue.look();
        world.queue.retry_all();
        world.settle();
        world.advance(1_000);
    }
    insta::assert_snapshot!(world.log(), @"warning: 1: played; left alone");
    let calls = world.spool.calls();
    let reads = calls.iter().filter(|call| *call == "incoming 1").count();
    // At the start, five times when it was told to, and every 1500 seconds.
    assert_eq!(reads, 1 + 5 + 2);
    assert_eq!(world.count(), 1);
}

#[test]
fn a_mended_envelope_needs_no_restart() {
    for told_to in [false, true] {
        let mut world = World::new();
        world.submit("s@far", &["b@far"]);
        world.spool.damage(crate::MessageId(1));
        world.restart();
        world.settle();
        world.spool.mend();
        world.advance(1_499);
        assert_eq!(world.count(), 1);
        if told_to {
            world.queue.retry_all();
            world.settle();
        } else {
            world.advance(1);
        }
        assert_eq!(world.count(), 0);
        assert_eq!(world.script.tried()["b@far"], 1);
        // Nothing of it is left to be looked at.
        world.spool.calls();
        world.queue.retry_all();
        world.advance(2_000);
        assert!(!world.spool.calls().contains(&"incoming 1".to_owned()));
    }
}

#[test]
fn a_queue_without_engine_only_takes() {
    let world = World::new();
    let intake = Intake::new(
        std::sync::Arc::clone(&world.spool.inner),
        std::sync::Arc::new(world.clock.clone()),
        5,
        6,
    );
    block_on(async {
        let mut draft = Submit::begin(&intake, Origin::Uid(9)).await.unwrap();
        draft.write("text\n".into()).await.unwrap();
        let envelope = Envelope::new(ReversePath::Null, vec![address("b@far")]);
        let receipt = draft.commit(envelope).await.unwrap();
        let incoming = world
            .spool
            .inner
            .incoming(crate::MessageId(receipt.message));
        let incoming = incoming.await.unwrap();
        assert_eq!((incoming.uid, incoming.pid), (9, 5));
    });
    let entry = Entry {
        origin: Origin::Network,
        uid: 0,
        pid: 0,
        now: world.clock.now().wall,
    };
    drop(block_on(world.spool.inner.begin(entry)).unwrap());
    assert_eq!(world.count(), 1);
}
