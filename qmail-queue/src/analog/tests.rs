//! The reports of one log.

use super::*;

const LOG: &str = "\
d k 1.25 1.5 2.0 1000 <ann@src> local.joe@mx 501 1000 did_1+0+0/
d z 1.25 1.75 4.75 1000 <ann@src> remote.bob@far 501 1000 greeting_failed./
d d 3.25 3.5 6.5 300 <> remote.carl@far 502 7 no_such_user/
? 6.6 bounce msg 101 qp 503
m 3.25 6.75 300 0 1 0 <> 502 7
d k 1.25 405.0 406.0 1000 <ann@src> remote.bob@far 501 1000 accepted/
m 1.25 406.25 1000 2 0 1 <ann@src> 501 1000
d z 501.0 501.0 502.0 0 ? remote.x ? ? report_mangled
";

fn table(name: &str) -> String {
    let mut tally = Report::named(name).unwrap().tally();
    LOG.lines()
        .filter_map(|line| Record::parse(line.as_bytes()))
        .for_each(|record| tally.add(&record));
    let mut out = Vec::new();
    tally.write(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let (heading, table) = text.split_once("\n\n").unwrap();
    assert_eq!(heading, Report::named(name).unwrap().title);
    table.split_once("\n\n").unwrap().1.to_owned()
}

#[test]
fn senders_and_users() {
    insta::assert_snapshot!(table("zsenders"), @"
    mess  bytes  sbytes  rbytes  recips  tries    xdelay  sender
       1   1000    2000    2000       2      3  4.500000  <ann@src>
       1    300       0     300       1      1  3.000000  <>
    ");
    insta::assert_snapshot!(table("zsuids"), @"
    mess  bytes  sbytes  rbytes  recips  tries    xdelay  uid
       1   1000    2000    2000       2      3  4.500000  1000
       1    300       0     300       1      1  3.000000  7
    ");
}

#[test]
fn recipients_and_hosts() {
    insta::assert_snapshot!(table("zrecipients"), @"
    sbytes  mess  tries  xdelay  recipient
      1000     1      2    4.00  remote.bob@far
      1000     1      1    0.50  local.joe@mx
         0     1      1    3.00  remote.carl@far
         0     0      1    1.00  remote.x
    ");
    insta::assert_snapshot!(table("zrhosts"), @"
    sbytes  mess  tries  xdelay  host
      1000     2      3    7.00  far
      1000     1      1    0.50  mx
         0     0      1    1.00  remote.x
    ");
    insta::assert_snapshot!(table("zrxdelay"), @"
     avg  tries  recipient
    3.00      1  remote.carl@far
    2.00      2  remote.bob@far
    1.00      1  remote.x
    0.50      1  local.joe@mx
    ");
}

#[test]
fn reasons() {
    insta::assert_snapshot!(table("zsuccesses"), @"
    del  xdelay  reason
      1    0.50  did 1+0+0/
      1    1.00  accepted/
    ");
    insta::assert_snapshot!(table("zfailures"), @"
    del  xdelay  reason
      1    3.00  no such user/
    ");
    insta::assert_snapshot!(table("zdeferrals"), @"
    del  xdelay  reason
      1    3.00  greeting failed./
      1    1.00  report mangled
    ");
}

#[test]
fn equal_rows_come_in_one_order_only() {
    let mut tally = Report::named("zrhosts").unwrap().tally();
    for host in ["b", "c", "a"] {
        let line = format!("d k 1 1 2 5 <> remote.x@{host} 1 2 ok/");
        tally.add(&Record::parse(line.as_bytes()).unwrap());
    }
    let mut out = Vec::new();
    tally.table().unwrap().write(&mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let hosts: Vec<_> = text
        .lines()
        .skip(1)
        .map(|line| &line[line.len() - 1..])
        .collect();
    assert_eq!(hosts, ["c", "b", "a"]);
}

#[test]
fn the_reports_are_sorted_by_name() {
    assert!(REPORTS.iter().map(|report| report.name).is_sorted());
    assert!(Report::named("zoverall").is_none());
}
