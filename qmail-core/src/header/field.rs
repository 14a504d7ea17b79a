//! Splitting a message into header fields and body (RFC 822 section 3.1, qmail-header(5)).
//!
//! A field is a line with a colon, and the lines after it that start with a space or tab. Before the colon stands a name of
//! octets 33 to 126, maybe followed by spaces and tabs. The header ends at an empty line, or just before a line that is no
//! field. Lines end in LF; a header whose lines all end in CR LF ends at an empty line with CR LF too.

/// One field of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    raw: &'a [u8],
    name: &'a [u8],
    value: &'a [u8],
}

impl<'a> Field<'a> {
    /// Reads a field with all its lines. `None` if the first is none.
    ///
    /// ```
    /// let field = qmail_core::header::Field::parse(b"To : joe,\n  ann\n").unwrap();
    /// assert_eq!((field.name(), field.value()), (&b"To"[..], &b" joe,\n  ann"[..]));
    /// assert!(field.is(b"TO"));
    /// ```
    pub fn parse(raw: &'a [u8]) -> Option<Self> {
        match classify(raw) {
            Class::Field { name, colon } => {
                let value = &raw[colon + 1..];
                let value = value.strip_suffix(b"\n").unwrap_or(value);
                let value = value.strip_suffix(b"\r").unwrap_or(value);
                Some(Self {
                    raw,
                    name: &raw[..name],
                    value,
                })
            }
            Class::Undecided | Class::Other => None,
        }
    }

    /// A line `From ` of an mbox, which has no name of its own.
    fn mbox_line(raw: &'a [u8]) -> Self {
        Self {
            raw,
            name: b"MBOX-Line",
            value: raw.strip_suffix(b"\n").unwrap_or(raw),
        }
    }

    /// Lines at the start of a header that continue nothing.
    fn nameless(raw: &'a [u8]) -> Self {
        Self {
            raw,
            name: b"",
            value: raw.strip_suffix(b"\n").unwrap_or(raw),
        }
    }

    /// The name, in the case it was written in. Empty for what [`Splitter::with_leading_blanks`] finds.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// Whether this is the name, whatever the case.
    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// What follows the colon, folds and leading blanks included, without the last line end.
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    /// The field as it came, with the last line end.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Appends the field as it came; an mbox line as a field `MBOX-Line`.
    pub fn write(&self, sink: &mut Vec<u8>) {
        if self.raw.starts_with(MBOX_START) {
            sink.extend_from_slice(b"MBOX-Line: ");
        }
        sink.extend_from_slice(self.raw);
    }
}

/// Longest name in octets, blanks before the colon included. A line of RFC 5322 has 998 at most; what has no colon by
/// then is no field, so that text without any colon need not be held.
const NAME_OCTETS_MAX: usize = 998;

const MBOX_START: &[u8] = b"From ";

/// What the start of a line says about it.
enum Class {
    /// The name has so many octets; the colon may come after blanks.
    Field { name: usize, colon: usize },
    /// Not a field.
    Other,
    /// There is no colon yet.
    Undecided,
}

fn classify(line: &[u8]) -> Class {
    let start = &line[..line.len().min(NAME_OCTETS_MAX + 1)];
    let name = start
        .iter()
        .position(|octet| !matches!(octet, b'!'..=b'9' | b';'..=b'~'));
    let name = match name {
        Some(0) => return Class::Other,
        None if start.len() > NAME_OCTETS_MAX => return Class::Other,
        None => return Class::Undecided,
        Some(name) => name,
    };
    let blanks = start[name..].iter().position(|&octet| !is_blank(octet));
    match blanks {
        None if start.len() > NAME_OCTETS_MAX => Class::Other,
        None => Class::Undecided,
        Some(blanks) if start[name + blanks] == b':' => Class::Field {
            name,
            colon: name + blanks,
        },
        Some(_) => Class::Other,
    }
}

/// What [`Splitter::next`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    /// A field of the header.
    Field(Field<'a>),
    /// The header is over. The body is `start` and then what is left of the input.
    Body {
        /// Why it is over.
        end: HeaderEnd,
        /// What the splitter had taken already of a line that turned out to be body. Mostly empty.
        start: &'a [u8],
    },
}

/// What ends a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderEnd {
    /// An empty line. It is part of neither header nor body.
    EmptyLine,
    /// A line that is no field: it is the first of the body, though there is no empty line before.
    OtherLine,
    /// The end of the input.
    EndOfInput,
}

/// A field is longer than the splitter may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("header field is longer than {0} octets")]
pub struct FieldTooLong(pub usize);

/// Splits a header that comes in pieces.
///
/// A field that lies within a piece is not copied. Wherever the input is cut, the parts are the same.
///
/// ```
/// use qmail_core::header::{HeaderEnd, Part, Splitter};
/// let mut splitter = Splitter::new(10_000);
/// let mut names = Vec::new();
/// for mut piece in [&b"Subject: a\n "[..], b"b\nTo: joe\n\nbody"] {
///     while let Some(part) = splitter.next(&mut piece)? {
///         match part {
///             Part::Field(field) => names.push(field.name().to_vec()),
///             Part::Body { end, start } => {
///                 assert_eq!((end, start), (HeaderEnd::EmptyLine, &b""[..]));
///                 break;
///             }
///         }
///     }
/// }
/// assert_eq!(names, [&b"Subject"[..], b"To"]);
/// # Ok::<(), qmail_core::header::FieldTooLong>(())
/// ```
#[derive(Clone, Debug)]
pub struct Splitter {
    field_octets_max: usize,
    mbox_lines: bool,
    leading_blanks: bool,
    /// The start of a field whose end was not seen.
    buffer: Vec<u8>,
    /// The first line in the buffer is that of a field.
    known: bool,
    /// The buffer was handed out and is to be emptied.
    stale: bool,
    /// All lines so far ended in CR LF.
    crlf: bool,
    ended: bool,
}

impl Splitter {
    /// A splitter that holds no more than `field_octets_max` octets of a field.
    pub fn new(field_octets_max: usize) -> Self {
        Self {
            field_octets_max,
            mbox_lines: false,
            leading_blanks: false,
            buffer: Vec::new(),
            known: false,
            stale: false,
            crlf: true,
            ended: false,
        }
    }

    /// A splitter that takes `From ` lines, wherever they stand in a header, for fields (qmail-inject(8)).
    pub fn with_mbox_lines(field_octets_max: usize) -> Self {
        Self {
            mbox_lines: true,
            ..Self::new(field_octets_max)
        }
    }

    /// A splitter that takes lines that start with a space or tab for a part of the header even where there is no field
    /// before them that they could continue (mess822): together they are a field without a name.
    pub fn with_leading_blanks(field_octets_max: usize) -> Self {
        Self {
            leading_blanks: true,
            ..Self::new(field_octets_max)
        }
    }

    /// Takes the next part from the start of `input`; `None` when more input is needed, and then all was taken.
    ///
    /// After [`Part::Body`] there are no parts any more, and nothing is taken.
    ///
    /// # Errors
    ///
    /// A field is too long. Nothing sensible comes after that.
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Part<'s>>, FieldTooLong> {
        self.forget_stale();
        if self.ended || input.is_empty() {
            return Ok(None);
        }
        if self.buffer.is_empty()
            && let Some(end) = part_end(input, self.leading_blanks)
        {
            return self.whole(input, end).map(Some);
        }
        while let Some(&next) = input.first() {
            if self.buffer.last() == Some(&b'\n') && !is_blank(next) {
                self.crlf &= self.buffer.ends_with(b"\r\n");
                self.stale = true;
                return Ok(self.read(&self.buffer).map(Part::Field));
            }
            let line = memchr::memchr(b'\n', input).map_or(input.len(), |lf| lf + 1);
            let (taken, rest) = input.split_at(line);
            self.buffer.extend_from_slice(taken);
            *input = rest;
            if !self.known {
                match self.class() {
                    Class::Undecided => {}
                    Class::Field { .. } => self.known = true,
                    Class::Other => return Ok(Some(self.end_of_buffer())),
                }
            }
            if self.buffer.len() > self.field_octets_max {
                return Err(FieldTooLong(self.field_octets_max));
            }
        }
        Ok(None)
    }

    /// Says that the input is over. Call it until it gives `None`; a line end that is missing is supplied.
    pub fn finish(&mut self) -> Option<Part<'_>> {
        self.forget_stale();
        if self.ended {
            return None;
        }
        if self.buffer.is_empty() {
            self.ended = true;
            return Some(Part::Body {
                end: HeaderEnd::EndOfInput,
                start: b"",
            });
        }
        if !self.known {
            return Some(self.end_of_buffer());
        }
        if self.buffer.last() != Some(&b'\n') {
            self.buffer.push(b'\n');
        }
        self.stale = true;
        self.read(&self.buffer).map(Part::Field)
    }

    fn forget_stale(&mut self) {
        if std::mem::take(&mut self.stale) {
            self.buffer.clear();
            self.known = false;
        }
    }

    /// The part that is all in the input and ends at `end`.
    fn whole<'i>(&mut self, input: &mut &'i [u8], end: usize) -> Result<Part<'i>, FieldTooLong> {
        let (raw, rest) = input.split_at(end);
        if self.is_empty_line(raw) {
            self.ended = true;
            *input = rest;
            return Ok(Part::Body {
                end: HeaderEnd::EmptyLine,
                start: b"",
            });
        }
        let Some(field) = self.read(raw) else {
            self.ended = true;
            return Ok(Part::Body {
                end: HeaderEnd::OtherLine,
                start: b"",
            });
        };
        if end > self.field_octets_max {
            return Err(FieldTooLong(self.field_octets_max));
        }
        self.crlf &= raw.ends_with(b"\r\n");
        *input = rest;
        Ok(Part::Field(field))
    }

    /// The buffer has no field: it is an empty line, or belongs to the body.
    fn end_of_buffer(&mut self) -> Part<'_> {
        self.ended = true;
        self.stale = true;
        if self.is_empty_line(&self.buffer) {
            return Part::Body {
                end: HeaderEnd::EmptyLine,
                start: b"",
            };
        }
        Part::Body {
            end: HeaderEnd::OtherLine,
            start: &self.buffer,
        }
    }

    /// What the start of a line in the buffer says.
    fn class(&self) -> Class {
        if self.mbox_lines && self.buffer.starts_with(MBOX_START) {
            return Class::Field { name: 0, colon: 0 };
        }
        if self.leading_blanks && self.buffer.first().is_some_and(|&octet| is_blank(octet)) {
            return Class::Field { name: 0, colon: 0 };
        }
        if self.buffer == b"\r" && self.crlf {
            return Class::Undecided;
        }
        classify(&self.buffer)
    }

    fn is_empty_line(&self, line: &[u8]) -> bool {
        line == b"\n" || (self.crlf && line == b"\r\n")
    }

    fn read<'a>(&self, raw: &'a [u8]) -> Option<Field<'a>> {
        if self.mbox_lines && raw.starts_with(MBOX_START) {
            return Some(Field::mbox_line(raw));
        }
        if self.leading_blanks && raw.first().is_some_and(|&octet| is_blank(octet)) {
            return Some(Field::nameless(raw));
        }
        Field::parse(raw)
    }
}

/// Where the first line and its continuations end, if the start of a line after them is in sight.
///
/// A first line that is empty ends at once, whatever follows: continuations are for fields.
fn part_end(octets: &[u8], leading_blanks: bool) -> Option<usize> {
    let mut end = memchr::memchr(b'\n', octets)? + 1;
    let is_field = if is_blank(octets[0]) {
        leading_blanks
    } else {
        end > 2
    };
    if !is_field {
        return Some(end);
    }
    while is_blank(*octets.get(end)?) {
        end += memchr::memchr(b'\n', &octets[end..])? + 1;
    }
    Some(end)
}

fn is_blank(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Fields in angle brackets, then how the header ended, then the body.
    fn split(splitter: Splitter, pieces: &[&[u8]]) -> String {
        let mut splitter = splitter;
        let mut shown = Vec::new();
        let mut body = false;
        let mut show = |part: Part<'_>, body: &mut bool| match part {
            Part::Field(field) => {
                shown.push(b'<');
                field.write(&mut shown);
                shown.push(b'>');
            }
            Part::Body { end, start } => {
                shown.extend_from_slice(format!("{end:?}=").as_bytes());
                shown.extend_from_slice(start);
                *body = true;
            }
        };
        let mut rest = Vec::new();
        for piece in pieces {
            let mut piece = *piece;
            while !body && let Some(part) = splitter.next(&mut piece).unwrap() {
                show(part, &mut body);
            }
            rest.extend_from_slice(piece);
            assert!(body || piece.is_empty());
        }
        while !body && let Some(part) = splitter.finish() {
            show(part, &mut body);
        }
        assert!(body);
        shown.extend(rest);
        shown.iter().map(|&octet| octet as char).collect()
    }

    fn split_everywhere(message: &[u8]) -> String {
        cut_everywhere(message, || Splitter::with_mbox_lines(10_000))
    }

    fn cut_everywhere(message: &[u8], make: fn() -> Splitter) -> String {
        let whole = split(make(), &[message]);
        for cut in 0..=message.len() {
            assert_eq!(
                split(make(), &[&message[..cut], &message[cut..]]),
                whole,
                "cut at {cut}"
            );
        }
        let octets: Vec<_> = message.chunks(1).collect();
        assert_eq!(split(make(), &octets), whole, "octet by octet");
        whole
    }

    #[test]
    fn leading_blanks_may_belong_to_the_header() {
        for (message, parts) in [
            (
                "  lead\n\tmore\nA: 1\n b\n\n c\n",
                "<  lead\n\tmore\n><A: 1\n b\n>EmptyLine= c\n",
            ),
            (" \n", "< \n>EndOfInput="),
            (" \n x\n\n", "< \n x\n>EmptyLine="),
            (" x", "< x\n>EndOfInput="),
            ("\tx\r\n\r\ny", "<\tx\r\n>EmptyLine=y"),
            (" x\nno field\n", "< x\n>OtherLine=no field\n"),
        ] {
            let make = || Splitter::with_leading_blanks(10_000);
            assert_eq!(
                cut_everywhere(message.as_bytes(), make),
                parts,
                "{message:?}"
            );
        }
    }

    #[test]
    fn messages_are_split() {
        for (message, parts) in [
            ("", "EndOfInput="),
            ("\nbody\n", "EmptyLine=body\n"),
            ("A: 1\n\nbody\n", "<A: 1\n>EmptyLine=body\n"),
            ("A: 1", "<A: 1\n>EndOfInput="),
            ("A: 1\n b\n\tc\nB:\n", "<A: 1\n b\n\tc\n><B:\n>EndOfInput="),
            ("A: 1\n  ", "<A: 1\n  \n>EndOfInput="),
            ("A \t: 1\n\n", "<A \t: 1\n>EmptyLine="),
            ("hello there\nA: 1\n", "OtherLine=hello there\nA: 1\n"),
            ("hello", "OtherLine=hello"),
            ("A: 1\nX Y: z\n", "<A: 1\n>OtherLine=X Y: z\n"),
            ("A: 1\n: y\n", "<A: 1\n>OtherLine=: y\n"),
            ("A: 1\n>From x\n", "<A: 1\n>OtherLine=>From x\n"),
            ("  lead\nA: 1\n", "OtherLine=  lead\nA: 1\n"),
            ("\n continued\n", "EmptyLine= continued\n"),
            (
                "From joe Thu\n x\nA: 1\n\nFrom y\n",
                "<MBOX-Line: From joe Thu\n x\n><A: 1\n>EmptyLine=From y\n",
            ),
            ("A: 1\nFrom", "<A: 1\n>OtherLine=From"),
            ("From: joe\n", "<From: joe\n>EndOfInput="),
            (
                "A: 1\r\nB: 2\r\n\r\nbody\r\n",
                "<A: 1\r\n><B: 2\r\n>EmptyLine=body\r\n",
            ),
            ("A: 1\n\r\nbody\n", "<A: 1\n>OtherLine=\r\nbody\n"),
            ("\r\nbody\n", "EmptyLine=body\n"),
            ("\rbody\n", "OtherLine=\rbody\n"),
            ("Caf\u{e9}: y\n", "OtherLine=Caf\u{c3}\u{a9}: y\n"),
        ] {
            assert_eq!(split_everywhere(message.as_bytes()), parts, "{message:?}");
        }
        let plain = split(Splitter::new(100), &[b"A: 1\nFrom joe\n\n"]);
        assert_eq!(plain, "<A: 1\n>OtherLine=From joe\n\n");
    }

    #[test]
    fn a_field_is_bounded_and_a_line_without_colon_is_not_held() {
        for long in [
            b"A: ".repeat(50),
            [b"A: 1".as_slice(), &b"\n x".repeat(50)].concat(),
        ] {
            for piece in [1, 7, 1000] {
                let mut splitter = Splitter::new(100);
                let mut failed = false;
                for piece in [&long[..], b"\n\n"].concat().chunks(piece) {
                    let mut piece = piece;
                    match splitter.next(&mut piece) {
                        Err(FieldTooLong(100)) => failed = true,
                        other => assert!(failed || matches!(other, Ok(None)), "{other:?}"),
                    }
                }
                assert!(failed);
            }
        }
        let mut splitter = Splitter::new(1_000_000);
        let mut held = 0;
        for _ in 0..2000 {
            let mut piece = &b"x"[..];
            if let Some(Part::Body { end, start }) = splitter.next(&mut piece).unwrap() {
                assert_eq!(end, HeaderEnd::OtherLine);
                held = start.len();
                break;
            }
        }
        assert_eq!(held, NAME_OCTETS_MAX + 1);
    }

    proptest! {
        #[test]
        fn cuts_change_nothing(message in proptest::collection::vec(prop::sample::select(&b"AF :\n\r\t>\xe9"[..]), 0..24)) {
            split_everywhere(&message);
        }
    }
}
