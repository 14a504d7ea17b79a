//! Files and TCP ports, by Landlock.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, NetPort, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};

use super::{Connect, Enforced, Grants, SandboxError};

/// What is asked for. An older kernel does what it knows of it.
const WANTED: ABI = ABI::V6;

pub(super) fn lock(grants: &Grants) -> Result<Enforced, SandboxError> {
    let refused = |error| SandboxError::new("files", error);
    let all = AccessFs::from_all(WANTED);
    let read = AccessFs::from_read(WANTED) & !AccessFs::Execute;
    let write = all & !AccessFs::Execute;
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|ruleset| ruleset.handle_access(AccessNet::BindTcp))
        .map_err(refused)?;
    if grants.connect != Connect::Everywhere {
        ruleset = ruleset
            .handle_access(AccessNet::ConnectTcp)
            .map_err(refused)?;
    }
    let ports = match grants.connect {
        Connect::Ports(ports) => ports,
        Connect::Nowhere | Connect::Everywhere => &[],
    };
    let ports = ports
        .iter()
        .map(|&port| Ok::<_, RulesetError>(NetPort::new(port, AccessNet::ConnectTcp)));
    let status = ruleset
        .scope(Scope::from_all(WANTED))
        .and_then(Ruleset::create)
        .and_then(|created| created.add_rules(path_beneath_rules(&grants.list, AccessFs::ReadDir)))
        .and_then(|created| created.add_rules(path_beneath_rules(&grants.read, read)))
        .and_then(|created| created.add_rules(path_beneath_rules(&grants.write, write)))
        .and_then(|created| created.add_rules(ports))
        .and_then(|created| created.restrict_self())
        .map_err(refused)?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Enforced::Fully,
        RulesetStatus::PartiallyEnforced => Enforced::Partly,
        RulesetStatus::NotEnforced => Enforced::Not,
    })
}
