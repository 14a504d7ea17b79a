//! Reading the dates of Date and Received fields (RFC 822 section 5, mess822).

use super::date::{Civil, write_offset};
use super::token::{Grammar, Kind, Lexer, Token};

/// A date as a field tells it.
///
/// ```
/// use qmail_core::header::FieldDate;
/// let date = FieldDate::read(b"Sat, 15 Aug 98 23:32:12 CDT").unwrap();
/// let mut sink = Vec::new();
/// date.write(&mut sink);
/// assert_eq!(sink, b"15 Aug 1998 23:32:12 -0500");
/// assert_eq!(date.unix(), 903_241_932);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldDate {
    /// The time of day and the date, in the zone of the field. The weekday is not the field's but the right one.
    pub civil: Civil,
    /// Seconds east of Greenwich.
    pub offset: i32,
    /// The zone is `-0000`: time is UTC, and nothing is said about the place.
    pub zone_unknown: bool,
}

impl FieldDate {
    /// UTC, zone unknown: how qmail dates what it makes.
    pub fn from_unix(seconds: i64) -> Self {
        Self {
            civil: Civil::from_unix(seconds),
            offset: 0,
            zone_unknown: true,
        }
    }

    /// Reads the value of a field: what follows its last `;` or `,`.
    ///
    /// Comments and blanks do not matter. A year below 50 is of this century, other years below 999 of the one before.
    /// The obsolete names of zones are known. `None` if the date is not understood, or there is no such day or time.
    pub fn read(value: &[u8]) -> Option<Self> {
        let mut tokens = Vec::new();
        for token in Lexer::new(value, Grammar::Lenient).map_while(Result::ok) {
            match token.kind {
                Kind::Comma | Kind::Semicolon => tokens.clear(),
                Kind::Blank | Kind::Comment => {}
                _ if tokens.len() < TOKENS_MAX => tokens.push(token),
                _ => {}
            }
        }
        Parser { tokens: &tokens }.date()
    }

    /// Seconds since 1970.
    pub fn unix(&self) -> i64 {
        // A year of nine digits fits.
        self.civil.to_unix().unwrap_or(0) - i64::from(self.offset)
    }

    /// Appends `D Mon YYYY HH:MM:SS +HHMM`.
    pub fn write(&self, sink: &mut Vec<u8>) {
        self.civil.write_822(sink);
        sink.push(b' ');
        self.write_zone(sink);
    }

    /// Appends `YYYY-MM-DD HH:MM:SS +HHMM`.
    pub fn write_iso(&self, sink: &mut Vec<u8>) {
        self.civil.write_iso(sink);
        sink.push(b' ');
        write_offset(self.offset, sink);
    }

    fn write_zone(&self, sink: &mut Vec<u8>) {
        if self.zone_unknown {
            sink.extend_from_slice(b"-0000");
        } else {
            write_offset(self.offset, sink);
        }
    }
}

/// More than a date has; the rest is not looked at.
const TOKENS_MAX: usize = 64;

/// From here on, in seconds, four digits cannot write a zone: `+9959` is the last, and `+9960` would be a hundred hours.
const OFFSET_END: i32 = 100 * 3600;

/// Zones in minutes east of Greenwich.
const ZONES: [(&str, i32); 20] = [
    ("UT", 0),
    ("GMT", 0),
    ("EST", -300),
    ("EDT", -240),
    ("CST", -360),
    ("CDT", -300),
    ("MST", -420),
    ("MDT", -360),
    ("PST", -480),
    ("PDT", -420),
    ("BST", 60),
    ("CET", 60),
    ("MET", 60),
    ("METDST", 120),
    ("EET", 120),
    ("IST", 120),
    ("HKT", 480),
    ("JST", 540),
    ("UTC", 0),
    ("Z", 0),
];

struct Parser<'a> {
    tokens: &'a [Token<'a>],
}

impl Parser<'_> {
    fn date(mut self) -> Option<FieldDate> {
        let day = self.number(1..=31, 2)?;
        let month = self.month()?;
        let year = match i64::from(self.number(0..=999_999_999, 9)?) {
            year @ 0..50 => year + 2000,
            year @ 50..999 => year + 1900,
            year => year,
        };
        let hour = self.number(0..=23, 2)?;
        if !self.colon() {
            return None;
        }
        let minute = self.number(0..=59, 2)?;
        let second = if self.colon() {
            self.number(0..=60, 2)?
        } else {
            0
        };
        let (mut offset, zone_unknown) = self.zone()?;
        if self
            .word()
            .is_some_and(|word| word.eq_ignore_ascii_case(b"DST"))
        {
            offset += 3600;
        }
        if offset.abs() >= OFFSET_END {
            return None;
        }
        let civil = Civil {
            year,
            month,
            day: day as u8,
            hour: hour as u8,
            minute: minute as u8,
            second: second as u8,
            weekday: 0,
        };
        // 31 February would be a day of March. A leap second would be one of the next minute, and is let be.
        let checked = Civil::from_unix(Civil { second: 0, ..civil }.to_unix()?);
        if (checked.month, checked.day) != (civil.month, civil.day) {
            return None;
        }
        Some(FieldDate {
            civil: Civil {
                weekday: checked.weekday,
                ..civil
            },
            offset,
            zone_unknown,
        })
    }

    /// The next word; other tokens than colons before it are passed over.
    fn word(&mut self) -> Option<Vec<u8>> {
        loop {
            let (token, rest) = self.tokens.split_first()?;
            match token.kind {
                Kind::Atom | Kind::Quoted => {
                    self.tokens = rest;
                    return Some(token.value().collect());
                }
                Kind::Colon => return None,
                _ => self.tokens = rest,
            }
        }
    }

    /// Whether the next token that counts is a colon; takes it if so.
    fn colon(&mut self) -> bool {
        while let Some((token, rest)) = self.tokens.split_first() {
            match token.kind {
                Kind::Colon => {
                    self.tokens = rest;
                    return true;
                }
                Kind::Atom | Kind::Quoted => return false,
                _ => self.tokens = rest,
            }
        }
        false
    }

    fn number(&mut self, range: std::ops::RangeInclusive<u32>, digits_max: usize) -> Option<u32> {
        decimal(&self.word()?, digits_max).filter(|number| range.contains(number))
    }

    fn month(&mut self) -> Option<u8> {
        let word = self.word()?;
        let month = super::date::MONTHS
            .iter()
            .position(|name| word.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(month as u8 + 1)
    }

    /// Seconds east of Greenwich, and whether the zone is `-0000`.
    fn zone(&mut self) -> Option<(i32, bool)> {
        let word = self.word()?;
        let (sign, digits) = match word.split_first()? {
            (b'+', digits) => (1, digits),
            (b'-', digits) => (-1, digits),
            _ => {
                let zone = ZONES
                    .iter()
                    .find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes()))?;
                return Some((zone.1 * 60, false));
            }
        };
        let number = decimal(digits, 4)? as i32;
        let minutes = number / 100 * 60 + number % 100;
        Some((sign * minutes * 60, sign < 0 && number == 0))
    }
}

fn decimal(digits: &[u8], digits_max: usize) -> Option<u32> {
    if digits.is_empty() || digits.len() > digits_max {
        return None;
    }
    digits.iter().try_fold(0, |number: u32, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u32::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(value: &str) -> Option<String> {
        let mut sink = Vec::new();
        FieldDate::read(value.as_bytes())?.write(&mut sink);
        Some(String::from_utf8(sink).unwrap())
    }

    #[test]
    fn dates_are_read() {
        for (value, date) in [
            (
                "Mon (Lundi), 4(quatre)May (Mai) 1998(1998-05-04)03 : 04 : 12 +0000",
                "4 May 1998 03:04:12 +0000",
            ),
            ("15 aug 1998 13:32:12 cdt", "15 Aug 1998 13:32:12 -0500"),
            ("2 Jan 98 09:00:00 EST", "2 Jan 1998 09:00:00 -0500"),
            ("2 Jan 07 09:00:00 GMT", "2 Jan 2007 09:00:00 +0000"),
            ("2 Jan 102 09:00:00 -0330", "2 Jan 2002 09:00:00 -0330"),
            ("2 jAN 2001 9:05 eSt", "2 Jan 2001 09:05:00 -0500"),
            ("2 Jan 1998 09:00:00 -0000", "2 Jan 1998 09:00:00 -0000"),
            (
                "from a by b; 3 Dec 2012 04:05:06 -0000",
                "3 Dec 2012 04:05:06 -0000",
            ),
            ("1 Jan 2000 00:00:00 EST DST", "1 Jan 2000 00:00:00 -0400"),
            (
                "1 Jan 2000 00:00:00 GMT and more, 1 Jan 2001 00:00 GMT",
                "1 Jan 2001 00:00:00 +0000",
            ),
            ("30 Jun 1997 23:59:60 +0000", "30 Jun 1997 23:59:60 +0000"),
            ("29 Feb 2000 00:00:00 +1400", "29 Feb 2000 00:00:00 +1400"),
            ("19 Jan 2038 03:14:08 +0000", "19 Jan 2038 03:14:08 +0000"),
            ("1 Jan 12345 00:00 +0000", "1 Jan 12345 00:00:00 +0000"),
            ("1 Jan 2000 00:00 +0090", "1 Jan 2000 00:00:00 +0130"),
            ("1 Jan 2000 00:00 -9959", "1 Jan 2000 00:00:00 -9959"),
        ] {
            assert_eq!(read(value).as_deref(), Some(date), "{value}");
        }
    }

    #[test]
    fn other_text_is_no_date() {
        for value in [
            "",
            "yesterday",
            "1 Jan 2000",
            "1 Jan 2000 00:00",
            "1 Jan 2000 00 00 GMT",
            "1 Foo 2000 00:00 GMT",
            "0 Jan 2000 00:00 GMT",
            "32 Jan 2000 00:00 GMT",
            "31 Feb 2000 00:00 GMT",
            "29 Feb 1900 00:00 GMT",
            "1 Jan 2000 24:00 GMT",
            "1 Jan 2000 00:60 GMT",
            "1 Jan 2000 00:00:61 GMT",
            "1 Jan 2000 00:00 XYZ",
            "1 Jan 2000 00:00 +00000",
            "1 Jan 2000 00:00 +9960",
            "1 Jan 2000 00:00 -9989",
            "1 Jan 2000 00:00 +9959 DST",
            "-1 Jan 2000 00:00 GMT",
            "1 Jan 99999999999 00:00 GMT",
            "1 Jan 2000 00:00 +",
        ] {
            assert_eq!(read(value), None, "{value}");
        }
    }

    #[test]
    fn the_moment_is_known() {
        for (value, unix) in [
            ("1 Jan 1970 00:00:00 +0000", 0),
            ("15 Aug 1998 23:32:12 CDT", 903_241_932),
            ("1 Jan 1970 00:00:00 +0130", -5400),
        ] {
            assert_eq!(
                FieldDate::read(value.as_bytes()).unwrap().unix(),
                unix,
                "{value}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in -60_000_000_000i64..250_000_000_000, minutes in -1439i32..1440) {
            let offset = minutes * 60;
            let mut sink = Vec::new();
            super::super::date::write_local_date(seconds, offset, &mut sink);
            let date = FieldDate::read(&sink);
            if Civil::from_unix(seconds + i64::from(offset)).year >= 999 {
                let date = date.expect("a date");
                prop_assert_eq!((date.unix(), date.offset), (seconds, offset));
            }
        }

        #[test]
        fn any_text_is_survived(value: Vec<u8>) {
            let _ = FieldDate::read(&value).map(|date| date.unix());
        }
    }
}
