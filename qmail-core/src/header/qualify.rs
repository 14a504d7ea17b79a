//! Completing addresses: default host, default domain, plus domain (qmail-header(5)).

use super::address_list::ListError;
use super::token::{Grammar, Kind, Lexer, Token};

/// What is appended to addresses that are not complete.
///
/// An address without `@` gets the default host; a host that ends in `+` gets the plus domain in place of the `+`; a host
/// without a dot gets the default domain. The default host goes through the other two rules itself.
///
/// ```
/// use qmail_core::header::{Qualifier, address_list::rewrite};
/// let qualifier = Qualifier::new(b"mail.example.org", b"example.org", b"example.edu")?;
/// let mut field = b"To:".to_vec();
/// rewrite(b"joe, ann@shop, bob@cs+", &qualifier, &mut field, |_| ())?;
/// assert_eq!(field, b"To: joe@mail.example.org, ann@shop.example.org, bob@cs.example.edu");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Qualifier {
    default_host: Box<[u8]>,
    default_domain: Box<[u8]>,
    plus_domain: Box<[u8]>,
}

impl Qualifier {
    /// A qualifier with these three, in header syntax: `[192.0.2.1]` is a literal.
    ///
    /// # Errors
    ///
    /// One of them is no host: words with dots between, and comments. An empty one is fine.
    pub fn new(
        default_host: &[u8],
        default_domain: &[u8],
        plus_domain: &[u8],
    ) -> Result<Self, ListError> {
        for host in [default_host, default_domain, plus_domain] {
            check_host(host)?;
        }
        Ok(Self {
            default_host: default_host.into(),
            default_domain: default_domain.into(),
            plus_domain: plus_domain.into(),
        })
    }

    /// Completes the tokens of one address, comments taken out. They may be none in the end.
    pub(crate) fn complete<'a>(&'a self, address: &mut Vec<Token<'a>>) {
        if address.is_empty() || is_empty_literal_host(address) {
            return;
        }
        while address.first().is_some_and(|token| token.kind == Kind::At) {
            drop_source_route(address);
        }
        // The classic programs took off one dot and one `@`, and left an address such as `a@b..` or `a@.@` broken.
        while matches!(address.last(), Some(token) if matches!(token.kind, Kind::Dot | Kind::At)) {
            address.pop();
        }
        if address.is_empty() {
            return;
        }
        if !address.iter().any(|token| token.kind == Kind::At) {
            address.push(Token::special(Kind::At));
            push_host(address, &self.default_host);
        }
        if let Some(host) = address.last().and_then(Token::without_plus) {
            address.pop();
            if !host.is_empty() {
                address.push(host);
            }
            address.push(Token::special(Kind::Dot));
            push_host(address, &self.plus_domain);
        }
        let has_domain = address
            .iter()
            .rev()
            .take_while(|token| token.kind != Kind::At)
            .any(|token| matches!(token.kind, Kind::Dot | Kind::Literal) || token.has_dot());
        if !has_domain {
            address.push(Token::special(Kind::Dot));
            push_host(address, &self.default_domain);
        }
    }
}

fn check_host(host: &[u8]) -> Result<(), ListError> {
    if memchr::memchr3(b'\r', b'\n', 0, host).is_some() {
        return Err(ListError::ControlOctet);
    }
    let mut after_word = false;
    for token in Lexer::new(host, Grammar::Strict) {
        let kind = token?.kind;
        match kind {
            Kind::Comment => continue,
            Kind::Dot => {}
            _ if kind.is_word() && !after_word => {}
            _ => return Err(ListError::Host),
        }
        after_word = kind.is_word();
    }
    Ok(())
}

/// `#@[]` and the like stand for no host at all.
fn is_empty_literal_host(address: &[Token<'_>]) -> bool {
    matches!(address, [.., at, host]
        if at.kind == Kind::At && host.kind == Kind::Literal && host.is_empty())
}

/// `@a,@b:c@d` is `c@d`; a route without a colon is nothing.
fn drop_source_route(address: &mut Vec<Token<'_>>) {
    let end = address
        .iter()
        .position(|token| token.kind == Kind::Colon)
        .map_or(address.len(), |colon| colon + 1);
    address.drain(..end);
}

fn push_host<'a>(address: &mut Vec<Token<'a>>, host: &'a [u8]) {
    let tokens = Lexer::new(host, Grammar::Strict).map_while(Result::ok);
    address.extend(tokens.filter(|token| token.kind != Kind::Comment));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::token::TokenError;

    fn complete(qualifier: &Qualifier, address: &str) -> String {
        let mut tokens = Lexer::new(address.as_bytes(), Grammar::Strict)
            .collect::<Result<_, _>>()
            .unwrap();
        qualifier.complete(&mut tokens);
        let mut sink = Vec::new();
        tokens
            .iter()
            .for_each(|token| token.write_header(&mut sink));
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn addresses_are_completed() {
        let qualifier = Qualifier::new(b"defaulthost", b"defaultdomain", b"plusdomain").unwrap();
        for (address, want) in [
            ("", ""),
            ("a", "a@defaulthost.defaultdomain"),
            ("a@b", "a@b.defaultdomain"),
            ("a@b.c", "a@b.c"),
            ("a@b+", "a@b.plusdomain"),
            ("a@b.c+", "a@b.c.plusdomain"),
            ("o+", "o+@defaulthost.defaultdomain"),
            ("u+@h", "u+@h.defaultdomain"),
            ("s@t+.u", "s@t+.u"),
            ("k@l.", "k@l.defaultdomain"),
            ("a@.", "a@defaulthost.defaultdomain"),
            ("box@", "box@defaulthost.defaultdomain"),
            ("r@+", "r@.plusdomain"),
            ("x@[]", "x@[]"),
            ("x@[1.2.3.4]", "x@[1.2.3.4]"),
            ("x@a.[1]", "x@a.[1]"),
            ("@a,@b:c@d", "c@d.defaultdomain"),
            ("@i", ""),
            ("@", ""),
            (".", ""),
            ("a@b..", "a@b.defaultdomain"),
            ("a@.@", "a@defaulthost.defaultdomain"),
            ("@a:", ""),
        ] {
            assert_eq!(complete(&qualifier, address), want, "{address}");
        }
    }

    #[test]
    fn the_default_host_is_completed_too() {
        let qualifier = Qualifier::new(b"cs+", b"d", b"p.example").unwrap();
        assert_eq!(complete(&qualifier, "a"), "a@cs.p.example");
        let qualifier = Qualifier::new(b"[192.0.2.1]", b"d", b"p").unwrap();
        assert_eq!(complete(&qualifier, "a"), "a@[192.0.2.1]");
        assert!(Qualifier::new(b"", b"a . b (c)", b"").is_ok());
        for (host, error) in [
            (&b"a("[..], ListError::Token(TokenError::Unclosed)),
            (b"a b", ListError::Host),
            (b"a@b", ListError::Host),
            (b"a,b", ListError::Host),
            (b"a\n", ListError::ControlOctet),
        ] {
            assert_eq!(Qualifier::new(host, b"", b""), Err(error));
        }
    }
}
