//! Our one stream under every HTTP session: buffered, guarded, and reachable from beside the session that owns it.
//!
//! A session (Pingora's or the h2 crate's) owns the [`BufferedStream`] as its I/O object. Clones of [`WriteHandle`] and
//! [`ReadHandle`] reach the same connection, so that whoever drives the session can poll both directions independently:
//!
//! - Writes go into a bounded buffer. `poll_flush` is *relaxed*: it tries to write and is `Ready` even if the socket is
//!   full, so writing through the session never waits once [`WriteHandle::has_room`] said yes;
//!   [`WriteHandle::poll_room`] and [`WriteHandle::poll_drained`] complete the rest.
//! - Reads pass the [`guard`], which decides where an HTTP/1 message ends before any parser sees it.

pub mod guard;
mod handle;
mod inner;
mod pingora;
mod transport;

use std::{
    io::{self, IoSlice},
    os::fd::{AsRawFd, RawFd},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub use self::{
    guard::BodyFrame,
    handle::{ReadError, ReadHandle, WriteHandle},
    transport::Transport,
};
use self::{
    guard::Guard,
    inner::{Inner, Shared},
};

/// Bytes of a connection that the kernel takes before they can be sent; what is under way is not counted. Without a bound
/// somebody who does not read, client or server, holds as much of the memory that all connections of the host share as the
/// send buffer may grow to (4 MiB), and a thousand of them leave nothing to others. Half of it lasts until the worker's next
/// turn: 1 ms at 1 Gbit/s.
pub(crate) const UNSENT: u32 = 256 * 1024;

/// Bytes that may wait in the write buffer before [`WriteHandle::has_room`] says no. It says no to any while the socket is
/// full: of a slow reader no more is held than the one write that found it so, and what TLS has encrypted (64 KiB at most).
const WRITE_ROOM: usize = 32 * 1024;

/// The I/O object of a session. See the module.
#[derive(Debug)]
pub struct BufferedStream {
    shared: Arc<Shared>,
    fd: RawFd,
}

impl BufferedStream {
    /// Wraps a connection without a guard: bytes pass as they are. Sets `TCP_NODELAY`, since the buffer coalesces.
    pub fn new(transport: impl Into<Transport>) -> Self {
        Self::with_prefix(transport, BytesMut::new())
    }

    /// As [`new`](Self::new), for a connection of which `prefix` was read already.
    pub fn with_prefix(transport: impl Into<Transport>, prefix: BytesMut) -> Self {
        let transport = transport.into();
        // Fails only on a connection that is gone, which the first read will tell.
        let _ = transport.tcp().set_nodelay(true);
        let fd = transport.as_raw_fd();
        Self {
            shared: Arc::new(Shared::new(Inner::new(transport, prefix))),
            fd,
        }
    }

    /// Lets only checked HTTP/1 messages through from now on.
    pub fn set_guard(&self, guard: Guard) {
        self.shared.lock().guard = guard;
    }

    /// Whether `poll_flush` does nothing, so that everything written until the next [`WriteHandle::poll_drained`],
    /// [`WriteHandle::try_flush`] or wait on a [`ReadHandle`] leaves in one system call. Default no.
    pub fn set_corked(&self, corked: bool) {
        self.shared.lock().corked = corked;
    }

    /// Takes the connection out again, with what was read ahead, for a tunnel that needs no buffers. Gives the stream back if
    /// something is yet to be written, or a handle still exists.
    pub fn into_transport(self) -> Result<(Transport, BytesMut), Self> {
        let Self { shared, fd } = self;
        if shared.lock().buffered() > 0 {
            return Err(Self { shared, fd });
        }
        Arc::try_unwrap(shared)
            .map(Shared::into_transport)
            .map_err(|shared| Self { shared, fd })
    }

    /// A handle on the write side.
    pub fn write_handle(&self) -> WriteHandle {
        WriteHandle::new(Arc::clone(&self.shared))
    }

    /// A handle on the read side.
    pub fn read_handle(&self) -> ReadHandle {
        ReadHandle::new(Arc::clone(&self.shared))
    }
}

impl AsyncRead for BufferedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.shared.lock().poll_read(cx, buf)
    }
}

impl AsyncWrite for BufferedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.shared.lock().poll_write(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared.lock().poll_write(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.lock();
        Poll::Ready(if inner.corked {
            inner.write_error()
        } else {
            inner.try_flush(cx)
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.shared.lock();
        ready!(inner.poll_drain(cx, 0))?;
        Pin::new(&mut inner.transport).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
