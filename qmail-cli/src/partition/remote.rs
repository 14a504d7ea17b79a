//! The remote party: delivers to other hosts what the manager asks for, over the protocol of qmail-rspawn(8), without a process for
//! each message. Connections to a host are kept and used again.

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use qmail_core::{Address, Delivery as _, Job, Outcome, ReversePath};
use qmail_deliver::{FileContent, HickoryResolver, RemoteDelivery};
use qmail_queue::helpers::spawn::{Refusal, Request};

use super::Party;
use super::party::lock_down;
use crate::exit;
use crate::home::{Home, RemoteControls};
use crate::serve::remote_delivery;
use crate::spawner;

/// The argument is the uid that messages belong to.
pub(super) fn run(home: &Home, arguments: &[OsString]) -> ExitCode {
    let owner = arguments.first().and_then(|uid| uid.to_str()?.parse().ok());
    let Some(owner) = owner else {
        return exit::fatal("remote", &"whose messages?", exit::PERMANENT);
    };
    let delivery = match prepare(home) {
        Ok(delivery) => delivery,
        Err(words) => return exit::fatal("remote", &words, exit::TEMPORARY),
    };
    let lock = || lock_down(Party::Remote, home).map_err(|error| error.to_string());
    let deliver = async |request: &Request, owner| {
        let outcome = deliver(&delivery, request, owner).await;
        outcome.unwrap_or_else(Refusal::outcome)
    };
    spawner::run_with("remote", home, owner, lock, &deliver)
}

/// Reads what needs files.
fn prepare(home: &Home) -> Result<RemoteDelivery, String> {
    let controls = RemoteControls::read(home).map_err(|error| error.to_string())?;
    // The resolver wants to know that there is a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let _inside = runtime.enter();
    let resolver = HickoryResolver::system().map_err(|error| error.to_string())?;
    remote_delivery(&controls, resolver).map_err(|error| error.to_string())
}

async fn deliver(
    delivery: &RemoteDelivery,
    request: &Request,
    owner: u32,
) -> Result<Outcome, Refusal> {
    request.check()?;
    let message = spawner::open(&request.message, owner)?;
    let address = |octets: &[u8]| Bytes::copy_from_slice(octets);
    let sender = ReversePath::new(address(&request.sender)).map_err(|_| Refusal::AddressTooLong)?;
    let recipient =
        Address::new(address(&request.recipient)).map_err(|_| Refusal::AddressTooLong)?;
    let job = Job {
        message: 0,
        content: Arc::new(FileContent::new(message)),
        sender,
        recipients: vec![recipient],
    };
    let mut outcomes = delivery.deliver(job).await;
    outcomes.pop().ok_or(Refusal::NoMemory)
}
