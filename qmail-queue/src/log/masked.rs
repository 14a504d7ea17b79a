//! Text of strangers in a log line.

use std::fmt;

/// Shows octets as qmail-send's log does: LF as `/`, blanks, controls, `%` and everything beyond ASCII as `_`.
///
/// A line stays one line, and a field without blanks stays one field, so that programs can split it.
///
/// ```
/// use qmail_queue::Masked;
/// assert_eq!(Masked(b"100% of caf\xe9\nend\n").to_string(), "100__of_caf_/end/");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Masked<'a>(pub &'a [u8]);

impl fmt::Display for Masked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut room = [0; 128];
        for piece in self.0.chunks(room.len()) {
            let shown = &mut room[..piece.len()];
            for (to, &from) in shown.iter_mut().zip(piece) {
                *to = match from {
                    b'\n' => b'/',
                    b'%' => b'_',
                    b'!'..=b'~' => from,
                    _ => b'_',
                };
            }
            f.write_str(str::from_utf8(shown).map_err(|_| fmt::Error)?)?;
        }
        Ok(())
    }
}

/// Shows text of ours, which may quote a stranger's, on one line: LF as `/`, other controls as `_`.
pub(super) struct OneLine<T>(pub(super) T);

impl<T: fmt::Display> fmt::Display for OneLine<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;

        struct Filter<'a, 'b>(&'a mut fmt::Formatter<'b>);

        impl Write for Filter<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                text.chars().try_for_each(|shown| {
                    self.0.write_char(match shown {
                        '\n' => '/',
                        control if control.is_control() => '_',
                        other => other,
                    })
                })
            }
        }

        write!(Filter(f), "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_stranger_adds_no_line() {
        let line = OneLine("no: \r\n250 caf\u{e9}\u{9b}1m");
        assert_eq!(line.to_string(), "no: _/250 caf\u{e9}_1m");
    }

    #[test]
    fn nothing_but_visible_ascii_is_left() {
        let all: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let shown = Masked(&all).to_string();
        assert_eq!(shown.len(), all.len());
        for (from, to) in all.iter().zip(shown.bytes()) {
            let want = match from {
                b'\n' => b'/',
                b'%' | 0..33 | 127.. => b'_',
                &visible => visible,
            };
            assert_eq!(to, want, "{from}");
        }
    }
}
