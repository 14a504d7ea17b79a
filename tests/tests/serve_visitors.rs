//! What `qmail serve` finds out about SMTP clients before it greets them, and how many it lets in.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::thread;
use std::time::Instant;

use qmail_tests::dns::NameServer;
use qmail_tests::receiver::{proxied, queued, send};
use qmail_tests::server::{Client, PATIENCE, Server};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_qmail-under-test");

/// A host whose clients come through a proxy.
fn host(home: &Path, files: &[(&str, &str)], arguments: &[&str]) -> Server {
    let files = [&[("proxyclients", "127.0.0.1\n")], files].concat();
    qmail_tests::receiver::start(PROGRAM, home, &files, arguments)
}

/// The same, with a name server that knows this.
fn host_with_names(home: &Path, files: &[(&str, &str)], zone: Value) -> (Server, NameServer) {
    let zone = serde_json::from_value(zone).unwrap();
    let names = NameServer::start(zone, (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = names.address().to_string();
    (host(home, files, &["--resolver", &address]), names)
}

fn greeted(client: &mut Client) {
    let greeting = client.reply();
    assert!(greeting.starts_with("220 "), "{greeting}");
}

/// What is said to a recipient elsewhere: 250 to who may relay.
fn relays(client: &mut Client) -> bool {
    client.expect("EHLO c", "250");
    client.expect("MAIL FROM:<joe@elsewhere.test>", "250");
    let reply = client.command("RCPT TO:<someone@far.test>");
    assert!(
        reply.starts_with("250") || reply.starts_with("553 5.7.1"),
        "{reply}"
    );
    reply.starts_with("250")
}

#[test]
fn clients_on_dns_lists_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let zone = json!({
        "1.2.0.192.bad.test": {"A": ["127.0.0.2"], "TXT": "listed,\r\n250 see https://bad.test"},
        "2.2.0.192.bad.test": {"fail": true},
        "3.2.0.192.bad.test": {"A": ["127.0.0.2"], "TXT": "listed"},
        "3.2.0.192.good.test": {"A": ["127.0.0.2"]},
        "4.2.0.192.bad.test": {"A": ["127.0.0.2"], "TXT": "listed"},
        "5.2.0.192.bad.test": {"A": ["127.0.0.2"], "TXT": "listed"},
    });
    let files = [
        ("dnsbl", "+good.test\nbad.test\n"),
        ("relayclients", "192.0.2.4\n"),
        ("smtprules", "192.0.2.5:allow,RBLSMTPD=\"\"\n"),
    ];
    let (server, _names) = host_with_names(home.path(), &files, zone);
    for (last, reply) in [
        (1, "553 5.7.1 listed,??250 see https://bad.test"),
        // A list that does not answer refuses nobody.
        (2, "250"),
        // On a list of good clients, which is asked first.
        (3, "250"),
        // May relay.
        (4, "250"),
        // A rule says that it is on none.
        (5, "250"),
        // On none.
        (6, "250"),
    ] {
        let mut client = proxied(&server, last);
        greeted(&mut client);
        client.expect("MAIL FROM:<joe@elsewhere.test>", "250");
        client.expect("RCPT TO:<ann@mail.test>", reply);
    }
}

#[test]
fn rules_go_by_names_that_lead_back() {
    let home = tempfile::tempdir().unwrap();
    let zone = json!({
        "192.0.2.1": {"PTR": "Friend.client.test"},
        "friend.client.test": {"A": ["192.0.2.9", "192.0.2.1"]},
        // Whoever owns an address may give it any name.
        "192.0.2.2": {"PTR": "friend.client.test"},
        "192.0.2.3": {"PTR": "a.bad.test"},
        "a.bad.test": {"A": ["192.0.2.3"]},
        "192.0.2.4": {"PTR": "other.test"},
        "other.test": {"A": ["192.0.2.4"]},
        "192.0.2.5": {"fail": true},
        "192.0.2.6": {"PTR": "nowhere.test"},
    });
    let rules =
        "=friend.client.test:allow,RELAYCLIENT=\"\"\n=.bad.test:deny\n=:allow,DATABYTES=\"7\"\n";
    let (server, _names) = host_with_names(home.path(), &[("smtprules", rules)], zone);
    for (last, may_relay) in [(1, true), (2, false), (5, false), (6, false), (7, false)] {
        let mut client = proxied(&server, last);
        greeted(&mut client);
        assert_eq!(relays(&mut client), may_relay, "192.0.2.{last}");
    }
    assert_eq!(proxied(&server, 3).reply(), "", "denied");
    let mut named = proxied(&server, 4);
    greeted(&mut named);
    assert!(named.expect("EHLO c", "250").contains("SIZE 7"));

    let mut friend = proxied(&server, 1);
    greeted(&mut friend);
    friend.expect("EHLO c", "250");
    send(&mut friend, "someone@far.test");
    server.wait_for_line("new msg");
    let text = queued(home.path());
    let from = "from friend.client.test (HELO c) (192.0.2.1)";
    assert!(text.contains(from), "{text}");
}

/// Answers at port 113 of this address: with this line, or with silence. `None` where only root may.
fn ident_server(address: Ipv4Addr, answer: Option<&'static str>) -> Option<()> {
    let listener = match TcpListener::bind((address, 113)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        listener => listener.unwrap(),
    };
    thread::spawn(move || {
        let mut silent = Vec::new();
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let mut query = String::new();
            reader.read_line(&mut query).unwrap();
            match answer {
                Some(answer) => {
                    let answer = format!("{} : {answer}\r\n", query.trim_end());
                    reader.get_mut().write_all(answer.as_bytes()).unwrap();
                }
                None => silent.push(reader),
            }
        }
    });
    Some(())
}

#[test]
fn ident_answers_are_noted_and_rules_go_by_them() {
    let [joe, silent, none] = [2, 3, 4].map(|last| Ipv4Addr::new(127, 0, 113, last));
    let there = ident_server(joe, Some("USERID : UNIX : joe\"")).and(ident_server(silent, None));
    if there.is_none() {
        println!("skipped: only root may answer at port 113");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let files = [
        ("timeoutident", "1\n"),
        ("smtprules", "joe\"@127.0.113.2:allow,RELAYCLIENT=\"\"\n"),
    ];
    let server = host(home.path(), &files, &[]);
    for (address, may_relay) in [(none, false), (silent, false), (joe, true)] {
        let mut client = Client::open_from(address, server.smtp());
        greeted(&mut client);
        assert_eq!(relays(&mut client), may_relay, "{address}");
    }
    let mut client = Client::open_from(joe, server.smtp());
    greeted(&mut client);
    send(&mut client, "someone@far.test");
    server.wait_for_line("new msg");
    let text = queued(home.path());
    assert!(text.contains("(joe?@127.0.113.2)"), "{text}");
}

#[test]
fn who_may_relay_need_not_wait() {
    let home = tempfile::tempdir().unwrap();
    let files = [("greetdelay", "60\n"), ("relayclients", "192.0.2.1\n")];
    let server = host(home.path(), &files, &[]);
    let mut client = proxied(&server, 1);
    client.send(b"EHLO c\r\n");
    // Well within the minute, or the client here gives up.
    greeted(&mut client);
}

#[test]
fn one_address_gets_its_share_of_sessions() {
    let home = tempfile::tempdir().unwrap();
    let server = host(home.path(), &[("concurrencyperip", "2\n")], &[]);
    let mut first = proxied(&server, 1);
    let mut second = proxied(&server, 1);
    greeted(&mut first);
    greeted(&mut second);
    let reply = proxied(&server, 1).reply();
    assert!(reply.starts_with("421 4.7.0 too many"), "{reply}");
    greeted(&mut proxied(&server, 2));
    first.expect("QUIT", "221");
    assert_eq!(first.line(), "", "closed");
    // The session is over a moment after its client sees that.
    let start = Instant::now();
    while !proxied(&server, 1).reply().starts_with("220 ") {
        assert!(start.elapsed() < PATIENCE);
    }
}

#[test]
fn one_address_may_not_come_too_fast() {
    let home = tempfile::tempdir().unwrap();
    let files = [
        ("connectionsperminute", "2\n"),
        ("relayclients", "192.0.2.3\n"),
    ];
    let server = host(home.path(), &files, &[]);
    for _ in 0..2 {
        greeted(&mut proxied(&server, 1));
    }
    let reply = proxied(&server, 1).reply();
    assert!(reply.starts_with("421 4.7.0 too many"), "{reply}");
    greeted(&mut proxied(&server, 2));
    for _ in 0..3 {
        greeted(&mut proxied(&server, 3));
    }
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let home = tempfile::tempdir().unwrap();
    let server = host(home.path(), &[("concurrencyincoming", "2\n")], &[]);
    let mut sessions = [proxied(&server, 1), proxied(&server, 2)];
    sessions.iter_mut().for_each(greeted);
    let reply = Client::open(server.smtp()).reply();
    assert!(reply.starts_with("421 4.3.2 too many"), "{reply}");
}

#[test]
fn errors_and_recipients_have_limits() {
    let home = tempfile::tempdir().unwrap();
    let files = [("smtperrors", "3\n"), ("smtprecipients", "100\n")];
    let server = host(home.path(), &files, &[]);
    let mut client = proxied(&server, 1);
    greeted(&mut client);
    assert!(
        client
            .expect("EHLO c", "250")
            .contains("LIMITS RCPTMAX=100")
    );
    client.expect("MAIL FROM:<>", "250");
    for _ in 0..100 {
        client.expect("RCPT TO:<ann@mail.test>", "250");
    }
    client.expect("RCPT TO:<ann@mail.test>", "452");
    client.expect("RSET", "250");
    for _ in 0..3 {
        client.expect("BOGUS", "502");
    }
    client.expect("NOOP", "250");
    client.expect("BOGUS", "502");
    let last = client.reply();
    assert!(last.starts_with("421"), "{last}");
    assert_eq!(client.line(), "", "closed");
}

#[test]
fn deliveries_ask_the_same_name_server() {
    let home = tempfile::tempdir().unwrap();
    let files = [
        ("concurrencyremote", "1\n"),
        ("relayclients", "192.0.2.1\n"),
    ];
    // A null MX.
    let zone = json!({"never.test": {"MX": [[0, ""]]}});
    let (server, _names) = host_with_names(home.path(), &files, zone);
    for (recipient, failure) in [
        ("x@never.test", "(#5.1.10)"),
        ("x@gone.test", "couldn't_find_any_host_named_gone.test"),
    ] {
        let mut client = proxied(&server, 1);
        greeted(&mut client);
        send(&mut client, recipient);
        server.wait_for_line(failure);
    }
}

#[test]
fn without_names_in_rules_nobody_is_asked_for_them() {
    let home = tempfile::tempdir().unwrap();
    // A name server that never answers.
    let silent = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address: SocketAddr = silent.local_addr().unwrap();
    let rules = [("smtprules", "192.0.2.1:allow,RELAYCLIENT=\"\"\n")];
    let server = host(home.path(), &rules, &["--resolver", &address.to_string()]);
    greeted(&mut proxied(&server, 1));
    greeted(&mut proxied(&server, 2));
    silent.set_nonblocking(true).unwrap();
    let asked = silent.recv_from(&mut [0; 512]);
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::WouldBlock);
}
