//! How long successful deliveries took, by percentage (zddist(1) of qmailanalog).

use std::collections::BTreeMap;

use super::number::{Decimal, NANOSECONDS};
use super::record::Record;
use super::table::{Table, TableFull};
use crate::Verdict;

/// Most different delays that are told apart. Beyond it they are taken in coarser steps, ten times as long each time.
pub const DELAYS_MAX: usize = 2_000_000;

/// The lowest percentage that has a line.
const PERCENT_MIN: u64 = 10;

/// The delays of successful deliveries.
#[derive(Debug)]
pub struct Distribution {
    /// How often there was a delay, in steps.
    counts: BTreeMap<i128, u64>,
    /// Nanoseconds in a step.
    step: i128,
    delays_max: usize,
}

impl Default for Distribution {
    fn default() -> Self {
        Self::with_room(DELAYS_MAX)
    }
}

impl Distribution {
    /// What stands above the table.
    pub const HEADING: &str = "\
Distribution of the ddelays of successful deliveries

A line says: pct per cent of the successful deliveries were done by doneby seconds after the routing of their message. The
different ddelays up to there are avg on average.
";

    fn with_room(delays_max: usize) -> Self {
        Self {
            counts: BTreeMap::new(),
            step: 1,
            delays_max,
        }
    }

    /// Counts a record.
    pub fn add(&mut self, record: &Record<'_>) {
        let Record::Attempt(attempt) = record else {
            return;
        };
        if attempt.verdict != Verdict::Success {
            return;
        }
        *self
            .counts
            .entry(attempt.ddelay().div_euclid(self.step))
            .or_default() += 1;
        while self.counts.len() > self.delays_max {
            self.step *= 10;
            let mut coarse: BTreeMap<i128, u64> = BTreeMap::new();
            for (delay, count) in std::mem::take(&mut self.counts) {
                *coarse.entry(delay.div_euclid(10)).or_default() += count;
            }
            self.counts = coarse;
        }
    }

    /// Writes the table, the longest delay first.
    ///
    /// As in the classic program a percentage has a line if some delay reaches just that one, rounded down, and equal delays count
    /// once in the average.
    ///
    /// # Errors
    ///
    /// [`TableFull`].
    pub fn table(&self) -> Result<Table, TableFull> {
        let all: u64 = self.counts.values().sum();
        // The first delay that reaches a percentage, with the sum and the number of the different delays up to its last one.
        let mut lines: Vec<(u64, i128, i128, i128)> = Vec::new();
        let (mut reached, mut sum, mut number) = (0, 0, 0);
        for (&delay, &count) in &self.counts {
            reached += count;
            sum += delay;
            number += 1;
            let percent = (u128::from(reached) * 100 / u128::from(all)) as u64;
            match lines.last_mut() {
                Some((last, _, sums, numbers)) if *last == percent => {
                    (*sums, *numbers) = (sum, number);
                }
                _ => lines.push((percent, delay, sum, number)),
            }
        }
        let mut table = Table::default();
        table.line(b"doneby avg pct")?;
        for (percent, delay, sum, number) in lines.into_iter().rev() {
            if percent >= PERCENT_MIN {
                let doneby = Decimal::ratio(delay * self.step, NANOSECONDS, 2);
                let average = Decimal::ratio(sum * self.step, number * NANOSECONDS, 2);
                table.line(format!("{doneby} {average} {percent}").as_bytes())?;
            }
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(distribution: &mut Distribution, delays: impl IntoIterator<Item = u32>) -> String {
        for delay in delays {
            let line = format!(
                "d k 1.0 1.5 {} 7 <> local.a@b 1 2 ok/",
                f64::from(delay) + 1.0
            );
            distribution.add(&Record::parse(line.as_bytes()).unwrap());
        }
        let mut out = Vec::new();
        distribution.table().unwrap().write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn equal_delays_reach_their_percentage_together() {
        let shown = table(&mut Distribution::default(), [1, 1, 3, 8]);
        assert_eq!(
            shown,
            "doneby   avg  pct\n  8.00  4.00  100\n  3.00  2.00  75\n  1.00  1.00  50\n"
        );
        assert_eq!(
            table(&mut Distribution::default(), []),
            "doneby  avg  pct\n"
        );
    }

    #[test]
    fn a_thousand_delays_have_a_line_for_each_percentage_from_ten_on() {
        let shown = table(&mut Distribution::default(), 1..=1_000);
        assert_eq!(shown.lines().count(), 1 + 91);
        assert_eq!(shown.lines().last().unwrap().trim(), "100.00   55.00  10");
    }

    #[test]
    fn more_delays_than_there_is_room_for_are_told_less_finely() {
        let mut distribution = Distribution::with_room(100);
        let shown = table(&mut distribution, 1..=1_000);
        assert!(distribution.counts.len() <= 100);
        assert!(shown.lines().nth(1).unwrap().trim().starts_with("1000.00"));
    }
}
