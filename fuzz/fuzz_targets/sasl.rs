//! Any responses in any order: an exchange ends, and nobody gets in who does not know the password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmail_core::sasl::{Exchange, Finding, Inquiry, Mechanism, Step, Verifier};
use qmail_core::{Account, LoginError};

/// More steps than any mechanism has.
const STEPS_MAX: usize = 6;

fuzz_target!(|input: &[u8]| {
    let [which, input @ ..] = input else { return };
    let mechanism = Mechanism::ALL[usize::from(which & 3)];
    let mut responses = input.split(|&octet| octet == 0xff);
    let initial = (which & 4 == 4).then(|| responses.next()).flatten();
    let mut exchange = Exchange::new(mechanism, "nonce");
    let mut step = exchange.begin(initial);
    let mut fitted = false;
    for _ in 0..STEPS_MAX {
        step = match step {
            Step::Challenge(_) => match responses.next() {
                Some(response) => exchange.respond(response),
                None => return,
            },
            Step::Ask(Inquiry::Check(credentials)) => {
                fitted = credentials.fit(b"p");
                exchange.answer(if fitted {
                    Ok(Finding::Account(Account::new("joe")))
                } else {
                    Err(LoginError::Refused)
                })
            }
            Step::Ask(Inquiry::Verifier { name }) => {
                assert!(!name.is_empty() && !name.contains(&0));
                let verifier = Verifier::decoy(&name, b"key");
                exchange.answer(Ok(Finding::Verifier(Account::new(name), verifier)))
            }
            Step::Done(_) => {
                assert!(fitted, "in without a password");
                return;
            }
            _ => return,
        };
    }
    panic!("no end");
});
