//! What is kept of one user's password: one record or several, with spaces between them.
//!
//! | record | what it is | good for |
//! |---|---|---|
//! | `$argon2id$...` | argon2 in PHC form, also `argon2i` and `argon2d` | a password in clear |
//! | `$y$...` | yescrypt, as shadow(5) has it | the same |
//! | `$6$...`, `$5$...` | SHA-crypt, as shadow(5) has it | the same |
//! | `SCRAM-SHA-256$...` | the record of RFC 5803 | the same, and SCRAM-SHA-256 |

use std::io;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use qmail_core::sasl::{ITERATIONS, Verifier};
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha_crypt::ShaCrypt;
use yescrypt::Yescrypt;

/// Cost of a new hash: memory in KiB, passes, lanes. As hard to try out as the better known 19 MiB and two passes, and a
/// server that checks passwords stays small.
const COST: (u32, u32, u32) = (7168, 5, 1);

/// Most memory in octets that one check may take: a file from elsewhere could ask for more than there is.
const MEMORY_OCTETS_MAX: u64 = 256 << 20;

/// Most rounds of SHA-crypt that a check goes through: some seconds.
const ROUNDS_MAX: u32 = 10_000_000;

/// Octets of the salt of a new SCRAM record.
const SALT_OCTETS: usize = 16;

/// A hash that fits no password, to spend the same time on a name that does not exist.
pub(super) const NOBODY: &str = "$argon2id$v=19$m=7168,t=5,p=1$bm9ib2R5IGhhcyB0aGlz$3q2+796tvu/erb7v3q2+796tvu/erb7v3q2+796tvu8";

/// Whether `secret` is what any of these records was made of. A record that is none fits nothing.
pub(super) fn fits(records: &str, secret: &[u8]) -> bool {
    records
        .split_ascii_whitespace()
        .any(|record| one_fits(record, secret).unwrap_or(false))
}

fn one_fits(record: &str, secret: &[u8]) -> Option<bool> {
    if let Ok(verifier) = record.parse::<Verifier>() {
        return Some(verifier.fits(secret));
    }
    let kind = record.strip_prefix('$')?.split('$').next();
    let fits = match kind {
        Some("argon2id" | "argon2i" | "argon2d") => {
            let hash = PasswordHash::new(record).ok()?;
            let cost = Params::try_from(&hash).ok()?;
            u64::from(cost.m_cost()) * 1024 <= MEMORY_OCTETS_MAX
                && Argon2::default().verify_password(secret, &hash).is_ok()
        }
        Some("y") => {
            let cost: yescrypt::Params = record.split('$').nth(2)?.parse().ok()?;
            let memory = cost.n().checked_mul(128 * u64::from(cost.r()))?;
            memory <= MEMORY_OCTETS_MAX
                && Yescrypt::default().verify_password(secret, record).is_ok()
        }
        Some("5" | "6") => {
            let rounds = record.split('$').nth(2)?.strip_prefix("rounds=");
            let rounds = rounds.map_or(Some(0), |digits| digits.parse().ok())?;
            rounds <= ROUNDS_MAX && ShaCrypt::default().verify_password(secret, record).is_ok()
        }
        _ => return None,
    };
    Some(fits)
}

/// The first record for SCRAM-SHA-256.
pub(super) fn verifier(records: &str) -> Option<Verifier> {
    records
        .split_ascii_whitespace()
        .find_map(|record| record.parse().ok())
}

/// Whether it is a record that can be used.
pub(super) fn is_record(record: &str) -> bool {
    one_fits(record, b"").is_some()
}

/// A new hash by argon2id.
///
/// # Errors
///
/// The system has no random numbers.
pub(super) fn argon2(secret: &[u8]) -> io::Result<String> {
    let (memory, passes, lanes) = COST;
    let hash: PasswordHash = Params::new(memory, passes, lanes, None)
        .map(|cost| Argon2::new(Algorithm::Argon2id, Version::V0x13, cost))
        .map_err(|error| io::Error::other(error.to_string()))?
        .hash_password(secret)
        .map_err(|error| io::Error::other(error.to_string()))?;
    Ok(hash.to_string())
}

/// A new record for SCRAM-SHA-256. It is quicker to try passwords on than a hash by argon2id.
///
/// # Errors
///
/// The system has no random numbers.
pub(super) fn scram(secret: &[u8]) -> io::Result<String> {
    let mut salt = [0; SALT_OCTETS];
    SysRng.try_fill_bytes(&mut salt).map_err(io::Error::other)?;
    let verifier = Verifier::new(secret, &salt, ITERATIONS).map_err(io::Error::other)?;
    Ok(verifier.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the C library's crypt(3).
    const KNOWN: [&str; 3] = [
        "$y$j9T$abcdefgh12345678$2deuCw91eiWcT11Pw3OOJyCTpyuShOK/viIncvBwMjA",
        "$6$rounds=6000$saltsalt$BLONp/D9X/sZt.XBcQw2eGh/L202fGRjCMQHJvkjcsVs8Jms0xumQDp/Ta4IUDYe3ZZkQC.FODPQTsdc7Tv2m1",
        "$5$saltsalt$hl9BvcGsj7AkON13nbqeQHDgRpHyFxt7WDzLoS.OCQ/",
    ];

    #[test]
    fn records_of_others_fit() {
        for record in KNOWN {
            assert!(fits(record, b"pencil"), "{record}");
            assert!(!fits(record, b"pencil "), "{record}");
            assert!(is_record(record), "{record}");
        }
    }

    #[test]
    fn our_own_fit_and_any_of_several_will_do() {
        let (hash, scram) = (argon2(b"x").unwrap(), scram(b"x").unwrap());
        assert!(fits(&hash, b"x") && !fits(&hash, b"y"));
        assert!(fits(&scram, b"x") && !fits(&scram, b"y"));
        assert!(verifier(&hash).is_none());
        let both = format!("{scram} {hash}");
        assert!(fits(&both, b"x") && verifier(&both).is_some());
        assert!(is_record(&hash) && is_record(&scram));
    }

    #[test]
    fn what_is_no_record_fits_nothing() {
        for record in [
            "",
            "x",
            "$",
            "$$",
            "$6$",
            "$6$a",
            "$6$rounds=999999999$a$b",
            "$y$",
            "$y$j$a$b",
            "$y$jzzzzzzzzz$a$b",
            "$argon2id$",
            "$argon2id$v=19$m=4194304,t=1,p=1$bm9ib2R5IGhhcyB0aGlz$3q2+796tvu/erb7v3q2+796tvu/erb7v3q2+796tvu8",
            "$1$a$b",
            "SCRAM-SHA-256$",
            "\u{e9}",
        ] {
            assert!(!fits(record, b"") && !fits(record, b"x"), "{record}");
        }
    }

    #[test]
    fn the_hash_of_nobody_costs_what_a_real_one_costs() {
        let hash = PasswordHash::new(NOBODY).expect("a PHC string");
        let real = argon2(b"b").unwrap();
        let real = PasswordHash::new(&real).unwrap();
        assert_eq!(hash.algorithm, real.algorithm);
        assert_eq!(hash.params, real.params);
    }
}
