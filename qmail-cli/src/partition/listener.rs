//! What the parties have in common that others ask over a socket: the supervisor has made it, and it is their standard input.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::channel::{Channel, Listener};

/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves each connection by a task of its own, `connections_max` at a time, until a signal ends it. Others wait in the socket, which
/// outlives this process.
///
/// # Errors
///
/// There is no socket, or no runtime.
pub(super) fn serve_connections<F>(
    connections_max: usize,
    mut serve: impl FnMut(Channel) -> F,
) -> Result<(), String>
where
    F: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let served: io::Result<()> = runtime.block_on(async {
        let listener = Listener::new(io::stdin().as_fd().try_clone_to_owned()?)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let room = Arc::new(Semaphore::new(connections_max));
        let accept = async {
            loop {
                let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                    return;
                };
                let Ok(connection) = listener.accept().await else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let served = serve(connection);
                tokio::spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
        };
        tokio::select! {
            () = accept => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    });
    runtime.shutdown_background();
    served.map_err(|error| error.to_string())
}
