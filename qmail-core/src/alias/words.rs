//! The words of alias files: addresses, programs, files, and names of lists.

use crate::header::HostRules;
use crate::header::token::{Grammar, Kind, Lexer, Token, TokenError};

/// One recipient in an alias file, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Unquoted, without comments and display names.
    pub octets: Vec<u8>,
    /// It has an `@` outside quotes: it is an address, whatever it starts with.
    pub has_host: bool,
    /// It was written behind `:include:`, and is the name of a list.
    pub is_list: bool,
}

/// Why a line cannot be understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WordsError {
    /// A token is no token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// `<` without `>`, or the other way round.
    #[error("unbalanced angle bracket")]
    AngleBracket,
    /// A CR, LF or NUL, which an escape has brought in.
    #[error("line break or NUL in a name")]
    ControlOctet,
}

impl Word {
    /// The command, for a word such as `|command` that is no address.
    pub fn program(&self) -> Option<&[u8]> {
        self.octets.strip_prefix(b"|").filter(|_| !self.has_host)
    }

    /// Whether it names a file.
    pub fn is_file(&self) -> bool {
        self.octets.starts_with(b"/") && !self.has_host
    }

    /// The address, completed.
    pub fn address(&self, rules: &HostRules) -> Vec<u8> {
        let mut address = self.octets.clone();
        if !self.has_host {
            // An `@` within quotes is a part of the local part.
            address.push(b'@');
        }
        rules.apply(&mut address);
        address
    }

    /// The name as the name of a list: one that starts with neither `.` nor `/` is in the current directory.
    pub(super) fn list_name(&self) -> Vec<u8> {
        match self.octets.first() {
            Some(b'.' | b'/') => self.octets.clone(),
            _ => [b"./", &self.octets[..]].concat(),
        }
    }
}

/// Reads a line: addresses of RFC 822, and words, separated by commas or nothing at all. Colons and semicolons separate too.
///
/// Two words without `@` or `.` between them are two addresses, unless they are the display name of one in angle brackets.
///
/// ```
/// use qmail_core::alias::words;
/// let words = words(b"Joe Shmoe <shmoe@example.org>, ann bob@example.net \"|vacation ann\"")?;
/// let octets: Vec<_> = words.iter().map(|word| &word.octets[..]).collect();
/// assert_eq!(octets, [&b"shmoe@example.org"[..], b"ann", b"bob@example.net", b"|vacation ann"]);
/// assert_eq!(words[3].program(), Some(&b"vacation ann"[..]));
/// # Ok::<(), qmail_core::alias::WordsError>(())
/// ```
///
/// # Errors
///
/// As [`WordsError`].
pub fn words(line: &[u8]) -> Result<Vec<Word>, WordsError> {
    read(&tokens(line)?)
}

/// The tokens of a line, without comments.
pub(super) fn tokens(line: &[u8]) -> Result<Vec<Token<'_>>, WordsError> {
    let mut tokens = Vec::new();
    for token in Lexer::new(line, Grammar::Strict) {
        let token = token?;
        if token.kind != Kind::Comment {
            tokens.push(token);
        }
    }
    Ok(tokens)
}

/// The words that tokens make.
pub(super) fn read(tokens: &[Token<'_>]) -> Result<Vec<Word>, WordsError> {
    let mut words = Vec::new();
    // Words of the present element so far: if an angle bracket follows, they are a display name.
    let mut element = Vec::new();
    let mut word = Builder::default();
    let mut include = false;
    let mut rest = tokens;
    while let Some((token, behind)) = rest.split_first() {
        rest = behind;
        match token.kind {
            Kind::Left => {
                element.clear();
                word = Builder::default();
                let end = rest.iter().position(|token| token.kind == Kind::Right);
                let (inside, behind) = rest.split_at(end.ok_or(WordsError::AngleBracket)?);
                rest = &behind[1..];
                words.extend(bracketed(inside)?);
            }
            Kind::Right => return Err(WordsError::AngleBracket),
            Kind::Comma | Kind::Colon | Kind::Semicolon => {
                element.extend(word.take(include)?);
                words.append(&mut element);
                include = false;
                if token.kind == Kind::Colon
                    && let [name, colon, behind @ ..] = rest
                    && colon.kind == Kind::Colon
                    && name.kind == Kind::Atom
                    && name
                        .value()
                        .map(|octet| octet.to_ascii_lowercase())
                        .eq(*b"include")
                {
                    include = true;
                    rest = behind;
                }
            }
            _ => {
                if !word.joins(token) {
                    element.extend(word.take(include)?);
                    include = false;
                }
                word.push(token);
            }
        }
    }
    element.extend(word.take(include)?);
    words.append(&mut element);
    Ok(words)
}

/// The address between angle brackets: what follows a source route, if there is one.
fn bracketed(tokens: &[Token<'_>]) -> Result<Option<Word>, WordsError> {
    let route = tokens.iter().rposition(|token| token.kind == Kind::Colon);
    let mut word = Builder::default();
    for token in &tokens[route.map_or(0, |route| route + 1)..] {
        match token.kind {
            Kind::Left | Kind::Comma | Kind::Semicolon => return Err(WordsError::AngleBracket),
            _ => word.push(token),
        }
    }
    word.take(false)
}

/// A word being put together from its tokens.
#[derive(Default)]
struct Builder {
    octets: Vec<u8>,
    has_host: bool,
    /// The last token was a word, and not an operator that waits for one.
    complete: bool,
    /// There was a token, though it may have no octets.
    begun: bool,
}

impl Builder {
    /// Whether a token goes on with this word.
    fn joins(&self, token: &Token<'_>) -> bool {
        !self.begun || !self.complete || !token.kind.is_word()
    }

    fn push(&mut self, token: &Token<'_>) {
        self.begun = true;
        self.complete = token.kind.is_word();
        self.has_host |= token.kind == Kind::At;
        token.write_value(&mut self.octets);
    }

    fn take(&mut self, is_list: bool) -> Result<Option<Word>, WordsError> {
        let built = std::mem::take(self);
        if built.octets.is_empty() {
            return Ok(None);
        }
        if built
            .octets
            .iter()
            .any(|octet| matches!(octet, b'\r' | b'\n' | 0))
        {
            return Err(WordsError::ControlOctet);
        }
        Ok(Some(Word {
            octets: built.octets,
            has_host: built.has_host,
            is_list,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(line: &str) -> String {
        match words(line.as_bytes()) {
            Ok(words) => {
                let words = words.iter().map(|word| {
                    let list = if word.is_list { "list " } else { "" };
                    format!("{list}{}", word.octets.escape_ascii())
                });
                words.collect::<Vec<_>>().join(" | ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn words_as_alias_files_have_them() {
        for (line, want) in [
            ("", ""),
            ("(only a comment)", ""),
            ("bob", "bob"),
            ("\\joe, bob@b.example", "joe | bob@b.example"),
            (
                "bob (Bob, the postmaster) @heaven.af.mil",
                "bob@heaven.af.mil",
            ),
            ("\"spaced out\"@x.example", "spaced out@x.example"),
            ("a b@c d", "a | b@c | d"),
            ("A B <c@d> e", "c@d | e"),
            ("<@r1,@r2:a@b>, c", "a@b | c"),
            ("<>", ""),
            ("@host.dom: all", "@host.dom | all"),
            ("/var/mail/x", "/var/mail/x"),
            (
                " :include:/etc/list.bin, : Include : local",
                "list /etc/list.bin | list local",
            ),
            ("a:include b", "a | include | b"),
            ("\"|cat\", x", "|cat | x"),
            ("(x", "unbalanced quote, bracket or parenthesis"),
            ("<a", "unbalanced angle bracket"),
            ("a>", "unbalanced angle bracket"),
            ("\"a\\\nb\"", "line break or NUL in a name"),
        ] {
            assert_eq!(shown(line), want, "{line}");
        }
    }

    #[test]
    fn only_addresses_have_hosts() {
        let rules = HostRules::standard(b"h.example", b"example", b"plus.example");
        for (line, address, program) in [
            ("bob", "bob@h.example", false),
            ("\"a@b\"", "a@b@h.example", false),
            ("bob@host+", "bob@host.plus.example", false),
            ("|x@b.example", "|x@b.example", false),
            ("\"|x a@b.example\"", "|x a@b.example@h.example", true),
        ] {
            let words = words(line.as_bytes()).unwrap();
            assert_eq!(words[0].address(&rules), address.as_bytes(), "{line}");
            assert_eq!(words[0].program().is_some(), program, "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read(line in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80)) {
            let _ = words(&line);
        }
    }
}
