//! What the environment says of a connection (UCSPI-TCP, tcp-environ(5)), and what a receiver makes of it.

use std::env;
use std::ffi::OsStr;
use std::net::IpAddr;
use std::os::unix::ffi::OsStringExt as _;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use qmail_core::header::received::Received;

use crate::home::ReceiverControls;
use crate::policy::{Policy, Relaying};

/// Both ends of the connection on descriptors 0 and 1. The names and the ident answer are the peer's choice.
pub(crate) struct Connection {
    remote_host: Bytes,
    remote_ip: Bytes,
    remote_info: Option<Bytes>,
    local: Bytes,
}

impl Connection {
    /// From TCPREMOTEHOST, TCPREMOTEIP, TCPREMOTEINFO, and TCPLOCALHOST else TCPLOCALIP; what is missing is `unknown`.
    pub(crate) fn from_environment() -> Self {
        let unknown = || Bytes::from_static(b"unknown");
        Self {
            remote_host: variable("TCPREMOTEHOST").unwrap_or_else(unknown),
            remote_ip: variable("TCPREMOTEIP").unwrap_or_else(unknown),
            remote_info: variable("TCPREMOTEINFO"),
            local: variable("TCPLOCALHOST")
                .or_else(|| variable("TCPLOCALIP"))
                .unwrap_or_else(unknown),
        }
    }

    /// The peer's address, if it is one.
    pub(crate) fn remote_address(&self) -> Option<IpAddr> {
        std::str::from_utf8(&self.remote_ip).ok()?.parse().ok()
    }

    /// The Received field of a message that comes now.
    pub(crate) fn received(&self, helo: Option<&[u8]>, protocol: &str) -> Vec<u8> {
        let mut field = Vec::with_capacity(200);
        Received {
            remote_host: &self.remote_host,
            remote_ip: &self.remote_ip,
            remote_info: self.remote_info.as_deref(),
            helo,
            local: &self.local,
            protocol,
        }
        .write(unix_seconds(), &mut field);
        field
    }
}

/// The right to relay: RELAYCLIENT, even if empty, or an address in control/relayclients.
pub(crate) fn relaying(policy: &Policy, connection: &Connection) -> Relaying {
    match (variable("RELAYCLIENT"), connection.remote_address()) {
        (Some(suffix), _) => Relaying::Yes(suffix),
        (None, Some(address)) => policy.relaying(address),
        (None, None) => Relaying::No,
    }
}

/// The largest message: DATABYTES, if it is a number, else control/databytes; `None` is no limit.
pub(crate) fn message_octets_max(controls: &ReceiverControls) -> Option<u64> {
    let digits = variable("DATABYTES").and_then(|value| {
        let mut ignored = Vec::new();
        qmail_core::control::integer(&value, &mut ignored)
    });
    match digits {
        Some(0) => None,
        Some(octets) => Some(octets),
        None => controls.smtp.message_octets_max,
    }
}

/// An environment variable; set and empty is set.
pub(crate) fn variable(name: impl AsRef<OsStr>) -> Option<Bytes> {
    env::var_os(name).map(|value| value.into_vec().into())
}

/// Seconds since 1970.
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
