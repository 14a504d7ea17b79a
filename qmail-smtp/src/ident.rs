//! The question who owns the other end of a connection (RFC 1413, RFC 931): octets only, the caller connects.
//!
//! The answer is the peer's word and no more: fit for a trace, not for a decision.

use bytes::Bytes;

/// The line to send to port 113 of the peer.
///
/// ```
/// assert_eq!(qmail_smtp::ident::query(40000, 25), b"40000 , 25\r\n");
/// ```
pub fn query(remote_port: u16, local_port: u16) -> Vec<u8> {
    format!("{remote_port} , {local_port}\r\n").into_bytes()
}

/// Reads an answer as it comes.
///
/// It is what follows the third colon of the first line; blanks and CR do not count. What is beyond `octets_max` is cut,
/// and so is the line at [`Self::LINE_OCTETS_MAX`].
///
/// ```
/// let mut answer = qmail_smtp::ident::Answer::new(998);
/// assert_eq!(answer.receive(b"40000, 25 : USERID : "), None);
/// assert_eq!(answer.receive(b"UNIX : joe\r\n").unwrap(), "joe");
/// ```
#[derive(Debug)]
pub struct Answer {
    octets_max: usize,
    colons: u32,
    user: Vec<u8>,
    /// Octets of the line so far.
    seen: usize,
}

impl Answer {
    /// Longest line in octets that is read; RFC 1413 section 5 has 1000. A longer one ends there.
    pub const LINE_OCTETS_MAX: usize = 4096;

    /// An answer of which at most so many octets are kept.
    pub fn new(octets_max: usize) -> Self {
        Self {
            octets_max,
            colons: 0,
            user: Vec::new(),
            seen: 0,
        }
    }

    /// Takes octets from the peer. `Some` once the line has ended: it is empty if the answer was an error.
    ///
    /// A connection that ends before the line does has no answer.
    pub fn receive(&mut self, octets: &[u8]) -> Option<Bytes> {
        for &octet in octets {
            self.seen += 1;
            match octet {
                b'\n' => return Some(std::mem::take(&mut self.user).into()),
                b' ' | b'\t' | b'\r' => {}
                b':' if self.colons < COLONS => self.colons += 1,
                _ if self.colons == COLONS && self.user.len() < self.octets_max => {
                    self.user.push(octet);
                }
                _ => {}
            }
            if self.seen >= Self::LINE_OCTETS_MAX {
                return Some(std::mem::take(&mut self.user).into());
            }
        }
        None
    }
}

const COLONS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_behind_the_third_colon_however_it_is_cut() {
        for (line, want) in [
            ("6193 , 23 : USERID : UNIX : st johns\r\n", Some("stjohns")),
            ("6193, 23 : ERROR : NO-USER\r\n", Some("")),
            ("1,2:USERID:OTHER,x:a:b c\r\nmore", Some("a:bc")),
            ("1,2:USERID:UNIX:12345678901\n", Some("1234567890")),
            ("\n", Some("")),
            ("1,2:USERID:UNIX:joe", None),
        ] {
            for cut in 0..=line.len() {
                let mut answer = Answer::new(10);
                let (first, second) = line.as_bytes().split_at(cut);
                let found = answer.receive(first).or_else(|| answer.receive(second));
                assert_eq!(found.as_deref(), want.map(str::as_bytes), "{line} {cut}");
            }
        }
    }

    #[test]
    fn a_line_without_end_ends() {
        let mut answer = Answer::new(998);
        let line = [b':'; Answer::LINE_OCTETS_MAX];
        assert_eq!(answer.receive(&line).map(|user| user.len()), Some(998));
    }
}
