//! TLS and logins at the other host.

use qmail_core::route::SmtpRoutes;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::TlsPolicy;

/// A certificate for a name, by an authority of its own.
fn identity(name: &str) -> (TlsAcceptor, Arc<RootCertStore>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).expect("a root");
    let key = made.signing_key.serialize_der().try_into().expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a configuration");
    (Arc::new(config).into(), Arc::new(roots))
}

fn offering() -> Server {
    Server::new().on(
        "EHLO",
        &[
            "250-mx.test\r\n250-STARTTLS\r\n250 PIPELINING",
            "250-mx.test\r\n250 AUTH PLAIN",
        ],
    )
}

fn with_policy(tls: TlsPolicy) -> RemoteConfig {
    let mut config = config();
    config.tls = tls;
    config
}

#[tokio::test]
async fn mail_is_encrypted_where_that_works() {
    let (acceptor, _) = identity("whoever.test");
    let server = offering().with_tls(acceptor, false);
    let net = Net::default().at("192.0.2.1:25", server.host());
    let delivery = delivery(&net);
    assert_snapshot!(deliver(&delivery, &["a@one.test"]).await, @r"
    K192.0.2.1 accepted message.
    Remote host said: 250 taken
    ");
    delivery.close().await;
    assert_snapshot!(net.transcript(), @r"
    -- connect to 192.0.2.1:25
    S: 220 hi
    C: EHLO me.test
    S: 250-mx.test
    S: 250-STARTTLS
    S: 250 PIPELINING
    C: STARTTLS
    S: 220 go
    -- TLS
    C: EHLO me.test
    S: 250-mx.test
    S: 250 AUTH PLAIN
    C: MAIL FROM:<s@x>
    S: 250 sender ok
    C: RCPT TO:<a@one.test>
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
async fn broken_tls_is_done_without_or_not_at_all() {
    // It says 220 and then goes on in clear.
    let broken = || offering().on("\u{16}", &["500 garbage"]).host();
    let net = Net::default().at("192.0.2.1:25", broken());
    assert_snapshot!(deliver(&delivery(&net), &["a@one.test"]).await, @r"
    K192.0.2.1 accepted message.
    Remote host said: 250 taken
    ");
    let transcript = net.transcript();
    assert_eq!(transcript.matches("-- connect").count(), 2, "{transcript}");
    assert_eq!(transcript.matches("C: STARTTLS").count(), 1, "{transcript}");

    for policy in [TlsPolicy::Required, TlsPolicy::Verified] {
        let net = Net::default().at("192.0.2.1:25", broken());
        let said = deliver(&delivery_with(with_policy(policy), &net), &["a@one.test"]).await;
        assert!(
            said.starts_with("ZConnected to 192.0.2.1 but there is no TLS that I may use: "),
            "{said}"
        );
        assert!(!net.transcript().contains("MAIL"));
        let stripped = Net::default().at("192.0.2.1:25", Server::new().host());
        let said = deliver(
            &delivery_with(with_policy(policy), &stripped),
            &["a@one.test"],
        )
        .await;
        assert_eq!(
            said,
            "ZConnected to 192.0.2.1 but there is no TLS that I may use: it offers none. (#4.7.5)\n"
        );
    }

    let net = Net::default().at("192.0.2.1:25", broken());
    let off = delivery_with(with_policy(TlsPolicy::Off), &net);
    assert!(deliver(&off, &["a@one.test"]).await.starts_with('K'));
    assert!(!net.transcript().contains("STARTTLS\n C"));
}

#[tokio::test]
async fn a_certificate_has_to_be_for_the_exchanger() {
    for (name, taken) in [("near.test", true), ("two.test", false)] {
        let (acceptor, roots) = identity(name);
        let server = offering().with_tls(acceptor, false);
        let net = Net::default().at("192.0.2.1:25", server.host());
        let mut config = with_policy(TlsPolicy::Verified);
        config.tls_roots = Some(roots);
        let said = deliver(&delivery_with(config, &net), &["a@two.test"]).await;
        assert_eq!(said.starts_with('K'), taken, "{name}: {said}");
        assert_eq!(net.transcript().contains("MAIL"), taken, "{name}");
    }
}

fn through_relay(tls: TlsPolicy, roots: Option<Arc<RootCertStore>>, route: &str) -> RemoteConfig {
    let mut config = with_policy(tls);
    config.tls_roots = roots;
    config.routes = SmtpRoutes::parse(route.as_bytes(), &mut Vec::new());
    config
}

#[tokio::test]
async fn a_smarthost_is_logged_in_at() {
    let (acceptor, roots) = identity("one.test");
    let server = offering()
        .on("AUTH PLAIN AGpvZQBzZWNyZXQ=", &["235 welcome"])
        .with_tls(acceptor, false);
    let net = Net::default().at("192.0.2.1:587", server.host());
    let config = through_relay(
        TlsPolicy::default(),
        Some(roots),
        ":one.test:587 joe secret\n",
    );
    let delivery = delivery_with(config, &net);
    assert!(deliver(&delivery, &["a@far.test"]).await.starts_with('K'));
    let transcript = net.transcript();
    assert!(
        transcript.contains("-- TLS\nC: EHLO me.test"),
        "{transcript}"
    );
    assert!(
        transcript.contains("S: 235 welcome\nC: MAIL"),
        "{transcript}"
    );
}

#[tokio::test]
async fn a_password_is_not_shown_to_whoever_asks() {
    let asking = || Server::new().on("EHLO", &["250-mx.test\r\n250 AUTH PLAIN LOGIN"]);
    let (acceptor, _) = identity("one.test");
    let impostor = offering().with_tls(acceptor, false);
    for (policy, server) in [
        (TlsPolicy::Opportunistic, asking()),
        (TlsPolicy::Opportunistic, impostor),
        (TlsPolicy::Required, asking()),
        (TlsPolicy::Off, asking()),
    ] {
        let net = Net::default().at("192.0.2.1:25", server.host());
        let (_, other_roots) = identity("one.test");
        let config = through_relay(policy, Some(other_roots), ":one.test joe secret\n");
        let said = deliver(&delivery_with(config, &net), &["a@far.test"]).await;
        assert!(
            said.starts_with("ZConnected to 192.0.2.1 but there is no "),
            "{said}"
        );
        let transcript = net.transcript();
        assert!(
            !transcript.contains("AUTH PLAIN A") && !transcript.contains("MAIL"),
            "{transcript}"
        );
    }
}

#[tokio::test]
async fn a_relay_may_be_encrypted_from_the_start() {
    let (acceptor, _) = identity("one.test");
    let server = Server::new().with_tls(acceptor, true);
    let net = Net::default().at("192.0.2.1:465", server.host());
    let config = through_relay(TlsPolicy::Off, None, ":smtps://one.test\n");
    assert!(
        deliver(&delivery_with(config, &net), &["a@far.test"])
            .await
            .starts_with('K')
    );
    assert!(
        net.transcript()
            .starts_with("-- connect to 192.0.2.1:465\n-- TLS\nS: 220 hi\n")
    );
}
