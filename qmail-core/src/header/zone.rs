//! Local time: the rules of a time zone, from a `TZ` value or a compiled zone file, read by somebody else.
//!
//! Both are as in POSIX and RFC 9636. Leap seconds are not counted: time is POSIX time.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while_m_n};
use nom::character::complete::one_of;
use nom::combinator::{all_consuming, opt};
use nom::error::Error;
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

use super::date::Civil;

/// A time zone.
///
/// ```
/// use qmail_core::header::zone::Zone;
/// let zone = Zone::from_rule(b"CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
/// assert_eq!(zone.offset_at(1_700_000_000), 3600);
/// assert_eq!(zone.offset_at(1_690_000_000), 7200);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// When a new offset begins, and the offset; sorted by time.
    transitions: Vec<(i64, i32)>,
    /// The offset before the first transition.
    first: i32,
    /// What holds from the last transition on.
    rule: Option<Rule>,
}

/// Offsets in seconds east of Greenwich, and when summer time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    standard: i32,
    summer: Option<Summer>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Summer {
    offset: i32,
    start: Change,
    end: Change,
}

/// A moment of each year, in the local time that holds before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    day: Day,
    /// Seconds after midnight; may be negative, or more than a day.
    time: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Day {
    /// `Jn`: day 1 to 365, 29 February left out.
    Julian(u16),
    /// `n`: day 0 to 365.
    OfYear(u16),
    /// `Mm.w.d`: weekday `d` of week `w` of month `m`, week 5 being the last.
    Weekday { month: u8, week: u8, weekday: u8 },
}

/// The largest zone file in octets that is worth reading.
pub const ZONE_FILE_OCTETS_MAX: usize = 1 << 20;

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self {
            transitions: Vec::new(),
            first: 0,
            rule: None,
        }
    }

    /// Reads a POSIX rule: `UTC0`, `EST5EDT`, `<+0530>-5:30`, `CET-1CEST,M3.5.0,M10.5.0/3`.
    ///
    /// `None` if it is none: it may be the name of a zone file then.
    pub fn from_rule(rule: &[u8]) -> Option<Self> {
        let (_, rule) = all_consuming(self::rule).parse(rule).ok()?;
        Some(Self {
            transitions: Vec::new(),
            first: rule.standard,
            rule: Some(rule),
        })
    }

    /// Reads a compiled zone file. `None` if it is none.
    pub fn from_file(file: &[u8]) -> Option<Self> {
        let (version, counts, block) = FileHeader::read(file)?;
        if version < b'2' {
            return counts.zone(block, 4, None);
        }
        // The first block has times of 32 bits only; a second one with 64 follows, then a rule between two LFs.
        let (_, counts, block) = FileHeader::read(block.get(counts.octets(4)?..)?)?;
        let footer = block.get(counts.octets(8)?..)?.strip_prefix(b"\n")?;
        let rule = &footer[..memchr::memchr(b'\n', footer)?];
        let rule = if rule.is_empty() {
            None
        } else {
            Some(all_consuming(self::rule).parse(rule).ok()?.1)
        };
        counts.zone(block, 8, rule)
    }

    /// Seconds east of Greenwich at a moment, given in seconds since 1970.
    pub fn offset_at(&self, seconds: i64) -> i32 {
        let after = self
            .transitions
            .partition_point(|&(start, _)| start <= seconds);
        match &self.rule {
            Some(rule) if after == self.transitions.len() => rule.offset_at(seconds),
            _ => after
                .checked_sub(1)
                .map_or(self.first, |last| self.transitions[last].1),
        }
    }

    /// Local time at a moment, and the offset that holds then.
    pub fn local(&self, seconds: i64) -> (Civil, i32) {
        let offset = self.offset_at(seconds);
        (
            Civil::from_unix(seconds.saturating_add(i64::from(offset))),
            offset,
        )
    }
}

impl Rule {
    fn offset_at(&self, seconds: i64) -> i32 {
        let Some(summer) = self.summer else {
            return self.standard;
        };
        let year = Civil::from_unix(seconds.saturating_add(i64::from(self.standard))).year;
        let start = summer.start.moment(year, self.standard);
        let end = summer.end.moment(year, summer.offset);
        let is_summer = if start < end {
            (start..end).contains(&seconds)
        } else {
            !(end..start).contains(&seconds)
        };
        if is_summer {
            summer.offset
        } else {
            self.standard
        }
    }
}

impl Change {
    fn moment(&self, year: i64, offset: i32) -> i64 {
        let first = |month| Civil {
            year,
            month,
            day: 1,
            hour: 0,
            minute: 0,
            second: 0,
            weekday: 0,
        };
        let unix = |civil: Civil| civil.to_unix().unwrap_or(i64::MAX / 2);
        let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
        let days = |day: u16| i64::from(day) * 86_400;
        let midnight = match self.day {
            Day::Julian(day) => unix(first(1)) + days(day - 1 + u16::from(leap && day > 59)),
            Day::OfYear(day) => unix(first(1)) + days(day),
            Day::Weekday {
                month,
                week,
                weekday,
            } => {
                let start = unix(first(month));
                let length = match month {
                    2 => 28 + u16::from(leap),
                    4 | 6 | 9 | 11 => 30,
                    _ => 31,
                };
                let begins_on = u16::from(Civil::from_unix(start).weekday);
                let mut day = (u16::from(weekday) + 7 - begins_on) % 7 + 7 * (u16::from(week) - 1);
                while day >= length {
                    day -= 7;
                }
                start + days(day)
            }
        };
        midnight + i64::from(self.time) - i64::from(offset)
    }
}

type Parsed<'a, T> = IResult<&'a [u8], T>;

/// `std offset`, or `std offset dst [offset] [,start,end]`.
fn rule(input: &[u8]) -> Parsed<'_, Rule> {
    let (rest, standard) = preceded(name, offset).parse(input)?;
    let (rest, summer) = opt(|input| summer(input, standard)).parse(rest)?;
    Ok((rest, Rule { standard, summer }))
}

fn summer(input: &[u8], standard: i32) -> Parsed<'_, Summer> {
    // Without dates, those of the United States, as everywhere.
    let default = [(3, 2), (11, 1)].map(|(month, week)| Change {
        day: Day::Weekday {
            month,
            week,
            weekday: 0,
        },
        time: TWO_O_CLOCK,
    });
    let dates = opt((preceded(tag(","), change), preceded(tag(","), change)));
    let (rest, (_, offset, dates)) = (name, opt(offset), dates).parse(input)?;
    let (start, end) = dates.unwrap_or((default[0], default[1]));
    let offset = offset.unwrap_or(standard + 3600);
    Ok((rest, Summer { offset, start, end }))
}

/// Three letters or more, or anything in angle brackets.
fn name(input: &[u8]) -> Parsed<'_, &[u8]> {
    let quoted = take_while_m_n(3, NAME_OCTETS_MAX, |octet| octet != b'>');
    let plain = take_while_m_n(3, NAME_OCTETS_MAX, |octet: u8| octet.is_ascii_alphabetic());
    alt((delimited(tag("<"), quoted, tag(">")), plain)).parse(input)
}

/// Seconds east of Greenwich; the text counts westwards.
fn offset(input: &[u8]) -> Parsed<'_, i32> {
    time(24).map(|seconds| -seconds).parse(input)
}

/// `[+-]h[:m[:s]]` in seconds.
fn time<'a>(hours_max: i32) -> impl Parser<&'a [u8], Output = i32, Error = Error<&'a [u8]>> {
    let part = || opt(preceded(tag(":"), number(59)));
    (opt(one_of("+-")), number(hours_max), part(), part()).map(|(sign, hours, minutes, seconds)| {
        let seconds = hours * 3600 + minutes.unwrap_or(0) * 60 + seconds.unwrap_or(0);
        if sign == Some('-') { -seconds } else { seconds }
    })
}

/// The day, and maybe the time of day.
fn change(input: &[u8]) -> Parsed<'_, Change> {
    let julian =
        preceded(tag("J"), number(365)).map_opt(|day| (day > 0).then_some(Day::Julian(day as u16)));
    let weekday = (
        preceded(tag("M"), number(12)),
        preceded(tag("."), number(5)),
        preceded(tag("."), number(6)),
    )
        .map_opt(|(month, week, weekday)| {
            let (month, week, weekday) = (month as u8, week as u8, weekday as u8);
            (month > 0 && week > 0).then_some(Day::Weekday {
                month,
                week,
                weekday,
            })
        });
    let of_year = number(365).map(|day| Day::OfYear(day as u16));
    let time = opt(preceded(tag("/"), time(167)));
    (alt((julian, weekday, of_year)), time)
        .map(|(day, time)| Change {
            day,
            time: time.unwrap_or(TWO_O_CLOCK),
        })
        .parse(input)
}

/// One to three digits.
fn number<'a>(max: i32) -> impl Parser<&'a [u8], Output = i32, Error = Error<&'a [u8]>> {
    take_while_m_n(1, 3, |octet: u8| octet.is_ascii_digit())
        .map(|digits: &[u8]| {
            digits
                .iter()
                .fold(0, |number, digit| number * 10 + i32::from(digit - b'0'))
        })
        .map_opt(move |number| (number <= max).then_some(number))
}

/// When changes are, for want of a time.
const TWO_O_CLOCK: i32 = 7200;

/// Longest name of a zone in octets.
const NAME_OCTETS_MAX: usize = 64;

/// The counts at the start of a block of a zone file.
struct FileHeader {
    ut: usize,
    standard: usize,
    leaps: usize,
    times: usize,
    types: usize,
    characters: usize,
}

impl FileHeader {
    /// Version, counts, and what follows them.
    fn read(file: &[u8]) -> Option<(u8, Self, &[u8])> {
        let (header, block) = file.split_at_checked(44)?;
        let version = *header.strip_prefix(b"TZif")?.first()?;
        let count = |index: usize| be32(header, 20 + 4 * index).map(|count| count as usize);
        let counts = Self {
            ut: count(0)?,
            standard: count(1)?,
            leaps: count(2)?,
            times: count(3)?,
            types: count(4)?,
            characters: count(5)?,
        };
        (file.len() <= ZONE_FILE_OCTETS_MAX).then_some((version, counts, block))
    }

    /// How long the block is with times of so many octets.
    fn octets(&self, time: usize) -> Option<usize> {
        [
            self.times.checked_mul(time + 1)?,
            self.types.checked_mul(6)?,
            self.characters,
            self.leaps.checked_mul(time + 4)?,
            self.standard,
            self.ut,
        ]
        .iter()
        .try_fold(0usize, |sum, octets| sum.checked_add(*octets))
    }

    fn zone(&self, block: &[u8], time: usize, rule: Option<Rule>) -> Option<Zone> {
        block.get(..self.octets(time)?)?;
        let (times, rest) = block.split_at(self.times * time);
        let (indices, types) = rest.split_at(self.times);
        let offset = |index: usize| {
            (index < self.types).then(|| be32(types, index * 6).map(|offset| offset as i32))?
        };
        let mut transitions = Vec::with_capacity(self.times);
        for (at, &index) in times.chunks_exact(time).zip(indices) {
            let at = match time {
                8 => i64::from_be_bytes(at.try_into().ok()?),
                _ => i64::from(be32(at, 0)? as i32),
            };
            transitions.push((at, offset(usize::from(index))?));
        }
        transitions.is_sorted().then_some(Zone {
            transitions,
            first: offset(0)?,
            rule,
        })
    }
}

fn be32(octets: &[u8], at: usize) -> Option<u32> {
    octets
        .get(at..)?
        .first_chunk()
        .map(|chunk| u32::from_be_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rules_are_read() {
        for (rule, winter, summer) in [
            ("UTC0", 0, 0),
            ("XXX-5:45", 20_700, 20_700),
            ("XXX3:30", -12_600, -12_600),
            ("<+0530>-5:30", 19_800, 19_800),
            ("EST5EDT", -18_000, -14_400),
            ("CET-1CEST,M3.5.0,M10.5.0/3", 3600, 7200),
            ("AAA0BBB,J60,J300", 0, 3600),
            ("AAA0BBB,59,299/-1", 0, 3600),
            ("NZST-12NZDT,M9.5.0,M4.1.0/3", 46_800, 43_200),
        ] {
            let zone = Zone::from_rule(rule.as_bytes()).unwrap_or_else(|| panic!("{rule}"));
            // 14 November 2023 and 22 July 2023.
            assert_eq!(zone.offset_at(1_700_000_000), winter, "{rule}");
            assert_eq!(zone.offset_at(1_690_000_000), summer, "{rule}");
        }
        for rule in [
            "",
            "UTC",
            "UT0",
            "Europe/Berlin",
            "UTC25",
            "EST5EDT,",
            "EST5EDT,M13.1.0,M1.1.0",
            "EST5EDT,J0,J1",
            "UTC0x",
        ] {
            assert_eq!(Zone::from_rule(rule.as_bytes()), None, "{rule}");
        }
    }

    #[test]
    fn summer_time_begins_and_ends_to_the_second() {
        let zone = Zone::from_rule(b"CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        // 26 March 2023 01:00 UTC, 29 October 2023 01:00 UTC.
        for (change, before, after) in [(1_679_792_400, 3600, 7200), (1_698_541_200, 7200, 3600)] {
            assert_eq!(
                (zone.offset_at(change - 1), zone.offset_at(change)),
                (before, after)
            );
        }
    }

    /// A file of version 2 with one change at 1,000,000,000 from +1 h to +2 h, and a rule behind.
    fn file(rule: &[u8]) -> Vec<u8> {
        let mut file = Vec::new();
        for (time, count) in [(4usize, 0u32), (8, 1)] {
            file.extend_from_slice(b"TZif2");
            file.extend_from_slice(&[0; 15]);
            for count in [0, 0, 0, count, 2, 4] {
                file.extend_from_slice(&count.to_be_bytes());
            }
            if count == 1 {
                file.extend_from_slice(&1_000_000_000i64.to_be_bytes()[8 - time..]);
                file.push(1);
            }
            for offset in [3600i32, 7200] {
                file.extend_from_slice(&offset.to_be_bytes());
                file.extend_from_slice(&[0, 0]);
            }
            file.extend_from_slice(b"AAA\0");
        }
        file.push(b'\n');
        file.extend_from_slice(rule);
        file.push(b'\n');
        file
    }

    #[test]
    fn zone_files_are_read() {
        let zone = Zone::from_file(&file(b"")).unwrap();
        assert_eq!(
            (zone.offset_at(0), zone.offset_at(999_999_999)),
            (3600, 3600)
        );
        assert_eq!(
            (zone.offset_at(1_000_000_000), zone.offset_at(i64::MAX)),
            (7200, 7200)
        );
        let zone = Zone::from_file(&file(b"XXX-5")).unwrap();
        assert_eq!(
            (zone.offset_at(0), zone.offset_at(1_700_000_000)),
            (3600, 18_000)
        );
        let file = file(b"XXX-5");
        for cut in 0..file.len() {
            assert_eq!(Zone::from_file(&file[..cut]), None, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_survived(
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..20), seconds: i64
        ) {
            let mut file = file(b"CET-1CEST,M3.5.0,M10.5.0/3");
            for (at, octet) in damage {
                let at = at.index(file.len());
                file[at] = octet;
            }
            if let Some(zone) = Zone::from_file(&file) {
                zone.local(seconds);
            }
        }

        #[test]
        fn any_rule_is_survived(rule in "[A-C<>,.0-9J/M:+-]{0,24}", seconds: i64) {
            if let Some(zone) = Zone::from_rule(rule.as_bytes()) {
                zone.local(seconds);
            }
        }
    }
}
