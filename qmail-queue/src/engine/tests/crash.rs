//! Queues that crash at random moments over spools that fail at random: what was accepted is delivered or bounced, and repeated
//! only where a crash hit a delivery before its record.

use std::collections::BTreeMap;

use qmail_core::{Envelope, Outcome, ReversePath};

use super::world::{World, address, deferred, delivered, failed};

/// The same everywhere, for one seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn outcome(random: &mut Random) -> Outcome {
    match random.below(4) {
        0 => deferred(),
        1 => failed(),
        _ => delivered(),
    }
}

/// Runs one queue through one life with crashes; returns what an observer sees of it.
fn run(seed: u64, crashes: u64, faults: bool) -> String {
    let mut random = Random(seed);
    let mut world = World::with(|config| {
        config.limits.local_max = 1 + random.below(6) as usize;
        config.limits.remote_max = 1 + random.below(6) as usize;
        config.limits.remote_destination_max = 1 + random.below(3) as usize;
    });
    let most = 1 + random.below(4) as usize;
    let max = &world.script.recipients_max;
    max.store(most, std::sync::atomic::Ordering::SeqCst);
    world.spool.shuffle(seed | 1, 0);
    let mut ends: BTreeMap<String, bool> = BTreeMap::new();
    let mut sent = 0;
    for _ in 0..5 + random.below(20) {
        sent += 1;
        let recipients: Vec<String> = (0..random.below(6))
            .map(|number| match random.below(3) {
                0 => format!("m{sent}r{number}@here"),
                host => format!("m{sent}r{number}@far{host}"),
            })
            .collect();
        for recipient in &recipients {
            let mut outcomes: Vec<Outcome> = (0..random.below(3)).map(|_| deferred()).collect();
            outcomes.push(outcome(&mut random));
            ends.insert(recipient.clone(), false);
            world.script.answer(recipient, &outcomes);
        }
        let sender = ReversePath::new(format!("s{sent}@senders")).unwrap();
        let recipients = recipients.iter().map(|text| address(text)).collect();
        world.submit_envelope(Envelope::new(sender, recipients));
        for _ in 0..random.below(10) {
            world.step();
        }
    }
    world.spool.shuffle(seed | 1, if faults { 8 } else { 0 });
    for _ in 0..crashes {
        for _ in 0..random.below(40) {
            if !world.step() {
                world.advance(random.below(1_000));
            }
        }
        world.restart();
    }
    world.spool.shuffle(seed | 1, 0);
    world.drain();
    assert_eq!(world.memory.count(), 0, "seed {seed}: something is left");
    check(seed, &world, &ends, crashes);
    let jobs = world.script.jobs.lock().unwrap();
    let lines = world.lines.lock().unwrap().join("\n");
    format!("{lines}\n{jobs:?}")
}

fn check(seed: u64, world: &World, ends: &BTreeMap<String, bool>, crashes: u64) {
    let tried = world.script.tried();
    let bounces: Vec<String> = {
        let jobs = world.script.jobs.lock().unwrap();
        let bounces = jobs.iter().filter(|job| job.sender.is_empty());
        bounces.map(|job| job.text.clone()).collect()
    };
    let failures = world.lines.lock().unwrap().join("\n");
    for recipient in ends.keys() {
        let times = tried.get(recipient).copied().unwrap_or_default();
        assert!(times > 0, "seed {seed}: {recipient} was never tried");
        let script = world.script.outcomes.lock().unwrap();
        let left = script.get(recipient).map_or(0, |outcomes| outcomes.len());
        assert_eq!(left, 0, "seed {seed}: {recipient} has no end\n{failures}");
        drop(script);
        let planned = times as u64;
        // At most three outcomes were planned, all of which may be deferrals, and each crash may repeat the one that it hit.
        assert!(planned <= 4 + crashes, "seed {seed}: {recipient} {times}");
    }
    for text in &bounces {
        let notes = text.matches("no such user").count();
        assert!(notes > 0, "seed {seed}: an empty bounce");
    }
}

#[test]
fn nothing_is_lost_and_nothing_repeated_without_a_crash() {
    for seed in 0..300 {
        run(seed, 0, false);
    }
}

#[test]
fn nothing_is_lost_by_faults_and_crashes() {
    for seed in 0..300 {
        run(seed, 1 + seed % 7, seed % 2 == 0);
    }
}

#[test]
fn equal_seeds_make_equal_runs() {
    for seed in 0..20 {
        assert_eq!(run(seed, 3, true), run(seed, 3, true), "seed {seed}");
    }
}
