//! What is said, as in the RFCs. `|` marks the end of a reply line, since a bare success ends in a space.

use super::*;

#[test]
fn authorization() {
    let talk = Owner::new(Config::default()).talk(&[
        "CAPA",
        "PASS x",
        "USER",
        "user nobody",
        "PASS",
        "PASS x",
        "PASS x",
        "APOP joe",
        "APOP joe ",
        "STAT",
        "AUTH",
        "NOOP",
        "USER a",
        "User   joe",
        "pass  se cret",
        "CAPA",
        "USER joe",
        "QUIT",
    ]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK <7.99@pop.example.org>|
    C: CAPA
    S: +OK |
    S: TOP|
    S: UIDL|
    S: USER|
    S: EXPIRE NEVER|
    S: RESP-CODES|
    S: PIPELINING|
    S: .|
    C: PASS x
    S: -ERR USER first|
    C: USER
    S: -ERR syntax error|
    C: user nobody
    S: +OK |
    C: PASS
    S: -ERR syntax error|
    C: PASS x
    S: -ERR authorization failed|
    C: PASS x
    S: -ERR USER first|
    C: APOP joe
    S: -ERR syntax error|
    C: APOP joe 
    S: -ERR authorization failed|
    C: STAT
    S: -ERR authorization first|
    C: AUTH
    S: -ERR authorization first|
    C: NOOP
    S: +OK |
    C: USER a
    S: +OK |
    C: User   joe
    S: +OK |
    C: pass  se cret
    S: +OK |
    C: CAPA
    S: +OK |
    S: TOP|
    S: UIDL|
    S: USER|
    S: EXPIRE NEVER|
    S: RESP-CODES|
    S: PIPELINING|
    S: .|
    C: USER joe
    S: -ERR unimplemented|
    C: QUIT
    S: +OK |
    (Updated, deleted [])
    "#);
}

#[test]
fn apop() {
    let digest = qmail_core::apop_digest(b"<7.99@pop.example.org>", b"tanstaaf");
    let good = format!("APOP joe {}", String::from_utf8_lossy(&digest));
    let talk = Owner::new(Config::default()).talk(&[
        "APOP joe c4c9334bac560ecc979e58001b3e22fb",
        &good.replace("joe", "joe extra"),
        &good,
        "QUIT",
    ]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK <7.99@pop.example.org>|
    C: APOP joe c4c9334bac560ecc979e58001b3e22fb
    S: -ERR authorization failed|
    C: APOP joe extra 635c505f88fb4b99ab4c867cdf231bde
    S: -ERR authorization failed|
    C: APOP joe 635c505f88fb4b99ab4c867cdf231bde
    S: +OK |
    C: QUIT
    S: +OK |
    (Updated, deleted [])
    "#);
}

#[test]
fn apop_is_refused_where_it_is_not_offered() {
    let mut owner = Owner::new(Config::default());
    owner.session = Session::new(Arc::default(), Greeting::Plain, owner.now);
    let talk = owner.talk(&["APOP joe c4c9334bac560ecc979e58001b3e22fb", "QUIT"]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK |
    C: APOP joe c4c9334bac560ecc979e58001b3e22fb
    S: -ERR authorization first|
    C: QUIT
    S: +OK |
    (Quit)
    "#);
}

#[test]
fn logins_that_fail() {
    let talk = Owner::new(Config::default()).talk(&[
        "USER joe",
        "PASS wrong",
        "USER busy",
        "PASS x",
        "USER nobody",
        "PASS x",
        "NOOP",
    ]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK <7.99@pop.example.org>|
    C: USER joe
    S: +OK |
    C: PASS wrong
    S: -ERR authorization failed|
    C: USER busy
    S: +OK |
    C: PASS x
    S: -ERR [SYS/TEMP] passwords cannot be checked now, try again later|
    C: USER nobody
    S: +OK |
    C: PASS x
    S: -ERR authorization failed|
    C: NOOP
    (TooManyLogins)
    "#);
    let talk = Owner::new(Config::default()).talk(&["USER homeless", "PASS x", "NOOP"]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK <7.99@pop.example.org>|
    C: USER homeless
    S: +OK |
    C: PASS x
    S: -ERR this user has no $HOME/Maildir|
    C: NOOP
    (LoginFailed)
    "#);
    let talk = Owner::new(Config::classic()).talk(&["USER joe", "PASS wrong", "NOOP"]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK <7.99@pop.example.org>|
    C: USER joe
    S: +OK |
    C: PASS wrong
    S: -ERR authorization failed|
    C: NOOP
    (TooManyLogins)
    "#);
    let talk = Owner::new(Config::classic()).talk(&["USER other", "PASS x", "NOOP"]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK <7.99@pop.example.org>|
    C: USER other
    S: +OK |
    C: PASS x
    C: NOOP
    (HandedOver)
    "#);
}

#[test]
fn transaction() {
    let talk = Owner::logged_in(Config::default()).talk(&[
        "STAT", "LIST", "UIDL", "LIST 2", "uidl 1", "LIST  ", "NOOP", "XTND foo", "", "QUIT",
    ]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK |
    C: STAT
    S: +OK 3 69|
    C: LIST
    S: +OK |
    S: 1 22|
    S: 2 32|
    S: 3 15|
    S: .|
    C: UIDL
    S: +OK |
    S: 1 id1|
    S: 2 id2|
    S: 3 id3|
    S: .|
    C: LIST 2
    S: +OK 2 32|
    C: uidl 1
    S: +OK 1 id1|
    C: LIST  
    S: +OK |
    S: 1 22|
    S: 2 32|
    S: 3 15|
    S: .|
    C: NOOP
    S: +OK |
    C: XTND foo
    S: -ERR unimplemented|
    C: 
    S: -ERR unimplemented|
    C: QUIT
    S: +OK |
    (Updated, deleted [])
    "#);
}

#[test]
fn an_empty_maildrop() {
    let mut owner = Owner::new(Config::default());
    owner.messages.clear();
    let talk = owner.talk(&[
        "USER joe",
        "PASS se cret",
        "STAT",
        "LIST",
        "UIDL",
        "RETR 1",
        "QUIT",
    ]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK <7.99@pop.example.org>|
    C: USER joe
    S: +OK |
    C: PASS se cret
    S: +OK |
    C: STAT
    S: +OK 0 0|
    C: LIST
    S: +OK |
    S: .|
    C: UIDL
    S: +OK |
    S: .|
    C: RETR 1
    S: -ERR not that many messages|
    C: QUIT
    S: +OK |
    (Updated, deleted [])
    "#);
}

#[test]
fn messages_are_sent() {
    let talk = Owner::logged_in(Config::default()).talk(&[
        "RETR 2", "RETR 3 1", "TOP 1 0", "TOP 1 2", "TOP 1 99", "TOP 1", "TOP 1 -1", "TOP 3 0",
    ]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK |
    C: RETR 2
    S: +OK |
    S: Subject: one|
    S: |
    S: first|
    S: ..dot|
    S: ...|
    S: last|
    S: .|
    C: RETR 3 1
    S: +OK |
    S: Subject: three|
    S: .|
    C: TOP 1 0
    S: +OK |
    S: Subject: two|
    S: |
    S: .|
    C: TOP 1 2
    S: +OK |
    S: Subject: two|
    S: |
    S: 1|
    S: 2|
    S: .|
    C: TOP 1 99
    S: +OK |
    S: Subject: two|
    S: |
    S: 1|
    S: 2|
    S: 3|
    S: 4|
    S: .|
    C: TOP 1
    S: +OK |
    S: Subject: two|
    S: |
    S: 1|
    S: 2|
    S: 3|
    S: 4|
    S: .|
    C: TOP 1 -1
    S: +OK |
    S: Subject: two|
    S: |
    S: 1|
    S: 2|
    S: 3|
    S: 4|
    S: .|
    C: TOP 3 0
    S: +OK |
    S: Subject: three|
    S: .|
    "#);
}

#[test]
fn the_classic_program_adds_an_empty_line() {
    let talk = Owner::logged_in(classic()).talk(&["RETR 2", "TOP 1 0", "RETR 3"]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK |
    C: RETR 2
    S: +OK |
    S: Subject: one|
    S: |
    S: first|
    S: ..dot|
    S: ...|
    S: last|
    S: |
    S: .|
    C: TOP 1 0
    S: +OK |
    S: Subject: two|
    S: |
    S: |
    S: .|
    C: RETR 3
    S: +OK |
    S: Subject: three|
    S: |
    S: .|
    "#);
}

#[test]
fn marks_and_last() {
    let talk = Owner::logged_in(Config::default()).talk(&[
        "LAST", "RETR 1", "LAST", "DELE 2", "LAST", "DELE 1", "LAST", "STAT", "LIST", "UIDL",
        "DELE 2", "RETR 2", "TOP 2 0", "LIST 2", "UIDL 2", "RSET", "LAST", "STAT", "DELE 3",
        "QUIT",
    ]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK |
    C: LAST
    S: +OK 0|
    C: RETR 1
    S: +OK |
    S: Subject: two|
    S: |
    S: 1|
    S: 2|
    S: 3|
    S: 4|
    S: .|
    C: LAST
    S: +OK 1|
    C: DELE 2
    S: +OK |
    C: LAST
    S: +OK 2|
    C: DELE 1
    S: +OK |
    C: LAST
    S: +OK 2|
    C: STAT
    S: +OK 1 15|
    C: LIST
    S: +OK |
    S: 3 15|
    S: .|
    C: UIDL
    S: +OK |
    S: 3 id3|
    S: .|
    C: DELE 2
    S: -ERR already deleted|
    C: RETR 2
    S: -ERR already deleted|
    C: TOP 2 0
    S: -ERR already deleted|
    C: LIST 2
    S: -ERR already deleted|
    C: UIDL 2
    S: -ERR already deleted|
    C: RSET
    S: +OK |
    C: LAST
    S: +OK 0|
    C: STAT
    S: +OK 3 69|
    C: DELE 3
    S: +OK |
    C: QUIT
    S: +OK |
    (Updated, deleted [2])
    "#);
}

#[test]
fn numbers_that_name_no_message() {
    let talk = Owner::logged_in(Config::default()).talk(&[
        "RETR",
        "RETR x",
        "LIST 0",
        "DELE 4",
        "UIDL 99999",
        "TOP 0 1",
        "DELE",
        "DELE +1",
        "RETR -1",
        "DELE 4294967297",
        "DELE 18446744073709551617",
        "QUIT",
    ]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK |
    C: RETR
    S: -ERR syntax error|
    C: RETR x
    S: -ERR syntax error|
    C: LIST 0
    S: -ERR messages are counted from 1|
    C: DELE 4
    S: -ERR not that many messages|
    C: UIDL 99999
    S: -ERR not that many messages|
    C: TOP 0 1
    S: -ERR messages are counted from 1|
    C: DELE
    S: -ERR syntax error|
    C: DELE +1
    S: -ERR syntax error|
    C: RETR -1
    S: -ERR syntax error|
    C: DELE 4294967297
    S: -ERR not that many messages|
    C: DELE 18446744073709551617
    S: -ERR not that many messages|
    C: QUIT
    S: +OK |
    (Updated, deleted [])
    "#);
}

#[test]
fn a_message_that_is_gone() {
    let mut owner = Owner::logged_in(Config::default());
    owner.messages[1] = None;
    let talk = owner.talk(&["RETR 2", "RETR 3", "QUIT"]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK |
    C: RETR 2
    S: -ERR unable to open that message|
    C: RETR 3
    S: +OK |
    S: Subject: three|
    S: .|
    C: QUIT
    S: +OK |
    (Updated, deleted [])
    "#);
}

#[test]
fn an_update_that_fails_is_answered_once() {
    let mut owner = Owner::logged_in(Config::default());
    owner.update_answer = UpdateAnswer::Incomplete;
    let talk = owner.talk(&["DELE 1", "QUIT"]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK |
    C: DELE 1
    S: +OK |
    C: QUIT
    S: -ERR unable to unlink all deleted messages|
    (UpdatedInPart, deleted [0])
    "#);
}

#[test]
fn garbled_lines_are_no_commands() {
    let talk = Owner::new(Config::default()).talk(&[
        "USER jo\re",
        "USER jo\0e",
        "USER joe",
        "PASS se\0cret",
        "QUIT\r",
    ]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK <7.99@pop.example.org>|
    C: USER jo\re
    S: -ERR syntax error|
    C: USER jo\x00e
    S: -ERR syntax error|
    C: USER joe
    S: +OK |
    C: PASS se\x00cret
    S: -ERR syntax error|
    C: QUIT\r
    S: -ERR syntax error|
    "#);
    let talk =
        Owner::logged_in(Config::default()).talk(&["DELE 1\0", "DELE 1\r", "QUIT\0", "STAT"]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK |
    C: DELE 1\x00
    S: -ERR syntax error|
    C: DELE 1\r
    S: -ERR syntax error|
    C: QUIT\x00
    S: -ERR syntax error|
    C: STAT
    S: +OK 3 69|
    "#);
}

#[test]
fn what_speaks_http_is_cut_off() {
    let talk = Owner::new(Config::default()).talk(&["GET / HTTP/1.1", "Host: x", "", "USER joe"]);
    insta::assert_snapshot!(talk, @r#"
    S: +OK <7.99@pop.example.org>|
    C: GET / HTTP/1.1
    S: -ERR authorization first|
    C: Host: x
    C: 
    C: USER joe
    (NotPop3)
    "#);
}
