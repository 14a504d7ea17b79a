//! The mbox format: `From ` lines between messages (mbox(5), the variant that is called mboxrd).

/// Writes the text of a message so that no line of it can be taken for the start of the next.
///
/// Every line that is `From ` behind any number of `>` gets one more `>`: a reader takes one away and has the message as it
/// was. Only LF ends a line. The text may come in chunks cut anywhere; what is held back between chunks is a count.
///
/// ```
/// use qmail_core::mbox::Quoter;
/// let mut quoter = Quoter::new();
/// let mut sink = Vec::new();
/// quoter.write(b"Subject: x\n\n>Fr", &mut sink);
/// quoter.write(b"om you\nno end", &mut sink);
/// quoter.finish(&mut sink);
/// assert_eq!(sink, b"Subject: x\n\n>>From you\nno end\n\n");
/// ```
#[derive(Clone, Debug)]
pub struct Quoter {
    /// What the present line is so far, if it may still come to need a `>`.
    start: Start,
    /// Whether the text so far ends inside a line.
    inside: bool,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    /// So many octets of `From ` have come, behind any number of `>`; they are held back.
    Held(usize),
    /// The line is known to be harmless, or has been quoted.
    Settled,
}

impl Quoter {
    /// At the start of a message.
    pub fn new() -> Self {
        Self {
            start: Start::Held(0),
            inside: false,
        }
    }

    /// Appends text to `sink`; a part of it may stay back until the next call.
    pub fn write(&mut self, mut text: &[u8], sink: &mut Vec<u8>) {
        while let Some(&octet) = text.first() {
            match self.start {
                Start::Settled => {
                    let end = memchr::memchr(b'\n', text);
                    let (line, rest) = text.split_at(end.map_or(text.len(), |end| end + 1));
                    sink.extend_from_slice(line);
                    text = rest;
                    if end.is_some() {
                        *self = Self::new();
                    }
                }
                Start::Held(held) if octet == FROM[held] => {
                    self.inside = true;
                    text = &text[1..];
                    self.start = Start::Held(held + 1);
                    if held + 1 == FROM.len() {
                        sink.push(b'>');
                        sink.extend_from_slice(FROM);
                        self.start = Start::Settled;
                    }
                }
                // The `>` in front go out at once: one more in front of them is one more behind them.
                Start::Held(0) if octet == b'>' => {
                    self.inside = true;
                    text = &text[1..];
                    sink.push(b'>');
                }
                Start::Held(held) => {
                    self.inside = true;
                    sink.extend_from_slice(&FROM[..held]);
                    self.start = Start::Settled;
                }
            }
        }
    }

    /// Ends the message: a last line without LF gets one, and an empty line follows.
    pub fn finish(self, sink: &mut Vec<u8>) {
        if let Start::Held(held) = self.start {
            sink.extend_from_slice(&FROM[..held]);
        }
        if self.inside {
            sink.push(b'\n');
        }
        sink.push(b'\n');
    }
}

impl Default for Quoter {
    fn default() -> Self {
        Self::new()
    }
}

const FROM: &[u8] = b"From ";

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(chunks: &[&[u8]]) -> Vec<u8> {
        let mut quoter = Quoter::new();
        let mut sink = Vec::new();
        for chunk in chunks {
            quoter.write(chunk, &mut sink);
        }
        quoter.finish(&mut sink);
        sink
    }

    #[test]
    fn lines_are_quoted_wherever_they_are_cut() {
        for (text, want) in [
            (&b""[..], &b"\n"[..]),
            (b"\n", b"\n\n"),
            (b"From x\n", b">From x\n\n"),
            (b">>From x\n", b">>>From x\n\n"),
            (
                b"> From\nFrom:\nFrom\nfrom x\n",
                b"> From\nFrom:\nFrom\nfrom x\n\n",
            ),
            (b"a From b\n From c\n", b"a From b\n From c\n\n"),
            (b"a\rFrom b\r\nFrom c", b"a\rFrom b\r\n>From c\n\n"),
            (b"FFrom x\nFroFrom \n", b"FFrom x\nFroFrom \n\n"),
            (b"From", b"From\n\n"),
            (b">", b">\n\n"),
        ] {
            assert_eq!(quoted(&[text]), want, "{}", text.escape_ascii());
            for at in 0..=text.len() {
                let (one, two) = text.split_at(at);
                assert_eq!(quoted(&[one, two]), want, "{} at {at}", text.escape_ascii());
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn a_reader_gets_the_message_back(text in "(>{0,2}(From )?[a-c]{0,2}\n){0,8}") {
            let quoted = quoted(&[text.as_bytes()]);
            let quoted = String::from_utf8(quoted).unwrap();
            let quoted = quoted.strip_suffix('\n').unwrap();
            let read: String = quoted.split_inclusive('\n').map(|line| {
                assert!(!line.starts_with("From "));
                match line.strip_prefix('>') {
                    Some(rest) if rest.trim_start_matches('>').starts_with("From ") => rest,
                    _ => line,
                }
            }).collect();
            proptest::prop_assert_eq!(read, text);
        }
    }
}
