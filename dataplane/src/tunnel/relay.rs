//! Passing bytes on between the two ends of a tunnel until both have ended: with bounded memory, back-pressure and
//! half-close, and within limits.

mod direction;
mod pipe;
#[cfg(test)]
mod tests;

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;

use self::{
    direction::{Broken, Direction, Means},
    pipe::Pipes,
};
use super::end::End;
use crate::{
    deadline::{Deadline, Deadlines},
    reason::Reason,
};

/// Bytes that are copied at once; those of a TLS record, which come one by one.
const BUFFER: usize = 16 * 1024;
/// Bytes of one burst from which on it goes through a pipe: below, the copy costs less than the pipe.
const BULK: usize = 32 * 1024;

/// What the tunnels of one worker have in common.
#[derive(Debug)]
pub struct Relay {
    deadlines: Rc<Deadlines>,
    means: RefCell<Means>,
}

/// A tunnel that is open at both ends.
#[derive(Debug)]
pub struct Tunnel<C, U, R> {
    /// Towards the client.
    pub client: C,
    /// Towards the upstream.
    pub upstream: U,
    /// What the client has sent already: goes to the upstream first.
    pub prefix: BytesMut,
    /// How long it may last: from when this was started, which may be before the tunnel began.
    pub clock: Clock,
    /// Resolves when the tunnel is not allowed any more.
    pub revoked: R,
}

/// How long a tunnel may last. Each is exceeded by half a second at most.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without a byte that either end has taken.
    pub idle: Duration,
    /// In all; no limit by default.
    pub total: Option<Duration>,
    /// After the port, or the proxy, has begun to drain.
    pub drain: Duration,
}

/// Bytes that a tunnel has passed on; counts while it does.
#[derive(Debug, Default)]
pub struct Moved {
    to_upstream: Cell<u64>,
    to_client: Cell<u64>,
}

impl Moved {
    /// Bytes that the upstream's socket has taken, the prefix included.
    pub fn to_upstream(&self) -> u64 {
        self.to_upstream.get()
    }

    /// Bytes that the client's socket has taken.
    pub fn to_client(&self) -> u64 {
        self.to_client.get()
    }

    fn sum(&self) -> u64 {
        self.to_upstream.get().wrapping_add(self.to_client.get())
    }
}

/// Why a tunnel has ended.
#[derive(Debug)]
pub enum Ended {
    /// Both ends had said all they had to say.
    Closed,
    /// The client's connection broke.
    ClientGone(io::Error),
    /// The upstream's connection broke.
    UpstreamGone(io::Error),
    /// Nothing moved for too long.
    Idle,
    /// It lasted too long.
    TooLong,
    /// The port or the proxy comes to its end.
    Drained,
    /// It is not allowed any more.
    Revoked,
}

impl Ended {
    /// Why, as it is told; `None` if both ends ended it.
    pub(crate) fn reason(&self) -> Option<Reason> {
        match self {
            Self::Closed => None,
            Self::ClientGone(_) => Some(Reason::ClientGone),
            Self::UpstreamGone(_) => Some(Reason::UpstreamReset),
            Self::Idle => Some(Reason::TunnelIdle),
            Self::TooLong => Some(Reason::TunnelTooLong),
            Self::Drained => Some(Reason::Shutdown),
            Self::Revoked => Some(Reason::Revoked),
        }
    }
}

impl Relay {
    /// For the worker with these deadlines.
    pub fn new(deadlines: &Rc<Deadlines>) -> Self {
        Self {
            deadlines: Rc::clone(deadlines),
            means: RefCell::new(Means {
                pipes: Rc::new(Pipes::default()),
                buffer: vec![0; BUFFER].into(),
                bulk: BULK,
            }),
        }
    }

    /// Starts the clock of a tunnel whose client came by `port`, with which it ends.
    pub fn clock(&self, port: u16, limits: Limits) -> Clock {
        Clock::start(&self.deadlines, port, limits)
    }

    /// Passes bytes on until the tunnel ends. Unless both ends ended it, both are aborted: neither is to take a part for
    /// the whole. `moved` counts meanwhile.
    pub async fn run<C: End, U: End>(
        &self,
        tunnel: Tunnel<C, U, impl Future<Output = ()>>,
        moved: &Moved,
    ) -> Ended {
        let Tunnel {
            mut client,
            mut upstream,
            prefix,
            mut clock,
            revoked,
        } = tunnel;
        let mut ways = Ways {
            up: Direction::new(prefix),
            down: Direction::new(BytesMut::new()),
        };
        let mut revoked = pin!(revoked);
        let ended = poll_fn(|cx| {
            if revoked.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ended::Revoked);
            }
            let means = &mut *self.means.borrow_mut();
            let ended = ways.poll(cx, &mut client, &mut upstream, means, moved);
            if ended.is_ready() {
                return ended;
            }
            clock.poll(cx, moved)
        })
        .await;
        if !matches!(ended, Ended::Closed) {
            client.abort();
            upstream.abort();
        }
        ended
    }
}

/// Both directions.
#[derive(Debug)]
struct Ways {
    up: Direction,
    down: Direction,
}

impl Ways {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn End,
        upstream: &mut dyn End,
        means: &mut Means,
        moved: &Moved,
    ) -> Poll<Ended> {
        // First what the upstream says: it may be why it takes nothing more.
        let down = self
            .down
            .poll(cx, upstream, client, means, &moved.to_client);
        let down = match down {
            Poll::Ready(Err(Broken::Source(error))) => {
                return Poll::Ready(Ended::UpstreamGone(error));
            }
            Poll::Ready(Err(Broken::Target(error))) => {
                return Poll::Ready(Ended::ClientGone(error));
            }
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        };
        let up = self
            .up
            .poll(cx, client, upstream, means, &moved.to_upstream);
        match up {
            Poll::Ready(Err(Broken::Source(error))) => Poll::Ready(Ended::ClientGone(error)),
            Poll::Ready(Err(Broken::Target(error))) => Poll::Ready(Ended::UpstreamGone(error)),
            Poll::Ready(Ok(())) => down.map(|()| Ended::Closed),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What limits a tunnel besides its ends.
#[derive(Debug)]
pub struct Clock {
    limits: Limits,
    /// Passes when nothing has moved for too long, and tells of the drain.
    silence: Deadline,
    /// If it may not last forever.
    end: Option<Deadline>,
    /// Once it drains.
    leave: Option<Deadline>,
    /// What had moved when it was last looked at.
    seen: u64,
}

impl Clock {
    fn start(deadlines: &Rc<Deadlines>, port: u16, limits: Limits) -> Self {
        let silence = deadlines.register(Some(port));
        silence.set(limits.idle);
        let end = limits.total.map(|total| {
            let end = silence.another();
            end.set(total);
            end
        });
        Self {
            limits,
            silence,
            end,
            leave: None,
            seen: 0,
        }
    }

    /// The tunnel is to end, and has some time for it.
    pub(crate) fn drain(&mut self) {
        self.leave.get_or_insert_with(|| {
            let leave = self.silence.another();
            leave.set(self.limits.drain);
            leave
        });
    }

    /// Resolves with the limit that is reached. `moved` is what the tunnel has passed on.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, moved: &Moved) -> Poll<Ended> {
        let sum = moved.sum();
        if sum != self.seen {
            self.seen = sum;
            self.silence.set(self.limits.idle);
        }
        if self.silence.closes_when_idle() {
            self.drain();
        }
        let leave = self.leave.as_ref();
        if leave.is_some_and(|leave| leave.poll_passed(cx).is_ready()) {
            return Poll::Ready(Ended::Drained);
        }
        let end = self.end.as_ref();
        if end.is_some_and(|end| end.poll_passed(cx).is_ready()) {
            return Poll::Ready(Ended::TooLong);
        }
        self.silence.poll_passed(cx).map(|()| Ended::Idle)
    }
}
