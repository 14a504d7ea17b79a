//! What a waiting message takes in memory. Alone in its program, so that nothing else is measured.
#![cfg(target_os = "linux")]

use qmail_queue::{Channel, Limits, MessageId, Scheduler};

/// Resident memory of this process in octets.
#[expect(clippy::disallowed_methods, reason = "the kernel tells it in a file")]
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has it");
    let pages: usize = statm
        .split(' ')
        .nth(1)
        .and_then(|field| field.parse().ok())
        .expect("the second number");
    pages * 4096
}

#[test]
fn a_waiting_message_takes_less_than_100_octets() {
    let messages = 1_000_000_u64;
    let before = resident();
    let mut scheduler = Scheduler::new(Limits::default());
    for number in 0..messages {
        // Times in no order, as after days of retries.
        let due = 1_000_000 + number * 7_919 % 600_000;
        scheduler.handle_found(MessageId(number), 1_000_000, [None, Some(due)]);
    }
    let octets = (resident() - before) as u64 / messages;
    println!("{octets} octets a message");
    assert!(octets < 100, "{octets} octets a message");
    assert_eq!(scheduler.waiting(Channel::Remote) as u64, messages);
}
