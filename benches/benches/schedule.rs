//! What the scheduler costs when a million messages wait: finding them at a start, the next attempt, new mail.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use qmail_queue::{Channel, JobId, Limits, MessageId, PassId, Scheduler, Step};

const MESSAGES: u64 = 1_000_000;

/// When they were routed, in seconds since 1970; all are due at [`DUE`] or later, in no order.
const BIRTH: u64 = 1_000_000;
const DUE: u64 = 2_000_000;

/// Later than all of them are due.
const LATE: u64 = DUE + 1_000_000;

fn waiting() -> Scheduler {
    let mut scheduler = Scheduler::new(Limits::default());
    for number in 0..MESSAGES {
        let due = DUE + number * 7_919 % 600_000;
        scheduler.handle_found(MessageId(number), BIRTH, [None, Some(due)]);
    }
    scheduler
}

/// Polls until an attempt has started, with one recipient in its message.
fn start(scheduler: &mut Scheduler, now: u64) -> (PassId, JobId) {
    loop {
        match scheduler.poll(now) {
            Some(Step::Open(attempt)) => {
                let host = attempt.id.to_string();
                scheduler.offer(attempt.pass, host.into());
                scheduler.handle_page(attempt.pass, false);
            }
            Some(Step::Start(pass, job)) => return (pass, job),
            other => panic!("{other:?}"),
        }
    }
}

/// The attempt ends, and with it the message, or it is put off.
fn end(scheduler: &mut Scheduler, (pass, job): (PassId, JobId), now: u64, deferred: bool) {
    scheduler.handle_report(pass, job, deferred);
    scheduler.handle_recorded(pass);
    let complete = scheduler.poll(now);
    assert_eq!(complete, Some(Step::Complete { pass, deferred }));
    if deferred {
        // It stays one of the million, and is due again.
        scheduler.handle_put_off(pass, black_box(DUE));
    } else {
        black_box(scheduler.handle_closed(pass));
    }
}

fn schedule(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("schedule");
    group.sample_size(10);
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("a million messages found", |bencher| {
        bencher.iter(waiting);
    });
    group.throughput(Throughput::Elements(1));
    let mut scheduler = waiting();
    group.bench_function("the next of a million, put off again", |bencher| {
        bencher.iter(|| {
            let attempt = start(&mut scheduler, LATE);
            end(&mut scheduler, attempt, LATE, true);
        });
    });
    let mut scheduler = waiting();
    let mut number = MESSAGES;
    group.bench_function("new mail beside a million", |bencher| {
        bencher.iter(|| {
            number += 1;
            scheduler.handle_new(MessageId(number), BIRTH, &[Channel::Remote]);
            let attempt = start(&mut scheduler, BIRTH);
            end(&mut scheduler, attempt, BIRTH, false);
        });
    });
    group.finish();
}

criterion_group!(benches, schedule);
criterion_main!(benches);
