//! Handles on a stream for whoever drives the session that owns it. Cheap to clone, for the same task only.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use bytes::BytesMut;
use futures::FutureExt as _;
use http::response::Parts;
use tokio::io::Interest;

use super::{
    guard::{BodyFrame, HEAD_READ, Pass, Violation},
    inner::Shared,
    transport::Transport,
};

/// Why reading ended.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection broke.
    #[error("reading: {0}")]
    Io(#[from] io::Error),
    /// The peer broke the protocol: the connection must not be used any more.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// The peer closed the connection.
    #[error("the connection was closed")]
    Closed,
}

/// Back-pressure of the write side.
#[derive(Clone, Debug)]
pub struct WriteHandle {
    shared: Arc<Shared>,
}

impl WriteHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Whether up to 32 KiB more can be written through the session without waiting.
    pub fn has_room(&self) -> bool {
        self.shared.lock().has_room()
    }

    /// Writes out until there is [room](Self::has_room).
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().poll_room(cx)
    }

    /// Adds to the buffer what `write` appends, without a copy on the way.
    pub fn append(&self, write: impl FnOnce(&mut BytesMut)) -> io::Result<()> {
        self.shared.lock().append(write)
    }

    /// Bytes that wait to be written.
    pub fn buffered(&self) -> usize {
        self.shared.lock().buffered()
    }

    /// A number that changes whenever the peer, or the kernel for it, has taken something.
    pub fn progress(&self) -> u64 {
        self.shared.lock().progress()
    }

    /// Tells the peer, behind what is buffered, that nothing more will come. It is done by whatever flushes.
    pub fn end(&self) {
        self.shared.lock().end();
    }

    /// Writes out until at most `watermark` bytes wait in the buffer. 0 means that the kernel has everything.
    pub fn poll_drained(&self, cx: &mut Context<'_>, watermark: usize) -> Poll<io::Result<()>> {
        self.shared.lock().poll_drain(cx, watermark)
    }

    /// Writes out what the socket takes at once, and wakes the task when it takes more.
    pub fn try_flush(&self, cx: &mut Context<'_>) -> io::Result<()> {
        self.shared.lock().try_flush(cx)
    }
}

/// The read side, where the guard separates the messages. Every call first flushes what was written.
#[derive(Clone, Debug)]
pub struct ReadHandle {
    shared: Arc<Shared>,
}

impl ReadHandle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Waits for the next request's whole head and checks it: the session's next read then gives exactly that head.
    /// `Ok(false)` is an orderly end of the connection. While nothing has arrived no read buffer is held.
    pub fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<bool, ReadError>> {
        let inner = &mut *self.shared.lock();
        // A peer that takes nothing more may have said why: what it sent counts.
        let _ = inner.try_flush(cx);
        inner.guard.next_message();
        loop {
            match inner.guard.pass(&mut inner.read)? {
                Pass::More(want) => {
                    if ready!(inner.poll_fill(cx, want))? == 0 {
                        return Poll::Ready(if inner.guard.may_end(&inner.read) {
                            Ok(false)
                        } else {
                            Err(ReadError::Closed)
                        });
                    }
                }
                Pass::Any | Pass::Bytes(_) => return Poll::Ready(Ok(true)),
                Pass::Nothing => return Poll::Pending,
            }
        }
    }

    /// Takes the head that [`poll_head`](Self::poll_head) has checked, for a parser that needs not read it then. Empty if
    /// there is none.
    pub fn take_head(&self) -> Result<BytesMut, ReadError> {
        let inner = &mut *self.shared.lock();
        Ok(inner.guard.take_head(&mut inner.read)?)
    }

    /// Waits for the head of the response that was [expected](Self::expect_response).
    pub fn poll_response(&self, cx: &mut Context<'_>) -> Poll<Result<Parts, ReadError>> {
        let inner = &mut *self.shared.lock();
        // A peer that takes nothing more may have said why: what it sent counts.
        let _ = inner.try_flush(cx);
        loop {
            if let Some(head) = inner.guard.response(&mut inner.read)? {
                return Poll::Ready(Ok(head));
            }
            if ready!(inner.poll_fill(cx, inner.guard.want()))? == 0 {
                return Poll::Ready(Err(ReadError::Closed));
            }
        }
    }

    /// The next piece of the current message's body, or of the tunnel.
    pub fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Result<BodyFrame, ReadError>> {
        let inner = &mut *self.shared.lock();
        // A peer that takes nothing more may have said why: what it sent counts.
        let _ = inner.try_flush(cx);
        loop {
            if let Some(frame) = inner.guard.frame(&mut inner.read)? {
                return Poll::Ready(Ok(frame));
            }
            if ready!(inner.poll_fill(cx, inner.guard.want()))? == 0 {
                return Poll::Ready(if inner.guard.may_end(&inner.read) {
                    Ok(BodyFrame::End)
                } else {
                    Err(ReadError::Closed)
                });
            }
        }
    }

    /// Waits until the peer goes away. Bytes that arrive meanwhile are kept, up to a limit, for whoever reads next.
    pub fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<ReadError> {
        let inner = &mut *self.shared.lock();
        if let Err(error) = inner.try_flush(cx) {
            return Poll::Ready(error.into());
        }
        while inner.read.len() < READ_AHEAD {
            match ready!(inner.poll_fill(cx, READ_AHEAD)) {
                Ok(0) => return Poll::Ready(ReadError::Closed),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error.into()),
            }
        }
        // Nothing more is read before somebody consumes, so a close will only be seen by writing.
        Poll::Pending
    }

    /// Whether the peer has closed its side, as the event loop knows, though perhaps not all that it sent has been read. Nothing
    /// wakes the task when that changes.
    pub fn has_hung_up(&self) -> bool {
        let inner = self.shared.lock();
        let ready = inner.transport.tcp().ready(Interest::READABLE);
        matches!(ready.now_or_never(), Some(Ok(ready)) if ready.is_read_closed())
    }

    /// Whether the stream begins with `expected`, which must not be empty. Decided at the first byte that differs; nothing
    /// is consumed.
    pub fn poll_starts_with(
        &self,
        cx: &mut Context<'_>,
        expected: &[u8],
    ) -> Poll<io::Result<bool>> {
        let inner = &mut *self.shared.lock();
        loop {
            let length = inner.read.len().min(expected.len());
            let begins = inner.read.get(..length) == expected.get(..length);
            if !begins || length == expected.len() {
                return Poll::Ready(Ok(begins));
            }
            if ready!(inner.poll_fill(cx, HEAD_READ))? == 0 {
                return Poll::Ready(Ok(false));
            }
        }
    }

    /// Whether an idle connection is open and nothing has arrived, by what the event loop knows: no system call unless
    /// there is something to read.
    pub fn is_silent(&self) -> bool {
        let inner = &mut *self.shared.lock();
        let mut cx = Context::from_waker(Waker::noop());
        let nothing_to_read = match &inner.transport {
            Transport::Plain(tcp) => tcp.poll_read_ready(&mut cx).is_pending(),
            // Records that carry no data, such as session tickets, may arrive at any time.
            Transport::TlsServer(_) | Transport::TlsClient(_) => false,
        };
        inner.read.is_empty()
            && (nothing_to_read || inner.poll_fill(&mut cx, READ_AHEAD).is_pending())
    }

    /// Holds no read buffer until the next read, unless there is something in it: for a reader that has to wait for
    /// something else first.
    pub fn release(&self) {
        self.shared.lock().release_read();
    }

    /// Whether bytes have arrived that no message has claimed.
    pub fn has_unread(&self) -> bool {
        !self.shared.lock().read.is_empty()
    }

    /// Whether the current message has no (more) body.
    pub fn message_is_complete(&self) -> bool {
        self.shared.lock().guard.is_complete()
    }

    /// The session switched protocols: everything from here on passes as it is.
    pub fn begin_tunnel(&self) {
        self.shared.lock().guard.release();
    }

    /// On a connection to a server: a request goes out, and its response is to be judged. `head` says that the method is
    /// HEAD, so that no body follows.
    pub fn expect_response(&self, head: bool) {
        self.shared.lock().guard.expect_response(head);
    }

    /// Takes what arrived and was not claimed.
    pub fn take_unread(&self) -> BytesMut {
        std::mem::take(&mut self.shared.lock().read)
    }
}

/// Bytes read ahead of a message while waiting for the peer to go away.
const READ_AHEAD: usize = 4096;
