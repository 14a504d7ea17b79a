//! The remote party: delivers to other hosts. It has the network and no file: each message comes to it as a descriptor, with where it goes.
//! Connections to a host are kept and used again, and recipients of one message at one host share a transaction.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::Arc;

use bytes::Bytes;
use qmail_core::{Address, Delivery as _, Job, Outcome, ReversePath};
use qmail_deliver::{FileContent, HickoryResolver, RemoteDelivery};
use qmail_queue::helpers::spawn::Refusal;

use super::Party;
use super::channel::Channel;
use super::complaints::Complaints;
use super::party::lock_down;
use super::requests::Request;
use super::serving::{Ends, serve};
use crate::home::{Home, RemoteControls};
use crate::serve::remote_delivery;
use crate::{exit, inherited, stdio};

/// The descriptor beside standard input, which has the requests: where reports go.
const MORE: [i32; 1] = [3];

pub(super) fn run(home: &Home) -> ExitCode {
    match deliver_all(home) {
        Ok(()) => ExitCode::SUCCESS,
        Err(words) => exit::fatal("remote", &words, exit::TEMPORARY),
    }
}

fn deliver_all(home: &Home) -> Result<(), String> {
    let controls = RemoteControls::read(home).map_err(|error| error.to_string())?;
    let reports = inherited::take_beyond_standard(&MORE).map_err(|error| error.to_string())?;
    // The resolver wants to know that there is a runtime; this one ends before there are threads.
    let delivery = stdio::run(async {
        let resolver = HickoryResolver::system().map_err(|error| error.to_string())?;
        remote_delivery(&controls, resolver).map_err(|error| error.to_string())
    });
    let delivery = delivery.map_err(|error| error.to_string())??;
    // Who has to be verified and cannot be is told then.
    let _ = delivery.read_trusted();
    lock_down(Party::Remote, home).map_err(|error| error.to_string())?;
    let served = stdio::run(async {
        let requests = Channel::new(io::stdin().as_fd().try_clone_to_owned()?)?;
        let report = reports.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        let reports = Channel::new(report)?;
        let ends = Ends {
            requests: &requests,
            reports: &reports,
            asker: "opener",
        };
        let complaints = Complaints::of("remote");
        let served = serve(ends, &complaints, async |request: Request, message| {
            let recipients = request.texts.len().saturating_sub(1);
            let outcomes = deliver(&delivery, request, message).await;
            outcomes.unwrap_or_else(|refusal| vec![refusal.outcome(); recipients])
        })
        .await;
        delivery.close().await;
        served
    });
    served
        .and_then(|served| served)
        .map_err(|error| error.to_string())
}

/// The texts are the sender and the recipients.
async fn deliver(
    delivery: &RemoteDelivery,
    request: Request,
    message: Option<OwnedFd>,
) -> Result<Vec<Outcome>, Refusal> {
    let message = message.ok_or(Refusal::CannotOpen)?;
    let mut texts = request.texts.into_iter();
    let sender: Bytes = texts.next().unwrap_or_default();
    let job = Job {
        message: request.message,
        content: Arc::new(FileContent::new(File::from(message))),
        sender: ReversePath::new(sender).map_err(|_| Refusal::AddressTooLong)?,
        recipients: texts
            .map(Address::new)
            .collect::<Result<_, _>>()
            .map_err(|_| Refusal::AddressTooLong)?,
    };
    Ok(delivery.deliver(job).await)
}
