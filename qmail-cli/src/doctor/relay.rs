//! Whether strangers may send through this host to everywhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use qmail_core::cdb::Cdb;
use qmail_core::tcprules::{self, Instruction, Peer};

use super::{Findings, World, list};
use crate::home::Controls;

/// Addresses that are nobody's (RFC 5737, RFC 3849), far from each other: who lets all of them relay lets everybody.
const STRANGERS: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
    IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)),
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
];
const STRANGER_OF_IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));

pub(super) fn check(world: &World<'_>, controls: Option<&Controls>, findings: &mut Findings) {
    if let Some(controls) = controls {
        let relay = &controls.smtp.relayclients;
        let open = STRANGERS.iter().all(|&address| relay.contains(address));
        if open || relay.contains(STRANGER_OF_IPV6) {
            findings.error(
                "control/relayclients lets everybody send to everywhere: this is an open relay",
                "list only the networks of your own clients, such as 127.0.0.0/8",
            );
        }
    }
    for domain in list(world.home, "rcpthosts").unwrap_or_default() {
        // A single label behind the dot: a whole top-level domain.
        if domain.starts_with('.') && !domain[1..].contains('.') && domain != ".localhost" {
            findings.warning(
                format!("control/rcpthosts has {domain}: mail for every host below it is taken"),
                "list only domains that this host is responsible for",
            );
        }
    }
    for path in &world.rules {
        rules(path, findings);
    }
}

/// Rules of tcpserver that set RELAYCLIENT for everybody.
fn rules(path: &Path, findings: &mut Findings) {
    let Ok(file) = std::fs::read(path) else {
        return;
    };
    let Ok(cdb) = Cdb::new(file) else {
        findings.error(
            format!("{} is damaged", path.display()),
            "make it again with tcprules",
        );
        return;
    };
    let opens = |address: &IpAddr| {
        let text = address.to_string();
        let peer = Peer {
            address: text.as_bytes(),
            host: None,
            info: None,
        };
        let Ok(Some(rule)) = tcprules::find(&cdb, peer) else {
            return false;
        };
        !rule.denies()
            && rule.instructions().any(|instruction| {
                matches!(instruction, Instruction::Set { name, .. } if name == b"RELAYCLIENT")
            })
    };
    if STRANGERS.iter().all(opens) {
        findings.error(
            format!(
                "{} sets RELAYCLIENT for everybody: this is an open relay",
                path.display()
            ),
            "set it in rules for your own clients only, and end with `:allow`",
        );
    }
}
