//! What a tunnel connects: two streams of bytes, of which some are bare sockets.

use std::time::Duration;

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

use crate::stream::Transport;

/// One end of a tunnel. Dropping it closes the connection (or stream).
pub trait End: AsyncRead + AsyncWrite + Unpin {
    /// The socket, if the bytes of the tunnel are those on the wire: the kernel can then pass them on by itself.
    fn socket(&self) -> Option<&TcpStream>;

    /// Makes the end of the connection, when it is dropped, an abort (RST): the peer must not take what it has got for the
    /// whole. Best effort.
    fn abort(&self);
}

impl End for TcpStream {
    fn socket(&self) -> Option<&TcpStream> {
        Some(self)
    }

    fn abort(&self) {
        if let Err(error) = SockRef::from(self).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection cannot be aborted");
        }
    }
}

impl End for Transport {
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Transport::Plain(tcp) => Some(tcp),
            Transport::TlsServer(_) | Transport::TlsClient(_) => None,
        }
    }

    fn abort(&self) {
        self.tcp().abort();
    }
}
