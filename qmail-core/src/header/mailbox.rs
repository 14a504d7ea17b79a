//! Mailboxes of an address field: names and addresses, whatever the syntax (RFC 822 section 6, mess822).
//!
//! Reading is lenient: every input is some list. Groups are flattened; comments, display names and source routes become
//! the name. Addresses are kept in internal form, `local@host` without quotes; an address that was written without a host
//! is `local@`.

use std::borrow::Cow;

use super::address_list::Writer;
use super::glance::Element;
use super::token::{Grammar, Kind, Lexer, Token};

/// One element of an address field. It borrows from the field what stands there as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox<'a> {
    /// What stands beside the address, or the name of a group that has no members. [`read`] gives no empty ones.
    pub name: Option<Cow<'a, [u8]>>,
    /// Unquoted, `local@host`, split at the last `@`; empty for `<>`. `None` for a group without members.
    pub address: Option<Cow<'a, [u8]>>,
}

impl<'a> Mailbox<'a> {
    /// An address without a name.
    pub fn new(address: impl Into<Cow<'a, [u8]>>) -> Self {
        Self {
            name: None,
            address: Some(address.into()),
        }
    }

    /// The same, without the field.
    pub fn into_owned(self) -> Mailbox<'static> {
        let owned = |octets: Cow<'_, [u8]>| Cow::Owned(octets.into_owned());
        Mailbox {
            name: self.name.map(owned),
            address: self.address.map(owned),
        }
    }
}

/// Reads the value of an address field.
///
/// ```
/// use qmail_core::header::mailbox::{Mailbox, read};
/// let mut mailboxes = Vec::new();
/// read(b"The Boss <a@x.example>, b (Bob)", &mut mailboxes);
/// assert_eq!(mailboxes[0].name.as_deref(), Some(&b"The Boss"[..]));
/// assert_eq!(mailboxes[0].address.as_deref(), Some(&b"a@x.example"[..]));
/// assert_eq!(mailboxes[1].name.as_deref(), Some(&b"Bob"[..]));
/// assert_eq!(mailboxes[1].address.as_deref(), Some(&b"b@"[..]));
/// ```
pub fn read<'a>(value: &'a [u8], mailboxes: &mut Vec<Mailbox<'a>>) {
    let mut tokens = Lexer::dotted(value, Grammar::Lenient);
    let mut element = Vec::new();
    loop {
        common_elements(&mut tokens, mailboxes);
        element.clear();
        let more = take_element(&mut tokens, &mut element);
        read_element(&element, mailboxes);
        if !more {
            return;
        }
    }
}

/// Reads the elements that need no tokenizer. The last of them may still lack its separator.
fn common_elements<'a>(tokens: &mut Lexer<'a>, mailboxes: &mut Vec<Mailbox<'a>>) {
    while let Some((element, rest)) = Element::read(tokens.rest())
        && element.name.is_none_or(is_tidy)
    {
        mailboxes.push(Mailbox {
            name: element.name.map(Cow::Borrowed),
            address: Some(Cow::Borrowed(element.address)),
        });
        let Some((_separator, next)) = rest.split_first() else {
            tokens.resume(rest);
            return;
        };
        tokens.resume(next);
    }
}

/// A name that [`Reader::name`] would not change.
fn is_tidy(name: &[u8]) -> bool {
    let blank = |octet: Option<&u8>| octet == Some(&b' ');
    !name.is_empty()
        && !blank(name.first())
        && !blank(name.last())
        && !name.windows(2).any(|pair| pair == b"  ")
}

/// Takes the tokens up to the next separator. `false` if the list ends before one.
fn take_element<'a>(tokens: &mut Lexer<'a>, element: &mut Vec<Token<'a>>) -> bool {
    let mut open_angle = false;
    for token in tokens.map_while(Result::ok) {
        match token.kind {
            // Commas in angle brackets belong to a source route.
            Kind::Comma | Kind::Semicolon if !open_angle => return true,
            Kind::Left => open_angle = true,
            Kind::Right => open_angle = false,
            _ => {}
        }
        element.push(token);
    }
    false
}

/// Room for most addresses.
const ADDRESS_OCTETS: usize = 32;

/// Reads what stands between two separators, from right to left: what an address is shows at its end.
fn read_element<'a>(tokens: &[Token<'a>], mailboxes: &mut Vec<Mailbox<'a>>) {
    let start = mailboxes.len();
    let mut reader = Reader {
        mailboxes,
        address: Vec::new(),
        in_address: false,
        has_at: false,
        beside: Vec::new(),
        word_allowed: true,
    };
    let mut rest = tokens;
    let mut in_phrase = false;
    while let Some((token, before)) = rest.split_last() {
        rest = before;
        if in_phrase && !is_separator(token.kind) {
            reader.beside.push(*token);
            continue;
        }
        if std::mem::take(&mut in_phrase) {
            reader.finish();
            reader.word_allowed = true;
        }
        match token.kind {
            Kind::Blank | Kind::Comment => reader.beside.push(*token),
            Kind::At | Kind::Dot => {
                reader.push(*token);
                reader.word_allowed = true;
            }
            Kind::Atom | Kind::Quoted | Kind::Literal => {
                if !reader.word_allowed {
                    reader.finish();
                }
                reader.push(*token);
                reader.word_allowed = false;
            }
            Kind::Comma | Kind::Semicolon => {
                reader.finish();
                reader.leave_name();
                reader.word_allowed = true;
            }
            Kind::Right => {
                reader.finish();
                rest = reader.angle(rest);
                in_phrase = true;
            }
            // A `<` without `>` has its name in front all the same.
            Kind::Colon | Kind::Left => in_phrase = true,
        }
    }
    reader.finish();
    reader.leave_name();
    mailboxes[start..].reverse();
}

fn is_separator(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Comma | Kind::Semicolon | Kind::Colon | Kind::Right
    )
}

struct Reader<'m, 't> {
    mailboxes: &'m mut Vec<Mailbox<'t>>,
    /// Tokens of the address, last first.
    address: Vec<Token<'t>>,
    /// There is an address, even if it has no tokens.
    in_address: bool,
    has_at: bool,
    /// Tokens that go into the name, last first.
    beside: Vec<Token<'t>>,
    word_allowed: bool,
}

impl<'t> Reader<'_, 't> {
    fn push(&mut self, token: Token<'t>) {
        self.has_at |= token.kind == Kind::At;
        self.in_address = true;
        self.address.push(token);
    }

    /// From `>` to the left, up to `<`. Gives what is left of that.
    fn angle<'a>(&mut self, tokens: &'a [Token<'t>]) -> &'a [Token<'t>] {
        self.in_address = true;
        let mut rest = tokens;
        let mut in_route = false;
        while let Some((token, before)) = rest.split_last() {
            rest = before;
            match token.kind {
                Kind::Left => break,
                Kind::Colon => in_route = true,
                kind if !in_route && (kind.is_word() || matches!(kind, Kind::At | Kind::Dot)) => {
                    self.push(*token);
                }
                _ => self.beside.push(*token),
            }
        }
        rest
    }

    fn finish(&mut self) {
        if !std::mem::take(&mut self.in_address) {
            return;
        }
        // `@host` has no local part, not even the empty one of `""@host`: it is nobody.
        let nobody = self
            .address
            .last()
            .is_some_and(|token| token.kind == Kind::At);
        let has_at = std::mem::take(&mut self.has_at);
        let mut address = Vec::with_capacity(ADDRESS_OCTETS);
        for token in self.address.drain(..).rev() {
            token.write_value(&mut address);
        }
        if nobody {
            return;
        }
        if !has_at && !address.is_empty() {
            address.push(b'@');
        }
        let name = self.name();
        self.mailboxes.push(Mailbox {
            name,
            address: Some(address.into()),
        });
    }

    /// What stands beside no address: the name of an empty group.
    fn leave_name(&mut self) {
        let name = self.name();
        if name.is_some() {
            self.mailboxes.push(Mailbox {
                name,
                address: None,
            });
        }
    }

    /// The text of the tokens beside the address, with single blanks.
    fn name(&mut self) -> Option<Cow<'t, [u8]>> {
        if self.beside.is_empty() {
            return None;
        }
        let mut text = Vec::new();
        for token in self.beside.drain(..).rev() {
            match token.kind {
                Kind::Blank => text.push(b' '),
                Kind::Comment => {
                    text.push(b' ');
                    text.extend(token.value());
                    text.push(b' ');
                }
                Kind::Left | Kind::Right | Kind::Comma | Kind::Colon | Kind::Semicolon => {}
                _ => token.write_value(&mut text),
            }
        }
        text.dedup_by(|one, before| *one == b' ' && *before == b' ');
        let start = usize::from(text.first() == Some(&b' '));
        text.drain(..start);
        if text.last() == Some(&b' ') {
            text.pop();
        }
        (!text.is_empty()).then_some(Cow::Owned(text))
    }
}

/// Appends a field with these mailboxes, folded; nothing if there are none.
///
/// ```
/// use qmail_core::header::mailbox::{read, write};
/// let mut mailboxes = Vec::new();
/// read(b"joe@x.example (Joe), \"a b\"@y.example, nobody:;", &mut mailboxes);
/// let mut sink = Vec::new();
/// write(b"To", &mailboxes, &mut sink);
/// assert_eq!(sink, b"To: \"Joe\" <joe@x.example>, \"a b\"@y.example, \"nobody\": ;\n");
/// ```
pub fn write(name: &[u8], mailboxes: &[Mailbox<'_>], sink: &mut Vec<u8>) {
    if mailboxes.is_empty() {
        return;
    }
    sink.extend_from_slice(name);
    sink.push(b':');
    let mut writer = Writer::new(sink);
    let mut element = Vec::new();
    for (index, mailbox) in mailboxes.iter().enumerate() {
        if index > 0 {
            writer.comma();
        }
        element.clear();
        mailbox.write(&mut element);
        writer.element(&element);
    }
    writer.finish();
    sink.push(b'\n');
}

impl Mailbox<'_> {
    /// Appends the mailbox as it stands in a field: `"name" <local@host>`.
    pub fn write(&self, sink: &mut Vec<u8>) {
        match (&self.name, &self.address) {
            (name, None) => {
                quote(name.as_deref().unwrap_or_default(), sink);
                sink.extend_from_slice(b": ;");
            }
            (None, Some(address)) if !address.is_empty() => write_address(address, sink),
            (name, Some(address)) => {
                if let Some(name) = name {
                    quote(name, sink);
                    sink.push(b' ');
                }
                sink.push(b'<');
                write_address(address, sink);
                sink.push(b'>');
            }
        }
    }
}

/// Appends an address in internal form as a field shows it: local part and host quoted if they need it. An empty one is
/// nothing.
pub fn write_address(address: &[u8], sink: &mut Vec<u8>) {
    if address.is_empty() {
        return;
    }
    let at = memchr::memrchr(b'@', address).unwrap_or(address.len());
    let (local, host) = (&address[..at], address.get(at + 1..).unwrap_or_default());
    if local.is_empty() || needs_quotes(local) {
        quote(local, sink);
    } else {
        sink.extend_from_slice(local);
    }
    sink.push(b'@');
    if let Some(literal) = host
        .strip_prefix(b"[")
        .and_then(|host| host.strip_suffix(b"]"))
    {
        sink.push(b'[');
        escape(literal, sink);
        sink.push(b']');
    } else if needs_quotes(host) {
        quote(host, sink);
    } else {
        sink.extend_from_slice(host);
    }
}

fn needs_quotes(part: &[u8]) -> bool {
    part.first() == Some(&b'.')
        || part.last() == Some(&b'.')
        || memchr::memmem::find(part, b"..").is_some()
        || part
            .iter()
            .any(|&octet| !(33..=126).contains(&octet) || b"@<>[](),;:\"\\".contains(&octet))
}

/// Appends octets in quotes. No octet ends the quotes, or the line: line breaks and NULs become blanks.
pub(crate) fn quote(octets: &[u8], sink: &mut Vec<u8>) {
    sink.push(b'"');
    escape(octets, sink);
    sink.push(b'"');
}

fn escape(octets: &[u8], sink: &mut Vec<u8>) {
    for &octet in octets {
        match octet {
            b'\r' | b'\n' | 0 => sink.push(b' '),
            b'"' | b'\\' | b'[' | b']' => sink.extend_from_slice(&[b'\\', octet]),
            _ => sink.push(octet),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The list as it is written, the addresses between bars.
    fn show(value: &[u8]) -> (String, String) {
        let mut mailboxes = Vec::new();
        read(value, &mut mailboxes);
        let mut sink = Vec::new();
        write(b"To", &mailboxes, &mut sink);
        let addresses: Vec<_> = mailboxes
            .iter()
            .filter_map(|mailbox| mailbox.address.as_deref())
            .collect();
        (
            String::from_utf8_lossy(&sink)
                .trim_end_matches('\n')
                .to_owned(),
            String::from_utf8_lossy(&addresses.join(&b'|')).into_owned(),
        )
    }

    #[test]
    fn lists_are_read() {
        for (value, list, addresses) in [
            ("", "", ""),
            (" , ;", "", ""),
            ("joe", "To: joe@", "joe@"),
            ("<>", "To: <>", ""),
            (
                "The Boss <a@x.org>, b@x.org (B C), <d@x.org> (E), \"F, G\" <h@x.org>, Al (x) B <i@x.org>",
                "To: \"The Boss\" <a@x.org>, \"B C\" <b@x.org>, \"E\" <d@x.org>, \"F, G\" <h@x.org>,\n  \"Al x B\" <i@x.org>",
                "a@x.org|b@x.org|d@x.org|h@x.org|i@x.org",
            ),
            (
                "team: a@x.org, B <b@x.org>;, c@x.org, nobody here: ;",
                "To: \"team\" <a@x.org>, \"B\" <b@x.org>, c@x.org, \"nobody here\": ;",
                "a@x.org|b@x.org|c@x.org",
            ),
            (
                ",,a@x.org b@x.org,,C <c@x.org> d@x.org,,",
                "To: a@x.org, b@x.org, \"C\" <c@x.org>, d@x.org",
                "a@x.org|b@x.org|c@x.org|d@x.org",
            ),
            (
                "<@h1,@h2:a@x.org>, N <@h3:b@x.org>",
                "To: \"@h1@h2\" <a@x.org>, \"N @h3\" <b@x.org>",
                "a@x.org|b@x.org",
            ),
            (
                "\"a b\"@x.org, \"abc\"@x.org, back\\slash@x.org, \"\"@x.org, a@[1.2.3.4]",
                "To: \"a b\"@x.org, abc@x.org, backslash@x.org, \"\"@x.org, a@[1.2.3.4]",
                "a b@x.org|abc@x.org|backslash@x.org|@x.org|a@[1.2.3.4]",
            ),
            ("a@x.org (never", "To: \"never\" <a@x.org>", "a@x.org"),
            ("\"b c", "To: \"b c\"@", "b c@"),
            ("a, @x, <@y> (c), @", "To: a@, \"c\": ;", "a@"),
            // The classic programs gave the name of the group to the next address.
            ("nobody: ;, a@b", "To: \"nobody\": ;, a@b", "a@b"),
            ("a < b, c@d", "To: \"a\" <b@>, c@d", "b@|c@d"),
            ("\"a@b\"@c", "To: \"a@b\"@c", "a@b@c"),
            ("\"x\\\ny\" <a@b>", "To: \"x y\" <a@b>", "a@b"),
        ] {
            assert_eq!(
                show(value.as_bytes()),
                (list.to_owned(), addresses.to_owned()),
                "{value:?}"
            );
        }
    }

    #[test]
    fn long_lists_take_linear_time() {
        for value in [
            "a@b,".repeat(200_000),
            "a ".repeat(200_000),
            "<".repeat(200_000),
            "<a:,".repeat(100_000),
        ] {
            let mut mailboxes = Vec::new();
            read(value.as_bytes(), &mut mailboxes);
        }
    }

    const PIECES: &[&[u8]] = &[
        b"a", b"b", b" ", b"@", b".", b",", b";", b":", b"<", b">", b"\"c d\"", b"(e)", b"[1]",
        b"\\", b"+", b"\xe9", b"\n ",
    ];

    proptest! {
        #[test]
        fn a_written_list_stays_as_it_is(
            value in proptest::collection::vec(prop::sample::select(PIECES), 0..14)
        ) {
            let (first, _) = show(&value.concat());
            let (second, _) = show(first.strip_prefix("To:").unwrap_or_default().as_bytes());
            let (third, _) = show(second.strip_prefix("To:").unwrap_or_default().as_bytes());
            prop_assert_eq!(second, third);
            prop_assert!(first.split('\n').skip(1).all(|line| line.len() > 2 && line.starts_with("  ")));
        }

        #[test]
        fn what_is_read_at_a_glance_reads_the_same((list, _) in super::super::glance::tests::lists()) {
            let mut mailboxes = Vec::new();
            read(list.as_bytes(), &mut mailboxes);
            let mut by_tokens = Vec::new();
            let mut tokens = Lexer::dotted(list.as_bytes(), Grammar::Lenient);
            let mut element = Vec::new();
            while take_element(&mut tokens, &mut element) {
                read_element(&element, &mut by_tokens);
                element.clear();
            }
            read_element(&element, &mut by_tokens);
            prop_assert_eq!(mailboxes, by_tokens);
        }
    }
}
