//! Times of log lines.

use std::borrow::Cow;

/// The TAI64 label of 1970-01-01 00:00:00 UTC, when TAI was 10 seconds ahead.
const TAI64_EPOCH: u64 = (1 << 62) + 10;

/// A time in nanoseconds since 1970; exact for up to nine decimals.
///
/// ```
/// use qmail_queue::analog::Stamp;
/// assert_eq!(Stamp::parse(b"1.25"), Stamp(1_250_000_000));
/// assert_eq!(&*Stamp::show(b"@4000000037c219bf2ef02e94"), b"935467445.787492500");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub i128);

impl Stamp {
    /// Reads decimal seconds as far as they go; what is no number is 0.
    pub fn parse(field: &[u8]) -> Self {
        let (sign, field) = match field.strip_prefix(b"-") {
            Some(rest) => (-1, rest),
            None => (1, field),
        };
        let mut digits = field.split(|octet| !octet.is_ascii_digit());
        let seconds = super::lines::number(digits.next().unwrap_or_default());
        let whole_digits = field.iter().take_while(|octet| octet.is_ascii_digit());
        let decimals = match field.get(whole_digits.count()) {
            Some(b'.') => digits.next().unwrap_or_default(),
            _ => b"",
        };
        let nanoseconds = (0..9).fold(0, |value, place| {
            value * 10
                + decimals
                    .get(place)
                    .map_or(0, |digit| i128::from(digit - b'0'))
        });
        Self(sign * (i128::from(seconds) * super::number::NANOSECONDS + nanoseconds))
    }

    /// A time as reports show it: a TAI64N label (`@` and hexadecimal digits) as seconds with nine decimals, anything else as it is.
    pub fn show(field: &[u8]) -> Cow<'_, [u8]> {
        let Some(label) = field.strip_prefix(b"@") else {
            return Cow::Borrowed(field);
        };
        // The last eight digits are nanoseconds. As in the classic program a shorter label is one all the same.
        let (mut seconds, mut nanoseconds) = (0u64, 0u64);
        for &octet in label {
            let digit = match octet {
                b'0'..=b'9' => octet - b'0',
                b'a'..=b'f' => octet - b'a' + 10,
                _ => break,
            };
            seconds = (seconds << 4) | (nanoseconds >> 28);
            nanoseconds = ((nanoseconds & 0x0fff_ffff) << 4) | u64::from(digit);
        }
        let seconds = seconds.wrapping_sub(TAI64_EPOCH);
        Cow::Owned(format!("{seconds}.{nanoseconds:09}").into_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (field, nanoseconds) in [
            ("", 0),
            ("?", 0),
            ("7", 7_000_000_000),
            ("7.", 7_000_000_000),
            ("0.000000001", 1),
            ("0.0000000019", 1),
            ("-1.5", -1_500_000_000),
            ("3x.5", 3_000_000_000),
            ("1000000001.250000", 1_000_000_001_250_000_000),
        ] {
            assert_eq!(
                Stamp::parse(field.as_bytes()),
                Stamp(nanoseconds),
                "{field}"
            );
        }
    }

    #[test]
    fn labels_become_seconds() {
        for (label, shown) in [
            ("@400000000000000a00000000", "0.000000000"),
            ("@4000000037c219bf2ef02e95", "935467445.787492501"),
            ("@4000000037c219c10000000a.s", "935467447.000000010"),
            ("1.5", "1.5"),
            ("", ""),
        ] {
            assert_eq!(Stamp::show(label.as_bytes()), shown.as_bytes(), "{label}");
        }
        // No label, and no panic.
        Stamp::show(b"@");
        Stamp::show(&[b'f'; 99]);
    }
}
