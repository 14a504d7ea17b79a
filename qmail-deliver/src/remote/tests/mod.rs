mod net;
mod routes;
mod tls;

use bytes::Bytes;
use std::net::IpAddr;
use std::time::Duration;

use insta::assert_snapshot;
use qmail_core::{Body, CHUNK_OCTETS_MAX, Content, MemoryContent, ReversePath};
use tokio::time::Instant as TokioInstant;

use super::*;
use crate::FixedResolver;
use net::{Host, Net, Server};

/// Follows tokio's clock, which tests may stop.
fn now() -> Instant {
    TokioInstant::now().into_std()
}

fn config() -> RemoteConfig {
    let mut config = RemoteConfig::new("me.test").unwrap();
    config.own_addresses = vec![[192, 0, 2, 200].into()];
    config
}

fn delivery_with(config: RemoteConfig, net: &Net) -> RemoteDelivery {
    let resolver = FixedResolver::new()
        .with_mx("two.test", 10, "near.test")
        .with_mx("two.test", 20, "far.test")
        .with_address("one.test", [192, 0, 2, 1])
        .with_address("other.test", [192, 0, 2, 1])
        .with_address("near.test", [192, 0, 2, 1])
        .with_address("far.test", [192, 0, 2, 2])
        .with_address(
            "six.test",
            "2001:db8::6".parse::<std::net::IpAddr>().unwrap(),
        )
        .with_mx("null.test", 0, "")
        .with_address("self.test", [192, 0, 2, 200]);
    RemoteDelivery::new(config, Arc::new(resolver), Arc::new(net.clone()), now, 1)
}

fn delivery(net: &Net) -> RemoteDelivery {
    delivery_with(config(), net)
}

fn job(recipients: &[&str]) -> Job {
    Job {
        message: 0,
        content: Arc::new(MemoryContent("Subject: x\n\nhi\n".into())),
        sender: ReversePath::new("s@x").unwrap(),
        recipients: recipients
            .iter()
            .map(|&recipient| Address::new(recipient.to_owned()).unwrap())
            .collect(),
    }
}

async fn deliver(delivery: &RemoteDelivery, recipients: &[&str]) -> String {
    let outcomes = delivery.deliver(job(recipients)).await;
    assert_eq!(outcomes.len(), recipients.len());
    outcomes.iter().map(shown).collect()
}

fn shown(outcome: &Outcome) -> String {
    let text = String::from_utf8_lossy(outcome.report().as_bytes());
    format!("{}{text}", char::from(outcome.letter()))
}

/// To one host that is like this.
async fn deliver_to(server: Server, recipients: &[&str]) -> String {
    let net = Net::default().at("192.0.2.1:25", server.host());
    deliver(&delivery(&net), recipients).await
}

#[tokio::test]
async fn a_message_is_accepted() {
    let net = Net::default().at("192.0.2.1:25", Server::new().host());
    let delivery = delivery(&net);
    assert_snapshot!(deliver(&delivery, &["a@one.test", "b@one.test"]).await, @r"
    K192.0.2.1 accepted message.
    Remote host said: 250 taken
    K192.0.2.1 accepted message.
    Remote host said: 250 taken
    ");
    delivery.close().await;
    assert_snapshot!(net.transcript(), @r"
    -- connect to 192.0.2.1:25
    S: 220 hi
    C: EHLO me.test
    S: 250-mx.test
    S: 250 PIPELINING
    C: MAIL FROM:<s@x>
    S: 250 sender ok
    C: RCPT TO:<a@one.test>
    S: 250 recipient ok
    C: RCPT TO:<b@one.test>
    S: 250 recipient ok
    C: DATA
    S: 354 go
    C: Subject: x
    C: 
    C: hi
    C: .
    S: 250 taken
    C: QUIT
    S: 221 bye
    ");
}

#[tokio::test]
async fn each_recipient_has_an_answer() {
    let server = Server::new()
        .on("RCPT TO:<no@", &["550-no such\r\n550 user"])
        .on("RCPT TO:<later@", &["451 later"]);
    let recipients = ["no@one.test", "yes@one.test", "later@one.test"];
    assert_snapshot!(deliver_to(server.clone(), &recipients).await, @r"
    D192.0.2.1 does not like recipient.
    Remote host said: 550-no such
    550 user
    K192.0.2.1 accepted message.
    Remote host said: 250 taken
    Z192.0.2.1 does not like recipient.
    Remote host said: 451 later
    ");
    let classic = server.without_pipelining();
    let refused = ["no@one.test", "later@one.test"];
    assert_snapshot!(deliver_to(classic, &refused).await, @r"
    D192.0.2.1 does not like recipient.
    Remote host said: 550-no such
    550 user
    Giving up on 192.0.2.1.
    Z192.0.2.1 does not like recipient.
    Remote host said: 451 later
    Giving up on 192.0.2.1.
    ");
}

#[tokio::test]
async fn every_refusal_has_its_words() {
    for (command, reply, expected) in [
        (
            "greeting",
            "554 go away",
            "ZConnected to 192.0.2.1 but greeting failed.\nRemote host said: 554 go away\n",
        ),
        (
            "greeting",
            "421-too\r\n421 busy",
            "ZConnected to 192.0.2.1 but greeting failed.\nRemote host said: 421-too\n421 busy\n",
        ),
        (
            "HELO",
            "550 bad name",
            "ZConnected to 192.0.2.1 but my name was rejected.\nRemote host said: 550 bad name\n",
        ),
        (
            "MAIL",
            "550 not you",
            "DConnected to 192.0.2.1 but sender was rejected.\nRemote host said: 550 not you\n",
        ),
        (
            "MAIL",
            "451 greylisted",
            "ZConnected to 192.0.2.1 but sender was rejected.\nRemote host said: 451 greylisted\n",
        ),
        (
            "RCPT",
            "552 too many",
            "D192.0.2.1 does not like recipient.\nRemote host said: 552 too many\nGiving up on 192.0.2.1.\n",
        ),
        (
            "RCPT",
            "421 closing",
            "Z192.0.2.1 does not like recipient.\nRemote host said: 421 closing\n",
        ),
        (
            "DATA",
            "554 no valid",
            "D192.0.2.1 failed on DATA command.\nRemote host said: 554 no valid\n",
        ),
        (
            "DATA",
            "451 later",
            "Z192.0.2.1 failed on DATA command.\nRemote host said: 451 later\n",
        ),
        (
            ".",
            "554 spam",
            "D192.0.2.1 failed after I sent the message.\nRemote host said: 554 spam\n",
        ),
        (
            ".",
            "452 disk full",
            "Z192.0.2.1 failed after I sent the message.\nRemote host said: 452 disk full\n",
        ),
        (
            ".",
            "+OK",
            "ZConnected to 192.0.2.1 but got no proper reply. Possible duplicate! (#4.5.0)\n",
        ),
        (
            "MAIL",
            "+OK",
            "ZConnected to 192.0.2.1 but got no proper reply. (#4.5.0)\n",
        ),
        (
            ".",
            "close",
            "ZConnected to 192.0.2.1 but connection died. Possible duplicate! (#4.4.2)\n",
        ),
        (
            "DATA",
            "close",
            "ZConnected to 192.0.2.1 but connection died. (#4.4.2)\n",
        ),
        (
            "greeting",
            "close",
            "ZConnected to 192.0.2.1 but connection died. (#4.4.2)\n",
        ),
    ] {
        let mut server = Server::new().on(command, &[reply]);
        let mut classic = server.clone().without_pipelining();
        if command == "HELO" {
            // It is said only where EHLO is not known.
            server = server.on("EHLO", &["500 what?"]);
            classic = server.clone();
        }
        for server in [server, classic] {
            let outcome = deliver_to(server, &["a@one.test"]).await;
            assert_eq!(outcome, expected, "{command} {reply}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_given_up() {
    for (command, expected) in [
        (
            "greeting",
            "ZConnected to 192.0.2.1 but connection died. (#4.4.2)\n",
        ),
        (
            "EHLO",
            "ZConnected to 192.0.2.1 but connection died. (#4.4.2)\n",
        ),
        (
            "MAIL",
            "ZConnected to 192.0.2.1 but connection died. (#4.4.2)\n",
        ),
        (
            "DATA",
            "ZConnected to 192.0.2.1 but connection died. (#4.4.2)\n",
        ),
        (
            ".",
            "ZConnected to 192.0.2.1 but connection died. Possible duplicate! (#4.4.2)\n",
        ),
    ] {
        let server = Server::new().on(command, &["hang"]);
        assert_eq!(deliver_to(server, &["a@one.test"]).await, expected);
    }
}

/// Whatever octet is the last to arrive: it is delivered if the last reply is whole, and otherwise waits.
#[tokio::test]
async fn a_cut_anywhere_loses_nothing() {
    for server in [Server::new(), Server::new().without_pipelining()] {
        let server = server.on("RCPT TO:<no@", &["550 no"]);
        let recipients = ["no@one.test", "yes@one.test"];
        let mut deferred = 0;
        for cut in 0.. {
            let net = Net::default().at("192.0.2.1:25", server.clone().cut_after(cut).host());
            let outcomes = delivery(&net).deliver(job(&recipients)).await;
            if let Outcome::Delivered(_) = &outcomes[1] {
                assert!(net.transcript().contains("S: 250 taken"));
                assert!(matches!(outcomes[0], Outcome::Failed(_)));
                break;
            }
            deferred += 1;
            let text = shown(&outcomes[1]);
            assert!(
                text.starts_with("ZConnected to 192.0.2.1 but "),
                "{cut}: {text}"
            );
            let dot_sent = net.transcript().contains("C: .\n");
            assert_eq!(
                text.contains("Possible duplicate!"),
                dot_sent,
                "{cut}: {text}"
            );
            assert!(!matches!(outcomes[0], Outcome::Delivered(_)));
        }
        assert!(deferred > 60, "{deferred} cuts");
    }
}

/// Whatever octet is the last that the server reads.
#[tokio::test]
async fn a_server_that_stops_listening_has_nothing() {
    for server in [Server::new(), Server::new().without_pipelining()] {
        for octets in 0.. {
            let net = Net::default().at("192.0.2.1:25", server.clone().deaf_after(octets).host());
            let outcome = deliver(&delivery(&net), &["a@one.test"]).await;
            let transcript = net.transcript();
            if transcript.contains("S: 250 taken") {
                assert!(outcome.starts_with("K192.0.2.1 accepted"), "{outcome}");
                assert_eq!(octets, 80, "all that the client says up to the final dot");
                break;
            }
            assert!(
                outcome.starts_with("ZConnected to 192.0.2.1 but "),
                "{outcome}"
            );
        }
    }
}

#[tokio::test]
async fn exchangers_are_tried_in_order_until_one_greets() {
    let busy = Server::new().on("greeting", &["421 busy"]).host();
    let good = Server::new().host();
    for (near, far, expected) in [
        (good.clone(), good.clone(), "K192.0.2.1 accepted"),
        ([Host::Refuses], good.clone(), "K192.0.2.2 accepted"),
        (busy.clone(), good.clone(), "K192.0.2.2 accepted"),
        (
            Server::new().on("greeting", &["close"]).host(),
            good.clone(),
            "K192.0.2.2 accepted",
        ),
        (
            Server::new().on("MAIL", &["451 no"]).host(),
            good.clone(),
            "ZConnected to 192.0.2.1 but sender",
        ),
        (
            busy.clone(),
            [Host::Refuses],
            "ZConnected to 192.0.2.1 but greeting",
        ),
        (
            [Host::Refuses],
            [Host::Refuses],
            "ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n",
        ),
    ] {
        let net = Net::default()
            .at("192.0.2.1:25", near)
            .at("192.0.2.2:25", far);
        let outcome = deliver(&delivery(&net), &["a@two.test"]).await;
        assert!(outcome.starts_with(expected), "{outcome}");
    }
}

#[tokio::test]
async fn what_is_never_connected_to() {
    let net = Net::default();
    let delivery = delivery(&net);
    for (recipient, expected) in [
        (
            "a@null.test",
            "DSorry, null.test does not accept mail. (#5.1.10)\n",
        ),
        (
            "a@gone.test",
            "DSorry, I couldn't find any host named gone.test. (#5.1.2)\n",
        ),
        ("a", "DSorry, address must include host name. (#5.1.3)\n"),
        (
            "a@self.test",
            "DSorry. Although I'm listed as a best-preference MX or A for that host,\n\
             it isn't in my control/locals file, so I don't treat it as local. (#5.4.6)\n",
        ),
    ] {
        assert_eq!(deliver(&delivery, &[recipient]).await, expected);
    }
    assert_eq!(net.transcript(), "");
}

#[tokio::test]
async fn a_route_takes_domains_together() {
    let net = Net::default().at("192.0.2.200:2525", Server::new().host());
    let mut config = config();
    let routes = b"two.test:self.test:2525\n.x:SELF.test:2525\nself.test:\n";
    config.routes = SmtpRoutes::parse(routes, &mut Vec::new());
    let delivery = delivery_with(config, &net);
    let address = |text: &'static str| Address::new(text).unwrap();
    let destination = delivery.destination(&address("a@Two.test"));
    assert_eq!(destination.recipients_max, 100);
    assert_eq!(destination, delivery.destination(&address("b@any.x")));
    assert_ne!(destination, delivery.destination(&address("b@self.test")));
    let outcomes = deliver(&delivery, &["a@two.test", "b@any.x"]).await;
    assert_eq!(outcomes.matches("K192.0.2.200 accepted").count(), 2);
    assert_eq!(net.transcript().matches("C: MAIL").count(), 1);

    delivery.set_routes(SmtpRoutes::default());
    let outcomes = deliver(&delivery, &["a@null.test", "b@gone.test", "c@null.test"]).await;
    assert_snapshot!(outcomes, @r"
    DSorry, null.test does not accept mail. (#5.1.10)
    DSorry, I couldn't find any host named gone.test. (#5.1.2)
    DSorry, null.test does not accept mail. (#5.1.10)
    ");
}

#[tokio::test]
async fn a_connection_serves_several_messages() {
    let net = Net::default().at("192.0.2.1:25", Server::new().host());
    let delivery = delivery(&net);
    for _ in 0..3 {
        let outcome = deliver(&delivery, &["a@one.test"]).await;
        assert!(outcome.starts_with("K192.0.2.1 accepted"), "{outcome}");
    }
    // Another domain is another destination, even at the same host.
    deliver(&delivery, &["a@other.test"]).await;
    delivery.close().await;
    let transcript = net.transcript();
    assert_eq!(transcript.matches("-- connect").count(), 2);
    assert_eq!(transcript.matches("C: MAIL").count(), 4);
    assert_eq!(transcript.matches("C: QUIT").count(), 2);
}

#[tokio::test]
async fn a_refused_message_does_not_spoil_the_next() {
    let server = Server::new()
        .on("MAIL", &["550 not now", "250 ok"])
        .on("RCPT", &["550 nobody", "250 ok"]);
    let net = Net::default().at("192.0.2.1:25", server.host());
    let delivery = delivery(&net);
    assert_snapshot!(deliver(&delivery, &["a@one.test"]).await, @r"
    DConnected to 192.0.2.1 but sender was rejected.
    Remote host said: 550 not now
    ");
    let outcome = deliver(&delivery, &["a@one.test"]).await;
    assert!(outcome.starts_with("K192.0.2.1 accepted"), "{outcome}");
    let transcript = net.transcript();
    assert_eq!(transcript.matches("-- connect").count(), 1);
    assert_eq!(transcript.matches("C: RSET").count(), 1);
}

#[tokio::test]
async fn a_connection_that_has_died_is_replaced() {
    // The second message meets a server that is gone in another way each time.
    for server in [
        Server::new().on("MAIL", &["250 ok", "close"]),
        Server::new().on("MAIL", &["250 ok", "421 idle for too long"]),
        Server::new().on("DATA", &["354 go", "close"]),
        Server::new().on("RCPT", &["250 ok", "421 enough"]),
        Server::new()
            .without_pipelining()
            .on("MAIL", &["250 ok", "close"]),
    ] {
        let net = Net::default().at(
            "192.0.2.1:25",
            [Host::Serves(server), Host::Serves(Server::new())],
        );
        let delivery = delivery(&net);
        for _ in 0..2 {
            let outcome = deliver(&delivery, &["a@one.test"]).await;
            assert!(outcome.starts_with("K192.0.2.1 accepted"), "{outcome}");
        }
        assert_eq!(net.transcript().matches("-- connect").count(), 2);
    }
}

#[tokio::test]
async fn what_may_have_arrived_is_not_sent_again_at_once() {
    let server = Server::new().on(".", &["250 ok", "close"]);
    let net = Net::default().at("192.0.2.1:25", server.host());
    let delivery = delivery(&net);
    deliver(&delivery, &["a@one.test"]).await;
    assert_eq!(
        deliver(&delivery, &["a@one.test"]).await,
        "ZConnected to 192.0.2.1 but connection died. Possible duplicate! (#4.4.2)\n"
    );
    assert_eq!(net.transcript().matches("-- connect").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_kept_for_a_while() {
    let net = Net::default().at("192.0.2.1:25", Server::new().host());
    let delivery = delivery(&net);
    deliver(&delivery, &["a@one.test"]).await;
    tokio::time::sleep(Duration::from_millis(4900)).await;
    assert!(!net.transcript().contains("QUIT"));
    deliver(&delivery, &["a@one.test"]).await;
    tokio::time::sleep(Duration::from_millis(5100)).await;
    let transcript = net.transcript();
    assert!(!transcript.contains("-- connect"), "{transcript}");
    assert!(
        transcript.ends_with("C: QUIT\nS: 221 bye\n"),
        "{transcript}"
    );
    deliver(&delivery, &["a@one.test"]).await;
    assert!(net.transcript().starts_with("-- connect"));
}

#[tokio::test]
async fn a_worn_connection_is_not_kept() {
    let net = Net::default().at("192.0.2.1:25", Server::new().host());
    let mut limited = config();
    limited.transactions_max = 2;
    let delivery = delivery_with(limited, &net);
    for _ in 0..4 {
        deliver(&delivery, &["a@one.test"]).await;
    }
    assert_eq!(net.transcript().matches("-- connect").count(), 2);

    let mut none = config();
    none.idle_timeout = Duration::ZERO;
    let delivery = delivery_with(none, &net);
    for _ in 0..2 {
        deliver(&delivery, &["a@one.test"]).await;
    }
    assert_eq!(net.transcript().matches("-- connect").count(), 2);
}

#[tokio::test]
async fn idle_connections_are_bounded() {
    let net = Net::default().at("192.0.2.1:25", Server::new().host());
    let mut config = config();
    config.idle_connections_max = 1;
    let delivery = delivery_with(config, &net);
    deliver(&delivery, &["a@one.test"]).await;
    deliver(&delivery, &["a@other.test"]).await;
    deliver(&delivery, &["a@one.test"]).await;
    delivery.close().await;
    let transcript = net.transcript();
    assert_eq!(transcript.matches("-- connect").count(), 3);
    assert_eq!(transcript.matches("C: QUIT").count(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_dead_address_is_left_alone_after_two_timeouts() {
    let net = Net::default()
        .at("192.0.2.1:25", [Host::Silent])
        .at("192.0.2.2:25", Server::new().host());
    let mut config = config();
    config.idle_timeout = Duration::ZERO;
    let delivery = delivery_with(config, &net);
    let mut tried = Vec::new();
    for _ in 0..4 {
        let outcome = deliver(&delivery, &["a@two.test"]).await;
        assert!(outcome.starts_with("K192.0.2.2 accepted"), "{outcome}");
        tried.push(net.transcript().contains("-- connect to 192.0.2.1"));
        tokio::time::sleep(Duration::from_secs(120)).await;
    }
    assert_eq!(tried, [true, true, false, false]);
    tokio::time::sleep(Duration::from_secs(5824)).await;
    deliver(&delivery, &["a@two.test"]).await;
    assert!(net.transcript().contains("-- connect to 192.0.2.1"));
}

/// Only its last address is not left alone.
struct LeavesAlone(Net);

#[async_trait]
impl Connect for LeavesAlone {
    async fn connect(&self, address: SocketAddr) -> std::io::Result<Box<dyn Stream>> {
        self.0.connect(address).await
    }

    fn leaves_alone(&self, address: IpAddr) -> bool {
        address != IpAddr::from([192, 0, 2, 99])
    }
}

#[tokio::test]
async fn what_is_left_alone_is_no_try() {
    let net = Net::default().at("192.0.2.99:25", Server::new().host());
    let mut resolver = FixedResolver::new();
    for number in (1..=20).chain([99]) {
        resolver = resolver.with_address("many.test", [192, 0, 2, number]);
    }
    let connect = Arc::new(LeavesAlone(net.clone()));
    let delivery = RemoteDelivery::new(config(), Arc::new(resolver), connect, now, 1);
    let outcome = deliver(&delivery, &["a@many.test"]).await;
    assert!(outcome.starts_with("K192.0.2.99 accepted"), "{outcome}");
    assert_eq!(net.transcript().matches("-- connect").count(), 1);
}

#[tokio::test]
async fn a_refusing_address_is_tried_every_time() {
    let net = Net::default();
    let delivery = delivery(&net);
    for _ in 0..4 {
        deliver(&delivery, &["a@six.test"]).await;
    }
    assert_eq!(net.transcript().matches("[2001:db8::6]:25").count(), 4);
}

const LINE_OCTETS: usize = 1024;

/// A message of many chunks that can be read so often, and then breaks.
struct Chunks {
    good: usize,
    broken: bool,
}

#[async_trait]
impl Content for Chunks {
    async fn open(&self) -> std::io::Result<Box<dyn Body>> {
        Ok(Box::new(Self { ..*self }))
    }

    fn octets(&self) -> u64 {
        (self.good * CHUNK_OCTETS_MAX) as u64
    }
}

#[async_trait]
impl Body for Chunks {
    async fn next(&mut self) -> std::io::Result<Option<Bytes>> {
        match self.good.checked_sub(1) {
            Some(left) => {
                self.good = left;
                let line = [&[b'x'; LINE_OCTETS - 1][..], b"\n"].concat();
                Ok(Some(Bytes::from(
                    line.repeat(CHUNK_OCTETS_MAX / LINE_OCTETS),
                )))
            }
            None if self.broken => Err(std::io::Error::other("broken")),
            None => Ok(None),
        }
    }
}

#[tokio::test]
async fn a_text_that_cannot_be_read_never_ends() {
    for good in [0, 1, 9] {
        let net = Net::default().at("192.0.2.1:25", Server::new().host());
        let delivery = delivery(&net);
        let mut job = job(&["a@one.test"]);
        job.content = Arc::new(Chunks { good, broken: true });
        let outcomes = delivery.deliver(job).await;
        assert_eq!(shown(&outcomes[0]), "ZUnable to read message. (#4.3.0)\n");
        delivery.close().await;
        assert!(!net.transcript().contains("C: .\n"), "no final dot");
    }
}

#[tokio::test]
async fn a_long_text_arrives_whole() {
    let net = Net::default().at("192.0.2.1:25", Server::new().host());
    let mut job = job(&["a@one.test"]);
    job.content = Arc::new(Chunks {
        good: 5,
        broken: false,
    });
    let outcomes = delivery(&net).deliver(job).await;
    assert!(shown(&outcomes[0]).starts_with("K192.0.2.1 accepted"));
    let transcript = net.transcript();
    let lines = transcript.matches("C: xxx").count();
    assert_eq!(lines, 5 * CHUNK_OCTETS_MAX / LINE_OCTETS);
}

#[tokio::test]
async fn over_real_tcp() {
    #[expect(clippy::disallowed_methods, reason = "a server of the test's own")]
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut config = config();
    let routes = format!(":[127.0.0.1]:{port}\n");
    config.routes = SmtpRoutes::parse(routes.as_bytes(), &mut Vec::new());
    let resolver = Arc::new(FixedResolver::new());
    let delivery = RemoteDelivery::new(config, resolver, Arc::new(TcpConnect), now, 1);
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (mut ours, theirs) = tokio::io::duplex(1024);
        tokio::spawn(Server::new().serve(theirs, Net::default()));
        tokio::io::copy_bidirectional(&mut stream, &mut ours).await
    });
    let outcome = deliver(&delivery, &["a@any.test"]).await;
    assert!(outcome.starts_with("K127.0.0.1 accepted"), "{outcome}");
    delivery.close().await;
    serving.await.unwrap().unwrap();
    let outcome = deliver(&delivery, &["a@any.test"]).await;
    assert_eq!(
        outcome,
        "ZSorry, I wasn't able to establish an SMTP connection. (#4.4.1)\n"
    );
}

#[tokio::test]
async fn an_address_that_breaks_the_line_is_refused_alone() {
    let net = Net::default().at("192.0.2.1:25", Server::new().host());
    let delivery = delivery(&net);
    let recipients = ["a\r\nRCPT TO:<x@y>\r\n@one.test", "b@one.test"];
    assert_snapshot!(deliver(&delivery, &recipients).await, @r"
    DSorry, SMTP cannot carry the address of this recipient. (#5.1.3)
    K192.0.2.1 accepted message.
    Remote host said: 250 taken
    ");
    let mut evil = job(&["b@one.test"]);
    evil.sender = ReversePath::new("s\n@x").unwrap();
    let outcomes = delivery.deliver(evil).await;
    assert_eq!(
        shown(&outcomes[0]),
        "DSorry, SMTP cannot carry the address of this sender. (#5.1.3)\n"
    );
    assert!(!net.transcript().contains("x@y"));
    // The connection is as good as before.
    deliver(&delivery, &["b@one.test"]).await;
    assert_eq!(net.transcript().matches("-- connect").count(), 0);
}

#[tokio::test]
async fn what_the_server_cannot_take_is_not_sent() {
    let server = Server::new().on("EHLO", &["250-mx.test\r\n250 SIZE 5"]);
    assert_snapshot!(deliver_to(server, &["a@one.test"]).await, @"D192.0.2.1 does not accept a message of this size. (#5.3.4)");
}

#[tokio::test]
async fn a_552_among_accepted_ones_may_mean_452() {
    let server = Server::new().on("RCPT TO:<b@", &["552 too many"]);
    assert_snapshot!(deliver_to(server, &["a@one.test", "b@one.test"]).await, @r"
    K192.0.2.1 accepted message.
    Remote host said: 250 taken
    Z192.0.2.1 does not like recipient.
    Remote host said: 552 too many
    ");
}

#[tokio::test]
async fn qmail_remote_sends_to_the_host_it_is_told() {
    let server = Server::new().on("RCPT TO:<no@", &["550 no"]);
    let net = Net::default().at("192.0.2.1:25", server.host());
    let delivery = delivery(&net);
    let report = delivery
        .send_to(b"one.test", &job(&["a@elsewhere", "no@elsewhere"]))
        .await;
    let mut output = Vec::new();
    report.write(&mut output);
    assert_snapshot!(String::from_utf8(output).unwrap().replace('\0', "|"), @r"
    r|h192.0.2.1 does not like recipient.
    Remote host said: 550 no
    |K192.0.2.1 accepted message.
    Remote host said: 250 taken
    |
    ");
    delivery.close().await;
    assert!(net.transcript().ends_with("C: QUIT\nS: 221 bye\n"));
}
