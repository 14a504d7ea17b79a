//! What the end of a delivery program means: of qmail-local(8) and qmail-remote(8), and of programs that stand in for them.

use bytes::Bytes;

use crate::{Outcome, Report};

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramEnd {
    /// By itself, with this code.
    Exited(u8),
    /// By a signal.
    Crashed,
}

impl ProgramEnd {
    /// What qmail-local did, given what it printed; of that the part before the first NUL counts.
    ///
    /// ```
    /// use qmail_core::{Outcome, ProgramEnd};
    /// let outcome = ProgramEnd::Exited(111).local_outcome(b"Unable to write it. (#4.3.0)\n");
    /// assert_eq!(outcome, Outcome::Deferred("Unable to write it. (#4.3.0)\n".into()));
    /// ```
    pub fn local_outcome(self, output: &[u8]) -> Outcome {
        let output = || {
            let end = memchr::memchr(0, output).unwrap_or(output.len());
            Report::new(Bytes::copy_from_slice(&output[..end]))
        };
        let Self::Exited(code) = self else {
            return Outcome::Deferred("qmail-local crashed.\n".into());
        };
        if let Some((_, text)) = RESERVED.iter().find(|(reserved, _)| *reserved == code) {
            return Outcome::Deferred((*text).into());
        }
        match code {
            0 => Outcome::Delivered(output()),
            111 | 71 | 74 | 75 => Outcome::Deferred(output()),
            126 => Outcome::Failed("Unable to run qmail-local.\n".into()),
            _ => Outcome::Failed(output()),
        }
    }

    /// What qmail-remote did for its one recipient, given what it printed: records that end in NUL, first one of the recipient
    /// (`r` accepted, `s` not now, `h` never), then one of the message (`K`, `Z`, `D`), which may also stand alone.
    ///
    /// Without a whole record of the message nothing is known, and it is to be tried again.
    ///
    /// ```
    /// use qmail_core::{Outcome, ProgramEnd};
    /// let outcome = ProgramEnd::Exited(0).remote_outcome(b"sbusy\n\0Dgave up\n\0");
    /// assert_eq!(outcome, Outcome::Deferred("busy\ngave up\n".into()));
    /// ```
    pub fn remote_outcome(self, output: &[u8]) -> Outcome {
        match self {
            Self::Crashed => return Outcome::Deferred("qmail-remote crashed.\n".into()),
            Self::Exited(0) => {}
            Self::Exited(111) => return Outcome::Deferred("Unable to run qmail-remote.\n".into()),
            Self::Exited(_) => return Outcome::Failed("Unable to run qmail-remote.\n".into()),
        }
        if output.is_empty() {
            return Outcome::Deferred("qmail-remote produced no output.\n".into());
        }
        // What follows the last NUL is no record.
        let end = memchr::memrchr(0, output).unwrap_or(0);
        let mut records = output[..end].split(|&octet| octet == 0);
        let message = records
            .clone()
            .find_map(|record| Rank::of_message(record.first()?));
        let Some(message) = message else {
            return Outcome::Deferred("qmail-remote said nothing of the message.\n".into());
        };
        let first = records.next().unwrap_or_default();
        let rank = match first.first() {
            Some(b's') => Rank::Deferred,
            Some(b'h') => Rank::Failed,
            _ => message,
        };
        let mut text = first.get(1..).unwrap_or_default().to_vec();
        if message <= rank
            && let Some([b'K' | b'Z' | b'D', more @ ..]) = records.next()
        {
            text.extend_from_slice(more);
        }
        let report = Report::new(text);
        match rank {
            Rank::Failed => Outcome::Failed(report),
            Rank::Deferred => Outcome::Deferred(report),
            Rank::Delivered => Outcome::Delivered(report),
        }
    }
}

/// From bad to good.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Failed,
    Deferred,
    Delivered,
}

impl Rank {
    fn of_message(letter: &u8) -> Option<Self> {
        match letter {
            b'K' => Some(Self::Delivered),
            b'Z' => Some(Self::Deferred),
            b'D' => Some(Self::Failed),
            _ => None,
        }
    }
}

/// Exit codes by which the parts of a classic qmail-lspawn tell one another what went wrong.
const RESERVED: &[(u8, &str)] = &[
    (112, "Internal qmail-lspawn bug.\n"),
    (113, "Not allowed to perform deliveries as root.\n"),
    (115, "NFS failure in qmail-local.\n"),
    (116, "Unable to find alias user!\n"),
    (117, "Trouble reading users/cdb in qmail-lspawn.\n"),
    (118, "Temporary failure in qmail-lspawn.\n"),
    (119, "Out of memory in qmail-lspawn.\n"),
    (120, "Unable to run qmail-local.\n"),
    (121, "Unable to run qmail-getpw.\n"),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(outcome: &Outcome) -> String {
        let text = outcome.report().as_bytes().escape_ascii();
        format!("{}{text}", char::from(outcome.letter()))
    }

    #[test]
    fn qmail_local_says_it_by_its_exit_code() {
        for (code, outcome) in [
            (0, r"Kdid it\n"),
            (71, r"Zdid it\n"),
            (74, r"Zdid it\n"),
            (75, r"Zdid it\n"),
            (111, r"Zdid it\n"),
            (100, r"Ddid it\n"),
            (1, r"Ddid it\n"),
            (99, r"Ddid it\n"),
            (112, r"ZInternal qmail-lspawn bug.\n"),
            (113, r"ZNot allowed to perform deliveries as root.\n"),
            (114, r"Ddid it\n"),
            (115, r"ZNFS failure in qmail-local.\n"),
            (116, r"ZUnable to find alias user!\n"),
            (117, r"ZTrouble reading users/cdb in qmail-lspawn.\n"),
            (118, r"ZTemporary failure in qmail-lspawn.\n"),
            (119, r"ZOut of memory in qmail-lspawn.\n"),
            (120, r"ZUnable to run qmail-local.\n"),
            (121, r"ZUnable to run qmail-getpw.\n"),
            (126, r"DUnable to run qmail-local.\n"),
            (127, r"Ddid it\n"),
        ] {
            let seen = ProgramEnd::Exited(code).local_outcome(b"did it\n\0no more");
            assert_eq!(shown(&seen), outcome, "{code}");
        }
        let crashed = ProgramEnd::Crashed.local_outcome(b"did it\n");
        assert_eq!(shown(&crashed), r"Zqmail-local crashed.\n");
    }

    #[test]
    fn qmail_remote_says_it_by_its_records() {
        for (output, outcome) in [
            ("rok\n\0Kdone\n\0", r"Kok\ndone\n"),
            ("r\0Kdone\n\0", r"Kdone\n"),
            ("rok\n\0Zlater\n\0", r"Zok\nlater\n"),
            ("rok\n\0Dnever\n\0", r"Dok\nnever\n"),
            ("hgone\n\0Kok\n\0", r"Dgone\n"),
            ("hgone\n\0Zok\n\0", r"Dgone\n"),
            ("hgone\n\0Dnever\n\0", r"Dgone\nnever\n"),
            ("sbusy\n\0Kok\n\0", r"Zbusy\n"),
            ("sbusy\n\0Zlater\n\0", r"Zbusy\nlater\n"),
            ("sbusy\n\0Dnever\n\0", r"Zbusy\nnever\n"),
            ("Kdone\n\0", r"Kdone\n"),
            ("Zlater\n\0", r"Zlater\n"),
            ("Dnever\n\0", r"Dnever\n"),
            ("\0K\0", "K"),
            // Of several the first counts, and a third is not shown.
            ("ra\n\0Zb\n\0Kc\n\0", r"Za\nb\n"),
            ("ra\n\0rb\n\0Kc\n\0", r"Ka\n"),
            ("ra\n\0Kb\n\0Zno end", r"Ka\nb\n"),
            ("", r"Zqmail-remote produced no output.\n"),
        ] {
            let seen = ProgramEnd::Exited(0).remote_outcome(output.as_bytes());
            assert_eq!(shown(&seen), outcome, "{output:?}");
        }
    }

    #[test]
    fn without_a_whole_record_of_the_message_it_is_tried_again() {
        for output in [
            "r",
            "rok\n\0",
            "hgone\n\0",
            "hgone\n\0K",
            "Kdone\n",
            "sh: no\n",
            "\0",
            "\0\0",
        ] {
            let seen = ProgramEnd::Exited(0).remote_outcome(output.as_bytes());
            assert_eq!(
                shown(&seen),
                r"Zqmail-remote said nothing of the message.\n",
                "{output:?}"
            );
        }
    }

    #[test]
    fn a_qmail_remote_that_did_not_do_its_work_says_nothing() {
        for (end, outcome) in [
            (ProgramEnd::Crashed, r"Zqmail-remote crashed.\n"),
            (ProgramEnd::Exited(111), r"ZUnable to run qmail-remote.\n"),
            (ProgramEnd::Exited(1), r"DUnable to run qmail-remote.\n"),
            (ProgramEnd::Exited(100), r"DUnable to run qmail-remote.\n"),
        ] {
            assert_eq!(shown(&end.remote_outcome(b"r\0Kdone\0")), outcome);
        }
    }
}
