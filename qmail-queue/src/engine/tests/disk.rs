//! The engine on either spool, on a disk that crashes at every operation: whatever was accepted arrives or bounces.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use qmail_core::{Envelope, ReversePath};

use super::faults::FaultySpool;
use super::world::{World, address, deferred, delivered, failed};
use crate::spool::kinds::Kind;
use crate::{Choices, Disk, SimDisk, Trouble};

/// Crashed disks looked at for each operation.
const IMAGES: u64 = 4;

const MESSAGES: [(&str, &[&str]); 5] = [
    ("one@senders", &["ok@here"]),
    (
        "two@senders",
        &["ok@far", "later@far", "never@far", "ok2@near"],
    ),
    ("", &["ok3@far", "ok4@here"]),
    // These make one job each, and are tried before they are routed.
    ("three@senders", &["ok5@host", "later2@host", "never2@host"]),
    ("four@senders", &["never3@far"]),
];

/// Who fails, and who is to be told.
const BOUNCES: [(&str, &str); 3] = [
    ("never@far", "two@senders"),
    ("never2@host", "three@senders"),
    ("never3@far", "four@senders"),
];

/// `None` if the disk is gone before the spool is open.
fn world(kind: Kind, disk: &SimDisk) -> Option<World> {
    let spool = kind.spool(disk).ok()?;
    let mut world = World::with(|config| config.limits.remote_max = 2);
    let script = &world.script;
    script.recipients_max.store(3, Ordering::SeqCst);
    script.answer("later@far", &[deferred(), delivered()]);
    script.answer("later2@host", &[deferred(), delivered()]);
    for (failing, _) in BOUNCES {
        script.answer(failing, &[failed(), failed(), failed()]);
    }
    world.spool = FaultySpool::new(spool);
    world.restart();
    Some(world)
}

/// Submits and delivers until the disk is gone; returns which messages were accepted.
fn live(world: &mut World, disk: &SimDisk) -> Vec<bool> {
    let accepted = MESSAGES.map(|(sender, recipients)| {
        let sender = ReversePath::new(sender).unwrap();
        let recipients = recipients.iter().map(|text| address(text)).collect();
        let accepted = world.try_submit(Envelope::new(sender, recipients)).is_ok();
        world.settle();
        accepted
    });
    while !disk.is_crashed() && world.count() > 0 {
        world.advance(100);
    }
    accepted.to_vec()
}

#[test]
fn a_crash_at_any_operation_loses_nothing() {
    for kind in Kind::ALL {
        let disk = kind.disk();
        let mut calm = world(kind, &disk).expect("nothing fails");
        live(&mut calm, &disk);
        let operations = disk.operations();
        assert!(operations > 50, "{operations}");
        let calm = calm.script.tried();
        for operation in 1..=operations {
            for trouble in [
                Trouble::CrashBefore(operation),
                Trouble::CrashAfter(operation),
            ] {
                for image in 0..IMAGES {
                    crash(kind, trouble, operation * IMAGES + image, &calm);
                }
            }
        }
    }
}

fn crash(kind: Kind, trouble: Trouble, seed: u64, calm: &BTreeMap<String, usize>) {
    let disk = kind.disk();
    disk.plan(trouble);
    let Some(mut world) = world(kind, &disk) else {
        // Nothing was accepted; the next start must come up all the same.
        kind.spool(&disk.after_crash(&mut Choices::seeded(seed)))
            .unwrap_or_else(|error| panic!("{kind:?}, {trouble:?}, seed {seed}: {error}"));
        return;
    };
    let accepted = live(&mut world, &disk);
    let found = disk.after_crash(&mut Choices::seeded(seed));
    let spool = kind.spool(&found);
    world.spool = FaultySpool::new(spool.expect("a disk that works"));
    world.restart();
    world.drain();
    let story = format!("{kind:?}, {trouble:?}, seed {seed}\n{}", world.log());
    assert_eq!(world.count(), 0, "{story}");
    let tried = world.script.tried();
    for ((_, recipients), accepted) in MESSAGES.into_iter().zip(accepted) {
        for &recipient in recipients {
            let times = tried.get(recipient).copied().unwrap_or_default();
            assert!(times > 0 || !accepted, "{recipient} is lost: {story}");
            // What was in flight may come again, and nothing else.
            let most = calm[recipient] + 1;
            assert!(times <= most, "{recipient} {times} times: {story}");
        }
        for (failing, told) in BOUNCES {
            if accepted && recipients.contains(&failing) {
                assert!(tried.contains_key(told), "no bounce: {story}");
            }
        }
    }
    let repeated = |(recipient, times): (&String, &usize)| {
        let more = times.saturating_sub(calm.get(recipient).copied().unwrap_or_default());
        usize::from(
            MESSAGES
                .iter()
                .any(|(_, all)| all.contains(&&recipient[..])),
        ) * more
    };
    // At most as many as there are slots.
    let repeated: usize = tried.iter().map(repeated).sum();
    assert!(repeated <= 3, "{repeated} repeated: {story}");
}

#[test]
fn a_recipient_that_can_go_nowhere_is_told_of() {
    let mut world = world(Kind::Split, &Kind::Split.disk()).expect("nothing fails");
    let long = format!("{}@virtual", "x".repeat(994));
    world.submit("s@far", &[&long, "b@far"]);
    world.drain();
    assert_eq!(world.count(), 0);
    let tried = world.script.tried();
    assert_eq!(tried.get("b@far"), Some(&1));
    assert_eq!(tried.get("s@far"), Some(&1), "{}", world.log());
}

#[test]
fn a_message_without_its_text_is_told_of_once() {
    let disk = Kind::Split.disk();
    for (path, text) in [
        ("info/7/7", &b"Fs@far\0"[..]),
        ("local/7/7", b"Ta@here\0"),
        ("remote/7/7", b"Tb@far\0"),
    ] {
        let file = disk.create(Path::new(path), 0o600).unwrap();
        file.write_at(text, 0).unwrap();
    }
    let mut world = world(Kind::Split, &disk).expect("nothing fails");
    world.settle();
    let told = "warning: mess/7/7: entity not found; left alone";
    assert_eq!(world.log().matches(told).count(), 2, "one for each channel");
    world.advance(1_000);
    assert_eq!(world.log(), "");
    assert_eq!(world.count(), 1);
}
