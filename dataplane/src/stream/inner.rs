//! The state that the stream and its handles share: transport, buffers, guard.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::{
    WRITE_ROOM,
    guard::{Guard, Pass},
    transport::Transport,
};

/// Buffered bytes from which on a write goes straight to the socket instead of being copied.
const WRITE_THROUGH: usize = 16 * 1024;
/// Size that the write buffer begins with: a head and a small body.
const WRITE_START: usize = 4096;
/// Buffered bytes beyond which a writer that did not ask for room has to wait.
const WRITE_LIMIT: usize = 4 * WRITE_ROOM;
/// Slices of one vectored write, the buffer included.
const MAX_SLICES: usize = 8;
/// Space below which the read buffer grows.
const MIN_READ: usize = 512;

/// One connection, used by one task at a time: the lock is never contended. It exists because Pingora wants its streams
/// to be `Send + Sync`.
#[derive(Debug)]
pub(super) struct Shared(Mutex<Inner>);

impl Shared {
    pub(super) fn new(inner: Inner) -> Self {
        Self(Mutex::new(inner))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection, and what was read ahead.
    pub(super) fn into_transport(self) -> (Transport, BytesMut) {
        let inner = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        (inner.transport, inner.read)
    }
}

/// The end of the write side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// There will be more.
    None,
    /// The peer is to be told behind the last buffered byte.
    Asked,
    /// The peer was told.
    Told,
}

/// What had to wait for the peer to take what it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    /// The transport did not take all of a write.
    Write,
    /// It has not passed on all that it took.
    Flush,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) transport: Transport,
    /// Read ahead of the session. Holds no memory while empty and waiting.
    pub(super) read: BytesMut,
    /// Written by the session, not yet by us. Holds no memory while empty.
    write: BytesMut,
    /// Whether the transport may still hold bytes that we gave it (TLS records).
    unflushed: bool,
    /// What last had to wait for the peer.
    waits: Waits,
    /// Grows whenever the transport has taken something.
    progress: u64,
    /// What becomes of the write side once everything is written.
    end: End,
    /// Why writing failed: nothing can be written after that.
    error: Option<io::ErrorKind>,
    pub(super) corked: bool,
    pub(super) guard: Guard,
}

impl Inner {
    pub(super) fn new(transport: Transport, prefix: BytesMut) -> Self {
        Self {
            transport,
            read: prefix,
            write: BytesMut::new(),
            unflushed: false,
            waits: Waits::Nothing,
            progress: 0,
            end: End::None,
            error: None,
            corked: false,
            guard: Guard::off(),
        }
    }

    /// Reads more, at most `want` bytes where the buffer has to grow. `Ready(0)` is the end of the stream.
    pub(super) fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        want: usize,
    ) -> Poll<io::Result<usize>> {
        if self.read.capacity() - self.read.len() < MIN_READ.min(want) {
            self.read.reserve(want);
        }
        let poll = pin!(self.transport.read_buf(&mut self.read)).poll(cx);
        self.release_read();
        poll
    }

    /// Hands over what the guard has approved.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let approved = match self.guard.pass(&mut self.read).map_err(io::Error::from)? {
                // Nothing to look at: no detour through our buffer.
                Pass::Any if self.read.is_empty() => {
                    return Pin::new(&mut self.transport).poll_read(cx, buf);
                }
                Pass::Any => self.read.len(),
                Pass::Bytes(n) => n,
                Pass::Nothing => return Poll::Pending,
                Pass::More(want) => {
                    if ready!(self.poll_fill(cx, want))? == 0 {
                        return Poll::Ready(if self.guard.may_end(&self.read) {
                            Ok(())
                        } else {
                            Err(io::ErrorKind::UnexpectedEof.into())
                        });
                    }
                    continue;
                }
            };
            let n = approved.min(buf.remaining());
            let approved = self.read.get(..n).unwrap_or_default();
            buf.put_slice(approved);
            self.guard.passed(approved).map_err(io::Error::from)?;
            self.read.advance(n);
            return Poll::Ready(Ok(()));
        }
    }

    /// Takes bytes into the buffer; together with it they go straight to the socket if there are many.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write_error()?;
        if self.write.len() >= WRITE_LIMIT {
            ready!(self.poll_drain(cx, WRITE_ROOM))?;
        }
        let bufs = bufs.get(..MAX_SLICES - 1).unwrap_or(bufs);
        let total: usize = bufs.iter().map(|slice| slice.len()).sum();
        let mut sent = 0;
        if self.write.len() + total >= WRITE_THROUGH
            && let Poll::Ready(written) = self.poll_write_through(cx, bufs)
        {
            sent = written?;
        }
        if sent < total && self.write.capacity() == 0 {
            self.write.reserve(WRITE_START);
        }
        for slice in bufs {
            let skip = sent.min(slice.len());
            sent -= skip;
            self.write
                .extend_from_slice(slice.get(skip..).unwrap_or_default());
        }
        Poll::Ready(Ok(total))
    }

    /// One write of the buffer followed by `bufs`; tells how many bytes of `bufs` are gone.
    fn poll_write_through(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let all = std::iter::once(IoSlice::new(&self.write)).chain(bufs.iter().copied());
        let mut count = 0;
        for (slot, slice) in slices.iter_mut().zip(all.filter(|slice| !slice.is_empty())) {
            *slot = slice;
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        self.waits = Waits::Write;
        let written = ready!(Pin::new(&mut self.transport).poll_write_vectored(cx, slices));
        let written = self.noted(written)?;
        if written == total {
            self.waits = Waits::Nothing;
        }
        self.unflushed = true;
        let buffered = written.min(self.write.len());
        self.consume(buffered);
        Poll::Ready(Ok(written - buffered))
    }

    /// Writes out until at most `watermark` bytes wait; all the way through TLS for a watermark of 0.
    pub(super) fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        watermark: usize,
    ) -> Poll<io::Result<()>> {
        self.write_error()?;
        while self.write.len() > watermark {
            ready!(self.poll_write_buffer(cx))?;
        }
        if self.write.is_empty() && self.unflushed {
            ready!(self.poll_flush(cx))?;
        }
        if self.end == End::Asked && self.write.is_empty() {
            let told = ready!(Pin::new(&mut self.transport).poll_shutdown(cx));
            self.end = End::Told;
            self.noted(told)?;
        }
        Poll::Ready(Ok(()))
    }

    /// One write of the buffer, which must not be empty.
    fn poll_write_buffer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waits = Waits::Write;
        let written = ready!(Pin::new(&mut self.transport).poll_write(cx, &self.write));
        let written = self.noted(written)?;
        if written == 0 {
            self.noted(Err(io::ErrorKind::WriteZero.into()))?;
        }
        if written == self.write.len() {
            self.waits = Waits::Nothing;
        }
        self.unflushed = true;
        self.consume(written);
        Poll::Ready(Ok(()))
    }

    /// Whether more can be written without waiting: not while the peer has to take what there is.
    pub(super) fn has_room(&self) -> bool {
        self.write.is_empty() || (self.waits != Waits::Write && self.write.len() < WRITE_ROOM)
    }

    /// Writes out until there is room.
    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_error()?;
        while !self.has_room() {
            ready!(self.poll_write_buffer(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the read buffer up if there is nothing in it.
    pub(super) fn release_read(&mut self) {
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
    }

    /// Writes out what the transport itself holds.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waits == Waits::Flush && self.transport.tcp().poll_write_ready(cx).is_ready() {
            // The peer has made room, which this flush is going to use.
            self.progress += 1;
        }
        self.waits = Waits::Flush;
        let flushed = ready!(Pin::new(&mut self.transport).poll_flush(cx));
        self.waits = Waits::Nothing;
        self.unflushed = false;
        Poll::Ready(self.noted(flushed))
    }

    /// Ends the write side behind what is buffered: with the flush that writes the last of it.
    pub(super) fn end(&mut self) {
        if self.end == End::None {
            self.end = End::Asked;
        }
    }

    /// A number that changes whenever the transport has taken something.
    pub(super) fn progress(&self) -> u64 {
        self.progress
    }

    /// Writes out what the socket takes now; the rest is tried again when it is writable.
    pub(super) fn try_flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.poll_drain(cx, 0) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Lets `write` append to the buffer.
    pub(super) fn append(&mut self, write: impl FnOnce(&mut BytesMut)) -> io::Result<()> {
        self.write_error()?;
        write(&mut self.write);
        Ok(())
    }

    /// Bytes that wait to be written.
    pub(super) fn buffered(&self) -> usize {
        self.write.len()
    }

    /// The error that ended writing.
    pub(super) fn write_error(&self) -> io::Result<()> {
        self.error.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn consume(&mut self, n: usize) {
        self.progress += 1;
        self.write.advance(n);
        if self.write.is_empty() {
            self.write = BytesMut::new();
        }
    }

    fn noted<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.error = Some(error.kind());
            // Nothing of it can be sent any more.
            self.write = BytesMut::new();
        }
        result
    }
}
