//! Tokens of structured fields (RFC 822 section 3.3): atoms, quoted strings, domain literals, comments, specials.
//!
//! A token borrows from the field; escapes are undone when its value is asked for. No input takes more than one pass, and
//! comments nest without recursion.
//!
//! Two grammars are in use. [`Grammar::Strict`] is how qmail-inject reads: what is not closed is an error.
//! [`Grammar::Lenient`] is how the mess822 programs read: nothing is an error.

/// How strange input is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grammar {
    /// An unclosed quoted string, literal or comment is an error, and so is a token that starts with `)` or `]`. Comments
    /// lose their inner parentheses. A fold is one blank.
    Strict,
    /// What is not closed ends with the field. Comments keep their inner parentheses. A fold is the blanks that follow
    /// the line end. Blanks are tokens.
    Lenient,
}

/// What a [`Token`] is.
// As wide as `Form`, so that a token has no padding and is copied in two whole moves: that doubles the speed of lists.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word that needs no quotes.
    Atom,
    /// `"..."`, or a word that needs quotes.
    Quoted,
    /// `[...]`
    Literal,
    /// `(...)`
    Comment,
    /// `@`
    At,
    /// `.`
    Dot,
    /// `,`
    Comma,
    /// `:`
    Colon,
    /// `;`
    Semicolon,
    /// `<`
    Left,
    /// `>`
    Right,
    /// A space, tab or line end ([`Grammar::Lenient`] only).
    Blank,
}

impl Kind {
    /// The octet of a special, a blank being a space.
    fn octet(self) -> Option<u8> {
        let octet = match self {
            Self::At => b'@',
            Self::Dot => b'.',
            Self::Comma => b',',
            Self::Colon => b':',
            Self::Semicolon => b';',
            Self::Left => b'<',
            Self::Right => b'>',
            Self::Blank => b' ',
            Self::Atom | Self::Quoted | Self::Literal | Self::Comment => return None,
        };
        Some(octet)
    }

    /// Whether it is a word of an address or a phrase.
    pub fn is_word(self) -> bool {
        matches!(self, Self::Atom | Self::Quoted | Self::Literal)
    }
}

/// One token of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// What it is.
    pub kind: Kind,
    form: Form,
    /// Without the delimiters.
    raw: &'a [u8],
}

/// How the raw text of a token relates to its value.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// It is the value, and is written as it is.
    Plain,
    /// It is the value, and is written with escapes.
    Verbatim,
    /// It has escapes or folds that the value has not, in [`Grammar::Strict`].
    Strict,
    /// The same in [`Grammar::Lenient`].
    Lenient,
}

impl Form {
    fn is_escaped(self) -> bool {
        matches!(self, Self::Strict | Self::Lenient)
    }
}

impl<'a> Token<'a> {
    /// A special.
    pub(crate) fn special(kind: Kind) -> Self {
        Self {
            kind,
            form: Form::Plain,
            raw: b"",
        }
    }

    /// A word or comment of these octets, taken as they are: they are no grammar.
    pub(crate) fn raw(kind: Kind, value: &'a [u8]) -> Self {
        Self {
            kind,
            form: Form::Verbatim,
            raw: value,
        }
    }

    /// The octets it stands for: escapes and folds undone, without quotes and parentheses, a literal without brackets.
    pub fn value(&self) -> impl Iterator<Item = u8> + use<'a> {
        let value = Value {
            rest: self.raw,
            form: self.form,
            drop_parentheses: self.kind == Kind::Comment && self.form == Form::Strict,
        };
        self.kind.octet().into_iter().chain(value)
    }

    /// Appends the octets it stands for in an address: as [`value`](Self::value), a literal with its brackets.
    pub fn write_value(&self, sink: &mut Vec<u8>) {
        if let Some(octet) = self.kind.octet() {
            sink.push(octet);
            return;
        }
        if self.kind == Kind::Literal {
            sink.push(b'[');
        }
        if self.form.is_escaped() {
            sink.extend(self.value());
        } else {
            sink.extend_from_slice(self.raw);
        }
        if self.kind == Kind::Literal {
            sink.push(b']');
        }
    }

    /// Appends the form for a header field: with its delimiters, and a backslash before each of `" [ ] ( ) \`.
    ///
    /// A CR, LF or NUL that an escape brought in is written as a blank: no token adds a line.
    #[inline]
    pub fn write_header(&self, sink: &mut Vec<u8>) {
        let (open, close) = match self.kind {
            Kind::Quoted => (b'"', b'"'),
            Kind::Literal => (b'[', b']'),
            Kind::Comment => (b'(', b')'),
            _ => {
                self.write_value(sink);
                return;
            }
        };
        sink.push(open);
        if self.form == Form::Plain {
            sink.extend_from_slice(self.raw);
        } else {
            write_escaped(self.value(), sink);
        }
        sink.push(close);
    }

    /// An atom without its last octet, if that is a `+`.
    pub(crate) fn without_plus(&self) -> Option<Self> {
        if self.kind != Kind::Atom {
            return None;
        }
        let raw = self.raw.strip_suffix(b"+")?;
        // `\+` is the same `+`.
        let raw = match raw
            .iter()
            .rev()
            .take_while(|&&octet| octet == b'\\')
            .count()
            % 2
        {
            0 => raw,
            _ => &raw[..raw.len() - 1],
        };
        Some(Self { raw, ..*self })
    }

    /// The value, if it needs no unescaping and has no line break or NUL.
    #[inline]
    pub(crate) fn plain(&self) -> Option<&'a [u8]> {
        (self.form == Form::Plain).then_some(self.raw)
    }

    /// Whether it is an atom with dots inside, of [`Lexer::dotted`].
    pub(crate) fn has_dot(&self) -> bool {
        self.kind == Kind::Atom && memchr::memchr(b'.', self.raw).is_some()
    }

    /// Whether its value has no octets.
    pub(crate) fn is_empty(&self) -> bool {
        self.value().next().is_none()
    }
}

/// Writes octets as they stand inside quotes or parentheses of a header field.
pub(crate) fn write_escaped(octets: impl Iterator<Item = u8>, sink: &mut Vec<u8>) {
    for octet in octets {
        match octet {
            b'\r' | b'\n' | 0 => sink.push(b' '),
            b'"' | b'[' | b']' | b'(' | b')' | b'\\' => sink.extend_from_slice(&[b'\\', octet]),
            _ => sink.push(octet),
        }
    }
}

/// The octets of a token's value, from [`Token::value`].
#[derive(Clone, Debug)]
struct Value<'a> {
    rest: &'a [u8],
    form: Form,
    drop_parentheses: bool,
}

impl Iterator for Value<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        loop {
            let (&octet, rest) = self.rest.split_first()?;
            self.rest = rest;
            if !self.form.is_escaped() {
                return Some(octet);
            }
            match octet {
                b'\\' => {
                    // The lexer leaves no backslash without an octet to escape, but a lenient field may end in one.
                    let (&escaped, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    return Some(escaped);
                }
                b'(' | b')' if self.drop_parentheses => {}
                b'\n' | b'\r' => {
                    if self.form == Form::Strict {
                        self.rest = self.rest.trim_ascii_start();
                        return Some(b' ');
                    }
                }
                _ => return Some(octet),
            }
        }
    }
}

/// What makes a field unreadable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// A quoted string, literal or comment does not end, or the field ends in a backslash.
    #[error("unbalanced quote, bracket or parenthesis")]
    Unclosed,
    /// A `)` or `]` that closes nothing.
    #[error("closing parenthesis or bracket without an opening one")]
    Stray,
}

/// Takes the value of a field apart.
///
/// ```
/// use qmail_core::header::token::{Grammar, Kind, Lexer};
/// let kinds: Result<Vec<_>, _> = Lexer::new(b"joe@\"x y\" (Joe)", Grammar::Strict)
///     .map(|token| token.map(|token| token.kind))
///     .collect();
/// assert_eq!(kinds, Ok(vec![Kind::Atom, Kind::At, Kind::Quoted, Kind::Comment]));
/// ```
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    rest: &'a [u8],
    grammar: Grammar,
    dotted: bool,
}

impl<'a> Lexer<'a> {
    /// Reads the text after the colon. Line ends within it are blanks.
    pub fn new(value: &'a [u8], grammar: Grammar) -> Self {
        Self {
            rest: value,
            grammar,
            dotted: false,
        }
    }

    /// As [`Lexer::new`], with words that have dots between, and nothing else, taken for one atom: `mail.example.org` is
    /// one token and not five. Lists of addresses are read so, for speed.
    pub(crate) fn dotted(value: &'a [u8], grammar: Grammar) -> Self {
        Self {
            dotted: true,
            ..Self::new(value, grammar)
        }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Goes on there.
    pub(super) fn resume(&mut self, rest: &'a [u8]) {
        self.rest = rest;
    }

    /// The form of a token whose value is not its text.
    fn escaped(&self) -> Form {
        match self.grammar {
            Grammar::Strict => Form::Strict,
            Grammar::Lenient => Form::Lenient,
        }
    }

    #[inline]
    fn special(&mut self, kind: Kind) -> Token<'a> {
        self.rest = &self.rest[1..];
        Token {
            kind,
            form: Form::Plain,
            raw: b"",
        }
    }

    /// Everything up to the closing delimiter; parentheses nest, the others do not.
    #[inline]
    fn delimited(&mut self, kind: Kind, close: u8) -> Result<Token<'a>, TokenError> {
        let text = &self.rest[1..];
        let mut depth = 1usize;
        let mut form = Form::Plain;
        let mut at = 0;
        let end = loop {
            let Some(&octet) = text.get(at) else {
                if self.grammar == Grammar::Strict {
                    return Err(TokenError::Unclosed);
                }
                break text.len();
            };
            if has(octet, ESCAPE) {
                if octet == close {
                    depth -= 1;
                    if depth == 0 {
                        break at;
                    }
                } else if octet == b'(' && close == b')' {
                    depth += 1;
                } else if octet == b'\\' {
                    at += 1;
                }
                form = self.escaped();
            }
            at += 1;
        };
        self.rest = text.get(end + 1..).unwrap_or_default();
        Ok(Token {
            kind,
            form,
            raw: &text[..end],
        })
    }

    #[inline(always)]
    fn atom(&mut self) -> Result<Token<'a>, TokenError> {
        let mut end = plain_octets(self.rest);
        if self.rest.get(end).is_some_and(|&octet| has(octet, ODD)) {
            return self.odd_atom();
        }
        while self.dotted && self.rest.get(end) == Some(&b'.') {
            let label = &self.rest[end + 1..];
            let octets = plain_octets(label);
            // A word that needs quotes is no part of a dot-atom, and neither is a dot at its end.
            if octets == 0 || label.get(octets).is_some_and(|&octet| has(octet, ODD)) {
                break;
            }
            end += 1 + octets;
        }
        let (raw, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(Token {
            kind: Kind::Atom,
            form: Form::Plain,
            raw,
        })
    }

    /// An atom with escapes, or with octets that no atom may have.
    #[cold]
    fn odd_atom(&mut self) -> Result<Token<'a>, TokenError> {
        let mut end = 0;
        while let Some(&octet) = self.rest.get(end) {
            if has(octet, STOP) {
                break;
            }
            end += if octet == b'\\' { 2 } else { 1 };
        }
        if end > self.rest.len() {
            if self.grammar == Grammar::Strict {
                return Err(TokenError::Unclosed);
            }
            end = self.rest.len();
        }
        let (raw, rest) = self.rest.split_at(end);
        self.rest = rest;
        let mut token = Token {
            kind: Kind::Atom,
            form: self.escaped(),
            raw,
        };
        // What an escape brought in may need quotes, or nothing.
        if token.value().any(|octet| has(octet, ODD | STOP)) {
            token.kind = Kind::Quoted;
            if !raw.iter().any(|&octet| has(octet, ESCAPE)) {
                token.form = Form::Plain;
            }
        }
        Ok(token)
    }
}

/// How many octets an atom has that starts here, up to the first that is none of it or needs a closer look.
#[inline(always)]
pub(super) fn plain_octets(text: &[u8]) -> usize {
    text.iter()
        .position(|&octet| has(octet, STOP | ODD))
        .unwrap_or(text.len())
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Result<Token<'a>, TokenError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let token = match *self.rest.first()? {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    let blank = self.special(Kind::Blank);
                    if self.grammar == Grammar::Strict {
                        continue;
                    }
                    blank
                }
                b'@' => self.special(Kind::At),
                b'.' => self.special(Kind::Dot),
                b',' => self.special(Kind::Comma),
                b':' => self.special(Kind::Colon),
                b';' => self.special(Kind::Semicolon),
                b'<' => self.special(Kind::Left),
                b'>' => self.special(Kind::Right),
                b'"' => return Some(self.delimited(Kind::Quoted, b'"')),
                b'[' => return Some(self.delimited(Kind::Literal, b']')),
                b'(' => return Some(self.delimited(Kind::Comment, b')')),
                b')' | b']' if self.grammar == Grammar::Strict => {
                    return Some(Err(TokenError::Stray));
                }
                _ => return Some(self.atom()),
            };
            return Some(Ok(token));
        }
    }
}

/// Ends an atom.
const STOP: u8 = 1;
/// Makes an atom a quoted string, or is a backslash.
const ODD: u8 = 2;
/// Inside a delimited token: its value or its written form is not its raw text.
const ESCAPE: u8 = 4;

const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        if octet < 32 || octet > 126 {
            class[octet] |= ODD;
        }
        octet += 1;
    }
    let mut at = 0;
    let stop = b" \t\r\n([\"<>;:@,.";
    while at < stop.len() {
        class[stop[at] as usize] |= STOP;
        at += 1;
    }
    class[b')' as usize] |= ODD;
    class[b']' as usize] |= ODD;
    class[b'\\' as usize] |= ODD;
    let escape = b"\"[]()\\\r\n\0";
    at = 0;
    while at < escape.len() {
        class[escape[at] as usize] |= ESCAPE;
        at += 1;
    }
    class
};

fn has(octet: u8, class: u8) -> bool {
    CLASS[usize::from(octet)] & class != 0
}

/// Whether the octet ends a quoted string, literal or comment, or makes its value something else than its text.
pub(super) fn has_escape(octet: u8) -> bool {
    has(octet, ESCAPE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Each token in header form, words with their value behind.
    fn show(input: &[u8], grammar: Grammar) -> String {
        let mut parts = Vec::new();
        for token in Lexer::new(input, grammar) {
            match token {
                Ok(token) => {
                    let mut form = Vec::new();
                    token.write_header(&mut form);
                    if token.kind.is_word() || token.kind == Kind::Comment {
                        form.push(b'=');
                        form.extend(token.value());
                    }
                    parts.push(crate::Escaped(&form).to_string().replace("\\\\", "\\"));
                }
                Err(error) => {
                    parts.push(error.to_string());
                    break;
                }
            }
        }
        parts.join("|")
    }

    #[test]
    fn strict_tokens() {
        for (input, tokens) in [
            ("", ""),
            (" \t\r\n", ""),
            ("a.b@c", "a=a|.|b=b|@|c=c"),
            ("a b", "a=a|b=b"),
            ("\"a b\"", "\"a b\"=a b"),
            ("\"a\\\"b\\c\"", "\"a\\\"bc\"=a\"bc"),
            ("\"a\n  b\"", "\"a b\"=a b"),
            ("\"a\\\n b\"", "\"a  b\"=a\\x0a b"),
            ("[1.2]", "[1.2]=1.2"),
            ("[a\\]b]", "[a\\]b]=a]b"),
            ("(l (m) n)", "(l m n)=l m n"),
            ("(l \\(m\\) n)", "(l \\(m\\) n)=l (m) n"),
            ("a)b", "\"a\\)b\"=a)b"),
            ("a\\bc", "abc=abc"),
            ("a\\ b", "\"a b\"=a b"),
            ("a\\@b", "\"a@b\"=a@b"),
            ("a\\.b", "\"a.b\"=a.b"),
            ("back\\\\slash", "\"back\\\\slash\"=back\\slash"),
            ("=?utf-8?q?x?=", "=?utf-8?q?x?=="),
            ("<>;:,", "<|>|;|:|,"),
            ("a)", "\"a\\)\"=a)"),
            ("(a", "unbalanced quote, bracket or parenthesis"),
            ("\"a\\\"", "unbalanced quote, bracket or parenthesis"),
            ("[a", "unbalanced quote, bracket or parenthesis"),
            ("a\\", "unbalanced quote, bracket or parenthesis"),
            (
                "a )",
                "a=a|closing parenthesis or bracket without an opening one",
            ),
            ("]", "closing parenthesis or bracket without an opening one"),
        ] {
            let tokens = if input.starts_with("=?") {
                "=?utf-8?q?x?===?utf-8?q?x?="
            } else {
                tokens
            };
            assert_eq!(show(input.as_bytes(), Grammar::Strict), tokens, "{input:?}");
        }
        assert_eq!(show(b"caf\xe9", Grammar::Strict), "\"caf\\xe9\"=caf\\xe9");
        assert_eq!(show(b"a\x7f", Grammar::Strict), "\"a\\x7f\"=a\\x7f");
    }

    #[test]
    fn lenient_tokens() {
        for (input, tokens) in [
            ("a \tb", "a=a| | |b=b"),
            ("(l (m) n)", "(l \\(m\\) n)=l (m) n"),
            ("(l (m", "(l \\(m)=l (m"),
            ("\"a\n  b", "\"a  b\"=a  b"),
            ("[a", "[a]=a"),
            (")a", "\"\\)a\"=)a"),
            ("]", "\"\\]\"=]"),
            ("a\\", "a=a"),
            ("\"\\", "\"\"="),
        ] {
            assert_eq!(
                show(input.as_bytes(), Grammar::Lenient),
                tokens,
                "{input:?}"
            );
        }
    }

    #[test]
    fn a_plus_at_the_end_is_taken_off() {
        for (input, rest) in [
            ("cs+", Some("cs")),
            ("+", Some("")),
            ("a\\+", Some("a")),
            ("a\\\\\\+", None),
            ("cs", None),
        ] {
            let token = Lexer::new(input.as_bytes(), Grammar::Strict)
                .next()
                .unwrap()
                .unwrap();
            let rest = rest.map(|rest| rest.as_bytes().to_vec());
            assert_eq!(
                token
                    .without_plus()
                    .map(|token| token.value().collect::<Vec<_>>()),
                rest,
                "{input}"
            );
        }
    }

    proptest! {
        #[test]
        fn a_written_token_reads_as_itself(input in proptest::collection::vec(prop::sample::select(&b"ab \"\\()[]@.<,\n\xe9\0"[..]), 0..12)) {
            for grammar in [Grammar::Strict, Grammar::Lenient] {
                for token in Lexer::new(&input, grammar).map_while(Result::ok) {
                    let mut form = Vec::new();
                    token.write_header(&mut form);
                    let mut again = Lexer::new(&form, Grammar::Strict);
                    if token.kind == Kind::Blank || (token.kind == Kind::Atom && form.is_empty()) {
                        continue;
                    }
                    let second = again.next().expect("a token").expect("a good one");
                    prop_assert!(again.next().is_none());
                    prop_assert_eq!(second.kind, token.kind);
                    let want: Vec<u8> = token.value().map(|octet| if matches!(octet, 0 | b'\r' | b'\n') { b' ' } else { octet }).collect();
                    prop_assert_eq!(second.value().collect::<Vec<_>>(), want);
                }
            }
        }
    }
}
