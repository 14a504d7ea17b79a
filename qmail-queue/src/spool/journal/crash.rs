//! Crashes at every operation of a journal's life, with what was not synced lost in every legal way.
//!
//! The life is a list of steps on several messages, one after the other, with segments so small that snapshots, moves and
//! removals of segments happen between any two of them. So after a crash the journal is as it was before the step that was cut
//! short, or as after it; all steps before that had said yes.

use std::collections::BTreeMap;
use std::path::Path;

use futures::executor::block_on;
use qmail_core::{Address, Envelope, Origin};

use super::*;
use crate::disk::{Choices, SimDisk, Trouble};
use crate::spool::hold::HOLD;
use crate::spool::kinds::Kind;

/// Images looked at for each crash: all in order up to this number, and then as many at random.
const IMAGES_MAX: usize = 24;

/// What is known of a message, by the subject that it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct State {
    text: Vec<u8>,
    routed: bool,
    /// Marks of each channel; `None` if it is closed.
    lines: [Option<Vec<bool>>; 2],
    notes: Vec<u8>,
    held: bool,
}

type Model = BTreeMap<usize, State>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// With a text of so many lines.
    Accept(usize, usize),
    Route(usize),
    /// The recipient of the remote channel.
    Mark(usize, usize),
    Close(usize, Channel),
    Note(usize, &'static str),
    Forget(usize),
    PutOff(usize),
    Hold(usize),
    Release(usize),
    Remove(usize),
}

use Step::*;

/// Message 0 stays to the end, and is moved and kept by snapshots; the others come and go. The texts of 2 and 9 are files.
fn life_steps() -> Vec<Step> {
    let mut life = vec![
        Accept(0, 1),
        Route(0),
        Mark(0, 1),
        Note(0, "<c@d>:\nno\n\n"),
        Accept(1, 2),
        PutOff(0),
        Hold(0),
        Accept(2, 40),
        Route(2),
        Close(2, Channel::Local),
        Note(2, "<e@f>:\nnever\n\n"),
        Hold(2),
        Mark(2, 0),
        Forget(2),
        Note(0, "<e@f>:\nno\n\n"),
        Route(1),
        Release(0),
        Mark(1, 0),
        Mark(1, 1),
        // It is held to its end.
        Remove(2),
    ];
    for number in 3..8 {
        life.extend([
            Accept(number, number),
            Route(number),
            PutOff(0),
            Close(number, Channel::Remote),
            Remove(number),
        ]);
    }
    life.extend([
        Forget(0),
        Accept(8, 3),
        Close(1, Channel::Local),
        Close(1, Channel::Remote),
        Remove(1),
        Accept(9, 60),
        Route(8),
        Note(8, "<c@d>:\nno\n\n"),
        // The last write before the clean stop is one that nobody has synced.
        PutOff(8),
    ]);
    life
}

fn address(text: &str) -> Address {
    Address::new(text.to_owned()).unwrap()
}

fn envelope(number: usize) -> Envelope {
    Envelope::new(
        address(&format!("s{number}@here")).into(),
        vec![address("a@b"), address("c@d"), address("e@f")],
    )
}

fn routed(number: usize) -> Routed {
    Routed {
        sender: envelope(number).sender,
        local: vec![address("l-a@b")],
        remote: vec![address("c@d"), address("e@f")],
        birth_seconds: 1_000,
        failures: format!("<{number}@x>:\nnowhere\n\n").into_bytes(),
    }
}

fn text(number: usize, lines: usize) -> Vec<u8> {
    let line = |at| format!("{at} of message {number}\n");
    let body: String = (0..lines).map(line).collect();
    format!("Subject: {number}\n\n{body}").into_bytes()
}

fn entry() -> Entry {
    Entry {
        origin: Origin::Network,
        uid: 3,
        pid: 4,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(900),
    }
}

pub(super) fn new_disk() -> SimDisk {
    Kind::Journal.disk()
}

/// Small segments, and files for texts of more than 400 octets.
pub(super) const SMALL: JournalConfig = JournalConfig {
    segment_octets: 1024,
    text_octets_max: 400,
};

pub(super) fn spool_on(disk: &SimDisk) -> Result<JournalSpool, SpoolError> {
    JournalSpool::over(Arc::new(disk.clone()), Workers::inline(), SMALL)
}

/// Does a step to what is known.
fn advance(model: &mut Model, step: Step) {
    if let Accept(number, lines) = step {
        let text = text(number, lines);
        model.insert(
            number,
            State {
                text,
                ..State::default()
            },
        );
        return;
    }
    let number = match step {
        Accept(number, _)
        | Route(number)
        | Mark(number, _)
        | Close(number, _)
        | Note(number, _)
        | Forget(number)
        | PutOff(number)
        | Hold(number)
        | Release(number)
        | Remove(number) => number,
    };
    if step == Remove(number) {
        model.remove(&number);
        return;
    }
    let state = model.get_mut(&number).unwrap();
    match step {
        Route(_) => {
            state.routed = true;
            state.lines = [Some(vec![false]), Some(vec![false; 2])];
            state.notes = routed(number).failures;
        }
        Mark(_, recipient) => state.lines[1].as_mut().unwrap()[recipient] = true,
        Close(_, channel) => state.lines[channel as usize] = None,
        Note(_, note) => state.notes.extend_from_slice(note.as_bytes()),
        Forget(_) => state.notes.clear(),
        Hold(_) => state.held = true,
        Release(_) => state.held = false,
        Accept(..) | PutOff(_) | Remove(_) => {}
    }
}

/// A journal, what all steps that said yes came to, and the step that was cut short.
struct Life {
    disk: SimDisk,
    model: Model,
    cut: Option<Step>,
    ids: BTreeMap<usize, MessageId>,
    /// It has come to its end, and was told that its journal is closed.
    closed: bool,
}

impl Life {
    /// Lives until a step fails.
    async fn run(troubles: &[Trouble], again: bool) -> Self {
        let disk = new_disk();
        for &trouble in troubles {
            disk.plan(trouble);
        }
        let mut life = Self {
            model: Model::new(),
            cut: None,
            ids: BTreeMap::new(),
            closed: false,
            disk: disk.clone(),
        };
        let Ok(spool) = spool_on(&disk) else {
            return life;
        };
        for step in life_steps() {
            let mut result = life.step(&spool, step).await;
            if result.is_err() && again && !disk.is_crashed() {
                result = life.step(&spool, step).await;
            }
            if result.is_err() {
                life.cut = Some(step);
                return life;
            }
            advance(&mut life.model, step);
        }
        life.closed = spool.close().await.is_ok();
        life
    }

    async fn step(&mut self, spool: &JournalSpool, step: Step) -> Result<(), SpoolError> {
        let id = |number| self.ids[&number];
        match step {
            Accept(number, lines) => {
                let mut draft = spool.begin(entry()).await?;
                for chunk in text(number, lines).chunks(100) {
                    draft.write(chunk.to_vec().into()).await?;
                }
                let id = draft.commit(&envelope(number)).await?.id;
                self.ids.insert(number, id);
                Ok(())
            }
            Route(number) => spool.route(id(number), routed(number)).await,
            Mark(number, recipient) => {
                let all = spool.recipients(id(number), Channel::Remote, Position::START, 9);
                let position = all.await?[recipient].position;
                spool
                    .mark_done(id(number), Channel::Remote, &[position])
                    .await
            }
            Close(number, channel) => spool.close_channel(id(number), channel).await,
            Note(number, note) => spool.note_failure(id(number), note.as_bytes()).await,
            Forget(number) => spool.clear_failures(id(number)).await,
            PutOff(number) => {
                let due = SystemTime::UNIX_EPOCH + Duration::from_secs(5_000);
                spool.put_off(id(number), Channel::Remote, due).await
            }
            Hold(number) => spool.set_held(id(number), true).await,
            Release(number) => spool.set_held(id(number), false).await,
            Remove(number) => spool.remove(Settled::new(id(number))).await,
        }
    }

    /// Looks at what a crash has left, goes on from there, and looks again.
    async fn check(&self, disk: &SimDisk) -> Result<(), String> {
        let spool = spool_on(disk).map_err(|error| format!("{error:?}"))?;
        let seen = look(&spool).await?;
        self.is_legal(&seen)?;
        if self.closed && !spool.was_closed() {
            return Err("nobody knows that it was closed".to_owned());
        }
        let used = self.ids.values().max().copied();
        drop(spool);
        // Every start reads the same, and what it has removed is not missed.
        let spool = spool_on(disk).map_err(|error| format!("second start: {error:?}"))?;
        let mut expected = look(&spool).await?;
        same(&expected, &seen)?;
        for number in 20..24 {
            let mut draft = spool.begin(entry()).await.map_err(told)?;
            let text = text(number, 20);
            draft.write(text.clone().into()).await.map_err(told)?;
            let id = draft.commit(&envelope(number)).await.map_err(told)?.id;
            if used.is_some_and(|used| id <= used) {
                return Err(format!("{id} was used before"));
            }
            expected.insert(
                number,
                State {
                    text,
                    ..State::default()
                },
            );
        }
        same(&look(&spool).await?, &expected)?;
        drop(spool);
        let spool = spool_on(disk).map_err(|error| format!("third start: {error:?}"))?;
        if !spool.was_closed() {
            return Err("nobody knows that the second start was closed".to_owned());
        }
        same(&look(&spool).await?, &expected)?;
        for (id, _) in ids(&spool).await? {
            spool.remove(Settled::new(id)).await.map_err(told)?;
        }
        let texts = disk.list(Path::new(segment::TEXTS)).unwrap();
        same(&texts, &Vec::new())?;
        same(&disk.list(Path::new(HOLD)).unwrap(), &Vec::new())
    }

    fn is_legal(&self, seen: &Model) -> Result<(), String> {
        if *seen == self.model {
            return Ok(());
        }
        let Some(step) = self.cut else {
            return same(seen, &self.model);
        };
        let mut after = self.model.clone();
        advance(&mut after, step);
        same(seen, &after).map_err(|fault| format!("cut at {step:?}: {fault}"))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn told(error: SpoolError) -> String {
    format!("{error:?}")
}

async fn ids(spool: &JournalSpool) -> Result<Vec<(MessageId, bool)>, String> {
    let (all, damaged) = listed(spool).await?;
    damaged.map_or(Ok(all), Err)
}

/// The same, and what is told of damage.
async fn listed(spool: &JournalSpool) -> Result<(Vec<(MessageId, bool)>, Option<String>), String> {
    let mut all = Vec::new();
    let mut damaged = None;
    let mut found = |found| match found {
        Found::Incoming(id) => all.push((id, false)),
        Found::Routed { id, .. } => all.push((id, true)),
        Found::Damaged { path, reason } => damaged = Some(format!("{}: {reason}", path.display())),
    };
    spool.scan(&mut found).await.map_err(told)?;
    Ok((all, damaged))
}

/// Everything that the journal knows.
async fn look(spool: &JournalSpool) -> Result<Model, String> {
    let ids = ids(spool).await?;
    look_at(spool, ids).await
}

async fn look_at(spool: &JournalSpool, ids: Vec<(MessageId, bool)>) -> Result<Model, String> {
    let mut model = Model::new();
    let held = spool.held().await.map_err(told)?;
    for (id, is_routed) in ids {
        let content = spool.content(id).await.map_err(told)?;
        let text = whole(&*content).await?;
        let text = text
            .strip_prefix(&entry().received()[..])
            .ok_or("no Received")?;
        let number = std::str::from_utf8(text).unwrap_or_default();
        let number = number
            .strip_prefix("Subject: ")
            .and_then(|rest| rest.lines().next());
        let number: usize = number
            .and_then(|number| number.parse().ok())
            .ok_or("no number")?;
        let mut state = State {
            text: text.to_vec(),
            routed: is_routed,
            held: held.contains(&id),
            ..State::default()
        };
        if is_routed {
            same(
                &spool.sender(id).await.map_err(told)?,
                &routed(number).sender,
            )?;
            let channels = [
                (Channel::Local, routed(number).local),
                (Channel::Remote, routed(number).remote),
            ];
            for (channel, addresses) in channels {
                let all = spool.recipients(id, channel, Position::START, 9);
                let all = all.await.map_err(told)?;
                if !all.is_empty() {
                    let seen: Vec<Address> = all.iter().map(|to| to.address.clone()).collect();
                    same(&seen, &addresses)?;
                    state.lines[channel as usize] = Some(all.iter().map(|to| to.done).collect());
                }
            }
        } else {
            let incoming = spool.incoming(id).await.map_err(told)?;
            same(&incoming.envelope, &envelope(number))?;
            same(&(incoming.uid, incoming.pid), &(3, 4))?;
        }
        if let Some(failures) = spool.failures(id).await.map_err(told)? {
            state.notes = whole(&*failures).await?;
        }
        model.insert(number, state);
    }
    Ok(model)
}

async fn whole(content: &dyn Content) -> Result<Vec<u8>, String> {
    let mut body = content.open().await.map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    while let Some(chunk) = body.next().await.map_err(|error| error.to_string())? {
        text.extend_from_slice(&chunk);
    }
    same(&(text.len() as u64), &content.octets())?;
    Ok(text)
}

fn same<T: PartialEq + std::fmt::Debug + ?Sized>(seen: &T, expected: &T) -> Result<(), String> {
    if seen == expected {
        Ok(())
    } else {
        Err(format!("{seen:?} where {expected:?} is expected"))
    }
}

/// Crashes with these troubles, and looks at what may be left. Gives the number of images, or the first fault.
fn crash(troubles: &[Trouble], images_max: usize) -> Result<usize, String> {
    block_on(async {
        let life = Life::run(troubles, false).await;
        let (mut every, mut images) = (Choices::every(), 0);
        loop {
            images += 1;
            let checked = life.check(&life.disk.after_crash(&mut every)).await;
            checked.map_err(|fault| format!("{troubles:?}, image {images}: {fault}"))?;
            if !every.advance() {
                return Ok(images);
            }
            if images == images_max {
                break;
            }
        }
        for seed in 0..images_max as u64 {
            let checked = life
                .check(&life.disk.after_crash(&mut Choices::seeded(seed)))
                .await;
            checked.map_err(|fault| format!("{troubles:?}, seed {seed}: {fault}"))?;
        }
        Ok(2 * images_max)
    })
}

/// Operations and sync targets of a life without trouble.
fn counts() -> (u64, u64) {
    let life = block_on(Life::run(&[], false));
    assert_eq!(life.cut, None);
    block_on(life.check(&life.disk.after_crash(&mut Choices::every()))).unwrap();
    (life.disk.operations(), life.disk.sync_targets())
}

#[test]
fn a_crash_anywhere_loses_nothing_that_was_promised() {
    let (operations, _) = counts();
    assert!(operations > 100, "{operations} operations");
    let mut images = 0;
    for number in 1..=operations {
        for trouble in [Trouble::CrashBefore(number), Trouble::CrashAfter(number)] {
            images += crash(&[trouble], IMAGES_MAX).unwrap_or_else(|fault| panic!("{fault}"));
        }
    }
    assert!(images > 1_000, "{images} images");
}

#[test]
fn without_any_one_sync_the_test_fails() {
    let (operations, targets) = counts();
    for target in 1..=targets {
        let fault = |number| {
            let troubles = [Trouble::IgnoreSync(target), Trouble::CrashBefore(number)];
            crash(&troubles, 2).is_err()
        };
        // One beyond the last: a crash when all is done. Those near the sync first: most faults show there.
        let near = operations * target / targets;
        let mut numbers: Vec<u64> = (1..=operations + 1).collect();
        numbers.sort_by_key(|number| number.abs_diff(near));
        // What only a rare image shows is looked for last.
        let rare = |number: &u64| {
            let troubles = [Trouble::IgnoreSync(target), Trouble::CrashBefore(*number)];
            crash(&troubles, IMAGES_MAX).is_err()
        };
        let noticed = numbers.iter().copied().any(fault) || numbers.iter().take(40).any(rare);
        assert!(noticed, "sync target {target} of {targets} is not needed");
    }
}

#[test]
fn a_failed_operation_is_an_error_and_can_be_tried_again() {
    let (operations, _) = counts();
    for number in 1..=operations {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            let trouble = Trouble::Fail(number, kind);
            let life = block_on(Life::run(&[trouble], true));
            assert_eq!(life.cut, None, "{trouble:?}");
            for seed in 0..4 {
                let mut choices = match seed {
                    0 => Choices::every(),
                    seed => Choices::seeded(seed),
                };
                let disk = life.disk.after_crash(&mut choices);
                let checked = block_on(life.check(&disk));
                checked.unwrap_or_else(|fault| panic!("{trouble:?}, seed {seed}: {fault}"));
            }
        }
    }
}

#[test]
fn what_a_failed_sync_leaves_is_never_taken_for_durable() {
    let (operations, _) = counts();
    for number in 1..=operations {
        for crash_at in number + 1..=number + 8 {
            let troubles = [
                Trouble::Fail(number, io::ErrorKind::Other),
                Trouble::CrashBefore(crash_at),
            ];
            block_on(async {
                let life = Life::run(&troubles, true).await;
                for seed in 0..3 {
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

/// A log in one segment, cut after each of its octets: what stands before the cut counts, record by record. The last of them is
/// the stop.
#[test]
fn every_octet_of_a_log_is_a_legal_end() {
    const ONE_SEGMENT: JournalConfig = JournalConfig {
        segment_octets: 32 << 10,
        text_octets_max: 32 << 10,
    };
    let open = |disk: &SimDisk| {
        JournalSpool::over(Arc::new(disk.clone()), Workers::inline(), ONE_SEGMENT).unwrap()
    };
    let first = segment::path(1);
    let octets_of = |disk: &SimDisk| {
        let mut octets = vec![0; ONE_SEGMENT.segment_octets as usize];
        let file = disk.open(&first, false).unwrap();
        let count = file.read_at(&mut octets, 0).unwrap();
        octets.truncate(count);
        octets
    };
    let disk = new_disk();
    let spool = open(&disk);
    let mut life = Life {
        disk: disk.clone(),
        model: Model::new(),
        cut: None,
        ids: BTreeMap::new(),
        closed: false,
    };
    // Where the log ended after each step, and what had been done by then.
    let mut ends = Vec::new();
    for step in life_steps() {
        // A hold is no record.
        if matches!(step, Hold(_) | Release(_)) {
            continue;
        }
        block_on(life.step(&spool, step)).unwrap();
        advance(&mut life.model, step);
        let octets = octets_of(&disk);
        let end = octets.iter().rposition(|&octet| octet != 0).unwrap() + 1;
        ends.push((end, life.model.clone()));
    }
    drop(spool);
    let octets = octets_of(&disk);
    let last = octets.iter().rposition(|&octet| octet != 0).unwrap() + 1;
    assert!(last > 4_000, "{last} octets");
    assert!(last > ends.last().unwrap().0, "it ends with the stop");
    let mut closed = 0;
    for cut in ends[0].0..=last {
        let disk = new_disk();
        let file = disk.create(&first, 0o600).unwrap();
        file.write_at(&octets[..cut], 0).unwrap();
        file.truncate(octets.len() as u64).unwrap();
        drop(file);
        let spool = open(&disk);
        let (ids, damage) = block_on(listed(&spool)).unwrap();
        let seen = block_on(look_at(&spool, ids)).unwrap_or_else(|fault| panic!("{cut}: {fault}"));
        let whole = ends.iter().rposition(|&(end, _)| end <= cut).unwrap();
        assert_eq!(seen, ends[whole].1, "cut at {cut}");
        // Numbers may end with zeros, so that a few octets of them that are missing look like others. No disk tears there.
        if let Some(told) = damage {
            assert!(told.contains("nothing tells whether they were promised"));
            let record = Path::new("damaged");
            let kept = disk.list(record).unwrap();
            let kept = disk.stat(&record.join(&kept[0])).unwrap().octets;
            assert!(kept < 64 && cut % 512 != 0, "cut at {cut}: {told}");
        }
        closed += usize::from(spool.was_closed());
    }
    // Behind its kind a stop holds zeros.
    assert_eq!(closed, 1);
}
