//! Binary mailing lists (setmaillist(1), printmaillist(1)): entries that each end in NUL.

use super::TARGET_OCTETS_MAX;

/// Why text or octets are no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// A NUL in the text.
    #[error("line {0}: NUL")]
    Nul(usize),
    /// More than [`TARGET_OCTETS_MAX`] octets.
    #[error("line {0}: address longer than {TARGET_OCTETS_MAX} octets")]
    TooLong(usize),
    /// The binary list is damaged: the last entry does not end, or one is neither address nor file name.
    #[error("entry {0} of the list is damaged")]
    BadEntry(usize),
}

/// Makes a binary list of text: one address or file name a line; empty lines and those starting with `#` are dropped.
///
/// ```
/// use qmail_core::alias::list_from_text;
/// assert_eq!(list_from_text(b"# ours\nann@example.org \n./more.bin\n")?, b"&ann@example.org\0./more.bin\0");
/// # Ok::<(), qmail_core::alias::ListError>(())
/// ```
///
/// # Errors
///
/// A NUL, or an address that is too long.
pub fn list_from_text(text: &[u8]) -> Result<Vec<u8>, ListError> {
    let mut list = Vec::with_capacity(text.len());
    for (number, line) in (1..).zip(text.split(|&octet| octet == b'\n')) {
        let blanks = line.iter().rev();
        let blanks = blanks.take_while(|&&octet| matches!(octet, b' ' | b'\t'));
        let line = &line[..line.len() - blanks.count()];
        if memchr::memchr(0, line).is_some() {
            return Err(ListError::Nul(number));
        }
        if line.len() > TARGET_OCTETS_MAX {
            return Err(ListError::TooLong(number));
        }
        match line.first() {
            None | Some(b'#') => continue,
            Some(b'.' | b'/' | b'&') => {}
            Some(_) => list.push(b'&'),
        }
        list.extend_from_slice(line);
        list.push(0);
    }
    Ok(list)
}

/// The entries of a binary list that can be used. Entries of 900 octets or more, those with a line break, and those that are neither
/// addresses nor file names, are passed over.
pub fn entries(list: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let whole = memchr::memrchr(0, list).map_or(&[][..], |end| &list[..end]);
    whole.split(|&octet| octet == 0).filter(|entry| {
        entry.len() < ENTRY_OCTETS_MAX
            && matches!(entry.first(), Some(b'.' | b'/' | b'&'))
            && !entry.contains(&b'\n')
            && *entry != b"&"
    })
}

/// The text of a binary list, one entry a line.
///
/// # Errors
///
/// [`ListError::BadEntry`]: what the text says would not be what the list does.
pub fn describe_list(list: &[u8]) -> Result<Vec<u8>, ListError> {
    let mut text = Vec::with_capacity(list.len());
    for (number, entry) in (1..).zip(list.split_inclusive(|&octet| octet == 0)) {
        let entry = entry
            .strip_suffix(b"\0")
            .ok_or(ListError::BadEntry(number))?;
        let bad = entry.len() > ENTRY_OCTETS_MAX
            || !matches!(entry.first(), Some(b'.' | b'/' | b'&'))
            || matches!(entry.last(), Some(b' ' | b'\t'))
            || entry.contains(&b'\n');
        if bad {
            return Err(ListError::BadEntry(number));
        }
        text.extend_from_slice(entry);
        text.push(b'\n');
    }
    Ok(text)
}

/// Longest entry in octets that is used.
const ENTRY_OCTETS_MAX: usize = 900;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_found() {
        for (list, want) in [
            (&b""[..], Ok(&b""[..])),
            (b"&a@b\0./x\0", Ok(b"&a@b\n./x\n")),
            (b"&a@b\0&c", Err(ListError::BadEntry(2))),
            (b"a@b\0", Err(ListError::BadEntry(1))),
            (b"&a\nb\0", Err(ListError::BadEntry(1))),
            (b"&a \0", Err(ListError::BadEntry(1))),
            (b"\0", Err(ListError::BadEntry(1))),
        ] {
            assert_eq!(
                describe_list(list).as_deref(),
                want.as_ref().map(|text| *text)
            );
        }
        let used: Vec<_> = entries(b"&a\0x\0\0/l\0&b\nc\0&cut").collect();
        assert_eq!(used, [&b"&a"[..], b"/l"]);
    }
}
