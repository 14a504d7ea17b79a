//! Completes the header of a message, as a mail user agent would hand it over, and makes its envelope.
//!
//! ```text
//! cargo run -p qmail-core --example rewrite_header
//! cargo run -p qmail-core --example rewrite_header -- - < message
//! ```
//!
//! With the argument `-` the message is read from standard input. The result is a message for any queue: addresses are
//! completed, missing fields are supplied, blind recipients are in the envelope only.

use std::error::Error;
use std::io::{self, Read, Write};

use qmail_core::Escaped;
use qmail_core::header::{Part, Qualifier, Splitter};
use qmail_core::message::inject::{Identity, Injection, Settings};
use qmail_core::message::{Options, Stamp};

const SAMPLE: &[u8] = b"To: Ann <ann>, bob@shop (Bob), everybody: eve@elsewhere.example;
Bcc: boss
Subject: lists
\tof addresses

An address that is not complete gets a host and a domain.
";

/// A field that is longer than this is refused.
const FIELD_OCTETS_MAX: usize = 1_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let qualifier = Qualifier::new(b"mail.example.org", b"example.org", b"example.edu")?;
    let mut identity = Identity::new("joe");
    identity.name = Some(b"Joe Q. Public".to_vec());
    let settings = Settings::new(qualifier, Options::new("mail.example.org"), identity);

    let from_stdin = std::env::args()
        .nth(1)
        .is_some_and(|argument| argument == "-");
    let mut input: Box<dyn Read> = if from_stdin {
        Box::new(io::stdin())
    } else {
        Box::new(SAMPLE)
    };
    let mut splitter = Splitter::new(FIELD_OCTETS_MAX);
    let mut injection = Injection::new(&settings);
    let mut body = Vec::new();
    let mut buffer = [0; 8192];
    // The header may come in pieces of any size; what follows its end is the body.
    'header: loop {
        let octets = input.read(&mut buffer)?;
        if octets == 0 {
            while let Some(part) = splitter.finish() {
                take(part, &mut injection, &mut body)?;
            }
            break;
        }
        let mut piece = &buffer[..octets];
        while let Some(part) = splitter.next(&mut piece)? {
            if take(part, &mut injection, &mut body)? {
                body.extend_from_slice(piece);
                break 'header;
            }
        }
    }
    input.read_to_end(&mut body)?;

    let seconds = std::time::UNIX_EPOCH.elapsed()?.as_secs();
    let unique = u64::from(std::process::id());
    let message = injection.finish(Stamp::new(seconds, unique))?;
    println!("MAIL FROM:<{}>", Escaped(&message.sender));
    for recipient in message.recipients.iter() {
        println!("RCPT TO:<{}>", Escaped(recipient));
    }
    println!();
    let mut output = io::stdout().lock();
    output.write_all(&message.header)?;
    output.write_all(&body)?;
    Ok(())
}

/// Gives a field to the injection. Returns whether the header is over; the empty line is then in the body.
fn take(
    part: Part<'_>,
    injection: &mut Injection<'_>,
    body: &mut Vec<u8>,
) -> Result<bool, Box<dyn Error>> {
    match part {
        Part::Field(field) => {
            injection.field(&field)?;
            Ok(false)
        }
        Part::Body { start, .. } => {
            body.push(b'\n');
            body.extend_from_slice(start);
            Ok(true)
        }
    }
}
