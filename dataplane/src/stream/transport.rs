//! What carries the bytes: a TCP connection, plain or under TLS as server or as client.

use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{client, server};

/// An established connection. The TLS states are large, so they are boxed.
#[derive(Debug)]
pub enum Transport {
    /// Clear text.
    Plain(TcpStream),
    /// TLS that we terminated.
    TlsServer(Box<server::TlsStream<TcpStream>>),
    /// TLS that we originated.
    TlsClient(Box<client::TlsStream<TcpStream>>),
}

/// Calls a method of whatever transport it is, pinned.
macro_rules! each {
    ($transport:expr, $io:ident => $call:expr) => {
        match $transport.get_mut() {
            Transport::Plain(io) => {
                let $io = Pin::new(io);
                $call
            }
            Transport::TlsServer(io) => {
                let $io = Pin::new(io.as_mut());
                $call
            }
            Transport::TlsClient(io) => {
                let $io = Pin::new(io.as_mut());
                $call
            }
        }
    };
}

impl Transport {
    /// The socket below any TLS.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Transport::Plain(tcp) => tcp,
            Transport::TlsServer(tls) => tls.get_ref().0,
            Transport::TlsClient(tls) => tls.get_ref().0,
        }
    }

    /// The protocol that ALPN selected.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Transport::Plain(_) => None,
            Transport::TlsServer(tls) => tls.get_ref().1.alpn_protocol(),
            Transport::TlsClient(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    /// Whether the bytes are encrypted on the wire.
    pub fn is_tls(&self) -> bool {
        !matches!(self, Transport::Plain(_))
    }
}

impl From<TcpStream> for Transport {
    fn from(tcp: TcpStream) -> Self {
        Self::Plain(tcp)
    }
}

impl From<server::TlsStream<TcpStream>> for Transport {
    fn from(tls: server::TlsStream<TcpStream>) -> Self {
        Self::TlsServer(Box::new(tls))
    }
}

impl From<client::TlsStream<TcpStream>> for Transport {
    fn from(tls: client::TlsStream<TcpStream>) -> Self {
        Self::TlsClient(Box::new(tls))
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        self.tcp().as_raw_fd()
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => io.poll_shutdown(cx))
    }
}
