#![expect(clippy::disallowed_methods, reason = "a name server of the test's own")]

use std::str::FromStr;

use hickory_resolver::proto::op::{Message, MessageType};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{A, CNAME, MX, PTR, TXT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

fn mx(preference: u16, host: &str) -> RData {
    RData::MX(MX::new(preference, name(host)))
}

/// What the name server says of a name: a code and records, or nothing, or octets that are no answer.
enum Answer {
    Says(ResponseCode, Vec<RData>),
    /// A first part, and the rest by TCP.
    OnlyByTcp(Vec<RData>),
    Garbage,
    Nothing,
}

fn zone(asked: &str, kind: RecordType) -> Answer {
    use Answer::{Garbage, Nothing, OnlyByTcp, Says};
    use ResponseCode::{NXDomain, NoError, Refused, ServFail};
    let none = || Says(NoError, Vec::new());
    match (asked, kind) {
        ("two.test.", RecordType::MX) => Says(NoError, vec![mx(20, "b.test."), mx(10, "a.test.")]),
        ("null.test.", RecordType::MX) => Says(NoError, vec![mx(0, ".")]),
        ("many.test.", RecordType::MX) => {
            OnlyByTcp((0..200).map(|number| mx(number, "a.test.")).collect())
        }
        ("alias.test.", RecordType::MX) => Says(
            NoError,
            vec![RData::CNAME(CNAME(name("two.test."))), mx(5, "c.test.")],
        ),
        ("loop.test.", _) => Says(NoError, vec![RData::CNAME(CNAME(name("loop.test.")))]),
        ("a.test.", RecordType::A) => Says(
            NoError,
            vec![
                RData::A(A::new(192, 0, 2, 1)),
                RData::A(A::new(192, 0, 2, 2)),
            ],
        ),
        ("a.test.", RecordType::AAAA) => Says(
            NoError,
            vec![RData::AAAA(
                "2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().into(),
            )],
        ),
        ("half.test.", RecordType::A) => Says(NoError, vec![RData::A(A::new(192, 0, 2, 3))]),
        ("half.test.", _) => Says(ServFail, Vec::new()),
        ("empty-half.test.", RecordType::AAAA) => Says(ServFail, Vec::new()),
        ("two.test." | "null.test." | "alias.test." | "empty-half.test.", _) => none(),
        ("txt.test.", RecordType::TXT) => Says(
            NoError,
            vec![RData::TXT(TXT::new(vec!["v=one ".into(), "two".into()]))],
        ),
        ("1.2.0.192.in-addr.arpa.", RecordType::PTR) => {
            Says(NoError, vec![RData::PTR(PTR(name("mx.test.")))])
        }
        ("servfail.test.", _) => Says(ServFail, Vec::new()),
        ("refused.test.", _) => Says(Refused, Vec::new()),
        ("garbage.test.", _) => Garbage,
        ("silent.test.", _) => Nothing,
        _ => Says(NXDomain, Vec::new()),
    }
}

/// The octets of an answer; `None` for none.
fn answer(question: &[u8], by_tcp: bool) -> Option<Vec<u8>> {
    let asked = Message::from_vec(question).ok()?;
    let query = asked.queries.first()?.clone();
    let mut reply = Message::new(
        asked.metadata.id,
        MessageType::Response,
        asked.metadata.op_code,
    );
    reply.metadata.recursion_desired = true;
    reply.metadata.recursion_available = true;
    let records = match zone(&query.name().to_lowercase().to_string(), query.query_type()) {
        Answer::Says(code, records) => {
            reply.metadata.response_code = code;
            records
        }
        Answer::OnlyByTcp(records) => {
            reply.metadata.truncation = !by_tcp;
            if by_tcp { records } else { Vec::new() }
        }
        Answer::Garbage => return Some([&question[..2], &[0xff; 40]].concat()),
        Answer::Nothing => return None,
    };
    let owner = query.name().clone();
    reply.add_query(query);
    reply.add_answers(
        records
            .into_iter()
            .map(|data| Record::from_rdata(owner.clone(), 60, data)),
    );
    Some(reply.to_vec().unwrap())
}

/// A resolver that asks a server of our own.
async fn resolver() -> HickoryResolver {
    // The port must be free for both.
    let (udp, tcp, address) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = udp.local_addr().unwrap();
        if let Ok(tcp) = TcpListener::bind(address).await {
            break (udp, tcp, address);
        }
    };
    tokio::spawn(async move {
        let mut room = [0; 4096];
        while let Ok((octets, peer)) = udp.recv_from(&mut room).await {
            if let Some(reply) = answer(&room[..octets], false) {
                udp.send_to(&reply, peer).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            tokio::spawn(async move {
                while let Ok(octets) = stream.read_u16().await {
                    let mut question = vec![0; octets.into()];
                    stream.read_exact(&mut question).await.unwrap();
                    if let Some(reply) = answer(&question, true) {
                        stream.write_u16(reply.len() as u16).await.unwrap();
                        stream.write_all(&reply).await.unwrap();
                    }
                }
            });
        }
    });
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_millis(200);
    options.attempts = 1;
    HickoryResolver::with_options([address], options).unwrap()
}

fn exchangers(found: Result<Vec<MailExchanger>, LookupError>) -> String {
    match found {
        Ok(found) => found
            .iter()
            .map(|found| format!("{} {};", found.preference, found.host.escape_ascii()))
            .collect(),
        Err(LookupError::NoSuchName) => "no such name".to_owned(),
        Err(LookupError::Temporary(_)) => "later".to_owned(),
    }
}

#[tokio::test]
async fn exchangers_are_told_from_their_absence() {
    let resolver = resolver().await;
    for (domain, expected) in [
        ("two.test", "20 b.test;10 a.test;"),
        ("TWO.test", "20 b.test;10 a.test;"),
        ("null.test", "0 ;"),
        ("alias.test", "5 c.test;"),
        ("a.test", "no such name"),
        ("txt.test", "no such name"),
        ("servfail.test", "later"),
        ("refused.test", "later"),
        ("garbage.test", "later"),
        ("silent.test", "later"),
        ("bad..test", "no such name"),
    ] {
        let found = exchangers(resolver.mx(domain.as_bytes()).await);
        assert_eq!(found, expected, "{domain}");
    }
    let found = resolver.mx(b"loop.test").await;
    assert!(found.is_err() || found == Ok(Vec::new()), "{found:?}");
    let found = resolver.mx(b"many.test").await.unwrap();
    assert_eq!(found.len(), ANSWERS_MAX, "by TCP, and no more");
}

#[tokio::test]
async fn addresses_are_those_of_both_families() {
    let resolver = resolver().await;
    for (host, expected) in [
        ("a.test", "192.0.2.1 192.0.2.2 2001:db8::1"),
        ("half.test", "192.0.2.3"),
        ("two.test", ""),
        ("empty-half.test", "later"),
        ("nowhere.test", "no such name"),
        ("servfail.test", "later"),
    ] {
        let found = match resolver.addresses(host.as_bytes()).await {
            Ok(found) => {
                let found: Vec<_> = found.iter().map(IpAddr::to_string).collect();
                found.join(" ")
            }
            Err(error) => exchangers(Err(error)),
        };
        assert_eq!(found, expected, "{host}");
    }
}

#[tokio::test]
async fn names_and_texts() {
    let resolver = resolver().await;
    let found = resolver.ptr([192, 0, 2, 1].into()).await.unwrap();
    assert_eq!(found, ["mx.test"]);
    let found = resolver.ptr([192, 0, 2, 9].into()).await;
    assert_eq!(found, Err(LookupError::NoSuchName));
    let found = resolver.txt(b"txt.test").await.unwrap();
    assert_eq!(found, ["v=one two"]);
}

#[test]
fn only_what_can_be_a_name_is_asked() {
    let long = [b'a'; 64];
    let many = "abcdefg.".repeat(32);
    for (name, ok) in [
        (&b"example.org"[..], true),
        (b"example.org.", true),
        (b"ex\\ample.org", true),
        (b"\xe9\0 .org", true),
        (b"", false),
        (b".", false),
        (b"a..b", false),
        (b".a", false),
        (b"a..", false),
        (&long[..63], true),
        (&long[..], false),
        (many.as_bytes(), false),
    ] {
        let parsed = parse(name);
        assert_eq!(parsed.is_some(), ok, "{}", name.escape_ascii());
        if let Some(parsed) = parsed {
            assert!(parsed.is_fqdn(), "the search list is never used");
            let expected = name.strip_suffix(b".").unwrap_or(name);
            assert_eq!(unparse(&parsed), expected);
        }
    }
    assert_eq!(unparse(&Name::root()), "");
}
