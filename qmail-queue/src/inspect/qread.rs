//! A message of the queue in the words of qmail-qread(8).

use std::time::SystemTime;

use qmail_core::header::date::Civil;

use super::Listed;

/// Appends a routed message: its time in GMT, number, size and sender, then a line for each recipient. One that is not routed yet
/// is not shown. Octets other than printable ASCII are `_`.
pub fn write_qread(message: &Listed, sink: &mut Vec<u8>) {
    let Some(birth) = message.birth else {
        return;
    };
    let seconds = birth
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
    Civil::from_unix(seconds).write_822(sink);
    let (id, octets) = (message.id, message.octets);
    sink.extend_from_slice(format!(" GMT  #{id}  {octets}  <").as_bytes());
    show(message.sender.as_bytes(), sink);
    sink.extend_from_slice(b"> ");
    if message.bouncing {
        sink.extend_from_slice(b" bouncing");
    }
    sink.push(b'\n');
    for recipient in &message.recipients {
        if recipient.done {
            sink.extend_from_slice(b"  done");
        }
        let channel = recipient.channel.map_or("", crate::Channel::name);
        sink.extend_from_slice(format!("\t{channel}\t").as_bytes());
        show(recipient.address.as_bytes(), sink);
        sink.push(b'\n');
    }
}

fn show(octets: &[u8], sink: &mut Vec<u8>) {
    sink.extend(octets.iter().map(|&octet| match octet {
        b' '..=b'~' => octet,
        _ => b'_',
    }));
}
