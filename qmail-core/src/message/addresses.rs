//! Many addresses in little room.

/// A growing list of addresses in envelope form, packed: a list of a hundred thousand is two allocations.
///
/// ```
/// use qmail_core::message::Addresses;
/// let mut addresses = Addresses::default();
/// addresses.push(b"joe@example.org");
/// addresses.push(b"ann@example.org");
/// assert_eq!(addresses.iter().rev().next(), Some(&b"ann@example.org"[..]));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    octets: Vec<u8>,
    ends: Vec<usize>,
}

impl Addresses {
    /// Appends an address. Duplicates are kept.
    pub fn push(&mut self, address: &[u8]) {
        self.octets.extend_from_slice(address);
        self.ends.push(self.octets.len());
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// All of them in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        self.range(0, self.len())
    }

    /// Those from one index up to another.
    pub(crate) fn range(
        &self,
        from: usize,
        to: usize,
    ) -> impl DoubleEndedIterator<Item = &[u8]> + ExactSizeIterator {
        (from..to).map(|index| {
            let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
            &self.octets[start..self.ends[index]]
        })
    }
}

impl<'a> Extend<&'a [u8]> for Addresses {
    fn extend<I: IntoIterator<Item = &'a [u8]>>(&mut self, addresses: I) {
        addresses.into_iter().for_each(|address| self.push(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_order() {
        let mut addresses = Addresses::default();
        addresses.extend([&b"a"[..], b"", b"bc"]);
        assert_eq!(
            addresses.iter().collect::<Vec<_>>(),
            [&b"a"[..], b"", b"bc"]
        );
        assert_eq!(addresses.range(1, 3).collect::<Vec<_>>(), [&b""[..], b"bc"]);
        addresses.push(b"d");
        assert_eq!(
            addresses.iter().rev().collect::<Vec<_>>(),
            [&b"d"[..], b"bc", b"", b"a"]
        );
        assert_eq!(addresses.len(), 4);
        assert!(Addresses::default().is_empty());
    }
}
