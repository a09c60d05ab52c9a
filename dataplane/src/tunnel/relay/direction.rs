//! One direction of a tunnel: bytes from one end to the other, then its end.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::{
    super::end::End,
    pipe::{Lent, Pipes, is_unsupported},
};

/// Bytes moved in one turn, before other connections of the worker get theirs. What is in the pipe by then is moved as well.
const TURN: usize = 1024 * 1024;

/// Which end broke.
#[derive(Debug)]
pub(super) enum Broken {
    /// The one that is read from.
    Source(io::Error),
    /// The one that is written to.
    Target(io::Error),
}

/// How far the direction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// The source has ended, the target is yet to be told.
    Ending,
    Ended,
}

/// What all tunnels of a worker share.
#[derive(Debug)]
pub(super) struct Means {
    pub(super) pipes: Rc<Pipes>,
    /// What is copied passes through this, and leaves it at once.
    pub(super) buffer: Box<[u8]>,
    /// Bytes of one burst from which on it goes through a pipe.
    pub(super) bulk: usize,
}

/// One direction. Holds memory, and a pipe, only while there is something in it.
#[derive(Debug)]
pub(super) struct Direction {
    /// Read and not yet written: what was read before the tunnel began, or what the target did not take.
    rest: BytesMut,
    pipe: Option<Lent>,
    /// The target may still hold what it was given.
    unflushed: bool,
    /// Bytes that came since there was last nothing to read.
    burst: usize,
    /// The last burst was long enough for a pipe, so the next one may begin with it.
    is_bulk: bool,
    phase: Phase,
}

impl Direction {
    /// A direction that begins with `prefix`.
    pub(super) fn new(prefix: BytesMut) -> Self {
        Self {
            rest: prefix,
            pipe: None,
            unflushed: false,
            burst: 0,
            is_bulk: false,
            phase: Phase::Open,
        }
    }

    /// Bytes that were read and not yet written.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.rest.len() + self.pipe.as_ref().map_or(0, Lent::held)
    }

    /// Moves what can be moved, and counts in `moved` what the target has taken. Ready when the source has ended and the
    /// target knows.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn End,
        target: &mut dyn End,
        means: &mut Means,
        moved: &Cell<u64>,
    ) -> Poll<Result<(), Broken>> {
        let end = moved.get().saturating_add(TURN as u64);
        loop {
            ready!(self.poll_drain(cx, target, moved)).map_err(Broken::Target)?;
            match self.phase {
                Phase::Open if moved.get() >= end => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Phase::Open => match self.poll_fill(cx, source, target, means, moved)? {
                    Poll::Ready(0) => {
                        self.rest_from_burst(means);
                        self.phase = Phase::Ending;
                    }
                    Poll::Ready(n) => {
                        self.burst += n;
                        self.is_bulk |= self.burst >= means.bulk;
                    }
                    Poll::Pending => {
                        self.rest_from_burst(means);
                        if self.unflushed {
                            ready!(Pin::new(&mut *target).poll_flush(cx))
                                .map_err(Broken::Target)?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
                Phase::Ending => {
                    let told = ready!(Pin::new(&mut *target).poll_shutdown(cx));
                    // A target that is gone need not be told.
                    if let Err(error) = told
                        && error.kind() != io::ErrorKind::NotConnected
                    {
                        return Poll::Ready(Err(Broken::Target(error)));
                    }
                    self.phase = Phase::Ended;
                }
                Phase::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// A burst is over: whoever waits holds no pipe.
    fn rest_from_burst(&mut self, means: &Means) {
        self.is_bulk = self.burst >= means.bulk;
        self.burst = 0;
        self.pipe = None;
    }

    /// Writes all that was read.
    fn poll_drain(
        &mut self,
        cx: &mut Context<'_>,
        target: &mut dyn End,
        moved: &Cell<u64>,
    ) -> Poll<io::Result<()>> {
        while !self.rest.is_empty() {
            let written = ready!(Pin::new(&mut *target).poll_write(cx, &self.rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.count(moved, written);
            self.rest.advance(written);
        }
        self.rest = BytesMut::new();
        if let (Some(pipe), Some(socket)) = (&mut self.pipe, target.socket()) {
            while pipe.held() > 0 {
                let written = ready!(pipe.poll_drain(cx, socket))?;
                moved.set(moved.get() + written as u64);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once. 0 is the end.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn End,
        target: &mut dyn End,
        means: &mut Means,
        moved: &Cell<u64>,
    ) -> Poll<Result<usize, Broken>> {
        if self.is_bulk
            && let Some(socket) = source.socket()
            && target.socket().is_some()
            && let Some(pipe) = self.lend(&means.pipes)
        {
            match ready!(pipe.poll_fill(cx, socket)) {
                Err(error) if is_unsupported(&error) => {
                    tracing::debug!(%error, "bytes of tunnels are copied from now on");
                    means.pipes.give_up();
                    self.pipe = None;
                }
                result => return Poll::Ready(result.map_err(Broken::Source)),
            }
        }
        self.poll_copy(cx, source, target, &mut means.buffer, moved)
    }

    fn lend(&mut self, pipes: &Rc<Pipes>) -> Option<&mut Lent> {
        if self.pipe.is_none() {
            self.pipe = pipes.lend();
        }
        self.pipe.as_mut()
    }

    /// Reads once, and writes it if the target takes it now.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut dyn End,
        target: &mut dyn End,
        buffer: &mut [u8],
        moved: &Cell<u64>,
    ) -> Poll<Result<usize, Broken>> {
        let mut read = ReadBuf::new(buffer);
        ready!(Pin::new(source).poll_read(cx, &mut read)).map_err(Broken::Source)?;
        let read = read.filled();
        if !read.is_empty() {
            let written = match Pin::new(target).poll_write(cx, read) {
                Poll::Ready(written) => written.map_err(Broken::Target)?,
                Poll::Pending => 0,
            };
            self.count(moved, written);
            self.rest
                .extend_from_slice(read.get(written..).unwrap_or_default());
        }
        Poll::Ready(Ok(read.len()))
    }

    fn count(&mut self, moved: &Cell<u64>, written: usize) {
        moved.set(moved.get() + written as u64);
        self.unflushed = true;
    }
}
