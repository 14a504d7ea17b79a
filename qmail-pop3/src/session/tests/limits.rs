//! Limits, time, ends, and the cutting of the input.

use std::time::Duration;

use super::*;

#[test]
fn errors_in_a_row_end_the_session() {
    for (mut owner, error) in [
        (
            Owner::new(Config::default()),
            "-ERR authorization first\r\n",
        ),
        (
            Owner::logged_in(Config::default()),
            "-ERR unimplemented\r\n",
        ),
    ] {
        owner.drain();
        owner.sent.clear();
        let almost = b"XXXX\r\n".repeat(19);
        owner.offer(&[&almost[..], b"NOOP\r\n", &almost].concat());
        assert_eq!(owner.session.end(), None);
        owner.offer(&b"XXXX\r\n".repeat(100_000));
        assert_eq!(owner.session.end(), Some(End::TooManyErrors));
        assert_eq!(owner.sent.len(), (19 + 20) * error.len() + "+OK \r\n".len());
        assert_eq!(owner.update, None);
    }
}

#[test]
fn a_long_line_is_thrown_away_as_it_comes() {
    let mut owner = Owner::logged_in(Config::default());
    owner.drain();
    owner.sent.clear();
    // The longest line that is taken, with LF and with CR LF, whole and in two parts.
    for end in ["\n", "\r\n"] {
        let line = format!("NOOP {}{end}", "x".repeat(2048 - 5 - end.len()));
        owner.offer(line.as_bytes());
        owner.offer(&line.as_bytes()[..2000]);
        owner.offer(&line.as_bytes()[2000..]);
    }
    assert_eq!(owner.sent, b"+OK \r\n".repeat(4));
    owner.sent.clear();
    let line = format!("NOOP {}\r\n", "x".repeat(2048 - 6));
    owner.offer(line.as_bytes());
    owner.offer(&line.as_bytes()[..2048]);
    owner.offer(&line.as_bytes()[2048..]);
    assert_eq!(owner.sent, b"-ERR line too long\r\n".repeat(2));
    owner.sent.clear();
    owner.offer(b"DELE 1");
    for _ in 0..10_000 {
        owner.offer(&[b'a'; 1000]);
        assert!(owner.session.line.octets.capacity() <= 4096);
    }
    owner.offer(b"\r\nSTAT\r\n");
    assert_eq!(owner.sent, b"-ERR line too long\r\n+OK 3 69\r\n");
}

#[test]
fn silence_ends_the_session_and_removes_nothing() {
    let mut owner = Owner::logged_in(Config::default());
    owner.offer(b"DELE 1\r\n");
    let before = owner.session.deadline().expect("a deadline");
    assert_eq!(before, owner.now + Duration::from_secs(1200));
    owner
        .session
        .handle_deadline(before - Duration::from_millis(1));
    assert!(!owner.session.is_closed());
    // Half a command is silence too.
    owner.now += Duration::from_secs(600);
    owner.offer(b"QUI");
    assert_eq!(owner.session.deadline(), Some(before));
    owner.session.handle_deadline(before);
    assert_eq!(owner.session.end(), Some(End::TimedOut));
    owner.offer(b"T\r\n");
    assert_eq!(owner.sent, b"+OK \r\n+OK \r\n");
    assert_eq!(owner.update, None);
}

#[test]
fn a_command_starts_the_time_anew() {
    let mut owner = Owner::logged_in(Config::default());
    owner.now += Duration::from_secs(1199);
    owner.offer(b"NOOP\r\n");
    assert_eq!(
        owner.session.deadline(),
        Some(owner.now + Duration::from_secs(1200))
    );
}

#[test]
fn a_time_without_end_is_no_deadline() {
    let config = Config {
        idle: Duration::MAX,
        ..Config::default()
    };
    let mut owner = Owner::logged_in(config);
    owner.offer(b"NOOP\r\n");
    assert_eq!(owner.session.deadline(), None);
}

#[test]
fn no_time_runs_while_the_owner_is_asked() {
    let now = Instant::now();
    let mut session = Session::new(Arc::default(), Greeting::Plain, now);
    assert_eq!(session.receive(now, b"USER joe\nPASS x\nNOOP\n"), 16);
    let Some(Event::Login { question, .. }) = session.poll_event() else {
        panic!("a question");
    };
    assert_eq!(session.deadline(), None);
    let later = now + Duration::from_secs(10_000);
    session.handle_deadline(later);
    assert_eq!(session.receive(later, b"NOOP\n"), 0);
    session.answer_login(later, question, LoginAnswer::Refused);
    assert_eq!(session.receive(later, b"NOOP\n"), 5);
    assert!(session.deadline().is_some_and(|deadline| deadline > later));
}

#[test]
fn answers_to_what_was_not_asked_do_nothing() {
    let now = Instant::now();
    let mut session = Session::new(Arc::default(), Greeting::Plain, now);
    session.answer_login(now, Question::new(), LoginAnswer::Accepted(Listing::new()));
    session.answer_retrieve(now, Question::new(), RetrieveAnswer::Opened);
    session.answer_update(now, Question::new(), UpdateAnswer::Done);
    assert_eq!(session.body(now, b"text"), BodyFlow::Enough);
    session.end_body(now);
    session.abort_body(now);
    assert!(!session.is_closed());
    let mut sent = Vec::new();
    session.poll_transmit(&mut sent);
    assert_eq!(sent, b"+OK \r\n");
}

#[test]
fn a_lost_connection_removes_nothing() {
    let mut owner = Owner::logged_in(Config::default());
    owner.offer(b"DELE 1\r\nQUIT");
    owner.eof();
    assert_eq!(owner.session.end(), Some(End::Disconnected));
    assert_eq!(owner.update, None);
}

#[test]
fn the_last_command_before_the_end_is_answered() {
    let mut owner = Owner::logged_in(Config::default());
    owner.drain();
    owner.sent.clear();
    assert_eq!(owner.session.receive(owner.now, b"RETR 3\r\n"), 8);
    owner.session.handle_eof(owner.now);
    assert!(!owner.session.is_closed());
    owner.drain();
    assert_eq!(owner.sent, b"+OK \r\nSubject: three\r\n.\r\n");
    assert_eq!(owner.session.end(), Some(End::Disconnected));

    let mut owner = Owner::logged_in(Config::default());
    assert_eq!(owner.session.receive(owner.now, b"DELE 2\r\nQUIT\r\n"), 14);
    owner.eof();
    assert_eq!(owner.update, Some(vec![1]));
    assert_eq!(owner.session.end(), Some(End::Updated));
}

#[test]
fn a_broken_message_gets_no_final_dot() {
    let now = Instant::now();
    let mut listing = Listing::new();
    listing.push(100, b"a").expect("an id");
    let mut session = Session::logged_in(Arc::default(), listing, now);
    session.receive(now, b"RETR 1\r\n");
    let Some(Event::Retrieve { question, .. }) = session.poll_event() else {
        panic!("a question");
    };
    session.answer_retrieve(now, question, RetrieveAnswer::Opened);
    assert_eq!(session.body(now, b"half a "), BodyFlow::More);
    session.abort_body(now);
    assert_eq!(session.end(), Some(End::BodyBroken));
    let mut sent = Vec::new();
    session.poll_transmit(&mut sent);
    assert_eq!(sent, b"+OK \r\n+OK \r\nhalf a ");
}

#[test]
fn a_long_listing_comes_in_parts() {
    let now = Instant::now();
    let mut listing = Listing::with_capacity(20_000);
    for number in 0..20_000_u64 {
        listing
            .push(number, format!("{number:070}").as_bytes())
            .expect("an id");
    }
    let mut session = Session::logged_in(Arc::default(), listing, now);
    let commands = b"UIDL\r\nLIST\r\n".repeat(10);
    let (mut taken, mut lines, mut parts) = (0, 0, 0);
    while taken < commands.len() {
        taken += session.receive(now, &commands[taken..]);
        let mut part = Vec::new();
        while session.poll_transmit(&mut part) {
            assert!(part.len() < TRANSMIT_OCTETS_LOW + 128);
            lines += part.iter().filter(|&&octet| octet == b'\n').count();
            parts += 1;
            part.clear();
        }
    }
    assert_eq!(lines, 1 + 20 * (20_000 + 2));
    assert!(parts > 100);
}

#[test]
fn a_message_comes_in_parts() {
    let mut owner = Owner::logged_in(Config::default());
    owner.chunk_octets = 65536;
    let text = b"\n.\n".repeat(1_000_000);
    owner.messages = vec![Some(text)];
    let listing = owner.listing();
    owner.session = Session::logged_in(Arc::default(), listing, owner.now);
    owner.offer(b"RETR 1\r\nNOOP\r\n");
    let expected = [
        b"+OK \r\n+OK \r\n",
        &b"\r\n..\r\n".repeat(1_000_000)[..],
        b".\r\n+OK \r\n",
    ]
    .concat();
    assert!(owner.sent == expected);
}

/// A whole conversation, as one string of octets.
const CONVERSATION: &[u8] = b"CAPA\r\nUSER nobody\nPASS x\r\nSTAT\r\nUSER joe\r\nPASS se cret\r\nLIST\r\nUIDL 2\r\n\
    RETR 2\r\nTOP 1 2\r\nDELE 3\r\nDELE 1\r\nRSET\r\nDELE 2\r\nLAST\r\nbad \r line\r\nRETR 2\r\nQUIT\r\nNOOP\r\n";

fn whole(chunk_octets: usize, cuts: &[usize]) -> (Vec<u8>, Option<Vec<usize>>, Option<End>) {
    let mut owner = Owner::new(Config::default());
    owner.chunk_octets = chunk_octets;
    let mut start = 0;
    for &cut in cuts.iter().chain([&CONVERSATION.len()]) {
        owner.offer(&CONVERSATION[start..cut]);
        start = cut;
    }
    owner.drain();
    owner.eof();
    (owner.sent, owner.update, owner.session.end())
}

#[test]
fn cuts_make_no_difference() {
    let expected = whole(usize::MAX, &[]);
    assert_eq!(expected.2, Some(End::Updated));
    assert_eq!(expected.1, Some(vec![1]));
    for cut in 0..=CONVERSATION.len() {
        assert_eq!(whole(1 + cut % 7, &[cut]), expected, "cut at {cut}");
    }
    let every: Vec<usize> = (0..CONVERSATION.len()).collect();
    assert_eq!(whole(1, &every), expected);
}

#[test]
fn an_end_anywhere_removes_nothing() {
    let quit = memchr::memmem::find(CONVERSATION, b"QUIT\r\n").expect("there is one") + 6;
    for cut in 0..quit {
        let mut owner = Owner::new(Config::default());
        owner.offer(&CONVERSATION[..cut]);
        owner.eof();
        assert_eq!(owner.session.end(), Some(End::Disconnected), "cut at {cut}");
        assert_eq!(owner.update, None, "cut at {cut}");
    }
}

#[test]
fn nothing_shows_names_or_passwords() {
    let now = Instant::now();
    let mut session = Session::new(Arc::default(), Greeting::Plain, now);
    session.receive(now, b"USER joe\r\nPASS hun");
    let half = format!("{session:?}");
    session.receive(now, b"ter2\r\nUSER");
    let shown = format!("{half} {:?}", session.poll_event());
    assert!(shown.contains("Some(Login"), "{shown}");
    assert!(!shown.contains("joe") && !shown.contains("hun"), "{shown}");
}
