//! Who is logged in: the records of utmp(5), as Linux writes them.

/// One login session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session<'a> {
    /// The terminal, a name below /dev.
    pub(crate) line: &'a [u8],
    /// Account name.
    pub(crate) user: &'a [u8],
}

/// The login sessions in a utmp file. Records of other kinds, and an incomplete one at the end, are passed over.
pub(crate) fn sessions(file: &[u8]) -> impl Iterator<Item = Session<'_>> {
    file.chunks_exact(RECORD_OCTETS)
        .filter(|record| i16::from_ne_bytes([record[0], record[1]]) == USER_PROCESS)
        .map(|record| Session {
            line: until_nul(&record[8..40]),
            user: until_nul(&record[44..76]),
        })
}

fn until_nul(field: &[u8]) -> &[u8] {
    &field[..memchr::memchr(0, field).unwrap_or(field.len())]
}

/// Octets of a record, the same on all Linux systems that have 64-bit programs run 32-bit ones.
const RECORD_OCTETS: usize = 384;

/// The kind of a record that is a login.
const USER_PROCESS: i16 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_are_found() {
        let record = |kind: i16, line: &str, user: &str| {
            let mut record = vec![0; RECORD_OCTETS];
            record[..2].copy_from_slice(&kind.to_ne_bytes());
            record[8..8 + line.len()].copy_from_slice(line.as_bytes());
            record[44..44 + user.len()].copy_from_slice(user.as_bytes());
            record
        };
        let file = [
            record(2, "~", "reboot"),
            record(7, "pts/3", "joe"),
            record(8, "pts/4", "ann"),
            record(7, "tty1", &"x".repeat(32)),
            vec![7; 100],
        ]
        .concat();
        let found: Vec<_> = sessions(&file).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].line, found[0].user), (&b"pts/3"[..], &b"joe"[..]));
        assert_eq!(found[1].user.len(), 32);
    }
}
