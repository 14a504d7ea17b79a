//! A log as sendmail writes it (zsendmail(1) of qmailanalog).

use std::io::Write as _;

use super::number::Decimal;
use super::record::Record;
use crate::Verdict;

/// Appends a line of matchup as sendmail would have logged it; a line that is no record stays as it is.
pub fn write_sendmail(line: &[u8], sink: &mut Vec<u8>) {
    let seconds = |nanoseconds| Decimal::seconds(nanoseconds, 6);
    let mut write = |parts: &[&[u8]]| parts.iter().for_each(|part| sink.extend_from_slice(part));
    match Record::parse(line) {
        None => write(&[line]),
        Some(Record::Attempt(attempt)) => {
            let status: &[u8] = match attempt.verdict {
                Verdict::Success => b"Sent",
                Verdict::Failure => b"Failed",
                Verdict::Deferral => b"Deferred",
            };
            write(&[attempt.end_shown, b" qp ", attempt.qp, b": to="]);
            write(&[attempt.recipient, b", uid=", attempt.uid]);
            let (ddelay, xdelay) = (seconds(attempt.ddelay()), seconds(attempt.xdelay()));
            write(&[format!(", ddelay={ddelay}, xdelay={xdelay}, stat=").as_bytes()]);
            write(&[status, b" (", attempt.reason, b")"]);
        }
        Some(Record::Message(message)) => {
            write(&[message.done_shown, b" qp ", message.qp, b": from="]);
            write(&[message.sender, b", uid=", message.uid]);
            let (octets, recipients) = (message.octets, message.recipients());
            let (deferrals, qtime) = (message.deferrals, seconds(message.qtime()));
            let rest = format!(
                ", size={octets}, nrcpts={recipients}, deferrals={deferrals}, qtime={qtime}"
            );
            write(&[rest.as_bytes()]);
        }
    }
    let _ = sink.write_all(b"\n");
}
