use super::*;

fn exchange(mechanism: Mechanism, name: &'static str, secret: &str) -> Exchange {
    let login = Login::new(name, secret).with_nonce("rOprNGfwEbeRWgbNEkqO");
    Exchange::new(mechanism, login)
}

/// The server's first and last message of RFC 7677 section 3.
const SERVER_FIRST: &[u8] =
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

#[test]
fn the_example_of_rfc_7677() {
    let mut exchange = exchange(Mechanism::ScramSha256, "user", "pencil");
    assert_eq!(
        exchange.initial().as_deref(),
        Some(&b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"[..])
    );
    assert_eq!(
        exchange.respond(SERVER_FIRST).as_deref(),
        Ok(
            &b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
              p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="[..]
        )
    );
    assert!(!exchange.is_complete(), "the server has proven nothing yet");
    assert_eq!(exchange.respond(SERVER_FINAL), Ok(Vec::new()));
    assert!(exchange.is_complete());
    assert_eq!(
        exchange.respond(SERVER_FINAL),
        Err(ExchangeError::Senseless)
    );
}

#[test]
fn a_server_has_to_know_the_password_and_the_protocol() {
    use ExchangeError::{Impostor, Refused, Senseless, TooSlow};
    for (message, error) in [
        (&b""[..], Senseless),
        (b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", Senseless),
        (
            b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            Senseless,
        ),
        (b"r=rOprNGfwEbeRWgbNEkqO1,s=,i=4095", Senseless),
        (b"r=rOprNGfwEbeRWgbNEkqO1,s=,i=+4096", Senseless),
        (b"r=rOprNGfwEbeRWgbNEkqO1,s=!,i=4096", Senseless),
        (b"m=x,r=rOprNGfwEbeRWgbNEkqO1,s=,i=4096", Senseless),
        (b"r=rOprNGfwEbeRWgbNEkqO1,s=,i=1000001", TooSlow(1_000_001)),
        (
            b"r=rOprNGfwEbeRWgbNEkqO1,s=,i=99999999999",
            TooSlow(99_999_999_999),
        ),
    ] {
        let mut exchange = exchange(Mechanism::ScramSha256, "user", "pencil");
        exchange.initial().expect("SCRAM begins");
        let shown = message.escape_ascii();
        assert_eq!(exchange.respond(message), Err(error), "{shown}");
        assert_eq!(exchange.respond(SERVER_FIRST), Err(Senseless), "{shown}");
    }
    for (message, error) in [
        (
            &b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5="[..],
            Senseless,
        ),
        (b"v=", Impostor),
        (b"v=AAAA", Impostor),
        (b"e=invalid-proof", Refused),
        (b"", Senseless),
    ] {
        let mut exchange = exchange(Mechanism::ScramSha256, "user", "pencil");
        exchange.initial().expect("SCRAM begins");
        exchange.respond(SERVER_FIRST).expect("it makes sense");
        let shown = message.escape_ascii();
        assert_eq!(exchange.respond(message), Err(error), "{shown}");
        assert!(!exchange.is_complete(), "{shown}");
    }
}

#[test]
fn the_example_of_rfc_2195() {
    let mut exchange = exchange(Mechanism::CramMd5, "tim", "tanstaaftanstaaf");
    assert_eq!(exchange.initial(), None);
    let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
    assert_eq!(
        exchange.respond(challenge).as_deref(),
        Ok(&b"tim b913a602c7eda7a495b4e6e7334d3890"[..])
    );
    assert!(exchange.is_complete());
}

#[test]
fn login_answers_whatever_it_is_asked() {
    let mut exchange = exchange(Mechanism::Login, "tim", "secret");
    assert_eq!(exchange.initial(), None);
    assert_eq!(exchange.respond(b"Username:").as_deref(), Ok(&b"tim"[..]));
    assert!(!exchange.is_complete());
    assert_eq!(exchange.respond(b"").as_deref(), Ok(&b"secret"[..]));
    assert!(exchange.is_complete());
    assert_eq!(exchange.respond(b"").ok(), None);
}

#[test]
fn the_best_permitted_mechanism_is_chosen() {
    use Mechanism::{CramMd5, Login as LoginMechanism, Plain, ScramSha256};
    let login = Login::new("a", "b");
    let scram = login.clone().with_nonce("x");
    let clear = login.clone().permit_in_clear();
    for (login, offered, encrypted, chosen) in [
        (&login, &[LoginMechanism, Plain][..], true, Some(Plain)),
        (&login, &[LoginMechanism, Plain], false, None),
        (&clear, &[LoginMechanism], false, Some(LoginMechanism)),
        (&login, &[Plain, ScramSha256, CramMd5], true, Some(CramMd5)),
        (
            &scram,
            &[Plain, ScramSha256, CramMd5],
            false,
            Some(ScramSha256),
        ),
        (&scram, &[], true, None),
    ] {
        let offered = offered.iter().copied();
        assert_eq!(login.choose(offered, encrypted), chosen);
    }
    for bad in ["", "a,b", "a b", "\u{e9}"] {
        let login = Login::new("a", "b").with_nonce(bad);
        assert_eq!(login.choose([ScramSha256], true), None, "{bad}");
    }
}

#[test]
fn names_are_escaped_and_nothing_secret_is_shown() {
    let login = Login::new("a,b=c", "hunter2").with_nonce("n");
    assert_eq!(format!("{login:?}"), "Login");
    let mut exchange = Exchange::new(Mechanism::ScramSha256, login);
    assert!(!format!("{exchange:?}").contains("hunter2"));
    assert_eq!(
        exchange.initial().as_deref(),
        Some(&b"n,,n=a=2Cb=3Dc,r=n"[..])
    );
}
