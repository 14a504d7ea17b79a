//! Dates and time zones of any octets: what is understood is written so that it is understood again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use qmail_core::header::FieldDate;
use qmail_core::header::zone::Zone;

fuzz_target!(|input: (i64, &[u8])| {
    let (seconds, octets) = input;
    if let Some(date) = FieldDate::read(octets) {
        let mut written = Vec::new();
        date.write(&mut written);
        assert_eq!(FieldDate::read(&written), Some(date));
    }
    for zone in [Zone::from_rule(octets), Zone::from_file(octets)]
        .into_iter()
        .flatten()
    {
        zone.local(seconds);
    }
});
