//! Numbers as mail writes them.

/// Appends a number in decimal.
pub(crate) fn push_decimal(sink: &mut Vec<u8>, number: u64) {
    // u64::MAX has 20 digits.
    let mut digits = [0; 20];
    let mut start = digits.len();
    let mut rest = number;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    sink.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_all_sizes() {
        for number in [0, 9, 10, 12_345, u64::MAX] {
            let mut sink = Vec::new();
            push_decimal(&mut sink, number);
            assert_eq!(sink, number.to_string().as_bytes());
        }
    }
}
