//! Delivery to other hosts: what an embedder would start from who sends mail.
//!
//! ```text
//! cargo run -p qmail-deliver --example relay                          # to a server of its own, and ends
//! cargo run -p qmail-deliver --example relay -- SENDER RECIPIENT...    # by MX, as the domain name system says
//! ```
#![expect(
    clippy::disallowed_methods,
    reason = "a program has a clock and sockets"
)]

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use qmail_core::pump::Pump;
use qmail_core::route::SmtpRoutes;
use qmail_core::{
    Address, Delivery, EnhancedStatus, Job, MemoryContent, Outcome, Reply, ReversePath,
};
use qmail_deliver::{HickoryResolver, RemoteConfig, RemoteDelivery, TcpConnect};
use qmail_smtp::server::{Config, Event, Session, Verdict};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some((sender, recipients)) = arguments.split_first() {
        let delivery = delivery(SmtpRoutes::default())?;
        send(&delivery, sender, recipients).await?;
        delivery.close().await;
        return Ok(());
    }
    // Every domain goes to a smarthost, as control/smtproutes would say it.
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let routes = format!(":127.0.0.1:{}\n", listener.local_addr()?.port());
    let delivery = delivery(SmtpRoutes::parse(routes.as_bytes(), &mut Vec::new()))?;
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await?;
        serve(stream).await
    });
    let recipients = ["joe@example.org", "ann@example.net", "no-one@example.com"];
    let recipients = recipients.map(str::to_owned);
    // Two messages, and one connection: recipients that a relay serves share a destination, whatever their domains.
    for _ in 0..2 {
        let outcomes = send(&delivery, "sender@example.org", &recipients).await?;
        let [
            Outcome::Delivered(_),
            Outcome::Delivered(_),
            Outcome::Failed(_),
        ] = outcomes[..]
        else {
            return Err("two should have mail, and one not".into());
        };
    }
    delivery.close().await;
    serving.await??;
    Ok(())
}

fn delivery(routes: SmtpRoutes) -> Result<RemoteDelivery, Box<dyn Error>> {
    let mut config = RemoteConfig::new("mail.example.org")?;
    config.routes = routes;
    // Mail for a domain whose best exchanger is this host would go round for ever. A real program lists its interfaces.
    config.own_addresses = vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    Ok(RemoteDelivery::new(
        config,
        Arc::new(HickoryResolver::system()?),
        Arc::new(TcpConnect),
        Instant::now,
        std::process::id().into(),
    ))
}

/// Recipients of one [`Destination`](qmail_core::Destination) may share a job; a queue sees to that.
async fn send(
    delivery: &RemoteDelivery,
    sender: &str,
    recipients: &[String],
) -> Result<Vec<Outcome>, Box<dyn Error>> {
    let recipients = recipients
        .iter()
        .map(|recipient| Address::new(recipient.clone()))
        .collect::<Result<Vec<_>, _>>()?;
    let job = Job {
        message: 0,
        content: Arc::new(MemoryContent("Subject: hello\n\nA line.\n".into())),
        sender: ReversePath::new(sender.to_owned())?,
        recipients: recipients.clone(),
    };
    let outcomes = delivery.deliver(job).await;
    for (recipient, outcome) in recipients.iter().zip(&outcomes) {
        let text = String::from_utf8_lossy(outcome.report().as_bytes());
        println!("{recipient}: {}", text.trim_end().replace('\n', " / "));
    }
    Ok(outcomes)
}

/// A smarthost that knows everybody but `no-one`.
async fn serve(stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let config = Arc::new(Config::new("smarthost.example.org"));
    let mut pump = Pump::new(Session::new(config, Instant::now()), stream, Instant::now);
    while let Some(event) = pump.next_event().await? {
        let session = pump.machine();
        match event {
            Event::Mail { question, .. } => session.answer_mail(question, Verdict::Accept),
            Event::Rcpt {
                question,
                recipient,
                ..
            } if recipient.local_part() == b"no-one" => {
                let status = EnhancedStatus::permanent(1, 1);
                let reply = Reply::new(550, Some(status), "no such mailbox");
                session.answer_rcpt(question, Verdict::Reply(reply));
            }
            Event::Rcpt { question, .. } => session.answer_rcpt(question, Verdict::Accept),
            Event::Data { question, .. } => session.answer_data(question, Verdict::Accept),
            Event::BodyEnd { question, octets } => {
                println!("the smarthost has a message of {octets} octets");
                session.answer_body_end(question, Verdict::Accept);
            }
            _ => {}
        }
    }
    Ok(())
}
