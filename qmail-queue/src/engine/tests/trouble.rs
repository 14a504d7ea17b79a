//! A spool that fails: nothing is lost, nothing is repeated, nothing spins.

use super::world::{START, World, deferred, failed};

#[test]
fn every_step_is_tried_again() {
    for (call, wait) in [
        ("route", 123),
        ("content", 123),
        ("failures", 123),
        ("sender", 123),
        ("begin", 123),
        ("clear_failures", 123),
        ("remove", 123),
        // Calls for messages that the engine was not told of.
        ("note_failure", 10),
        ("close_channel", 123),
        ("scan", 123),
    ] {
        let mut world = World::new();
        world.script.answer("b@far", &[failed()]);
        world.submit("s@far", &["b@far"]);
        if matches!(call, "scan" | "note_failure" | "close_channel") {
            // Found by the next engine.
            world.restart();
        }
        world.spool.fail(call, 3);
        world.settle();
        // The bounce is removed in the same rounds as its message, and takes one of the faults.
        let rounds = if call == "remove" { 2 } else { 3 };
        for round in 0..rounds {
            assert!(world.count() > 0, "{call} {round}");
            let calls = world.spool.calls();
            assert!(calls.len() < 20, "{call} spins: {calls:?}");
            world.advance(wait - 1);
            assert!(world.spool.calls().is_empty(), "{call} is too early");
            world.advance(1);
        }
        assert_eq!(world.count(), 0, "{call}");
        let tried: Vec<usize> = world.script.tried().into_values().collect();
        assert_eq!(tried, [1, 1], "{call}");
    }
}

#[test]
fn what_cannot_be_recorded_is_not_repeated() {
    let mut world = World::new();
    world.script.answer("b@far", &[deferred()]);
    world.spool.fail("mark_done", 2);
    world.submit("s@far", &["a@far", "b@far"]);
    world.drain();
    insta::assert_snapshot!(world.log(), @"
    new msg 1
    info msg 1: bytes 89 from <s@far> qp 99 uid 7
    starting delivery 1: msg 1 to remote a@far
    delivery 1: success: accepted/
    starting delivery 2: msg 1 to remote b@far
    warning: trouble marking: cannot write mark_done: played; will try again later
    delivery 2: deferral: busy_now/
    warning: trouble marking: cannot write mark_done: played; will try again later
    starting delivery 3: msg 1 to remote b@far
    delivery 3: success: accepted/
    end msg 1
    ");
    assert_eq!(world.count(), 0);
}

#[test]
fn a_page_that_cannot_be_read_comes_later() {
    let mut world = World::new();
    world.script.answer("b@far", &[deferred()]);
    world.submit("s@far", &["b@far"]);
    world.settle();
    world.spool.fail("recipients", 1);
    world.advance(400);
    world.drain();
    let jobs = world.script.jobs.lock().unwrap();
    assert_eq!(jobs.last().unwrap().at, START + 400 + 123);
}

#[test]
fn a_broken_disk_stops_deliveries() {
    let mut world = World::with(|config| config.limits.remote_max = 10);
    world.settle();
    world.spool.fail("remove", usize::MAX);
    for number in 0..2_000 {
        world.submit("s@far", &[&format!("r{number}@h{number}")]);
    }
    world.settle();
    world.advance(10_000);
    let tried = world.script.tried();
    assert!(tried.len() <= 256 + 10, "{}", tried.len());
    assert!(tried.values().all(|&times| times == 1));
}

#[test]
fn a_stop_in_trouble_ends() {
    for (call, recipients) in [
        ("remove", &["b@far"][..]),
        ("close_channel", &["a@here", "b@far"]),
        ("mark_done", &["a@far", "b@far"]),
    ] {
        let mut world = World::new();
        world.spool.fail(call, usize::MAX);
        world
            .script
            .answer("b@far", &[super::world::delivered(), deferred()]);
        world.submit("s@far", recipients);
        world.settle();
        world.queue.stop();
        world.settle();
        assert!(world.has_ended(), "{call}");
        assert!(
            world.log().contains("message will be delivered twice!"),
            "{call}"
        );
    }
    for (call, recipients) in [
        ("scan", &["b@far"][..]),
        ("route", &["a@here", "b@far"]),
        ("content", &["b@far"]),
    ] {
        let mut world = World::new();
        world.spool.fail(call, usize::MAX);
        world.submit("s@far", recipients);
        world.restart();
        world.settle();
        world.queue.stop();
        world.settle();
        assert!(world.has_ended(), "{call}");
        assert_eq!(world.count(), 1);
    }
}

#[test]
fn a_stop_records_what_its_trouble_left() {
    for (call, recipients) in [
        ("remove", &["b@far"][..]),
        ("close_channel", &["a@here", "b@far"]),
    ] {
        let mut world = World::new();
        world.spool.fail(call, 1);
        world.submit("s@far", recipients);
        world.settle();
        world.queue.stop();
        world.settle();
        assert!(world.has_ended(), "{call}");
        world.restart();
        world.settle();
        assert_eq!(world.count(), 0);
        assert!(
            world.script.tried().values().all(|&times| times == 1),
            "{call}"
        );
    }
}

#[test]
fn a_clock_that_jumps_delays_nobody_for_long() {
    use std::time::{Duration, SystemTime};

    let mut world = World::new();
    world.script.answer("b@far", &[deferred(), deferred()]);
    world.submit("s@far", &["b@far"]);
    world.settle();
    let later = SystemTime::UNIX_EPOCH + Duration::from_secs(START + 1_000);
    world.clock.set_wall(later);
    // No alarm rings for a jump, but no sleep is long.
    world.advance(60);
    assert_eq!(world.script.tried()["b@far"], 2);
    world.clock.set_wall(SystemTime::UNIX_EPOCH);
    world.queue.retry_all();
    world.settle();
    assert_eq!(world.count(), 0);
}
