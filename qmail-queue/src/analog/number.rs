//! Numbers as the reports print them, exact where awk was.

/// Nanoseconds of a second: times and durations are counted in them.
pub(super) const NANOSECONDS: i128 = 1_000_000_000;

/// A number with so many decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Decimal {
    /// The number, so often ten times itself as it has decimals.
    scaled: i128,
    decimals: u32,
}

impl Decimal {
    /// `numerator / denominator`, rounded; a half goes to the even neighbour, as printf does it. Nothing by nothing is 0.
    pub(super) fn ratio(numerator: i128, denominator: i128, decimals: u32) -> Self {
        let denominator = denominator.max(1);
        let wanted = numerator.saturating_mul(10i128.pow(decimals));
        let (floor, rest) = (
            wanted.div_euclid(denominator),
            wanted.rem_euclid(denominator),
        );
        let up = match (rest.saturating_mul(2)).cmp(&denominator) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => floor % 2 != 0,
            std::cmp::Ordering::Greater => true,
        };
        Self {
            scaled: floor + i128::from(up),
            decimals,
        }
    }

    /// Nanoseconds as seconds.
    pub(super) fn seconds(nanoseconds: i128, decimals: u32) -> Self {
        Self::ratio(nanoseconds, NANOSECONDS, decimals)
    }

    /// A whole number.
    pub(super) fn whole(number: i128) -> Self {
        Self {
            scaled: number,
            decimals: 0,
        }
    }

    /// For comparing numbers with equally many decimals.
    pub(super) fn scaled(self) -> i128 {
        self.scaled
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let one = 10u128.pow(self.decimals);
        let sign = if self.scaled < 0 { "-" } else { "" };
        let size = self.scaled.unsigned_abs();
        write!(f, "{sign}{}", size / one)?;
        if self.decimals > 0 {
            write!(f, ".{:0width$}", size % one, width = self.decimals as usize)?;
        }
        Ok(())
    }
}

/// `numerator / denominator` as awk prints it: whole numbers in full, others with up to six significant digits (`%.6g`).
pub(super) fn general(numerator: i128, denominator: i128) -> String {
    const DIGITS: i32 = 6;
    let denominator = denominator.max(1);
    if numerator % denominator == 0 {
        return (numerator / denominator).to_string();
    }
    let value = numerator as f64 / denominator as f64;
    let scientific = format!("{value:.*e}", DIGITS as usize - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if (-4..DIGITS).contains(&exponent) {
        let decimals = (DIGITS - 1 - exponent) as usize;
        return without_zeros(&format!("{value:.decimals$}")).to_owned();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    let exponent = exponent.abs();
    format!("{}e{sign}{exponent:02}", without_zeros(mantissa))
}

fn without_zeros(number: &str) -> &str {
    if number.contains('.') {
        number.trim_end_matches('0').trim_end_matches('.')
    } else {
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbour() {
        for (nanoseconds, decimals, shown) in [
            (125_000_000, 2, "0.12"),
            (375_000_000, 2, "0.38"),
            (-125_000_000, 2, "-0.12"),
            (-5_000_000, 2, "0.00"),
            (4_500_000_000, 6, "4.500000"),
            (2_500_000_000, 0, "2"),
            (999_999_999, 2, "1.00"),
        ] {
            assert_eq!(
                Decimal::seconds(nanoseconds, decimals).to_string(),
                shown,
                "{nanoseconds}"
            );
        }
    }

    #[test]
    fn other_numbers_have_six_significant_digits() {
        for (numerator, denominator, shown) in [
            (4, 2, "2"),
            (817, 4, "204.25"),
            (1_234_567_890_123, 1, "1234567890123"),
            (12_345_678, 10, "1.23457e+06"),
            (2_000_000, 3, "666667"),
            (1, 30_000, "3.33333e-05"),
            (1, 3_000, "0.000333333"),
            (-1, 3, "-0.333333"),
            (9_999_999, 10, "1e+06"),
        ] {
            assert_eq!(general(numerator, denominator), shown);
        }
    }
}
