//! What the exit codes of qmail-queue mean, and of any program that stands in for it (qmail-queue(8)).

use bytes::Bytes;

use crate::StatusClass;

/// The end of a queue program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueExit<'a> {
    /// It exited with this code.
    Code(i32),
    /// It exited with code 82, and had written this to descriptor 6.
    Custom(&'a [u8]),
    /// A signal killed it.
    Killed,
}

/// What callers of a queue program say when it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueFailure {
    /// Temporary or permanent.
    pub class: StatusClass,
    /// One line, with its status at the end: `qq write error or disk full (#4.3.0)`.
    pub text: Bytes,
}

impl QueueFailure {
    /// The caller could not hand everything over, though the queue program said yes; or it could not read the message.
    pub const READ: Self = Self::temporary("qq read error (#4.3.0)");

    /// There is no memory left, or more would be needed than is allowed.
    pub const MEMORY: Self = Self::temporary("qq out of memory (#4.3.0)");

    const fn temporary(text: &'static str) -> Self {
        Self {
            class: StatusClass::Temporary,
            text: Bytes::from_static(text.as_bytes()),
        }
    }

    const fn permanent(text: &'static str) -> Self {
        Self {
            class: StatusClass::Permanent,
            text: Bytes::from_static(text.as_bytes()),
        }
    }

    /// Whether trying later may work.
    pub fn is_temporary(&self) -> bool {
        self.class == StatusClass::Temporary
    }
}

impl QueueExit<'_> {
    /// As much as is read from descriptor 6.
    pub const CUSTOM_OCTETS_MAX: usize = 255;

    /// `Ok` if the message was queued.
    ///
    /// Text of the queue program's own starts with `D` for a permanent failure; anything else is a temporary one. Control
    /// octets in it are shown as `?`, so that it stays one line.
    ///
    /// ```
    /// use qmail_core::QueueExit;
    /// assert!(QueueExit::Code(0).verdict().is_ok());
    /// let failure = QueueExit::Code(53).verdict().unwrap_err();
    /// assert_eq!(failure.text, "qq write error or disk full (#4.3.0)");
    /// assert!(failure.is_temporary());
    /// let failure = QueueExit::Custom(b"Dgo away (#5.7.1)").verdict().unwrap_err();
    /// assert_eq!(failure.text, "go away (#5.7.1)");
    /// assert!(!failure.is_temporary());
    /// ```
    ///
    /// # Errors
    ///
    /// What to say.
    pub fn verdict(self) -> Result<(), QueueFailure> {
        let code = match self {
            Self::Killed => return Err(QueueFailure::temporary("qq crashed (#4.3.0)")),
            Self::Custom(text) if text.len() > 2 => return Err(custom(text)),
            Self::Custom(_) => 82,
            Self::Code(code) => code,
        };
        let failure = match code {
            0 => return Ok(()),
            11 | 115 => QueueFailure::permanent("envelope address too long for qq (#5.1.3)"),
            31 => QueueFailure::permanent("mail server permanently rejected message (#5.3.0)"),
            51 => QueueFailure::MEMORY,
            52 => QueueFailure::temporary("qq timeout (#4.3.0)"),
            53 => QueueFailure::temporary("qq write error or disk full (#4.3.0)"),
            54 => QueueFailure::READ,
            55 => QueueFailure::temporary("qq unable to read configuration (#4.3.0)"),
            56 => QueueFailure::temporary("qq trouble making network connection (#4.3.0)"),
            61 => QueueFailure::temporary("qq trouble in home directory (#4.3.0)"),
            62..=66 => QueueFailure::temporary("qq trouble creating files in queue (#4.3.0)"),
            71 => QueueFailure::temporary("mail server temporarily rejected message (#4.3.0)"),
            72 => QueueFailure::temporary("connection to mail server timed out (#4.4.1)"),
            73 => QueueFailure::temporary("connection to mail server rejected (#4.4.1)"),
            74 => QueueFailure::temporary("communication with mail server failed (#4.4.2)"),
            81 | 91 => QueueFailure::temporary("qq internal bug (#4.3.0)"),
            120 => QueueFailure::temporary("unable to exec qq (#4.3.0)"),
            11..=40 => QueueFailure::permanent("qq permanent problem (#5.3.0)"),
            _ => QueueFailure::temporary("qq temporary problem (#4.3.0)"),
        };
        Err(failure)
    }
}

fn custom(text: &[u8]) -> QueueFailure {
    let text = &text[..text.len().min(QueueExit::CUSTOM_OCTETS_MAX)];
    let class = match text[0] {
        b'D' => StatusClass::Permanent,
        _ => StatusClass::Temporary,
    };
    let printable = text[1..].iter().map(|&octet| {
        if octet.is_ascii_control() {
            b'?'
        } else {
            octet
        }
    });
    QueueFailure {
        class,
        text: printable.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_texts() {
        for (code, temporary, text) in [
            (11, false, "envelope address too long for qq (#5.1.3)"),
            (115, false, "envelope address too long for qq (#5.1.3)"),
            (12, false, "qq permanent problem (#5.3.0)"),
            (40, false, "qq permanent problem (#5.3.0)"),
            (41, true, "qq temporary problem (#4.3.0)"),
            (1, true, "qq temporary problem (#4.3.0)"),
            (82, true, "qq temporary problem (#4.3.0)"),
            (65, true, "qq trouble creating files in queue (#4.3.0)"),
            (-1, true, "qq temporary problem (#4.3.0)"),
        ] {
            let failure = QueueExit::Code(code).verdict().unwrap_err();
            assert_eq!(
                (failure.is_temporary(), &failure.text[..]),
                (temporary, text.as_bytes()),
                "{code}"
            );
        }
        assert_eq!(
            QueueExit::Killed.verdict().unwrap_err().text,
            "qq crashed (#4.3.0)"
        );
    }

    #[test]
    fn custom_text_stays_one_line() {
        let failure = QueueExit::Custom(b"Dno\r\n250 ok\xe9")
            .verdict()
            .unwrap_err();
        assert_eq!(failure.text, &b"no??250 ok\xe9"[..]);
        let failure = QueueExit::Custom(b"Dx").verdict().unwrap_err();
        assert_eq!(failure.text, "qq temporary problem (#4.3.0)");
        let failure = QueueExit::Custom(&[b'Z'; 1000]).verdict().unwrap_err();
        assert_eq!((failure.is_temporary(), failure.text.len()), (true, 254));
    }
}
