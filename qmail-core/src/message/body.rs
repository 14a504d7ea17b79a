//! The text behind a header, on its way into a queue.

/// Passes a body on with all lines ending in LF: a missing last line end is supplied, and CR LF becomes LF if asked for.
///
/// ```
/// use qmail_core::message::BodyText;
/// let mut body = BodyText::new(true);
/// let mut sink = Vec::new();
/// body.write(b"one\r", |octets| sink.extend_from_slice(octets));
/// body.write(b"\ntwo", |octets| sink.extend_from_slice(octets));
/// body.finish(|octets| sink.extend_from_slice(octets));
/// assert_eq!(sink, b"one\ntwo\n");
/// ```
#[derive(Clone, Debug)]
pub struct BodyText {
    /// CR LF becomes LF; other CRs stay.
    crlf: bool,
    /// A CR at the end of the last piece waits for what follows.
    cr_due: bool,
    whole_line: bool,
}

impl BodyText {
    /// A body whose lines may end in CR LF if `crlf`; otherwise CRs are as good as other octets.
    pub fn new(crlf: bool) -> Self {
        Self {
            crlf,
            cr_due: false,
            whole_line: true,
        }
    }

    /// Passes the next piece on, uncopied.
    pub fn write(&mut self, octets: &[u8], mut sink: impl FnMut(&[u8])) {
        let Some(&last) = octets.last() else {
            return;
        };
        self.whole_line = last == b'\n';
        if !self.crlf {
            sink(octets);
            return;
        }
        if std::mem::take(&mut self.cr_due) && octets[0] != b'\n' {
            sink(b"\r");
        }
        let mut start = 0;
        for cr in memchr::memchr_iter(b'\r', octets) {
            match octets.get(cr + 1) {
                Some(b'\n') => {}
                None => self.cr_due = true,
                Some(_) => continue,
            }
            if start < cr {
                sink(&octets[start..cr]);
            }
            start = cr + 1;
        }
        if start < octets.len() {
            sink(&octets[start..]);
        }
    }

    /// Ends the body.
    pub fn finish(self, mut sink: impl FnMut(&[u8])) {
        if !self.whole_line {
            sink(b"\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_lf_wherever_the_text_is_cut() {
        for (text, plain, crlf) in [
            ("", "", ""),
            ("a", "a\n", "a\n"),
            ("a\n", "a\n", "a\n"),
            ("a\r\nb\r\n", "a\r\nb\r\n", "a\nb\n"),
            ("a\r\r\nb\rc", "a\r\r\nb\rc\n", "a\r\nb\rc\n"),
            ("a\r", "a\r\n", "a\n"),
            ("\r\n", "\r\n", "\n"),
        ] {
            for (flag, want) in [(false, plain), (true, crlf)] {
                for cut in 0..=text.len() {
                    let mut body = BodyText::new(flag);
                    let mut sink = Vec::new();
                    for piece in [&text[..cut], &text[cut..]] {
                        body.write(piece.as_bytes(), |octets| sink.extend_from_slice(octets));
                    }
                    body.finish(|octets| sink.extend_from_slice(octets));
                    assert_eq!(sink, want.as_bytes(), "{text:?} {flag} {cut}");
                }
            }
        }
    }
}
