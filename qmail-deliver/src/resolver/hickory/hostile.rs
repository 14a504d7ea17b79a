//! Name servers that mean no good: the entries of `tests/cases/hostile.json` for dns-client.
//!
//! Whatever comes, there is an answer in time, and what is no answer is a reason to try again later.

use hickory_resolver::proto::op::{Message, MessageType};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, MX, TXT};
use tokio::net::UdpSocket;

use super::*;

/// The octets of what a server sends, one datagram each, to a question.
type Says = fn(&[u8]) -> Vec<Vec<u8>>;

/// A resolver that asks a server who says this.
async fn resolver(says: Says) -> HickoryResolver {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut room = [0; 4096];
        while let Ok((octets, peer)) = socket.recv_from(&mut room).await {
            for reply in says(&room[..octets]) {
                let _ = socket.send_to(&reply, peer).await;
            }
        }
    });
    let mut options = ResolverOpts::default();
    options.timeout = Duration::from_millis(500);
    options.attempts = 1;
    HickoryResolver::with_options([address], options).unwrap()
}

/// The number of a question and the flags of an answer to it, with one question and so many records.
fn head(question: &[u8], records: u8) -> Vec<u8> {
    let numbers = [0x81, 0x80, 0, 1, 0, records, 0, 0, 0, 0];
    [&question[..2], &numbers].concat()
}

/// As [`head`], with the question itself.
fn head_and_question(question: &[u8], records: u8) -> Vec<u8> {
    let name = question[12..].iter().position(|&octet| octet == 0).unwrap();
    [&head(question, records), &question[12..12 + name + 5]].concat()
}

/// A whole answer; the owner of a record is who was asked for, where it has none.
fn answer(question: &[u8], records: Vec<(Option<&str>, RData)>) -> Vec<u8> {
    let asked = Message::from_vec(question).unwrap();
    let query = asked.queries[0].clone();
    let mut reply = Message::new(
        asked.metadata.id,
        MessageType::Response,
        asked.metadata.op_code,
    );
    reply.metadata.recursion_available = true;
    for (owner, data) in records {
        let owner = owner.map_or_else(|| query.name().clone(), name);
        reply.add_answer(Record::from_rdata(owner, 60, data));
    }
    reply.add_query(query);
    reply.to_vec().unwrap()
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn mx(preference: u16, host: &str) -> (Option<&'static str>, RData) {
    (None, RData::MX(MX::new(preference, name(host))))
}

fn is_temporary<T>(found: &Result<T, LookupError>) -> bool {
    matches!(found, Err(LookupError::Temporary(_)))
}

/// DNS-empty-packet, DNS-ptr-loop, DNS-rdlength-lies, DNS-name-300.
#[tokio::test]
async fn what_is_no_answer_is_a_reason_to_try_later() {
    let says: [(&str, Says); 4] = [
        ("DNS-empty-packet", |_| vec![Vec::new()]),
        ("DNS-ptr-loop", |question| {
            let own_place = [0xc0, 0x0c, 0, 15, 0, 1];
            vec![[&head(question, 1)[..], &own_place].concat()]
        }),
        ("DNS-rdlength-lies", |question| {
            let record = [
                0xc0, 0x0c, 0, 15, 0, 1, 0, 0, 0, 60, 0xff, 0xff, 0, 10, 1, b'x', 0,
            ];
            vec![[&head_and_question(question, 1)[..], &record].concat()]
        }),
        ("DNS-name-300", |question| {
            let label = [&[63][..], &[b'a'; 63]].concat();
            let owner = [&label.repeat(5)[..], &[0]].concat();
            let record = [0, 15, 0, 1, 0, 0, 0, 60, 0, 5, 0, 10, 1, b'x', 0];
            vec![[&head_and_question(question, 1)[..], &owner, &record].concat()]
        }),
    ];
    for (id, says) in says {
        let resolver = resolver(says).await;
        let found = resolver.mx(b"far.test").await;
        assert!(is_temporary(&found), "{id}: {found:?}");
        let found = resolver.addresses(b"far.test").await;
        assert!(is_temporary(&found), "{id}: {found:?}");
    }
}

/// DNS-cname-loop, and a chain of a thousand.
#[tokio::test]
async fn aliases_are_followed_a_few_steps() {
    let circle = resolver(|question| {
        let aliases = [("a.test.", "b.test."), ("b.test.", "a.test.")];
        let records = aliases.map(|(from, to)| (Some(from), RData::CNAME(CNAME(name(to)))));
        vec![answer(question, records.into())]
    })
    .await;
    let chain = resolver(|question| {
        let asked = Message::from_vec(question).unwrap().queries[0]
            .name()
            .to_string();
        let number: u32 = asked
            .trim_matches(|it: char| !it.is_ascii_digit())
            .parse()
            .unwrap();
        let next = name(&format!("a{}.test.", number + 1));
        vec![answer(question, vec![(None, RData::CNAME(CNAME(next)))])]
    })
    .await;
    for (resolver, host) in [(circle, &b"a.test"[..]), (chain, b"a1.test")] {
        let found = resolver.mx(host).await;
        assert!(
            found.as_ref().is_ok_and(Vec::is_empty) || found.is_err(),
            "{found:?}"
        );
        let found = resolver.addresses(host).await;
        assert!(
            found.as_ref().is_ok_and(Vec::is_empty) || found.is_err(),
            "{found:?}"
        );
    }
}

/// DNS-mx-preference-wrap: each is told as it is. Their order is made by `remote::mx`, whose tests have it.
#[tokio::test]
async fn preferences_of_all_sizes() {
    let resolver = resolver(|question| {
        let of = [
            (65535, "c.test."),
            (0, "a.test."),
            (0, "b.test."),
            (1, "d.test."),
        ];
        vec![answer(
            question,
            of.map(|(preference, host)| mx(preference, host)).into(),
        )]
    })
    .await;
    let found = resolver.mx(b"far.test").await.unwrap();
    let mut found: Vec<_> = found
        .iter()
        .map(|it| (it.preference, it.host.clone()))
        .collect();
    found.sort();
    let want = [
        (0, "a.test"),
        (0, "b.test"),
        (1, "d.test"),
        (65535, "c.test"),
    ];
    assert!(
        found
            .iter()
            .map(|(preference, host)| (*preference, &host[..]))
            .eq(want.map(|(preference, host)| (preference, host.as_bytes()))),
        "{found:?}"
    );
}

/// A thousand answers under other numbers.
fn forged(question: &[u8]) -> Vec<Vec<u8>> {
    let asked = u16::from_be_bytes([question[0], question[1]]);
    let forge = |offset: u16| {
        let mut reply = answer(question, vec![mx(1, "evil.test.")]);
        reply[..2].copy_from_slice(&asked.wrapping_add(offset).to_be_bytes());
        reply
    };
    (1..=1000).map(forge).collect()
}

/// DNS-wrong-id: what has another number is not believed, whether or not the right one follows.
#[tokio::test]
async fn answers_to_other_questions_are_not_believed() {
    let alone = resolver(forged).await;
    let found = alone.mx(b"far.test").await;
    assert!(is_temporary(&found), "{found:?}");
    let both = resolver(|question| {
        let mut replies = forged(question);
        replies.push(answer(question, vec![mx(1, "right.test.")]));
        replies
    })
    .await;
    match both.mx(b"far.test").await {
        Ok(found) => assert_eq!(found[0].host, "right.test"),
        Err(error) => assert!(matches!(error, LookupError::Temporary(_)), "{error:?}"),
    }
    // Another question under the right number is no answer either.
    let other = resolver(|question| {
        let mut other = question.to_vec();
        other[13] ^= 1;
        vec![answer(&other, vec![mx(1, "evil.test.")])]
    })
    .await;
    let found = other.mx(b"far.test").await;
    assert!(is_temporary(&found), "{found:?}");
}

/// DNS-aaaa-mapped: it is told as it is; that it is this host's own, `remote::mx` sees.
#[tokio::test]
async fn a_mapped_address_is_an_address() {
    let resolver = resolver(|question| {
        let asked = Message::from_vec(question).unwrap().queries[0].query_type();
        let mapped = "::ffff:127.0.0.1".parse::<std::net::Ipv6Addr>().unwrap();
        let records = match asked {
            RecordType::AAAA => vec![(None, RData::AAAA(AAAA(mapped)))],
            _ => vec![(None, RData::A(A::new(192, 0, 2, 1)))],
        };
        vec![answer(question, records)]
    })
    .await;
    let found = resolver.addresses(b"mx.test").await.unwrap();
    assert!(
        found
            .iter()
            .any(|it| it.to_canonical() == IpAddr::from([127, 0, 0, 1])),
        "{found:?}"
    );
}

/// DNS-dkim-key-odd: nothing here reads keys; the record that would hold one is a text of bounded size.
#[tokio::test]
async fn a_large_text_is_no_trouble() {
    let resolver = resolver(|question| {
        let text = vec!["k".repeat(255); 200];
        vec![answer(question, vec![(None, RData::TXT(TXT::new(text)))])]
    })
    .await;
    match resolver.txt(b"x._domainkey.far.test").await {
        Ok(found) => assert!(found.iter().all(|text| text.len() <= 255 * 200)),
        Err(error) => assert!(matches!(error, LookupError::Temporary(_)), "{error:?}"),
    }
}
