//! Crashes at every operation of a message's life, with what was not synced lost in every legal way.
//!
//! The life is a list of steps. After a crash the disk is opened again, and what is found there is held against what the
//! steps had answered: a step that said yes must be seen, one that was never called must not, and of one that was cut short
//! either may be true, but nothing in between.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures::executor::block_on;
use qmail_core::{Address, Envelope, Origin};

use super::*;
use crate::disk::{Choices, SimDisk, Trouble};
use crate::spool::hold::HOLD;
use crate::spool::kinds::Kind;

/// Images looked at for each crash: all in order up to this number, and then as many at random.
const IMAGES_MAX: usize = 60;

/// The same where a fault is to be found: the first image loses all that can be lost, and nearly always shows it.
const IMAGES_MAX_FOR_FAULTS: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// The manager of the queue may write its own half only.
    Apart,
    /// Another message, accepted and removed before, leaves its files.
    Spare,
    Accept,
    /// Its envelope is read.
    Read,
    Route,
    NoteOne,
    Hold,
    MarkFirst,
    CloseLocal,
    PutOff,
    Release,
    NoteTwo,
    MarkLast,
    Clear,
    CloseRemote,
    Remove,
}

use Step::*;

const LIFE: [Step; 13] = [
    Accept,
    Route,
    NoteOne,
    Hold,
    MarkFirst,
    CloseLocal,
    PutOff,
    Release,
    NoteTwo,
    MarkLast,
    Clear,
    CloseRemote,
    Remove,
];

/// The life of a message that is delivered at once, before it is routed.
const SHORT_LIFE: [Step; 2] = [Accept, Remove];

/// The same in the files of another message.
const SECOND_LIFE: [Step; 3] = [Spare, Accept, Remove];

/// Of one that stays, in the files of another message.
const SECOND_LIFE_ROUTED: [Step; 5] = [Spare, Accept, Route, Clear, Remove];

/// Of one that ends while it is held.
const HELD_LIFE: [Step; 4] = [Accept, Route, Hold, Remove];

/// The first three, with each half of the queue in other hands.
const LIFE_APART: [Step; 15] = [
    Apart,
    Accept,
    Read,
    Route,
    NoteOne,
    Hold,
    MarkFirst,
    CloseLocal,
    PutOff,
    Release,
    NoteTwo,
    MarkLast,
    Clear,
    CloseRemote,
    Remove,
];
const SHORT_LIFE_APART: [Step; 3] = [Apart, Accept, Remove];
const SECOND_LIFE_APART: [Step; 4] = [Apart, Spare, Accept, Remove];

/// As it is mostly.
const READ_LIFE_APART: [Step; 5] = [Apart, Spare, Accept, Read, Remove];

const LIVES: [&[Step]; 9] = [
    &LIFE,
    &SHORT_LIFE,
    &SECOND_LIFE,
    &SECOND_LIFE_ROUTED,
    &HELD_LIFE,
    &LIFE_APART,
    &SHORT_LIFE_APART,
    &SECOND_LIFE_APART,
    &READ_LIFE_APART,
];

const TEXT: &[u8] = b"Subject: x\n\nThe text of the message.\n";
const NOTE_ROUTED: &[u8] = b"<f@g>:\nno\n\n";
const NOTE_ONE: &[u8] = b"<a@b>:\nno\n\n";
const NOTE_TWO: &[u8] = b"<c@d>:\nno\n\n";

fn small() -> Bytes {
    Bytes::from_static(TEXT)
}

fn address(text: &'static str) -> Address {
    Address::new(text).unwrap()
}

fn envelope() -> Envelope {
    Envelope::new(
        address("me@here").into(),
        vec![address("a@b"), address("c@d"), address("e@f")],
    )
}

fn routed() -> Routed {
    Routed {
        sender: envelope().sender,
        local: vec![address("l-a@b")],
        remote: vec![address("c@d"), address("e@f")],
        birth_seconds: 1_000,
        failures: NOTE_ROUTED.to_vec(),
    }
}

fn entry() -> Entry {
    Entry {
        origin: Origin::Network,
        uid: 3,
        pid: 4,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(900),
    }
}

fn new_disk() -> SimDisk {
    Kind::Split.disk()
}

fn spool_on(disk: &SimDisk) -> SplitSpool {
    SplitSpool::over(Arc::new(disk.clone()), Workers::inline())
}

/// A spool, and which steps of the life were called and which said yes.
struct Life {
    disk: SimDisk,
    /// Where messages come in.
    intake: SplitSpool,
    spool: SplitSpool,
    steps: &'static [Step],
    text: Bytes,
    former: Option<MessageId>,
    id: Option<MessageId>,
    tried: Vec<Step>,
    done: Vec<Step>,
}

impl Life {
    fn new(steps: &'static [Step], text: &Bytes, troubles: &[Trouble]) -> Self {
        let disk = new_disk();
        for &trouble in troubles {
            disk.plan(trouble);
        }
        let spool = spool_on(&disk);
        let intake = match steps.contains(&Spare) {
            true => spool.keeping_spares(),
            false => spool,
        };
        let spool = match steps.contains(&Apart) {
            true => {
                let keeper = Arc::new(intake.clone());
                SplitSpool::managing(Arc::new(disk.clone()), Workers::inline(), keeper)
            }
            false => intake.clone(),
        };
        Self {
            intake,
            spool,
            disk,
            steps,
            text: text.clone(),
            former: None,
            id: None,
            tried: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Goes on until a step fails.
    async fn run(&mut self) -> Result<(), SpoolError> {
        for &step in self.steps {
            if self.done.contains(&step) {
                continue;
            }
            if !self.tried.contains(&step) {
                self.tried.push(step);
            }
            self.step(step).await?;
            self.done.push(step);
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<(), SpoolError> {
        let spool = &self.spool;
        if step == Spare {
            let id = match self.former {
                Some(id) => id,
                None => accept_former(&self.intake).await?,
            };
            self.former = Some(id);
            return spool.remove(Settled::new(id)).await;
        }
        if step == Accept {
            self.id = Some(accept(&self.intake, &self.text).await?);
            return Ok(());
        }
        if step == Apart {
            return Ok(());
        }
        let id = self.id.expect("accepted first");
        let remote = || spool.recipients(id, Channel::Remote, Position::START, 9);
        match step {
            Apart | Spare | Accept => Ok(()),
            Read => spool.incoming(id).await.map(drop),
            Route => spool.route(id, routed()).await,
            NoteOne => spool.note_failure(id, NOTE_ONE).await,
            MarkFirst => {
                let position = remote().await?[0].position;
                spool.mark_done(id, Channel::Remote, &[position]).await
            }
            Hold => spool.set_held(id, true).await,
            Release => spool.set_held(id, false).await,
            CloseLocal => spool.close_channel(id, Channel::Local).await,
            PutOff => {
                let due = SystemTime::UNIX_EPOCH + Duration::from_secs(5_000);
                spool.put_off(id, Channel::Remote, due).await
            }
            NoteTwo => spool.note_failure(id, NOTE_TWO).await,
            MarkLast => {
                let position = remote().await?[1].position;
                spool.mark_done(id, Channel::Remote, &[position]).await
            }
            Clear => spool.clear_failures(id).await,
            CloseRemote => spool.close_channel(id, Channel::Remote).await,
            Remove => {
                let settled = match self.steps.contains(&Route) {
                    true => Settled::new(id),
                    false => Settled::unrouted(id),
                };
                spool.remove(settled).await
            }
        }
    }

    fn done(&self, step: Step) -> bool {
        self.done.contains(&step)
    }

    fn tried(&self, step: Step) -> bool {
        self.tried.contains(&step)
    }

    /// Fails if yes was said and is not so (`true`, `false`), or if something came of nothing (`false`, `true`).
    fn expect(&self, step: Step, seen: bool) -> Result<(), String> {
        if self.done(step) && !seen {
            return Err(format!("{step:?} said yes and is forgotten"));
        }
        if !self.tried(step) && seen {
            return Err(format!("{step:?} was never called and is seen"));
        }
        Ok(())
    }

    /// Looks at what a crash has left.
    async fn check(&self, disk: &SimDisk) -> Result<(), String> {
        let spool = spool_on(disk);
        let text = |error: SpoolError| format!("{error:?}");
        if !self.tried(Accept) {
            return self.check_next(disk, &spool).await;
        }
        match found_in(&spool).await?[..] {
            [] => {
                if !self.tried(Remove) {
                    self.expect(Accept, false)?;
                }
            }
            [Found::Incoming(id)] => {
                self.expect(Accept, true)?;
                self.expect(Route, false)?;
                self.expect(Remove, false)?;
                let incoming = spool.incoming(id).await.map_err(text)?;
                same(&incoming.envelope, &envelope())?;
                check_content(&spool, id, &self.text).await?;
            }
            [
                Found::Routed {
                    id,
                    birth,
                    local,
                    remote,
                },
            ] => {
                self.expect(Route, true)?;
                self.expect(Remove, false)?;
                let routed = routed();
                same(
                    &birth,
                    &(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)),
                )?;
                same(&spool.sender(id).await.map_err(text)?, &routed.sender)?;
                check_content(&spool, id, &self.text).await?;
                self.expect(CloseLocal, local.is_none())?;
                self.expect(CloseRemote, remote.is_none())?;
                if local.is_some() {
                    let marks = recipients(&spool, id, Channel::Local, &routed.local).await?;
                    same(&marks, &vec![false])?;
                }
                if remote.is_some() {
                    let marks = recipients(&spool, id, Channel::Remote, &routed.remote).await?;
                    self.expect(MarkFirst, marks[0])?;
                    self.expect(MarkLast, marks[1])?;
                }
                self.check_hold(spool.held().await.map_err(text)?.contains(&id))?;
                self.check_notes(&notes(&spool, id).await?)?;
            }
            ref found => return Err(format!("too much is found: {found:?}")),
        }
        self.check_next(disk, &spool).await
    }

    fn check_hold(&self, held: bool) -> Result<(), String> {
        match self.tried(Release) {
            true if self.done(Release) => same(&held, &false),
            true => Ok(()),
            false => self.expect(Hold, held),
        }
    }

    fn check_notes(&self, notes: &[u8]) -> Result<(), String> {
        if self.tried(Clear) {
            return if self.done(Clear) {
                same(notes, &b""[..])
            } else {
                Ok(())
            };
        }
        let Some(notes) = notes.strip_prefix(NOTE_ROUTED) else {
            return Err("the note that came with the routing is lost".to_owned());
        };
        self.expect(NoteOne, notes.starts_with(NOTE_ONE))?;
        let rest = notes.strip_prefix(NOTE_ONE).unwrap_or_default();
        self.expect(NoteTwo, rest == NOTE_TWO)?;
        if self.tried(NoteOne) {
            Ok(())
        } else {
            same(notes, &b""[..])
        }
    }

    /// What a crash left must not stand in the way of the next message, which may get the number of a forgotten one; and it
    /// must be gone when it is old.
    async fn check_next(&self, disk: &SimDisk, spool: &SplitSpool) -> Result<(), String> {
        let text = |error: SpoolError| format!("afterwards: {error:?}");
        let before = found_in(spool).await?;
        let next = accept(spool, &self.text).await.map_err(text)?;
        let only_remote = Routed {
            local: Vec::new(),
            failures: Vec::new(),
            ..routed()
        };
        spool.route(next, only_remote).await.map_err(text)?;
        let found = found_in(spool).await?;
        let own = found
            .iter()
            .find(|found| matches!(found, Found::Routed { id, .. } if *id == next));
        let Some(Found::Routed {
            local: None,
            remote: Some(_),
            ..
        }) = own
        else {
            return Err(format!("the next message is {own:?}"));
        };
        same(&notes(spool, next).await?, &Vec::new())?;
        let others: Vec<Found> = found
            .iter()
            .filter(|found| *found != own.expect("found"))
            .cloned()
            .collect();
        same(&others, &before)?;

        for found in found {
            let id = match found {
                Found::Incoming(id) | Found::Routed { id, .. } => id,
                Found::Damaged { .. } => continue,
            };
            spool.remove(Settled::new(id)).await.map_err(text)?;
        }
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        spool.clean_up(late).await.map_err(text)?;
        // A name that a crash left holds nobody, and is removed by whoever asks who is held.
        same(&spool.held().await.map_err(text)?, &HashSet::new())?;
        same(&files(disk), &Vec::new())
    }
}

async fn accept(spool: &SplitSpool, text: &Bytes) -> Result<MessageId, SpoolError> {
    let mut draft = spool.begin(entry()).await?;
    draft.write(text.clone()).await?;
    Ok(draft.commit(&envelope()).await?.id)
}

/// A longer one than the one that comes after it.
async fn accept_former(spool: &SplitSpool) -> Result<MessageId, SpoolError> {
    let mut draft = spool.begin(entry()).await?;
    draft.write(Bytes::from(vec![b'?'; 999])).await?;
    let recipients = vec![address("former@b"); 9];
    let former = Envelope::new(address("you@here").into(), recipients);
    Ok(draft.commit(&former).await?.id)
}

async fn found_in(spool: &SplitSpool) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    let scanned = spool.scan(&mut |one| found.push(one)).await;
    scanned.map_err(|error| format!("{error:?}"))?;
    Ok(found)
}

async fn check_content(spool: &SplitSpool, id: MessageId, text: &[u8]) -> Result<(), String> {
    let content = spool.content(id).await;
    let content = content.map_err(|error| format!("no text: {error:?}"))?;
    let seen = whole(&*content).await;
    let whole = seen.strip_prefix(&entry().received()[..]) == Some(text);
    // A large text would make a large report.
    same(
        &(seen.len(), whole),
        &(entry().received().len() + text.len(), true),
    )
}

async fn notes(spool: &SplitSpool, id: MessageId) -> Result<Vec<u8>, String> {
    match spool.failures(id).await {
        Ok(Some(content)) => Ok(whole(&*content).await),
        Ok(None) => Ok(Vec::new()),
        Err(error) => Err(format!("{error:?}")),
    }
}

async fn whole(content: &dyn Content) -> Vec<u8> {
    let mut body = content.open().await.unwrap();
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await.unwrap() {
        text.extend_from_slice(&chunk);
    }
    text
}

/// The marks of a channel that must have these recipients.
async fn recipients(
    spool: &SplitSpool,
    id: MessageId,
    channel: Channel,
    expected: &[Address],
) -> Result<Vec<bool>, String> {
    let all = spool.recipients(id, channel, Position::START, 9).await;
    let all = all.map_err(|error| format!("{error:?}"))?;
    let addresses: Vec<Address> = all.iter().map(|to| to.address.clone()).collect();
    same(&addresses[..], expected)?;
    Ok(all.iter().map(|to| to.done).collect())
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    Directory::all()
        .map(Directory::path)
        .chain([PathBuf::from(HOLD)])
        .flat_map(|path| {
            let names = disk.list(&path).unwrap();
            names.into_iter().map(move |name| path.join(name))
        })
        .collect()
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(seen: &T, expected: &T) -> Result<(), String> {
    if seen == expected {
        Ok(())
    } else {
        Err(format!("{seen:?} where {expected:?} is expected"))
    }
}

/// Crashes with these troubles, and looks at what may be left. Gives the number of images, or the first fault.
fn crash(
    steps: &'static [Step],
    text: &Bytes,
    troubles: &[Trouble],
    images_max: usize,
) -> Result<usize, String> {
    block_on(async {
        let mut life = Life::new(steps, text, troubles);
        let _ = life.run().await;
        let (mut every, mut images) = (Choices::every(), 0);
        loop {
            images += 1;
            let disk = life.disk.after_crash(&mut every);
            let checked = life.check(&disk).await;
            checked.map_err(|fault| format!("{troubles:?}, image {images}: {fault}"))?;
            if !every.advance() {
                return Ok(images);
            }
            if images == images_max {
                break;
            }
        }
        for seed in 0..images_max as u64 {
            let disk = life.disk.after_crash(&mut Choices::seeded(seed));
            let checked = life.check(&disk).await;
            checked.map_err(|fault| format!("{troubles:?}, seed {seed}: {fault}"))?;
        }
        Ok(2 * images_max)
    })
}

/// Operations and sync targets of a life without trouble.
fn counts(steps: &'static [Step]) -> (u64, u64) {
    let mut life = Life::new(steps, &small(), &[]);
    block_on(life.run()).unwrap();
    let Life {
        disk,
        intake,
        spool,
        ..
    } = life;
    let counts = (disk.operations(), disk.sync_targets());
    drop((intake, spool));
    assert!(files(&disk).is_empty());
    counts
}

/// Every life, with the number of each of its operations.
fn operations_of_all() -> impl Iterator<Item = (&'static [Step], u64)> {
    LIVES
        .into_iter()
        .flat_map(|steps| (1..=counts(steps).0).map(move |number| (steps, number)))
}

#[test]
fn a_crash_anywhere_loses_nothing_that_was_promised() {
    for (steps, operations_min, images_min) in [
        (&LIFE[..], 30, 2_000),
        (&SHORT_LIFE, 12, 300),
        (&SECOND_LIFE, 24, 600),
        (&SECOND_LIFE_ROUTED, 36, 1_000),
        (&HELD_LIFE, 24, 600),
        (&LIFE_APART, 30, 2_000),
        (&SHORT_LIFE_APART, 12, 300),
        (&SECOND_LIFE_APART, 24, 600),
        (&READ_LIFE_APART, 20, 500),
    ] {
        let (operations, _) = counts(steps);
        assert!(operations > operations_min, "{operations} operations");
        let mut images = 0;
        for number in 1..=operations {
            for trouble in [Trouble::CrashBefore(number), Trouble::CrashAfter(number)] {
                images += crash(steps, &small(), &[trouble], IMAGES_MAX)
                    .unwrap_or_else(|fault| panic!("{fault}"));
            }
        }
        images += crash(steps, &small(), &[], IMAGES_MAX).unwrap();
        assert!(images > images_min, "{images} images");
    }
}

#[test]
fn without_any_one_sync_the_test_fails() {
    // The syncs of routing are those of the first life, which looks at what each is for.
    for steps in [
        &LIFE[..],
        &SHORT_LIFE,
        &SECOND_LIFE,
        &LIFE_APART,
        &SHORT_LIFE_APART,
        &SECOND_LIFE_APART,
        &READ_LIFE_APART,
    ] {
        let (operations, targets) = counts(steps);
        // The other message is looked at in a life of its own.
        let accept = steps.iter().position(|&step| step == Accept).unwrap();
        let (former, accepted) = (counts(&steps[..accept]).1, &steps[..=accept]);
        for target in former + 1..=targets {
            let ignored = Trouble::IgnoreSync(target);
            let fault = |steps, number| {
                let troubles = [ignored, Trouble::CrashBefore(number)];
                crash(steps, &small(), &troubles, IMAGES_MAX_FOR_FAULTS).is_err()
            };
            // One beyond the last: a crash when all is done, or when it is accepted and the next step is not begun.
            let beyond = operations + 1;
            let noticed =
                (1..=beyond).any(|number| fault(steps, number)) || fault(accepted, beyond);
            assert!(noticed, "sync target {target} of {targets} is not needed");
        }
    }
}

#[test]
fn a_failed_operation_is_an_error_and_can_be_tried_again() {
    for (steps, number) in operations_of_all() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            let trouble = Trouble::Fail(number, kind);
            block_on(async {
                let mut life = Life::new(steps, &small(), &[trouble]);
                // Some operations only tidy up, and their failure is not worth an error.
                if life.run().await.is_err() {
                    let mut every = Choices::every();
                    let now = life.disk.clone();
                    if life.id.is_none() && life.former.is_none() {
                        assert_eq!(
                            files(&now),
                            [] as [PathBuf; 0],
                            "{trouble:?}: something is left"
                        );
                    }
                    let disk = life.disk.after_crash(&mut every);
                    life.check(&disk)
                        .await
                        .unwrap_or_else(|fault| panic!("{trouble:?}: {fault}"));
                    let again = life.run().await;
                    again.unwrap_or_else(|error| panic!("{trouble:?}, again: {error:?}"));
                }
                let left = found_in(&spool_on(&life.disk)).await.unwrap();
                assert_eq!(left, [], "{trouble:?}");
            });
        }
    }
}

#[test]
fn what_a_failed_sync_leaves_is_never_taken_for_durable() {
    for (steps, number) in operations_of_all() {
        for crash_at in number + 1..=counts(steps).0 + 6 {
            let troubles = [
                Trouble::Fail(number, io::ErrorKind::Other),
                Trouble::CrashBefore(crash_at),
            ];
            block_on(async {
                let mut life = Life::new(steps, &small(), &troubles);
                // As an engine does: again, until it works or the machine stops.
                for _ in 0..3 {
                    if life.run().await.is_ok() {
                        break;
                    }
                }
                for seed in 0..2 {
                    let mut choices = match seed {
                        0 => Choices::every(),
                        seed => Choices::seeded(seed),
                    };
                    let disk = life.disk.after_crash(&mut choices);
                    let checked = life.check(&disk).await;
                    checked.unwrap_or_else(|fault| panic!("{troubles:?}, seed {seed}: {fault}"));
                }
            });
        }
    }
}

#[test]
fn a_text_that_spills_is_whole_or_not_there() {
    // So large that it is synced by itself.
    let text = Bytes::from(
        (0..1_200_000_u32)
            .map(|at| (at % 251) as u8)
            .collect::<Vec<_>>(),
    );
    let mut life = Life::new(&LIFE, &text, &[]);
    block_on(life.run()).unwrap();
    let operations = life.disk.operations();
    for number in 1..=operations {
        crash(&LIFE, &text, &[Trouble::CrashBefore(number)], 2)
            .unwrap_or_else(|fault| panic!("{fault}"));
    }
}

#[test]
fn a_yes_is_kept_when_many_share_a_sync() {
    for number in (10..300).step_by(7) {
        let disk = new_disk();
        disk.plan(Trouble::CrashBefore(number));
        let spool = SplitSpool::over(Arc::new(disk.clone()), Workers::threads(3).unwrap());
        let text = small();
        let accepted = block_on(futures::future::join_all(
            (0..40).map(|_| accept(&spool, &text)),
        ));
        for seed in 0..3 {
            let mut choices = match seed {
                0 => Choices::every(),
                seed => Choices::seeded(seed),
            };
            let spool = spool_on(&disk.after_crash(&mut choices));
            block_on(async {
                let found = found_in(&spool).await.unwrap();
                for one in &found {
                    let Found::Incoming(id) = *one else {
                        panic!("{one:?}");
                    };
                    assert_eq!(spool.incoming(id).await.unwrap().envelope, envelope());
                    check_content(&spool, id, TEXT).await.unwrap();
                }
                for id in accepted.iter().flatten() {
                    assert!(found.contains(&Found::Incoming(*id)), "{id} is lost");
                }
            });
        }
    }
}
