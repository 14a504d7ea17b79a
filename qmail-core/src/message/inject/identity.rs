//! Who a message is from when it does not say so itself.

use super::InjectError;
use crate::header::Qualifier;
use crate::header::address_list::Writer;
use crate::header::token::{Kind, Token};
use crate::is_plain_local_part;

/// A user, as the From field shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The local part, unquoted (QMAILUSER, MAILUSER, USER, LOGNAME).
    pub user: Vec<u8>,
    /// The host (QMAILHOST, MAILHOST); `None` for the default host. `[192.0.2.1]` is a literal.
    pub host: Option<Vec<u8>>,
    /// The name of the person (QMAILNAME, MAILNAME, NAME). An empty one is shown as one.
    pub name: Option<Vec<u8>>,
    /// Letter `c`: `user@host (Name)` instead of `"Name" <user@host>`.
    pub name_in_comment: bool,
}

impl Identity {
    /// A user at the default host, without a name.
    pub fn new(user: impl Into<Vec<u8>>) -> Self {
        Self {
            user: user.into(),
            host: None,
            name: None,
            name_in_comment: false,
        }
    }

    /// Appends the value of a From field, with a blank in front.
    pub(super) fn write(
        &self,
        qualifier: &Qualifier,
        sink: &mut Vec<u8>,
    ) -> Result<(), InjectError> {
        let mut writer = Writer::new(sink);
        complete(&self.user, self.host.as_deref(), qualifier, |address| {
            let write_address =
                |writer: &mut Writer<'_>| address.iter().for_each(|token| writer.token(token));
            match &self.name {
                None => write_address(&mut writer),
                Some(name) if self.name_in_comment => {
                    write_address(&mut writer);
                    writer.token(&Token::raw(Kind::Comment, name));
                }
                Some(name) => {
                    writer.token(&Token::raw(Kind::Quoted, name));
                    writer.token(&Token::special(Kind::Left));
                    write_address(&mut writer);
                    writer.token(&Token::special(Kind::Right));
                }
            }
        })?;
        writer.finish();
        Ok(())
    }
}

/// Completes an address of a raw user and a raw host, and hands its tokens on.
pub(super) fn complete<R>(
    user: &[u8],
    host: Option<&[u8]>,
    qualifier: &Qualifier,
    then: impl FnOnce(&[Token<'_>]) -> R,
) -> Result<R, InjectError> {
    let control = |octets: &[u8]| memchr::memchr3(b'\r', b'\n', 0, octets).is_some();
    if control(user) || host.is_some_and(control) {
        return Err(InjectError::Identity);
    }
    let kind = if is_plain_local_part(user) {
        Kind::Atom
    } else {
        Kind::Quoted
    };
    let mut address = vec![Token::raw(kind, user)];
    if let Some(host) = host {
        address.push(Token::special(Kind::At));
        push_raw_host(host, &mut address);
    }
    qualifier.complete(&mut address);
    Ok(then(&address))
}

fn push_raw_host<'a>(host: &'a [u8], address: &mut Vec<Token<'a>>) {
    let literal = host
        .strip_prefix(b"[")
        .and_then(|host| host.strip_suffix(b"]"));
    if let Some(literal) = literal {
        address.push(Token::raw(Kind::Literal, literal));
        return;
    }
    for (index, label) in host.split(|&octet| octet == b'.').enumerate() {
        if index > 0 {
            address.push(Token::special(Kind::Dot));
        }
        if !label.is_empty() {
            let kind = if is_plain_local_part(label) {
                Kind::Atom
            } else {
                Kind::Quoted
            };
            address.push(Token::raw(kind, label));
        }
    }
}
