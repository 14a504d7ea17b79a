//! The field that every message of the queue starts with.

use std::time::SystemTime;

use qmail_core::Origin;

use super::Entry;

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAY_SECONDS: u64 = 86_400;

/// `Received: (qmail PID invoked HOW); D Mon YYYY HH:MM:SS -0000` with its LF (qmail-queue(8)).
pub(super) fn received_line(entry: &Entry) -> Vec<u8> {
    let how = match entry.origin {
        Origin::Network => "from network".to_owned(),
        Origin::Bounce => "for bounce".to_owned(),
        Origin::Alias => "by alias".to_owned(),
        Origin::Uid(uid) => format!("by uid {uid}"),
        // `Origin` may grow; the user id is true of every caller.
        _ => format!("by uid {}", entry.uid),
    };
    let seconds = entry
        .now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let (year, month, day) = civil_date(seconds / DAY_SECONDS);
    let second = seconds % DAY_SECONDS;
    format!(
        "Received: (qmail {} invoked {how}); {day} {month} {year} {:02}:{:02}:{:02} -0000\n",
        entry.pid,
        second / 3600,
        second / 60 % 60,
        second % 60,
    )
    .into_bytes()
}

/// Year, month and day of the month (from 1) of a day counted from 1 January 1970.
///
/// Counts years from March, so that the leap day is the last of its year, in eras of 400 years, which all have the same
/// number of days.
fn civil_date(days: u64) -> (u64, &'static str, u64) {
    let days = days + 719_468; // from 1 March of year 0
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let (month, next_year) = if month_from_march < 10 {
        (month_from_march + 2, 0)
    } else {
        (month_from_march - 10, 1)
    };
    (
        era * 400 + year_of_era + next_year,
        MONTHS[usize::try_from(month).unwrap_or(0) % 12],
        day,
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_line_tells_who_and_when() {
        for (origin, seconds, expected) in [
            (Origin::Network, 0, "from network); 1 Jan 1970 00:00:00"),
            (
                Origin::Alias,
                951_782_399,
                "by alias); 28 Feb 2000 23:59:59",
            ),
            (
                Origin::Bounce,
                951_782_400,
                "for bounce); 29 Feb 2000 00:00:00",
            ),
            (
                Origin::Uid(7),
                951_868_800,
                "by uid 7); 1 Mar 2000 00:00:00",
            ),
            (
                Origin::Uid(0),
                1_709_209_845,
                "by uid 0); 29 Feb 2024 12:30:45",
            ),
            (
                Origin::Network,
                4_107_542_400,
                "from network); 1 Mar 2100 00:00:00",
            ),
            (
                Origin::Network,
                1_735_689_599,
                "from network); 31 Dec 2024 23:59:59",
            ),
        ] {
            let line = received_line(&Entry {
                origin,
                uid: 1,
                pid: 42,
                now: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
            });
            assert_eq!(
                String::from_utf8(line).unwrap(),
                format!("Received: (qmail 42 invoked {expected} -0000\n")
            );
        }
    }
}
