//! Dates, from seconds since 1970 without leap seconds (POSIX time).
//!
//! Years are not limited to what 32 bits hold. No time zone table is used: who wants local time passes an offset.

use crate::decimal::push_decimal;

/// A moment of the Gregorian calendar.
///
/// ```
/// use qmail_core::header::date::Civil;
/// let civil = Civil::from_unix(1_700_000_000);
/// assert_eq!((civil.year, civil.month, civil.day), (2023, 11, 14));
/// assert_eq!((civil.hour, civil.minute, civil.second), (22, 13, 20));
/// assert_eq!(civil.weekday, 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Astronomical year: 0 is 1 BC.
    pub year: i64,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
    /// 0 is Sunday.
    pub weekday: u8,
}

pub(crate) const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

const SECONDS_PER_DAY: i64 = 86_400;
/// Days of 400 years, after which the calendar repeats.
const DAYS_PER_ERA: i64 = 146_097;
/// Days from 1 March of year 0, where an era begins, to 1 January 1970.
const DAYS_BEFORE_1970: i64 = 719_468;

impl Civil {
    /// UTC of these seconds since 1970. Never fails: every `i64` is some moment.
    pub fn from_unix(seconds: i64) -> Self {
        let days = seconds.div_euclid(SECONDS_PER_DAY);
        let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        // Count days from a 1 March, so that the leap day is the last of its year.
        let shifted = days + DAYS_BEFORE_1970;
        let (era, of_era) = (
            shifted.div_euclid(DAYS_PER_ERA),
            shifted.rem_euclid(DAYS_PER_ERA),
        );
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Months from March have 31, 30, 31, 30, 31 days and again: 153 days for five.
        let month_from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        Self {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month: month as u8,
            day: day as u8,
            hour: (of_day / 3_600) as u8,
            minute: (of_day / 60 % 60) as u8,
            second: (of_day % 60) as u8,
            weekday: (days + 4).rem_euclid(7) as u8,
        }
    }

    /// The way back: seconds since 1970. A day past the end of its month counts on into the next; `weekday` is not looked
    /// at. `None` if the result does not fit.
    pub fn to_unix(&self) -> Option<i64> {
        // Wide enough that no step overflows; only the result may not fit.
        let month = i128::from(self.month);
        let year = i128::from(self.year) - i128::from(month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let month_from_march = (month + 9) % 12;
        let of_year = (153 * month_from_march + 2) / 5 + i128::from(self.day) - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = era * i128::from(DAYS_PER_ERA) + of_era - i128::from(DAYS_BEFORE_1970);
        let of_day =
            u32::from(self.hour) * 3_600 + u32::from(self.minute) * 60 + u32::from(self.second);
        i64::try_from(days * i128::from(SECONDS_PER_DAY) + i128::from(of_day)).ok()
    }

    /// Appends `D Mon YYYY HH:MM:SS`, the day without padding.
    pub fn write_822(&self, sink: &mut Vec<u8>) {
        push_number(sink, i64::from(self.day));
        sink.push(b' ');
        sink.extend_from_slice(self.month_name().as_bytes());
        sink.push(b' ');
        push_number(sink, self.year);
        sink.push(b' ');
        self.write_time(sink);
    }

    /// Appends `HH:MM:SS`.
    pub fn write_time(&self, sink: &mut Vec<u8>) {
        push_two(sink, self.hour);
        sink.push(b':');
        push_two(sink, self.minute);
        sink.push(b':');
        push_two(sink, self.second);
    }

    /// Appends `YYYY-MM-DD HH:MM:SS`.
    pub fn write_iso(&self, sink: &mut Vec<u8>) {
        if (0..1000).contains(&self.year) {
            let year = [
                self.year / 1000,
                self.year / 100 % 10,
                self.year / 10 % 10,
                self.year % 10,
            ];
            sink.extend(year.map(|digit| b'0' + digit as u8));
        } else {
            push_number(sink, self.year);
        }
        for part in [self.month, self.day] {
            sink.push(b'-');
            push_two(sink, part);
        }
        sink.push(b' ');
        self.write_time(sink);
    }

    /// Appends `YYYYMMDDhhmmss`, the stamp of a Message-ID.
    pub fn write_stamp(&self, sink: &mut Vec<u8>) {
        push_number(sink, self.year);
        for part in [self.month, self.day, self.hour, self.minute, self.second] {
            push_two(sink, part);
        }
    }

    fn month_name(&self) -> &'static str {
        MONTHS[usize::from(self.month.clamp(1, 12)) - 1]
    }
}

/// Appends the date of header fields: `D Mon YYYY HH:MM:SS -0000`.
///
/// UTC, of a host that does not tell its own zone (RFC 5322 section 3.3); no weekday, the day without padding.
///
/// ```
/// let mut sink = Vec::new();
/// qmail_core::header::date::write_date(1_700_000_000, &mut sink);
/// assert_eq!(sink, b"14 Nov 2023 22:13:20 -0000");
/// ```
pub fn write_date(seconds: u64, sink: &mut Vec<u8>) {
    from_seconds(seconds).write_822(sink);
    sink.extend_from_slice(b" -0000");
}

/// Appends `D Mon YYYY HH:MM:SS +HHMM`: local time of a zone that is so many seconds east of Greenwich then.
///
/// The offset is rounded down to minutes.
///
/// ```
/// let mut sink = Vec::new();
/// qmail_core::header::date::write_local_date(1_700_000_000, -12_600, &mut sink);
/// assert_eq!(sink, b"14 Nov 2023 18:43:20 -0330");
/// ```
pub fn write_local_date(seconds: i64, offset: i32, sink: &mut Vec<u8>) {
    Civil::from_unix(seconds.saturating_add(i64::from(offset))).write_822(sink);
    sink.push(b' ');
    write_offset(offset, sink);
}

/// Appends `+HHMM` or `-HHMM`.
pub(crate) fn write_offset(offset: i32, sink: &mut Vec<u8>) {
    let minutes = offset.unsigned_abs() / 60;
    sink.push(if offset < 0 { b'-' } else { b'+' });
    push_two(sink, (minutes / 60 % 100) as u8);
    push_two(sink, (minutes % 60) as u8);
}

/// Appends the date of an mbox `From ` line: `Www Mmm DD HH:MM:SS YYYY`, the day with a zero in front.
///
/// By custom it is UTC; add the offset of a zone for local time.
///
/// ```
/// let mut sink = Vec::new();
/// qmail_core::header::date::write_mbox_date(5 * 86_400, &mut sink);
/// assert_eq!(sink, b"Tue Jan 06 00:00:00 1970");
/// ```
pub fn write_mbox_date(seconds: i64, sink: &mut Vec<u8>) {
    write_long(seconds, b'0', sink);
}

/// Appends a date as ctime(3) has it: `Www Mmm DD HH:MM:SS YYYY`, the day with a blank in front.
///
/// ```
/// let mut sink = Vec::new();
/// qmail_core::header::date::write_ctime(5 * 86_400, &mut sink);
/// assert_eq!(sink, b"Tue Jan  6 00:00:00 1970");
/// ```
pub fn write_ctime(seconds: i64, sink: &mut Vec<u8>) {
    write_long(seconds, b' ', sink);
}

fn write_long(seconds: i64, filler: u8, sink: &mut Vec<u8>) {
    let civil = Civil::from_unix(seconds);
    sink.extend_from_slice(WEEKDAYS[usize::from(civil.weekday) % 7].as_bytes());
    sink.push(b' ');
    sink.extend_from_slice(civil.month_name().as_bytes());
    sink.push(b' ');
    if civil.day < 10 {
        sink.push(filler);
    }
    push_number(sink, i64::from(civil.day));
    sink.push(b' ');
    civil.write_time(sink);
    sink.push(b' ');
    push_number(sink, civil.year);
}

/// Appends a TAI64N label: `@` and 24 hexadecimal digits, as multilog writes them.
///
/// Like multilog's it is POSIX time plus 2^62 + 10 seconds: leap seconds since 1970 are not counted.
///
/// ```
/// let mut sink = Vec::new();
/// qmail_core::header::date::write_tai64n(1_700_000_000, 500, &mut sink);
/// assert_eq!(sink, b"@400000006553f10a000001f4");
/// ```
pub fn write_tai64n(seconds: u64, nanoseconds: u32, sink: &mut Vec<u8>) {
    const EPOCH: u64 = (1 << 62) + 10;
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let label = (u128::from(EPOCH.wrapping_add(seconds)) << 32) | u128::from(nanoseconds);
    sink.push(b'@');
    sink.extend(
        (0..24)
            .rev()
            .map(|digit| DIGITS[(label >> (4 * digit)) as usize & 15]),
    );
}

/// Seconds beyond what `i64` holds are as good as its end.
fn from_seconds(seconds: u64) -> Civil {
    Civil::from_unix(i64::try_from(seconds).unwrap_or(i64::MAX))
}

fn push_two(sink: &mut Vec<u8>, number: u8) {
    sink.extend_from_slice(&[b'0' + number / 10 % 10, b'0' + number % 10]);
}

fn push_number(sink: &mut Vec<u8>, number: i64) {
    if number < 0 {
        sink.push(b'-');
    }
    push_decimal(sink, number.unsigned_abs());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(seconds: u64) -> String {
        let mut sink = Vec::new();
        write_date(seconds, &mut sink);
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn dates_of_all_centuries() {
        for (seconds, date) in [
            (0, "1 Jan 1970 00:00:00 -0000"),
            (951_782_400, "29 Feb 2000 00:00:00 -0000"),
            (951_868_799, "29 Feb 2000 23:59:59 -0000"),
            (2_147_483_648, "19 Jan 2038 03:14:08 -0000"),
            (4_107_542_400, "1 Mar 2100 00:00:00 -0000"),
            (4_107_542_399, "28 Feb 2100 23:59:59 -0000"),
            (253_402_300_800, "1 Jan 10000 00:00:00 -0000"),
        ] {
            assert_eq!(written(seconds), date);
        }
        assert!(written(u64::MAX).ends_with(" -0000"));
        assert_eq!(Civil::from_unix(-1).year, 1969);
        assert_eq!(Civil::from_unix(i64::MIN).to_unix(), Some(i64::MIN));
    }

    #[test]
    fn stamps_are_fourteen_digits() {
        let mut sink = Vec::new();
        Civil::from_unix(1_700_000_000).write_stamp(&mut sink);
        assert_eq!(sink, b"20231114221320");
    }

    proptest! {
        #[test]
        fn civil_time_goes_both_ways(seconds: i64) {
            let civil = Civil::from_unix(seconds);
            prop_assert!((1..=12).contains(&civil.month) && (1..=31).contains(&civil.day));
            prop_assert_eq!(civil.to_unix(), Some(seconds));
        }

        #[test]
        fn days_follow_one_another(seconds in -1_000_000_000_000i64..1_000_000_000_000) {
            let (today, tomorrow) = (Civil::from_unix(seconds), Civil::from_unix(seconds + 86_400));
            prop_assert_eq!((today.weekday + 1) % 7, tomorrow.weekday);
            prop_assert!(tomorrow.day == today.day + 1 || tomorrow.day == 1);
        }
    }
}
