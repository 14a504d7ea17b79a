//! What a session has to say.

/// Fill of the transmit buffer in octets below which more of a long reply is made. Between two drains a session holds at
/// most this, the replies to one batch of commands, and one chunk of a message, doubled in the worst case of nothing but
/// line ends.
pub(crate) const TRANSMIT_OCTETS_LOW: usize = 32 * 1024;

/// Appends a decimal number.
pub(crate) fn push_number(sink: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    sink.extend_from_slice(&digits[start..]);
}

/// Appends `-ERR TEXT`. Text that came from elsewhere cannot add a line: control octets become `?`. It is cut so that the
/// line has no more than 512 octets (RFC 2449 section 4).
pub(crate) fn push_error(sink: &mut Vec<u8>, text: &[u8]) {
    sink.extend_from_slice(b"-ERR ");
    sink.extend(text.iter().take(TEXT_OCTETS_MAX).map(|&octet| {
        if octet < b' ' || octet == 0x7f {
            b'?'
        } else {
            octet
        }
    }));
    sink.extend_from_slice(b"\r\n");
}

const TEXT_OCTETS_MAX: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_out() {
        for number in [0, 7, 10, 4_294_967_297, u64::MAX] {
            let mut sink = Vec::new();
            push_number(&mut sink, number);
            assert_eq!(sink, number.to_string().as_bytes());
        }
    }

    #[test]
    fn an_error_is_one_line() {
        let mut sink = Vec::new();
        push_error(&mut sink, b"no\r\n+OK\0");
        assert_eq!(sink, b"-ERR no??+OK?\r\n");
        push_error(&mut sink, &[b'x'; 1000]);
        assert!(sink.len() < 512);
    }
}
