//! Reads the whole configuration of a home and says in plain words what is wrong or dangerous, and how to mend it.
//!
//! Every check looks only: nothing is changed, no mail is touched.

mod accounts;
mod clock;
mod controls;
mod files;
mod names;
mod readable;
mod relay;
mod room;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use qmail_deliver::Resolver;

use crate::home::{Controls, Home};

pub(crate) use room::Room;

/// How much something matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Mail does not move, is lost, or strangers may do what they must not.
    Error,
    /// It works, but hardly as it was meant.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    /// What is wrong, and where.
    pub(crate) what: String,
    /// How to mend it.
    pub(crate) remedy: String,
}

/// What the checks look at beside the home.
pub(crate) struct World<'a> {
    pub(crate) home: &'a Home,
    pub(crate) now: SystemTime,
    /// The addresses of this host.
    pub(crate) own_addresses: Vec<IpAddr>,
    /// `None` to ask no name server.
    pub(crate) resolver: Option<&'a dyn Resolver>,
    /// Files of rules for tcpserver, where they use to be.
    pub(crate) rules: Vec<PathBuf>,
    /// What is left on the disk that a path lies on.
    pub(crate) room: fn(&Path) -> Option<Room>,
}

/// Runs all checks. What matters most comes first.
pub(crate) async fn examine(world: &World<'_>) -> Vec<Finding> {
    let mut findings = Findings::default();
    let read = Controls::read(world.home);
    controls::check(world, &read, &mut findings);
    files::check(world, &mut findings);
    accounts::check(world, &mut findings);
    readable::check(world, &mut findings);
    relay::check(world, read.as_ref().ok(), &mut findings);
    room::check(world, &mut findings);
    clock::check(world, &mut findings);
    names::check(world, &mut findings).await;
    let mut findings = findings.0;
    findings.sort_by_key(|finding| finding.severity);
    findings
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, what.into(), remedy.into());
    }

    fn warning(&mut self, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, what.into(), remedy.into());
    }

    fn add(&mut self, severity: Severity, what: String, remedy: String) {
        let finding = Finding {
            severity,
            what,
            remedy,
        };
        self.0.push(finding);
    }
}

/// The lines of a list file that count, as text; none if it is missing or cannot be read, which another check tells.
fn list(home: &Home, name: &str) -> Option<Vec<String>> {
    let file = std::fs::read(home.control().join(name)).ok()?;
    Some(
        qmail_core::control::list(&file)
            .map(|line| String::from_utf8_lossy(line.octets).into_owned())
            .collect(),
    )
}
