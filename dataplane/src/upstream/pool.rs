//! Open connections to one endpoint that can take a request: idle HTTP/1.1 ones, and HTTP/2 ones with room.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use tokio::time::Instant;

use super::{
    limit::Slot,
    session::http2::{Http2, Http2Connection},
};
use crate::stream::BufferedStream;

/// How long a connection may be idle. Below the usual keep-alive times of servers, so that the proxy closes first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// Most idle HTTP/1.1 connections of one endpoint.
const MAX_IDLE: usize = 256;

/// An HTTP/1.1 connection between two requests.
pub(crate) struct Idle {
    pub(crate) stream: Box<BufferedStream>,
    pub(crate) slot: Slot,
    /// How long the server said that it will keep the connection (`Keep-Alive: timeout`).
    pub(crate) keep_alive: Option<Duration>,
}

impl Idle {
    fn is_silent(&self) -> bool {
        self.stream.read_handle().is_silent()
    }
}

struct Pooled {
    connection: Idle,
    expires: Instant,
}

/// The connections of one endpoint under one profile.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<Vec<Pooled>>,
    http2: RefCell<Vec<Rc<Http2Connection>>>,
    closed: Cell<bool>,
}

impl Pool {
    /// The connection used last, which is the least likely to be closed.
    pub(super) fn take(&self) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let connection = idle.pop()?.connection;
            if connection.is_silent() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection for the next request, if there is room for it.
    pub(crate) fn put(&self, connection: Idle) {
        let mut idle = self.idle.borrow_mut();
        if self.closed.get() || idle.len() >= MAX_IDLE {
            return;
        }
        let lifetime = connection.keep_alive.map_or(IDLE_TIMEOUT, |promised| {
            // One second for the clocks and the way there.
            promised
                .saturating_sub(Duration::from_secs(1))
                .min(IDLE_TIMEOUT)
        });
        if !lifetime.is_zero() {
            connection.slot.notify();
            idle.push(Pooled {
                connection,
                expires: Instant::now() + lifetime,
            });
        }
    }

    /// A new stream on the first connection with room, so that surplus ones become idle and are closed.
    pub(super) fn stream(&self) -> Option<Http2> {
        self.http2.borrow().iter().find_map(Http2Connection::stream)
    }

    /// Keeps an HTTP/2 connection.
    pub(super) fn share(&self, connection: &Rc<Http2Connection>) {
        if !self.closed.get() {
            self.http2.borrow_mut().push(Rc::clone(connection));
        }
    }

    /// Whether there is no connection.
    pub(super) fn is_empty(&self) -> bool {
        self.idle.borrow().is_empty() && self.http2.borrow().is_empty()
    }

    /// Closes the connection that was idle for longest. Says whether there was one.
    pub(super) fn evict(&self) -> bool {
        let mut idle = self.idle.borrow_mut();
        if idle.is_empty() {
            return false;
        }
        drop(idle.remove(0));
        true
    }

    /// Closes all idle connections; HTTP/2 ones after their last stream.
    pub(super) fn clear(&self) {
        self.idle.borrow_mut().clear();
        self.http2.borrow_mut().clear();
    }

    /// As [`clear`](Self::clear), for good.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.clear();
    }

    /// Closes what has been idle for too long or was closed by the other side.
    pub(super) fn sweep(&self, now: Instant) {
        self.idle
            .borrow_mut()
            .retain(|idle| idle.expires > now && idle.connection.is_silent());
        self.http2.borrow_mut().retain(|connection| {
            let idle = connection
                .idle_since()
                .is_some_and(|since| since + IDLE_TIMEOUT <= now);
            !idle && connection.is_usable()
        });
    }
}
