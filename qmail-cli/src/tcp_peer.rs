//! What can be found out about a TCP connection, and the environment that tells it to a program (tcp-environ(5)).

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use qmail_deliver::{LookupError, Resolver};
use qmail_smtp::ident;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// The port of ident servers (RFC 1413).
const IDENT_PORT: u16 = 113;

/// Both ends of a connection, with what was found out about them. Names and ident answer are the peer's choice.
#[derive(Debug)]
pub(crate) struct TcpPeer {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) local_host: Option<Bytes>,
    pub(crate) remote_host: Option<Bytes>,
    /// The ident answer. May be empty.
    pub(crate) remote_info: Option<Bytes>,
}

/// What is wanted of the name of the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RemoteName {
    Unasked,
    /// Whatever its address leads to.
    AsTold,
    /// One that leads back to its address.
    Confirmed,
}

impl TcpPeer {
    /// Nothing is found out yet. IPv4 addresses that came in by an IPv6 socket are IPv4 addresses.
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr) -> Self {
        let canonical =
            |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        Self {
            local: canonical(local),
            remote: canonical(remote),
            local_host: None,
            remote_host: None,
            remote_info: None,
        }
    }

    /// Looks up the name of this end, unless it is known, and of the other, if that is wanted. A name that cannot be found out is none.
    pub(crate) async fn look_up_names(&mut self, resolver: &dyn Resolver, remote: RemoteName) {
        if self.local_host.is_none() {
            let name = name_of(resolver, self.local.ip()).await;
            self.local_host = name.ok().flatten();
        }
        let name = match remote {
            RemoteName::Unasked => return,
            RemoteName::AsTold => name_of(resolver, self.remote.ip()).await,
            RemoteName::Confirmed => confirmed_name_of(resolver, self.remote.ip()).await,
        };
        self.remote_host = name.ok().flatten();
    }

    /// Asks the peer's ident server; no answer within `wait` is none. At most `octets_max` octets are kept.
    pub(crate) async fn ask_ident(&mut self, wait: Duration, octets_max: usize) {
        let asked = timeout(wait, ask_ident(self.local, self.remote, octets_max)).await;
        self.remote_info = asked.ok().and_then(Result::ok).flatten();
    }

    /// The variables; `None` is to be unset, lest the program take another connection's for this one's.
    pub(crate) fn variables(&self) -> [(&'static str, Option<Bytes>); 8] {
        let text = |text: String| Some(Bytes::from(text));
        [
            ("PROTO", Some(Bytes::from_static(b"TCP"))),
            ("TCPLOCALIP", text(self.local.ip().to_string())),
            ("TCPLOCALPORT", text(self.local.port().to_string())),
            ("TCPLOCALHOST", self.local_host.clone()),
            ("TCPREMOTEIP", text(self.remote.ip().to_string())),
            ("TCPREMOTEPORT", text(self.remote.port().to_string())),
            ("TCPREMOTEHOST", self.remote_host.clone()),
            ("TCPREMOTEINFO", self.remote_info.clone()),
        ]
    }

    /// Puts the variables into a program's environment.
    pub(crate) fn describe_to(&self, program: &mut Command) {
        for (name, value) in self.variables() {
            set(program, name.as_bytes(), value.as_deref());
        }
    }
}

/// The port of this number, or of the service of this name.
pub(crate) fn port_number(port: &OsStr) -> Result<u16, String> {
    let text = port.to_string_lossy();
    let number = text.parse().ok().or_else(|| service(&text));
    number.ok_or_else(|| format!("unable to figure out port number for {text}"))
}

/// The TCP port of a service, from services(5).
fn service(name: &str) -> Option<u16> {
    let services = std::fs::read_to_string("/etc/services").ok()?;
    services.lines().find_map(|line| {
        let line = line.split('#').next()?;
        let mut words = line.split_whitespace();
        let official = words.next()?;
        let port = words.next()?.strip_suffix("/tcp")?;
        let named = official == name || words.any(|alias| alias == name);
        named.then(|| port.parse().ok()).flatten()
    })
}

/// Sets or unsets a variable. A value ends at a NUL, which no environment can hold.
pub(crate) fn set(program: &mut Command, name: &[u8], value: Option<&[u8]>) {
    let name = OsStr::from_bytes(name);
    match value {
        Some(value) => {
            let end = memchr::memchr(0, value).unwrap_or(value.len());
            program.env(name, OsStr::from_bytes(&value[..end]));
        }
        None => {
            program.env_remove(name);
        }
    }
}

/// The name of an address, in lower case.
pub(crate) async fn name_of(
    resolver: &dyn Resolver,
    address: IpAddr,
) -> Result<Option<Bytes>, LookupError> {
    match resolver.ptr(address).await {
        Ok(names) => Ok(names
            .first()
            .map(|name| Bytes::from(name.to_ascii_lowercase()))),
        Err(LookupError::NoSuchName) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of an address, if that name has this address: what the owner of the address alone says of it is left out.
pub(crate) async fn confirmed_name_of(
    resolver: &dyn Resolver,
    address: IpAddr,
) -> Result<Option<Bytes>, LookupError> {
    let Some(name) = name_of(resolver, address).await? else {
        return Ok(None);
    };
    match resolver.addresses(&name).await {
        Ok(addresses) => Ok(addresses.contains(&address).then_some(name)),
        Err(LookupError::NoSuchName) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn ask_ident(
    local: SocketAddr,
    remote: SocketAddr,
    octets_max: usize,
) -> std::io::Result<Option<Bytes>> {
    let socket = match local {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.bind(SocketAddr::new(local.ip(), 0))?;
    let mut stream = socket
        .connect(SocketAddr::new(remote.ip(), IDENT_PORT))
        .await?;
    stream
        .write_all(&ident::query(remote.port(), local.port()))
        .await?;
    let mut answer = ident::Answer::new(octets_max);
    let mut buffer = [0; 1024];
    loop {
        let octets = stream.read(&mut buffer).await?;
        if octets == 0 {
            return Ok(None);
        }
        if let Some(user) = answer.receive(&buffer[..octets]) {
            return Ok(Some(user));
        }
    }
}
