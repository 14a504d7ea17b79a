//! What all sessions that take mail go by, whichever protocol they speak, and what they have in common.

use std::error::Error as _;
use std::sync::Arc;

use bytes::Bytes;
use qmail_core::header::received::Received;
use qmail_core::route::{Route, Tables};
use qmail_core::{
    Address, Draft, EnhancedStatus, Origin, Receipt, Reply, ReversePath, StatusClass, Submit,
    SubmitError,
};
use qmail_deliver::{UserDirectory, has_mailbox};
use qmail_smtp::server::Config;

use super::entrance::{Entrance, Visitor};
use super::packages;
use super::smtp::Door;
use crate::policy::{NotTaken, Policy, Relaying};
use crate::report::Reporter;
use crate::tls::ServerTls;
use crate::ucspi::unix_seconds;

/// What all sessions of one configuration share.
pub(crate) struct Rules {
    /// How SMTP sessions behave, by [`Door::index`].
    pub(crate) configs: [Arc<Config>; Door::COUNT],
    /// How QMTP and QMQP sessions behave.
    pub(crate) packages: packages::Config,
    /// This host, in Received fields.
    pub(crate) host: Bytes,
    pub(crate) policy: Policy,
    pub(crate) entrance: Entrance,
    /// What is delivered here.
    pub(crate) tables: Arc<Tables>,
    /// Whose mailboxes are looked for before a recipient is taken, if they are.
    pub(crate) users: Option<Arc<dyn UserDirectory>>,
    /// Where messages go.
    pub(crate) submit: Arc<dyn Submit>,
    /// Hears of messages that the queue did not take.
    pub(crate) reporter: Reporter,
}

/// What a client says of itself, for the Received field.
#[derive(Clone, Copy, Default)]
pub(super) struct Introduction<'a> {
    pub(super) helo: Option<&'a [u8]>,
    /// The name that it has logged in by: it says more than what the client's host says of it.
    pub(super) login: Option<&'a [u8]>,
}

impl Rules {
    pub(super) fn tls(&self) -> Option<&ServerTls> {
        self.entrance.controls.tls.as_ref()
    }

    /// The recipient as it goes into the envelope, or with which reply it is not taken.
    pub(super) async fn recipient(
        &self,
        visitor: &Visitor,
        sender: &ReversePath,
        recipient: Address,
    ) -> Result<Address, Reply> {
        if let (Relaying::No, Some(reply)) = (&visitor.relaying, &visitor.blocked) {
            return Err(reply.clone());
        }
        let recipient = self
            .policy
            .recipient(&visitor.relaying, sender, recipient)
            .map_err(NotTaken::reply)?;
        if self.is_nobody(&recipient).await {
            return Err(no_mailbox());
        }
        Ok(recipient)
    }

    /// Whether a recipient is one of ours and has no mailbox, if that is to be known.
    async fn is_nobody(&self, recipient: &Address) -> bool {
        match (&self.users, self.tables.route(recipient)) {
            (Some(users), Ok(Route::Local(address))) => !has_mailbox(&**users, &address).await,
            _ => false,
        }
    }

    /// Starts a message with the Received field of one that comes now.
    pub(super) async fn begin(
        &self,
        visitor: &Visitor,
        introduction: Introduction<'_>,
        protocol: &str,
    ) -> Result<Box<dyn Draft>, SubmitError> {
        let mut field = Vec::with_capacity(200);
        let address = visitor.address.ip().to_canonical().to_string();
        Received {
            // A name is looked up where a rule asks for one: else it says little of a client and costs every session a wait.
            remote_host: visitor.host.as_deref().unwrap_or(b"unknown"),
            remote_ip: address.as_bytes(),
            remote_info: introduction.login.or(visitor.info.as_deref()),
            helo: introduction.helo,
            local: &self.host,
            protocol,
        }
        .write(unix_seconds(), &mut field);
        let mut draft = self.submit.begin(Origin::Network).await?;
        draft.write(Bytes::from(field)).await?;
        Ok(draft)
    }

    /// What the client is told of the queue's trouble; the log is told its cause.
    pub(super) fn refusal(&self, error: &SubmitError) -> Reply {
        let mut words = format!("message not accepted: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            words.push_str(&format!(": {error}"));
            cause = error.source();
        }
        self.reporter.warning(&words);
        let status = error.status();
        let code = match status.class {
            StatusClass::Permanent => 554,
            _ => 451,
        };
        Reply::new(code, Some(status), error.to_string())
    }
}

/// What a client is told of a message that is safe.
pub(super) fn accepted(receipt: Receipt) -> String {
    format!("ok {} qp {}", receipt.accepted, receipt.qp)
}

fn no_mailbox() -> Reply {
    Reply::new(
        550,
        Some(EnhancedStatus::permanent(1, 1)),
        "sorry, no mailbox here by that name",
    )
}
