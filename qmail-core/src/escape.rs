//! One way to show octets that a stranger chose.

use std::fmt;

/// Shows octets in a log line or an error: printable ASCII as it is, everything else as `\xNN`.
///
/// Control characters never reach a log, so that a peer cannot forge a line.
///
/// ```
/// use qmail_core::Escaped;
/// assert_eq!(Escaped(b"a\r\nb\\").to_string(), r"a\x0d\x0ab\\");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &octet in self.0 {
            match octet {
                b'\\' => f.write_str("\\\\")?,
                b' '..=b'~' => write!(f, "{}", octet as char)?,
                _ => write!(f, "\\x{octet:02x}")?,
            }
        }
        Ok(())
    }
}
