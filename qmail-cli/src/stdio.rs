//! The connection of a program that a listener started: descriptor 0 from the network, descriptor 1 to it.

use std::future::Future;
use std::io;

use tokio::io::{Join, Stdin, Stdout, join, stdin, stdout};

/// Runs a conversation to its end on this thread.
///
/// A read that waits for the peer when the conversation is over is left behind: nobody waits for it.
///
/// # Errors
///
/// The system has no room for it.
pub(crate) fn run<T>(conversation: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(conversation);
    runtime.shutdown_background();
    Ok(result)
}

/// Both descriptors as one stream.
pub(crate) fn connection() -> Join<Stdin, Stdout> {
    join(stdin(), stdout())
}
