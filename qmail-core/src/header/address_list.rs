//! Lists of addresses (RFC 822 section 6, qmail-header(5)): read, completed, written in one form.
//!
//! [`rewrite`] reads groups, display names, source routes, comments anywhere, and old-style lists without commas; it
//! completes each address by a [`Qualifier`] and writes the list folded at 78 octets. It goes over the list once, from
//! left to right, and holds no more than the element at hand.
//!
//! Where the classic qmail-inject made no well-formed list of strange input, this one does: a semicolon outside a group
//! counts as a comma, each comment stays with its own address, a comma is put in before a display name that has none, an
//! element that vanishes takes its comma along, `<` without `>` is an error, and an `@` in a local part is quoted.

use super::Qualifier;
use super::glance::Element;
use super::token::{Grammar, Kind, Lexer, Token, TokenError};

/// Longest line in octets, unless a single element is longer (RFC 5322 section 2.1.1).
pub const LINE_OCTETS_MAX: usize = 78;

/// Why a list cannot be read. Nothing of it should be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// A token is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// `<` without `>`, or the other way round.
    #[error("unbalanced angle bracket")]
    AngleBracket,
    /// A comma, colon or semicolon within angle brackets that is no part of a source route.
    #[error("separator within angle brackets")]
    Separator,
    /// What should be a host is not: words with dots between.
    #[error("host is no host name")]
    Host,
    /// A group that does not end, or one within another.
    #[error("unfinished or nested address group")]
    Group,
    /// An address holds a CR, LF or NUL: it could become a line of its own in an SMTP session or an envelope.
    #[error("line break or NUL in an address")]
    ControlOctet,
}

/// Rewrites the value of an address field.
///
/// `sink` holds the name and its colon, and gets the list, without LF at the end. `each` gets the addresses in order in
/// envelope form: unquoted, without comments, completed; for `<>` an empty one. On an error what was appended and reported
/// means nothing.
///
/// ```
/// use qmail_core::header::{Qualifier, address_list::rewrite};
/// let qualifier = Qualifier::new(b"h.example", b"example", b"example")?;
/// let mut field = b"Cc:".to_vec();
/// let mut addresses = Vec::new();
/// rewrite(b"\"J. Doe\"<joe> ann (Ann), team: bob@x.example;", &qualifier, &mut field, |address| {
///     addresses.push(address.to_vec());
/// })?;
/// assert_eq!(field, b"Cc: \"J. Doe\" <joe@h.example>, ann@h.example (Ann), team: bob@x.example;");
/// assert_eq!(addresses, [&b"joe@h.example"[..], b"ann@h.example", b"bob@x.example"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// As [`ListError`].
pub fn rewrite(
    value: &[u8],
    qualifier: &Qualifier,
    sink: &mut Vec<u8>,
    each: impl FnMut(&[u8]),
) -> Result<(), ListError> {
    // What is completed and spaced grows a little.
    sink.reserve(value.len() + value.len() / 8);
    let mut list = List {
        writer: Writer::new(sink),
        qualifier,
        each,
        run: Vec::new(),
        address: Vec::new(),
        comments: Vec::new(),
        envelope: Vec::new(),
        in_group: false,
        in_angle: false,
        // The list begins as an element does: without a comma in front.
        complete: false,
    };
    let mut tokens = Lexer::dotted(value, Grammar::Strict);
    loop {
        list.common_elements(&mut tokens);
        // One of another kind, up to its comma.
        loop {
            let Some(token) = tokens.next().transpose()? else {
                return list.finish();
            };
            list.token(token)?;
            if token.kind == Kind::Comma && !list.in_angle {
                break;
            }
        }
    }
}

struct List<'a, 's, F> {
    writer: Writer<'s>,
    qualifier: &'a Qualifier,
    each: F,
    /// Tokens since the last address or separator: addresses, the name of one, or the name of a group.
    run: Vec<Token<'a>>,
    address: Vec<Token<'a>>,
    comments: Vec<Token<'a>>,
    envelope: Vec<u8>,
    in_group: bool,
    in_angle: bool,
    /// The element is an address already: what follows, but for comments, is another one.
    complete: bool,
}

impl<'a, F: FnMut(&[u8])> List<'a, '_, F> {
    /// Takes the elements that need no tokenizer. The last of them may still lack its separator.
    fn common_elements(&mut self, tokens: &mut Lexer<'a>) {
        while let Some((element, rest)) = Element::read(tokens.rest())
            && element.is_complete()
        {
            (self.each)(element.address);
            self.writer.element(element.raw);
            self.complete = true;
            let Some(next) = rest.strip_prefix(b",") else {
                tokens.resume(rest);
                return;
            };
            self.writer.comma();
            self.complete = false;
            tokens.resume(next);
        }
    }

    /// Takes the next token. There is one place that calls this, so that a token stays in registers.
    #[inline(always)]
    fn token(&mut self, token: Token<'a>) -> Result<(), ListError> {
        if self.in_angle {
            return self.token_in_angle(token);
        }
        match token.kind {
            Kind::Comment if self.complete && self.run.is_empty() => self.writer.token(&token),
            Kind::Left => {
                self.begin();
                self.phrase();
                self.writer.token(&token);
                self.in_angle = true;
            }
            Kind::Right => return Err(ListError::AngleBracket),
            Kind::Comma => {
                self.flush()?;
                self.writer.comma();
                self.complete = false;
            }
            Kind::Semicolon => {
                self.flush()?;
                if self.in_group {
                    self.writer.token(&token);
                    self.complete = true;
                } else {
                    self.writer.comma();
                    self.complete = false;
                }
                self.in_group = false;
            }
            Kind::Colon => {
                if self.in_group {
                    return Err(ListError::Group);
                }
                self.begin();
                self.phrase();
                self.writer.token(&token);
                self.in_group = true;
                self.complete = false;
            }
            _ => {
                self.begin();
                self.run.push(token);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), ListError> {
        self.flush()?;
        if self.in_angle {
            return Err(ListError::AngleBracket);
        }
        if self.in_group {
            return Err(ListError::Group);
        }
        self.writer.finish();
        Ok(())
    }

    /// Puts in the comma that is missing behind an address.
    fn begin(&mut self) {
        if self.complete {
            self.writer.comma();
            self.complete = false;
        }
    }

    /// Writes the run as it is: a display name, or the name of a group.
    fn phrase(&mut self) {
        for token in self.run.drain(..) {
            if token.kind == Kind::Literal {
                // No phrase may hold one (RFC 822 section 6.1), but people write `Joe [Sales] <joe@x>`.
                self.writer.bracketed_word(&token);
            } else {
                self.writer.token(&token);
            }
        }
    }

    /// What stands between `<` and `>` is one address.
    #[inline(always)]
    fn token_in_angle(&mut self, token: Token<'a>) -> Result<(), ListError> {
        match token.kind {
            Kind::Right => {
                self.address(true)?;
                self.writer.token(&token);
                self.in_angle = false;
                self.complete = true;
            }
            Kind::Left => return Err(ListError::AngleBracket),
            Kind::Comment => self.comments.push(token),
            _ => self.address.push(token),
        }
        Ok(())
    }

    /// Takes the run for addresses, one or, old-style, several: a word that follows a word starts another.
    fn flush(&mut self) -> Result<(), ListError> {
        if self.run.is_empty() {
            return Ok(());
        }
        let mut after_word = false;
        let mut run = std::mem::take(&mut self.run);
        for token in run.drain(..) {
            if token.kind == Kind::Comment {
                self.comments.push(token);
                continue;
            }
            let word = token.kind.is_word();
            if word && after_word {
                self.address(false)?;
                self.writer.comma();
            }
            after_word = word;
            self.address.push(token);
        }
        self.run = run;
        self.complete = true;
        self.address(false)
    }

    /// Completes, reports and writes the address at hand, and its comments.
    fn address(&mut self, angle: bool) -> Result<(), ListError> {
        let was_empty = self.address.is_empty();
        self.qualifier.complete(&mut self.address);
        let is_part =
            |token: &Token<'_>| token.kind.is_word() || matches!(token.kind, Kind::At | Kind::Dot);
        if !self.address.iter().all(is_part) {
            return Err(ListError::Separator);
        }
        if angle || !self.address.is_empty() {
            self.envelope.clear();
            write_envelope(&self.address, &mut self.envelope)?;
            (self.each)(&self.envelope);
        } else if !was_empty {
            self.writer.vanish();
        }
        self.writer.address(&self.address);
        self.address.clear();
        for comment in self.comments.drain(..) {
            self.writer.token(&comment);
        }
        Ok(())
    }
}

fn write_envelope(address: &[Token<'_>], sink: &mut Vec<u8>) -> Result<(), ListError> {
    address.iter().for_each(|token| token.write_value(sink));
    if address.iter().all(|token| token.plain().is_some()) {
        return Ok(());
    }
    match memchr::memchr3(b'\r', b'\n', 0, sink) {
        Some(_) => Err(ListError::ControlOctet),
        None => Ok(()),
    }
}

/// What stands where a line is folded.
const FOLD: &[u8; 3] = b"\n  ";

/// Sets of kinds, a bit for each.
const ANY: u32 = u32::MAX;
const LEFT: u32 = 1 << Kind::Left as u32;
const WORDLIKE: u32 = 1 << Kind::Atom as u32
    | 1 << Kind::Quoted as u32
    | 1 << Kind::Literal as u32
    | 1 << Kind::Comment as u32;

/// Writes tokens with the blanks that belong between them, and folds behind commas.
pub(crate) struct Writer<'s> {
    sink: &'s mut Vec<u8>,
    /// Where the line begins in the sink.
    line: usize,
    /// Where the element begins, with the blank in front of it.
    element: usize,
    /// The element is the first of the field and stays on the line of its name.
    first: bool,
    previous: Kind,
    /// Commas that end the element, to be written when it is known that something follows.
    commas_due: usize,
    /// An address of this element came to nothing.
    vanished: bool,
}

impl<'s> Writer<'s> {
    /// Goes on behind the colon of a field's name.
    pub(crate) fn new(sink: &'s mut Vec<u8>) -> Self {
        let line = memchr::memrchr(b'\n', sink).map_or(0, |lf| lf + 1);
        let element = sink.len();
        Self {
            sink,
            line,
            element,
            first: true,
            previous: Kind::Colon,
            commas_due: 0,
            vanished: false,
        }
    }

    pub(crate) fn token(&mut self, token: &Token<'_>) {
        self.space(token.kind);
        match token.plain() {
            Some(atom) if token.kind == Kind::Atom => self.sink.extend_from_slice(atom),
            _ => token.write_header(self.sink),
        }
    }

    /// One space after `:` and `,`, before `<`, and between words and comments; none elsewhere.
    #[inline(always)]
    fn space(&mut self, next: Kind) {
        if self.commas_due > 0 {
            self.write_commas();
        }
        let before = match self.previous {
            Kind::Colon | Kind::Comma => ANY,
            Kind::Atom | Kind::Quoted | Kind::Literal | Kind::Comment => WORDLIKE | LEFT,
            _ => LEFT,
        };
        if before >> next as u32 & 1 == 1 {
            self.sink.push(b' ');
        }
        self.previous = next;
    }

    /// Writes an element that is all there already.
    pub(crate) fn element(&mut self, element: &[u8]) {
        self.space(Kind::Atom);
        self.sink.extend_from_slice(element);
    }

    /// A literal where only words may stand.
    fn bracketed_word(&mut self, literal: &Token<'_>) {
        self.space(Kind::Quoted);
        let mut value = Vec::new();
        literal.write_value(&mut value);
        self.sink.push(b'"');
        super::token::write_escaped(value.into_iter(), self.sink);
        self.sink.push(b'"');
    }

    /// Writes an address; a local part that holds an `@` of its own becomes one quoted string.
    fn address(&mut self, address: &[Token<'_>]) {
        let is_at = |token: &Token<'_>| token.kind == Kind::At;
        let last = address.iter().rposition(is_at).unwrap_or(0);
        let domain = if address[..last].iter().any(is_at) {
            let mut value = Vec::new();
            address[..last]
                .iter()
                .for_each(|token| token.write_value(&mut value));
            self.token(&Token::raw(Kind::Quoted, &value));
            &address[last..]
        } else {
            address
        };
        domain.iter().for_each(|token| self.token(token));
    }

    /// Ends the element with a comma, unless it came to nothing.
    pub(crate) fn comma(&mut self) {
        if std::mem::take(&mut self.vanished) && self.is_empty() {
            return;
        }
        self.commas_due += 1;
    }

    fn vanish(&mut self) {
        self.vanished = true;
    }

    /// Nothing was written since the last comma, or the colon.
    fn is_empty(&self) -> bool {
        self.commas_due > 0 || self.sink.len() == self.element
    }

    /// Writes the commas that waited for something to follow. Two in a row stay two.
    fn write_commas(&mut self) {
        for _ in 0..std::mem::take(&mut self.commas_due) {
            if self.sink.len() == self.element {
                self.sink.push(b' ');
            }
            self.sink.push(b',');
            self.fold();
            self.first = false;
            self.element = self.sink.len();
            self.previous = Kind::Comma;
        }
    }

    /// Ends the list.
    pub(crate) fn finish(mut self) {
        if self.vanished {
            self.commas_due = self.commas_due.saturating_sub(1);
        }
        self.write_commas();
        self.fold();
    }

    /// Moves the element to a line of its own if this one is too long with it.
    fn fold(&mut self) {
        let fits = self.sink.len() - self.line <= LINE_OCTETS_MAX;
        if fits || self.first || self.sink.get(self.element) != Some(&b' ') {
            return;
        }
        // Of the blank in front a line end and two blanks are made.
        let moved = self.element + FOLD.len();
        let end = self.sink.len();
        self.sink.extend_from_slice(&FOLD[1..]);
        self.sink.copy_within(self.element + 1..end, moved);
        self.sink[self.element..moved].copy_from_slice(FOLD);
        self.line = self.element + 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn qualifier() -> Qualifier {
        Qualifier::new(b"dh.example", b"dd.example", b"pd.example").unwrap()
    }

    /// The rewritten list, and the envelope addresses between bars.
    fn rewritten(value: &[u8]) -> Result<(String, String), ListError> {
        let mut sink = b"To:".to_vec();
        let mut addresses = Vec::new();
        rewrite(value, &qualifier(), &mut sink, |address| {
            addresses.push(String::from_utf8_lossy(address).into_owned());
        })?;
        Ok((
            String::from_utf8_lossy(&sink[3..]).into_owned(),
            addresses.join("|"),
        ))
    }

    #[test]
    fn lists_are_rewritten() {
        for (value, list, addresses) in [
            ("", "", ""),
            (" ", "", ""),
            (
                "djb fred joe@x.org",
                " djb@dh.example, fred@dh.example, joe@x.org",
                "djb@dh.example|fred@dh.example|joe@x.org",
            ),
            (
                "a b (two), \"c d\" e@f",
                " a@dh.example, b@dh.example (two), \"c d\"@dh.example, e@f.dd.example",
                "a@dh.example|b@dh.example|c d@dh.example|e@f.dd.example",
            ),
            (
                "a . b @ c . org, d (x) @ (y) e.org (z)",
                " a.b@c.org, d@e.org (x) (y) (z)",
                "a.b@c.org|d@e.org",
            ),
            (
                "(c) d@x.org e@x.org",
                " d@x.org (c), e@x.org",
                "d@x.org|e@x.org",
            ),
            (
                "a<b@c.org>,\"d\"<e@f.org>",
                " a <b@c.org>, \"d\" <e@f.org>",
                "b@c.org|e@f.org",
            ),
            ("<i@j.org>(k)", " <i@j.org>(k)", "i@j.org"),
            (
                "<@a:b@c.org>, N <@d.org,@e.org:f@g>",
                " <b@c.org>, N <f@g.dd.example>",
                "b@c.org|f@g.dd.example",
            ),
            (
                "g: a@x.org; b@x.org",
                " g: a@x.org;, b@x.org",
                "a@x.org|b@x.org",
            ),
            (
                "recipient list not shown: ;",
                " recipient list not shown: ;",
                "",
            ),
            (
                "My Friends: Al <al@x.org>, \"B C\" <bc@x>;",
                " My Friends: Al <al@x.org>, \"B C\" <bc@x.dd.example>;",
                "al@x.org|bc@x.dd.example",
            ),
            ("(nobody)", " (nobody)", ""),
            ("<>", " <>", ""),
            ("x@[], #@[]", " x@[], #@[]", "x@[]|#@[]"),
            (
                "joe@home <joe@work>",
                " joe@home <joe@work.dd.example>",
                "joe@work.dd.example",
            ),
        ] {
            assert_eq!(
                rewritten(value.as_bytes()),
                Ok((list.to_owned(), addresses.to_owned())),
                "{value:?}"
            );
        }
    }

    #[test]
    fn strange_lists_become_well_formed() {
        for (value, list, addresses) in [
            (
                "a (x) b",
                " a@dh.example (x), b@dh.example",
                "a@dh.example|b@dh.example",
            ),
            (
                "a <b@c.d> e <f@g.h> (i) j",
                " a <b@c.d>, e <f@g.h> (i), j@dh.example",
                "b@c.d|f@g.h|j@dh.example",
            ),
            (
                "a; b",
                " a@dh.example, b@dh.example",
                "a@dh.example|b@dh.example",
            ),
            ("a, @i", " a@dh.example", "a@dh.example"),
            (
                "@i, a, @j, b",
                " a@dh.example, b@dh.example",
                "a@dh.example|b@dh.example",
            ),
            ("@i (c)", " (c)", ""),
            (
                "a,,b",
                " a@dh.example, , b@dh.example",
                "a@dh.example|b@dh.example",
            ),
            ("a@b@c.d", " \"a@b\"@c.d", "a@b@c.d"),
            (
                "Joe [Sales] <j@x.org>",
                " Joe \"\\[Sales\\]\" <j@x.org>",
                "j@x.org",
            ),
            (
                "g: a; h: b;",
                " g: a@dh.example;, h: b@dh.example;",
                "a@dh.example|b@dh.example",
            ),
            ("\"a\n b\"@c.d", " \"a b\"@c.d", "a b@c.d"),
            ("a\\ b@c.d", " \"a b\"@c.d", "a b@c.d"),
        ] {
            let list = list.replace("> (i)", ">(i)");
            assert_eq!(
                rewritten(value.as_bytes()),
                Ok((list, addresses.to_owned())),
                "{value:?}"
            );
        }
    }

    #[test]
    fn lists_that_are_none() {
        for (value, error) in [
            ("a b (c", ListError::Token(TokenError::Unclosed)),
            ("a b ) c", ListError::Token(TokenError::Stray)),
            ("a b> c", ListError::AngleBracket),
            ("a <b", ListError::AngleBracket),
            ("a <b <c>>", ListError::AngleBracket),
            ("<a,b>", ListError::Separator),
            ("<@a:b:c>", ListError::Separator),
            ("a: b c", ListError::Group),
            ("g: h: a b; ;", ListError::Group),
            ("\"a\\\n b\"@c.d", ListError::ControlOctet),
            ("a\\\r@c.d", ListError::ControlOctet),
            ("\"a\0\"@c.d", ListError::ControlOctet),
        ] {
            assert_eq!(rewritten(value.as_bytes()), Err(error), "{value:?}");
        }
    }

    #[test]
    fn lines_are_folded_behind_commas() {
        let element = |octets: usize| format!("{}@y.z", "x".repeat(octets - 4));
        for (before, fits) in [(62, true), (63, false)] {
            // "To: a@b.cc, " and the comma behind make 78.
            let value = format!("a@b.cc, {}, q@r.s", element(before + 3));
            let (list, _) = rewritten(value.as_bytes()).unwrap();
            assert_eq!(
                list.lines().next().unwrap().ends_with("y.z,"),
                fits,
                "{list}"
            );
        }
        let long = element(100);
        let (list, _) = rewritten(format!("{long}, a@b.org, {long}").as_bytes()).unwrap();
        assert_eq!(list, format!(" {long},\n  a@b.org,\n  {long}"));
    }

    #[test]
    fn a_long_list_takes_linear_time() {
        for value in [
            "u@x.org, ".repeat(100_000),
            "u ".repeat(200_000),
            "(".repeat(100_000) + &")".repeat(100_000),
            "g:;".repeat(100_000),
            "@a,".repeat(200_000),
            "<".to_owned() + &"@a,".repeat(200_000) + ":b@c>",
        ] {
            rewritten(value.as_bytes()).unwrap();
        }
    }

    const PIECES: &[&[u8]] = &[
        b"a", b"b", b" ", b"@", b".", b",", b";", b":", b"<", b">", b"\"c d\"", b"(e)", b"[1]",
        b"\\", b"+", b"\xe9", b"\n ",
    ];

    /// The addresses that the other reader of lists finds: `x@[]` and `#@[]` are complete for it, too.
    fn read_leniently(value: &[u8]) -> Vec<Vec<u8>> {
        let mut mailboxes = Vec::new();
        super::super::mailbox::read(value, &mut mailboxes);
        let addresses = mailboxes.into_iter().filter_map(|mailbox| mailbox.address);
        addresses.map(|address| address.into_owned()).collect()
    }

    proptest! {
        #[test]
        fn a_rewritten_list_stays_as_it_is(
            value in proptest::collection::vec(prop::sample::select(PIECES), 0..14)
        ) {
            let value = value.concat();
            let mut first = b"To:".to_vec();
            let mut addresses = Vec::new();
            let qualifier = qualifier();
            if rewrite(&value, &qualifier, &mut first, |address| addresses.push(address.to_vec())).is_ok() {
                let mut second = b"To:".to_vec();
                let mut again = Vec::new();
                rewrite(&first[3..], &qualifier, &mut second, |address| again.push(address.to_vec())).unwrap();
                prop_assert_eq!(String::from_utf8_lossy(&first), String::from_utf8_lossy(&second));
                prop_assert_eq!(&addresses, &again);
                prop_assert_eq!(&addresses, &read_leniently(&first[3..]), "{}", String::from_utf8_lossy(&first));
                prop_assert!(first.split(|&octet| octet == b'\n').skip(1).all(|line| line.len() > 2 && line.starts_with(b"  ")));
            }
        }

        #[test]
        fn what_is_read_at_a_glance_reads_the_same((list, spaced) in super::super::glance::tests::lists()) {
            prop_assert_eq!(rewritten(list.as_bytes()), rewritten(spaced.as_bytes()));
        }

        #[test]
        fn any_input_is_survived(value: Vec<u8>) {
            let _ = rewritten(&value);
        }
    }
}
