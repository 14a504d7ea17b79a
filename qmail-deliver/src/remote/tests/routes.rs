//! LMTP, and servers that limit what they take at once.

use qmail_core::route::SmtpRoutes;

use super::*;

fn lmtp(net: &Net) -> RemoteDelivery {
    let mut config = config();
    config.routes = SmtpRoutes::parse(b":lmtp://one.test\n", &mut Vec::new());
    delivery_with(config, net)
}

#[tokio::test]
async fn an_lmtp_target_answers_for_each_recipient() {
    let server = Server::new()
        .on("RCPT TO:<no@", &["550 no"])
        .on(".", &["250 a has it\r\n452 b is full\r\n552 c never"]);
    let net = Net::default().at("192.0.2.1:24", server.host());
    let recipients = ["a@x.test", "no@x.test", "b@x.test", "c@x.test"];
    assert_snapshot!(deliver(&lmtp(&net), &recipients).await, @r"
    K192.0.2.1 accepted message.
    Remote host said: 250 a has it
    D192.0.2.1 does not like recipient.
    Remote host said: 550 no
    Z192.0.2.1 does not like recipient.
    Remote host said: 452 b is full
    D192.0.2.1 does not like recipient.
    Remote host said: 552 c never
    ");
    assert!(net.transcript().contains("C: LHLO me.test"));
}

#[tokio::test]
async fn what_an_lmtp_target_did_not_say_may_be_done_twice() {
    let cut = "220 hi\r\n250-mx.test\r\n250 PIPELINING\r\n250 sender ok\r\n250 recipient ok\r\n250 recipient ok\r\n354 go\r\n250 a has it\r\n";
    let server = Server::new()
        .on(".", &["250 a has it\r\n250 b has it"])
        .cut_after(cut.len());
    let net = Net::default().at("192.0.2.1:24", server.host());
    assert_snapshot!(deliver(&lmtp(&net), &["a@x.test", "b@x.test"]).await, @r"
    K192.0.2.1 accepted message.
    Remote host said: 250 a has it
    ZConnected to 192.0.2.1 but connection died. Possible duplicate! (#4.4.2)
    ");
}

#[tokio::test]
async fn recipients_go_in_as_many_transactions_as_the_server_wants() {
    let server = Server::new()
        .on(
            "EHLO",
            &["250-mx.test\r\n250-LIMITS RCPTMAX=2\r\n250 PIPELINING"],
        )
        .on("RCPT TO:<no@", &["550 no"])
        .on(".", &["250 first", "450 second", "250 third"]);
    let net = Net::default().at("192.0.2.1:25", server.host());
    let recipients = [
        "a@one.test",
        "no@one.test",
        "b@one.test",
        "c@one.test",
        "d@one.test",
    ];
    let delivery = delivery(&net);
    assert_snapshot!(deliver(&delivery, &recipients).await, @r"
    K192.0.2.1 accepted message.
    Remote host said: 250 first
    D192.0.2.1 does not like recipient.
    Remote host said: 550 no
    Z192.0.2.1 failed after I sent the message.
    Remote host said: 450 second
    Z192.0.2.1 failed after I sent the message.
    Remote host said: 450 second
    K192.0.2.1 accepted message.
    Remote host said: 250 third
    ");
    let transcript = net.transcript();
    assert_eq!(transcript.matches("-- connect").count(), 1, "{transcript}");
    assert_eq!(transcript.matches("C: MAIL").count(), 3, "{transcript}");
}

#[tokio::test]
async fn a_server_may_have_enough_of_a_connection() {
    let limited = |limits: &str| {
        let ehlo = format!("250-mx.test\r\n250-LIMITS {limits}\r\n250 PIPELINING");
        Net::default().at("192.0.2.1:25", Server::new().on("EHLO", &[&ehlo]).host())
    };
    let net = limited("MAILMAX=1");
    let one_each = delivery(&net);
    for _ in 0..2 {
        assert!(deliver(&one_each, &["a@one.test"]).await.starts_with('K'));
    }
    assert_eq!(net.transcript().matches("-- connect").count(), 2);

    let net = limited("MAILMAX=1 RCPTMAX=1");
    assert_snapshot!(deliver(&delivery(&net), &["a@one.test", "b@one.test"]).await, @r"
    K192.0.2.1 accepted message.
    Remote host said: 250 taken
    Z192.0.2.1 takes no more recipients over this connection. (#4.5.3)
    ");
}

/// The connection breaks in the second transaction: what the first one did is not done again.
#[tokio::test]
async fn a_half_finished_message_is_not_begun_anew() {
    let server = Server::new()
        .on(
            "EHLO",
            &["250-mx.test\r\n250-LIMITS RCPTMAX=1\r\n250 PIPELINING"],
        )
        .on("MAIL", &["250 ok", "250 ok", "close"]);
    let net = Net::default().at("192.0.2.1:25", server.host());
    let delivery = delivery(&net);
    assert!(deliver(&delivery, &["z@one.test"]).await.starts_with('K'));
    assert_snapshot!(deliver(&delivery, &["a@one.test", "b@one.test"]).await, @r"
    K192.0.2.1 accepted message.
    Remote host said: 250 taken
    ZConnected to 192.0.2.1 but connection died. (#4.4.2)
    ");
    let transcript = net.transcript();
    assert_eq!(transcript.matches("RCPT TO:<a@").count(), 1, "{transcript}");
}

#[tokio::test]
async fn internationalized_addresses_want_a_server_that_knows_them() {
    assert_snapshot!(deliver_to(Server::new(), &["a@one.test", "\u{e9}@one.test"]).await, @r"
    K192.0.2.1 accepted message.
    Remote host said: 250 taken
    D192.0.2.1 does not accept internationalized addresses. (#5.6.7)
    ");
    let net = Net::default().at("192.0.2.1:25", Server::new().host());
    let mut job = job(&["a@one.test"]);
    job.sender = ReversePath::new("\u{e9}@x").unwrap();
    let outcomes = delivery(&net).deliver(job).await;
    assert_snapshot!(shown(&outcomes[0]), @"D192.0.2.1 does not accept internationalized addresses. (#5.6.7)");
}

#[tokio::test]
async fn a_server_is_told_of_eight_bit_text() {
    let net = Net::default().at(
        "192.0.2.1:25",
        Server::new()
            .on("EHLO", &["250-mx.test\r\n250-8BITMIME\r\n250 SIZE 100"])
            .host(),
    );
    let delivery = delivery(&net);
    let mut eight = job(&["a@one.test"]);
    eight.content = Arc::new(MemoryContent("\u{e9}\n".into()));
    delivery.deliver(eight).await;
    assert!(
        net.transcript()
            .contains("C: MAIL FROM:<s@x> SIZE=3 BODY=8BITMIME\n")
    );
    delivery.deliver(job(&["a@one.test"])).await;
    assert!(net.transcript().contains("C: MAIL FROM:<s@x> SIZE=15\n"));
}
