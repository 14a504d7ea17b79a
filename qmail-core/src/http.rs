//! Clients of HTTP that were made to call here.

/// RFC 9110 section 9.3, RFC 5789, and the preface of HTTP/2 (RFC 9113 section 3.4).
const VERBS: [&[u8]; 10] = [
    b"CONNECT", b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PATCH", b"POST", b"PRI", b"PUT", b"TRACE",
];

/// Whether `verb`, the part of a line before its first space, is one of HTTP, in any case.
///
/// A web browser can be made to call a mail server; what follows such a verb may be commands that a stranger chose, so a
/// server ends the session. HTTP itself minds the case of its methods; a server that is to be safe does not.
///
/// ```
/// use qmail_core::is_http_verb;
/// assert!(is_http_verb(b"POST"));
/// assert!(is_http_verb(b"patch"));
/// assert!(!is_http_verb(b"POSTS"));
/// ```
pub fn is_http_verb(verb: &[u8]) -> bool {
    VERBS.iter().any(|known| known.eq_ignore_ascii_case(verb))
}
