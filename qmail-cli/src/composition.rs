//! What new-inject and ofmipd have in common: control files and variables of mess822.

use std::io;
use std::path::Path;

use qmail_core::header::HostRules;

use crate::home::Home;
use crate::injection::{host_control, read_file};

/// The rules of `override_file` if there is one, else of control/rewrite, else the standard ones.
pub(crate) fn host_rules(home: &Home, override_file: Option<&Path>) -> io::Result<HostRules> {
    if let Some(path) = override_file
        && let Some(file) = read_file(path)?
    {
        return Ok(HostRules::parse(&file));
    }
    if let Some(file) = read_file(&home.control().join("rewrite"))? {
        return Ok(HostRules::parse(&file));
    }
    let default_host = host(home, "QMAILDEFAULTHOST", "defaulthost")?;
    let default_domain = host(home, "QMAILDEFAULTDOMAIN", "defaultdomain")?;
    let plus_domain = host(home, "QMAILPLUSDOMAIN", "plusdomain")?;
    Ok(HostRules::standard(
        &default_host,
        &default_domain,
        &plus_domain,
    ))
}

/// The host of Message-ID, rewritten.
pub(crate) fn id_host(home: &Home, rules: &HostRules) -> io::Result<Vec<u8>> {
    let mut id_host = host(home, "QMAILIDHOST", "idhost")?;
    rules.apply_to_host(&mut id_host);
    Ok(id_host)
}

/// As [`host_control`], with the name of the file in capitals for want of anything else.
fn host(home: &Home, variable: &str, file: &str) -> io::Result<Vec<u8>> {
    host_control(home, variable, file, &file.to_ascii_uppercase())
}
