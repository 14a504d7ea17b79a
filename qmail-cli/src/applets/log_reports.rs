//! Reports of a log that matchup has read, and `columnt`, which aligns any table (qmailanalog).

use std::io::{self, Write as _};
use std::process::ExitCode;

use qmail_queue::analog::{Distribution, Overall, Record, Report, Table, write_sendmail};

use crate::applet::{Applet, Call, Kind};
use crate::{exit, log_input};

pub(crate) const ZDDIST: Applet = applet(&["zddist"], "how long deliveries took, by percentage");
pub(crate) const ZDEFERRALS: Applet = applet(&["zdeferrals"], "reasons for deferral");
pub(crate) const ZFAILURES: Applet = applet(&["zfailures"], "reasons for failure");
pub(crate) const ZOVERALL: Applet = applet(&["zoverall"], "sums over a log");
pub(crate) const ZRECIPIENTS: Applet = applet(&["zrecipients"], "what each recipient got");
pub(crate) const ZRHOSTS: Applet = applet(&["zrhosts"], "what each recipient host got");
pub(crate) const ZRXDELAY: Applet = applet(&["zrxdelay"], "recipients that take long");
pub(crate) const ZSENDERS: Applet = applet(&["zsenders"], "what each sender sent");
pub(crate) const ZSENDMAIL: Applet = applet(&["zsendmail"], "a log as sendmail writes it");
pub(crate) const ZSUCCESSES: Applet = applet(&["zsuccesses"], "reasons for success");
pub(crate) const ZSUIDS: Applet = applet(&["zsuids"], "what each user sent");

const fn applet(names: &'static [&'static str], summary: &'static str) -> Applet {
    Applet {
        names,
        kind: Kind::Classic,
        summary,
        run: report,
    }
}

pub(crate) const COLUMNT: Applet = Applet {
    names: &["columnt"],
    kind: Kind::Classic,
    summary: "align the columns of a table",
    run: columnt,
};

fn report(call: &Call) -> ExitCode {
    let result = match call.name {
        "zoverall" => overall(),
        "zddist" => distribution(),
        "zsendmail" => log_input::filter(write_sendmail).map(drop),
        name => match Report::named(name) {
            Some(report) => tally(report),
            None => return ExitCode::from(exit::PERMANENT),
        },
    };
    log_input::end(call.name, result)
}

/// Reads records; other lines are passed over.
fn records(mut each: impl FnMut(&Record<'_>)) -> io::Result<()> {
    log_input::lines(|line| {
        if let Some(record) = Record::parse(line) {
            each(&record);
        }
    })
}

fn tally(report: &'static Report) -> io::Result<()> {
    let mut tally = report.tally();
    records(|record| tally.add(record))?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    tally.write(&mut output)?;
    output.flush()
}

fn overall() -> io::Result<()> {
    let mut overall = Overall::default();
    records(|record| overall.add(record))?;
    exit::print(&format!("{}\n{}", Overall::HEADING, overall.text()));
    Ok(())
}

fn distribution() -> io::Result<()> {
    let mut distribution = Distribution::default();
    records(|record| distribution.add(record))?;
    let table = distribution.table().map_err(io::Error::other)?;
    let mut output = io::BufWriter::new(io::stdout().lock());
    writeln!(output, "{}", Distribution::HEADING)?;
    table.write(&mut output)?;
    output.flush()
}

fn columnt(call: &Call) -> ExitCode {
    let mut table = Table::default();
    let mut room = Ok(());
    let read = log_input::lines(|line| {
        if room.is_ok() {
            room = table.line(line);
        }
    });
    let result = read.and(room.map_err(io::Error::other)).and_then(|()| {
        let mut output = io::BufWriter::new(io::stdout().lock());
        table.write(&mut output)?;
        output.flush()
    });
    log_input::end(call.name, result)
}
