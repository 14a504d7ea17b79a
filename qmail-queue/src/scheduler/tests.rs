use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_000_000_000;

fn limits(local: usize, remote: usize) -> Limits {
    Limits {
        local_max: local,
        remote_max: remote,
        ..Limits::default()
    }
}

/// Opens passes with one job each, to a host that the message's number names; returns what starts until nothing does.
fn start_all(scheduler: &mut Scheduler, now: u64) -> Vec<(MessageId, PassId, JobId)> {
    let mut ids = BTreeMap::new();
    let mut started = Vec::new();
    while let Some(step) = scheduler.poll(now) {
        match step {
            Step::Open(attempt) => {
                ids.insert(attempt.pass, attempt.id);
                scheduler.offer(attempt.pass, attempt.id.to_string().into());
                scheduler.handle_page(attempt.pass, false);
            }
            Step::Start(pass, job) => started.push((ids[&pass], pass, job)),
            other => panic!("{other:?}"),
        }
    }
    started
}

fn end(scheduler: &mut Scheduler, pass: PassId, job: JobId) {
    scheduler.handle_report(pass, job, false);
    scheduler.handle_recorded(pass);
    let complete = Step::Complete {
        pass,
        deferred: false,
    };
    assert_eq!(scheduler.poll(NOW), Some(complete));
    scheduler.handle_closed(pass);
}

#[test]
fn new_mail_comes_first_and_the_backlog_does_not_starve() {
    let mut scheduler = Scheduler::new(limits(0, 1));
    for number in 0..100 {
        scheduler.handle_found(MessageId(1_000 + number), 0, [None, Some(number)]);
        scheduler.handle_new(MessageId(number), NOW, &[Channel::Remote]);
    }
    let mut new = 0;
    for slot in 1..=100 {
        let started = start_all(&mut scheduler, NOW);
        let [(id, pass, job)] = started[..] else {
            panic!("one slot");
        };
        new += usize::from(id.0 < 1_000);
        assert_eq!(new, slot - slot / 4);
        end(&mut scheduler, pass, job);
    }
}

#[test]
fn some_slots_are_kept_for_new_mail() {
    for (slots, backlog) in [(1, 1), (3, 3), (4, 3), (10, 9), (20, 18), (500, 450)] {
        let mut scheduler = Scheduler::new(limits(0, slots));
        for number in 0..1_000 {
            scheduler.handle_found(MessageId(number), 0, [None, Some(number)]);
        }
        assert_eq!(start_all(&mut scheduler, NOW).len(), backlog);
        for number in 0..1_000 {
            scheduler.handle_new(MessageId(1_000 + number), 0, &[Channel::Remote]);
        }
        assert_eq!(start_all(&mut scheduler, NOW).len(), slots - backlog);
        assert_eq!(scheduler.jobs(Channel::Remote), slots);
    }
}

#[test]
fn overdue_messages_come_in_the_order_of_their_times() {
    let mut scheduler = Scheduler::new(limits(3, 3));
    for number in 0..9 {
        scheduler.handle_found(MessageId(number), 0, [Some(100 - number), None]);
    }
    let first: Vec<u64> = start_all(&mut scheduler, 98)
        .iter()
        .map(|(id, ..)| id.0)
        .collect();
    assert_eq!(first, [8, 7, 6]);
    assert_eq!(scheduler.deadline(94), Some(95));
    // Those that wait for a slot are nothing to wake up for.
    assert_eq!(scheduler.deadline(98), None);
}

#[test]
fn an_alarm_keeps_the_order_and_a_held_channel_has_no_deadline() {
    let mut scheduler = Scheduler::new(limits(0, 10));
    scheduler.handle_found(MessageId(1), 0, [Some(7), Some(NOW + 9)]);
    scheduler.handle_found(MessageId(2), 0, [Some(7), Some(NOW + 8)]);
    assert_eq!(scheduler.poll(NOW), None);
    assert_eq!(scheduler.deadline(NOW), Some(NOW + 8));
    scheduler.handle_alarm();
    scheduler.handle_found(MessageId(3), 0, [None, Some(NOW + 1)]);
    scheduler.handle_alarm();
    let order: Vec<u64> = start_all(&mut scheduler, NOW)
        .iter()
        .map(|(id, ..)| id.0)
        .collect();
    assert_eq!(order, [3, 2, 1]);
    assert_eq!(scheduler.waiting(Channel::Local), 2);
    assert_eq!(scheduler.deadline(NOW), None);
}

#[test]
fn a_message_is_finished_with_its_second_channel() {
    let mut scheduler = Scheduler::new(limits(1, 1));
    scheduler.handle_new(MessageId(1), NOW, &Channel::ALL);
    let started = start_all(&mut scheduler, NOW);
    let mut finished = Vec::new();
    for (_, pass, job) in started {
        scheduler.handle_report(pass, job, false);
        finished.push(scheduler.handle_closed(pass));
    }
    assert_eq!(finished, [false, true]);
}

#[test]
fn blocked_passes_beyond_the_bound_are_forgotten_and_come_back() {
    let mut bounds = limits(0, 10);
    bounds.remote_destination_max = 1;
    let mut scheduler = Scheduler::new(bounds);
    let count = IDLE_PASSES_MAX as u64 * 3;
    for number in 0..count {
        scheduler.handle_new(MessageId(number), NOW, &[Channel::Remote]);
    }
    let mut ids = BTreeMap::new();
    let mut done = BTreeSet::new();
    let mut open_max = 0;
    let mut running = None;
    loop {
        match scheduler.poll(NOW) {
            Some(Step::Open(attempt)) => {
                ids.insert(attempt.pass, attempt.id);
                scheduler.offer(attempt.pass, "slow".into());
                scheduler.handle_page(attempt.pass, false);
            }
            Some(Step::Forget(pass)) => drop(ids.remove(&pass)),
            Some(Step::Start(pass, job)) => {
                assert_eq!(running.replace((pass, job)), None, "one at a time");
            }
            Some(Step::Complete { pass, .. }) => {
                assert!(done.insert(ids.remove(&pass).unwrap()), "twice");
                assert!(scheduler.handle_closed(pass));
            }
            Some(Step::Read(_)) => panic!("everything is read"),
            None => match running.take() {
                Some((pass, job)) => {
                    scheduler.handle_report(pass, job, false);
                    scheduler.handle_recorded(pass);
                }
                None => break,
            },
        }
        open_max = open_max.max(ids.len());
    }
    assert_eq!(done.len() as u64, count);
    assert!(open_max <= IDLE_PASSES_MAX + 11, "{open_max}");
    assert_eq!(scheduler.waiting(Channel::Remote), 0);
}

#[test]
fn a_stop_starts_nothing() {
    let mut scheduler = Scheduler::new(limits(1, 1));
    scheduler.handle_new(MessageId(1), NOW, &[Channel::Remote]);
    scheduler.handle_new(MessageId(2), NOW, &[Channel::Remote]);
    let started = start_all(&mut scheduler, NOW);
    scheduler.handle_stop();
    let (_, pass, job) = started[0];
    end(&mut scheduler, pass, job);
    assert_eq!(scheduler.poll(NOW), None);
    assert_eq!(scheduler.deadline(NOW), None);
}

/// What an owner does, by random numbers.
fn play(choices: &[u16], bounds: Limits) {
    let mut scheduler = Scheduler::new(bounds);
    let mut choices = choices.iter().copied();
    let mut now = NOW;
    let mut open: BTreeMap<PassId, (Attempt, u8)> = BTreeMap::new();
    let mut running: Vec<(PassId, JobId)> = Vec::new();
    let mut recording: Vec<PassId> = Vec::new();
    let mut left: BTreeMap<MessageId, BTreeSet<Channel>> = BTreeMap::new();
    let mut messages = 0;
    loop {
        while let Some(step) = scheduler.poll(now) {
            match step {
                Step::Open(attempt) => {
                    let same = |(other, _): &&(Attempt, u8)| {
                        (other.id, other.channel) == (attempt.id, attempt.channel)
                    };
                    assert!(!open.values().any(|entry| same(&entry)), "opened twice");
                    open.insert(attempt.pass, (attempt, 2));
                    page(&mut scheduler, &mut open, attempt.pass, choices.next());
                }
                Step::Read(pass) => page(&mut scheduler, &mut open, pass, choices.next()),
                Step::Start(pass, job) => running.push((pass, job)),
                Step::Forget(pass) => drop(open.remove(&pass)),
                Step::Complete { pass, deferred } => {
                    let (attempt, _) = open.remove(&pass).expect("an open pass");
                    assert!(!running.iter().any(|(other, _)| *other == pass));
                    if deferred {
                        scheduler.handle_put_off(pass, attempt.retry_at);
                    } else {
                        let channels = left.get_mut(&attempt.id).unwrap();
                        assert!(channels.remove(&attempt.channel));
                        assert_eq!(scheduler.handle_closed(pass), channels.is_empty());
                    }
                }
            }
            for channel in Channel::ALL {
                let jobs = scheduler.jobs(channel);
                assert!(jobs <= bounds.jobs_max(channel), "too many jobs");
            }
        }
        match choices.next() {
            Some(choice) if choice % 4 == 0 => {
                messages += 1;
                let id = MessageId(messages);
                let channels = [&Channel::ALL[..], &Channel::ALL[..1], &Channel::ALL[1..]];
                let channels = channels[usize::from(choice / 4 % 3)];
                left.insert(id, channels.iter().copied().collect());
                scheduler.handle_new(id, now, channels);
            }
            Some(choice) if choice % 4 == 1 && !running.is_empty() => {
                let (pass, job) = running.remove(usize::from(choice / 4) % running.len());
                scheduler.handle_report(pass, job, choice % 3 == 0);
                recording.push(pass);
            }
            Some(choice) if choice % 4 == 2 && !recording.is_empty() => {
                let pass = recording.remove(usize::from(choice / 4) % recording.len());
                scheduler.handle_recorded(pass);
            }
            Some(_) => now += 50,
            // From here on everything works, and the schedule must run empty.
            None if !recording.is_empty() => scheduler.handle_recorded(recording.remove(0)),
            None if !running.is_empty() => {
                let (pass, job) = running.remove(0);
                scheduler.handle_report(pass, job, false);
                recording.push(pass);
            }
            None => match scheduler.deadline(now) {
                Some(due) => now = due,
                None => break,
            },
        }
    }
    assert!(left.values().all(BTreeSet::is_empty), "{left:?}");
    assert!(scheduler.passes.is_empty());
    for channel in Channel::ALL {
        assert_eq!(scheduler.jobs(channel), 0);
        assert_eq!(scheduler.waiting(channel), 0);
    }
}

/// Offers up to three jobs to one of three hosts; a pass has at most two pages more.
fn page(
    scheduler: &mut Scheduler,
    open: &mut BTreeMap<PassId, (Attempt, u8)>,
    pass: PassId,
    choice: Option<u16>,
) {
    let choice = choice.unwrap_or(1);
    for number in 0..choice % 4 {
        let host = [b'a' + u8::try_from((choice / 4 + number) % 3).unwrap()];
        scheduler.offer(pass, host.to_vec().into());
    }
    let pages = &mut open.get_mut(&pass).expect("an open pass").1;
    let more = *pages > 0 && choice.is_multiple_of(5);
    *pages = pages.saturating_sub(1);
    if choice % 31 == 7 {
        scheduler.handle_trouble(pass);
    } else {
        scheduler.handle_page(pass, more);
    }
}

proptest! {
    #[test]
    fn every_message_gets_through(
        choices in prop::collection::vec(any::<u16>(), 0..600),
        local in 1_usize..6,
        remote in 1_usize..12,
        destination in 1_usize..4,
    ) {
        let mut bounds = limits(local, remote);
        bounds.remote_destination_max = destination;
        play(&choices, bounds);
    }
}

/// Tries all that is due at `now` once, without success; gives the attempts.
fn defer_all(scheduler: &mut Scheduler, now: u64) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    while let Some(step) = scheduler.poll(now) {
        match step {
            Step::Open(attempt) => {
                attempts.push(attempt);
                scheduler.offer(attempt.pass, "host".into());
                scheduler.handle_page(attempt.pass, false);
            }
            Step::Start(pass, job) => {
                scheduler.handle_report(pass, job, true);
                scheduler.handle_recorded(pass);
            }
            Step::Complete { pass, .. } => {
                let attempt = attempts.iter().find(|attempt| attempt.pass == pass);
                scheduler.handle_put_off(pass, attempt.unwrap().retry_at);
            }
            other => panic!("{other:?}"),
        }
    }
    attempts
}

#[test]
fn a_message_is_tried_at_the_times_of_the_vectors_to_the_second() {
    let text = include_str!("../../testdata/retry-schedule.json");
    let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
    for (channel, last) in [(Channel::Local, 78), (Channel::Remote, 39)] {
        let mut scheduler = Scheduler::new(Limits::default());
        scheduler.handle_new(MessageId(7), NOW, &[channel]);
        // Routing may take a moment.
        let first = defer_all(&mut scheduler, NOW + ROUTING_SECONDS);
        assert!(!first[0].dying);
        let name = channel.name();
        for time in vectors["first_retries_from_birth"][name]
            .as_array()
            .unwrap()
        {
            let due = NOW + time.as_u64().unwrap();
            assert_eq!(scheduler.deadline(NOW), Some(due), "{name}");
            assert!(defer_all(&mut scheduler, due - 1).is_empty(), "{name}");
            assert!(!defer_all(&mut scheduler, due)[0].dying, "{name}");
        }
        for attempt in 21..=last {
            let due = scheduler.deadline(NOW).unwrap();
            let dying = defer_all(&mut scheduler, due)[0].dying;
            assert_eq!(dying, attempt == last, "{name} {attempt}");
        }
    }
}

#[test]
fn a_new_message_that_waited_for_a_slot_has_the_age_that_it_has() {
    let mut scheduler = Scheduler::new(Limits::default());
    scheduler.handle_new(MessageId(7), NOW, &[Channel::Local]);
    let now = NOW + ROUTING_SECONDS + 1;
    let attempt = defer_all(&mut scheduler, now)[0];
    assert_eq!(attempt.retry_at, next_attempt(NOW, now, Channel::Local));
}
