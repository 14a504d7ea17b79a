//! What an engine is made of, and what it is told.

use std::sync::Arc;

use bytes::Bytes;
use qmail_core::bounce::Form;
use qmail_core::route::Tables;
use qmail_core::{Address, AddressError, Delivery, Submit};

use crate::{Clock, Limits, Log, NoLog, Spool};

/// What an [`Engine`](super::Engine) joins.
#[derive(Clone)]
#[non_exhaustive]
pub struct Parts {
    /// Keeps the messages. No other engine may run on it.
    pub spool: Arc<dyn Spool>,
    /// Tells the time, and wakes.
    pub clock: Arc<dyn Clock>,
    /// Decides which recipients are local, and rewrites them.
    pub routes: Tables,
    /// Takes what is local.
    pub local: Arc<dyn Delivery>,
    /// Takes everything else.
    pub remote: Arc<dyn Delivery>,
    /// Is told what happens. Default: [`NoLog`].
    pub log: Arc<dyn Log>,
    /// Takes the bounces. Default: `None`, the queue itself.
    pub bounces: Option<Arc<dyn Submit>>,
}

impl Parts {
    /// Parts with defaults for the others.
    pub fn new(
        spool: Arc<dyn Spool>,
        clock: Arc<dyn Clock>,
        routes: Tables,
        local: Arc<dyn Delivery>,
        remote: Arc<dyn Delivery>,
    ) -> Self {
        Self {
            spool,
            clock,
            routes,
            local,
            remote,
            log: Arc::new(NoLog),
            bounces: None,
        }
    }
}

/// What an [`Engine`](super::Engine) is told at its start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// How much at once, and for how long. Default: [`Limits::default`].
    pub limits: Limits,
    /// User that bounces come from (control/bouncefrom). Default: `MAILER-DAEMON`.
    pub bounce_from: Bytes,
    /// Host that bounces come from (control/bouncehost). Default: this host.
    pub bounce_host: Bytes,
    /// Who gets double bounces (control/doublebounceto `@` control/doublebouncehost). Default: postmaster at this host.
    ///
    /// With `None` they are thrown away, with a line in the log.
    pub double_bounce_to: Option<Address>,
    /// What bounces look like. Default: [`Form::Qsbmf`].
    pub bounce_form: Form,
    /// Most octets of a message that its bounce carries (control/bouncemaxbytes); the copy then ends with a line. Default: `None`,
    /// all of it.
    pub bounce_message_octets_max: Option<u64>,
    /// What nobody else knows: it makes the boundaries of reports ([`Form::DeliveryStatus`]) such as no message can hold. Default:
    /// 0, which keeps no secret.
    pub boundary_seed: u64,
    /// This process, as `qp` in the log and in Received fields. Default: 0.
    pub pid: u32,
    /// The user it runs as, in the log. Default: 0.
    pub uid: u32,
    /// Recipients that every message gets besides its own, bounces too
    /// ([`Intake::with_extra_recipients`](crate::Intake::with_extra_recipients)). Default: none.
    pub extra_recipients: Vec<Address>,
    /// Logs the SHA-256 of the text of each message that comes in ([`LogEvent::MessageHash`](crate::LogEvent::MessageHash)). It
    /// is read once more for that, before anything else is done. Default: no.
    pub log_hashes: bool,
}

impl Config {
    /// The defaults for a host of this name (control/me).
    ///
    /// # Errors
    ///
    /// No address can be made with the name.
    pub fn new(host: impl Into<Bytes>) -> Result<Self, AddressError> {
        let host = host.into();
        let postmaster = [b"postmaster@", &host[..]].concat();
        Ok(Self {
            limits: Limits::default(),
            bounce_from: Bytes::from_static(b"MAILER-DAEMON"),
            bounce_host: host,
            double_bounce_to: Some(Address::new(postmaster)?),
            bounce_form: Form::default(),
            bounce_message_octets_max: None,
            boundary_seed: 0,
            pid: 0,
            uid: 0,
            extra_recipients: Vec::new(),
            log_hashes: false,
        })
    }
}
