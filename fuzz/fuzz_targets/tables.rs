//! Control files, constant databases, users/assign, netstrings and bounces of any octets.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use qmail_core::cdb::Cdb;
use qmail_core::control::{self, Map, Set};
use qmail_core::netstring::Decoder;
use qmail_core::route::{BadMailFrom, RcptHosts, SmtpRoutes, Tables};
use qmail_core::users::Assignments;
use qmail_core::{Address, ReversePath, bounce, verp};

fuzz_target!(|input: (&[u8], &[u8])| {
    let (file, key) = input;
    let mut warnings = Vec::new();
    control::integer(file, &mut warnings);
    SmtpRoutes::parse(file, &mut warnings).find(key);
    if let Ok(cdb) = Cdb::new(file) {
        cdb.get_all(key).for_each(drop);
        cdb.iter().for_each(drop);
    }
    for assignments in [
        Assignments::parse(file).ok(),
        Assignments::open(Bytes::copy_from_slice(file)).ok(),
    ] {
        let _ = assignments.map(|assignments| assignments.find(key));
    }
    let mut decoder = Decoder::new(1000);
    let mut rest = file;
    while let Ok(Some(_)) = decoder.next(&mut rest) {}
    if let Some(failures) = bounce::parse(file) {
        failures.for_each(drop);
    }
    if let Ok(address) = Address::new(Bytes::copy_from_slice(key)) {
        let mut tables = Tables::new("h");
        tables.locals = Set::parse(file);
        tables.percent_hack = Set::parse(file);
        tables.virtual_domains = Map::parse(file, &mut warnings);
        if let Ok(route) = tables.route(&address) {
            tables.strip_prefix(route.address().as_bytes());
        }
        let sender = ReversePath::from(address.clone());
        verp::expand(&sender, &address);
        BadMailFrom::parse(file).refuses(&sender);
        let _ = RcptHosts::parse(file).allows(&address);
    }
    warnings
        .iter()
        .for_each(|warning| assert!(!warning.to_string().contains('\n')));
});
