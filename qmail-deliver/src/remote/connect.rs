//! The seam to the network: how a connection is made.

use std::io;
use std::net::{IpAddr, SocketAddr};

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Opens connections: by TCP in a program, in memory in a test.
#[async_trait]
pub trait Connect: Send + Sync {
    /// Connects. How long that may take is limited by the caller, who drops the future.
    ///
    /// # Errors
    ///
    /// What the network says.
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>>;

    /// Whether an address is to be left alone for now, because others know that it does not answer. What one
    /// [`RemoteDelivery`](crate::RemoteDelivery) has found out by itself it knows without this.
    fn leaves_alone(&self, _address: IpAddr) -> bool {
        false
    }
}

/// A connection: octets both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// TCP, with TCP_NODELAY: the client writes whole batches, and waiting for more would only cost time.
#[derive(Clone, Copy, Debug, Default)]
pub struct TcpConnect;

#[async_trait]
impl Connect for TcpConnect {
    #[expect(clippy::disallowed_methods, reason = "this is the seam to the network")]
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }
}
