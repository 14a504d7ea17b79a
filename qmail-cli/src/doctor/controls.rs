//! Whether the control files can be read, and say what makes sense together.

use std::collections::HashSet;

use super::{Findings, World, list};
use crate::home::{ControlError, Controls};

pub(super) fn check(
    world: &World<'_>,
    read: &Result<Controls, ControlError>,
    findings: &mut Findings,
) {
    let control = world.home.control();
    if !control.is_dir() {
        findings.error(
            format!("there is no {}", control.display()),
            "name the home with --home or QMAIL_HOME; `qmail serve` or `qmail install` makes a new one",
        );
        return;
    }
    match read {
        Err(error) => {
            // The words of the error end with what to do.
            let words = error.to_string();
            let (what, remedy) = words.rsplit_once("; ").unwrap_or((&words, ""));
            findings.error(what, remedy);
        }
        Ok(controls) => {
            for warning in &controls.warnings {
                let (what, remedy) = warning.rsplit_once("; ").unwrap_or((warning, ""));
                findings.warning(what, remedy);
            }
            held(controls, findings);
        }
    }
    me(world, findings);
    domains(world, findings);
}

fn me(world: &World<'_>, findings: &mut Findings) {
    let Some(me) = list(world.home, "me").and_then(|lines| lines.into_iter().next()) else {
        return;
    };
    if !me.contains('.') {
        findings.warning(
            format!("control/me is `{me}`, which is no complete name"),
            "write the name by which other hosts know this one, such as mail.example.org",
        );
    }
}

/// Channels that are held are easily forgotten.
fn held(controls: &Controls, findings: &mut Findings) {
    let held = [
        ("concurrencylocal", controls.queue.local_max),
        ("concurrencyremote", controls.queue.remote_max),
    ];
    for (file, _) in held.into_iter().filter(|&(_, max)| max == 0) {
        findings.warning(
            format!("control/{file} is 0: this mail waits in the queue"),
            "remove the file when it shall be delivered again, and restart",
        );
    }
}

/// Domains in several files that contradict each other.
fn domains(world: &World<'_>, findings: &mut Findings) {
    let lower = |name: &str| name.to_ascii_lowercase();
    let locals: HashSet<_> = list(world.home, "locals")
        .unwrap_or_default()
        .iter()
        .map(|name| lower(name))
        .collect();
    let mut virtual_domains = HashSet::new();
    for line in list(world.home, "virtualdomains").unwrap_or_default() {
        let Some((domain, prefix)) = line.split_once(':') else {
            continue;
        };
        let domain = lower(domain);
        if locals.contains(&domain) {
            findings.warning(
                format!(
                    "{domain} is in control/locals and in control/virtualdomains; locals counts"
                ),
                "take it out of one of them",
            );
        }
        if !prefix.is_empty() && !domain.is_empty() && !domain.contains('@') {
            virtual_domains.insert(domain);
        }
    }
    let Some(rcpthosts) = list(world.home, "rcpthosts") else {
        return;
    };
    let more = list(world.home, "morercpthosts").unwrap_or_default();
    let taken: HashSet<_> = rcpthosts
        .iter()
        .chain(&more)
        .map(|name| lower(name))
        .collect();
    let covered = |domain: &str| {
        taken.contains(domain)
            || domain
                .match_indices('.')
                .any(|(dot, _)| taken.contains(&domain[dot..]))
    };
    let mut missing: Vec<_> = locals
        .union(&virtual_domains)
        .filter(|domain| *domain != "localhost" && !covered(domain))
        .collect();
    missing.sort();
    for domain in missing {
        findings.warning(
            format!("{domain} is delivered here, but not in control/rcpthosts: other hosts cannot send to it"),
            "add it to control/rcpthosts, unless it is for this host's own mail only",
        );
    }
}
