//! One endpoint as a worker sees it: its health, its load, its connections.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
};

use tokio::sync::Notify;

use super::{
    OpenRequest,
    connect::{Profile, connect},
    error::{UpstreamError, UpstreamErrorKind},
    limit::{ConnectionLimit, Slot},
    outlier::Health,
    pool::Pool,
    session::{Session, http1::Http1, http2::Http2Connection},
};

/// An endpoint under one profile. Lives on after its removal until its last request is done.
pub(super) struct Peer {
    address: SocketAddr,
    profile: Rc<Profile>,
    limit: Rc<ConnectionLimit>,
    pub(super) health: Rc<Health>,
    in_flight: Cell<u32>,
    pool: Pool,
    handshake: SharedHandshake,
    /// ALPN chose HTTP/1.1 although HTTP/2 was offered.
    http1_only: Cell<bool>,
    removed: Cell<bool>,
    /// A task tries to connect to it while it is ejected.
    pub(super) probing: Cell<bool>,
}

impl Peer {
    pub(super) fn new(
        address: SocketAddr,
        profile: &Rc<Profile>,
        limit: &Rc<ConnectionLimit>,
    ) -> Rc<Self> {
        Self::with_health(address, profile, limit, Rc::default())
    }

    /// The same endpoint under another profile: it shares the health, and no connection.
    pub(super) fn under(&self, profile: &Rc<Profile>) -> Rc<Self> {
        Self::with_health(self.address, profile, &self.limit, Rc::clone(&self.health))
    }

    fn with_health(
        address: SocketAddr,
        profile: &Rc<Profile>,
        limit: &Rc<ConnectionLimit>,
        health: Rc<Health>,
    ) -> Rc<Self> {
        Rc::new(Self {
            address,
            profile: Rc::clone(profile),
            limit: Rc::clone(limit),
            health,
            in_flight: Cell::new(0),
            pool: Pool::default(),
            handshake: SharedHandshake::default(),
            http1_only: Cell::new(false),
            removed: Cell::new(false),
            probing: Cell::new(false),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(super) fn profile(&self) -> &Rc<Profile> {
        &self.profile
    }

    /// Requests it works on, those that are still connecting included.
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether it has neither a request nor a connection.
    pub(super) fn is_unused(&self) -> bool {
        self.in_flight.get() == 0 && self.pool.is_empty()
    }

    pub(super) fn request_started(&self) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.health.request_started();
    }

    pub(super) fn request_ended(&self) {
        self.in_flight.set(self.in_flight.get().saturating_sub(1));
        self.health.request_ended();
    }

    pub(super) fn is_removed(&self) -> bool {
        self.removed.get()
    }

    /// No new requests; what is in flight finishes, what is idle is closed.
    pub(super) fn remove(&self) {
        self.removed.set(true);
        self.pool.close();
    }

    /// A session on a connection that is open already.
    pub(super) fn pooled(&self, request: &OpenRequest<'_>) -> Option<Session> {
        if self.speaks_http2(request) {
            self.pool.stream().map(Session::Http2)
        } else if request.fresh {
            None
        } else {
            self.pool
                .take()
                .map(|idle| Session::Http1(Http1::new(idle.stream, idle.slot)))
        }
    }

    fn speaks_http2(&self, request: &OpenRequest<'_>) -> bool {
        self.profile.http2 && !request.websocket && !self.http1_only.get()
    }

    /// A session on a new connection. Requests that want HTTP/2 of an endpoint at the same time share one: the session
    /// of all but one of them counts as reused.
    pub(super) async fn connect(
        &self,
        slot: Slot,
        request: &OpenRequest<'_>,
    ) -> Result<(Session, bool), UpstreamError> {
        while self.speaks_http2(request) {
            if let Some(stream) = self.pool.stream() {
                return Ok((Session::Http2(stream), true));
            }
            if let Some(turn) = self.handshake.begin() {
                return match self.connect_alone(slot, true).await {
                    Ok(session) => Ok((session, false)),
                    Err(error) => Err(turn.failed(error)),
                };
            }
            self.handshake.wait().await?;
        }
        self.connect_alone(slot, false)
            .await
            .map(|session| (session, false))
    }

    async fn connect_alone(&self, slot: Slot, http2: bool) -> Result<Session, UpstreamError> {
        let connected = connect(self.address, &self.profile, http2).await?;
        if !connected.http2 {
            if http2 {
                self.http1_only.set(true);
            }
            slot.opened();
            return Ok(Session::Http1(Http1::begin(connected.transport, slot)));
        }
        let connection =
            Http2Connection::start(connected.transport, slot, Rc::clone(&self.limit)).await?;
        let stream = connection.stream().ok_or_else(|| {
            UpstreamError::new(
                UpstreamErrorKind::Closed,
                "the new connection takes no requests",
            )
        })?;
        self.pool.share(&connection);
        self.limit.notify_all();
        Ok(Session::Http2(stream))
    }
}

/// One connect that several requests wait for.
#[derive(Default)]
struct SharedHandshake {
    running: Cell<bool>,
    failures: Cell<u64>,
    failure: RefCell<Option<(UpstreamErrorKind, String)>>,
    ended: Notify,
}

impl SharedHandshake {
    /// The right to connect for all, if nobody does.
    fn begin(&self) -> Option<Turn<'_>> {
        (!self.running.replace(true)).then(|| Turn(self))
    }

    /// Waits until the running connect has ended; an Err if it failed. Its being given up is no failure.
    async fn wait(&self) -> Result<(), UpstreamError> {
        let failures = self.failures.get();
        self.ended.notified().await;
        if self.failures.get() == failures {
            return Ok(());
        }
        let failure = self.failure.borrow();
        let (kind, detail) = failure
            .as_ref()
            .map_or((UpstreamErrorKind::Closed, ""), |(kind, text)| {
                (*kind, text)
            });
        Err(UpstreamError::new(kind, detail))
    }
}

/// Ends the shared connect when dropped.
struct Turn<'a>(&'a SharedHandshake);

impl Turn<'_> {
    /// Tells those who wait of the failure.
    fn failed(self, error: UpstreamError) -> UpstreamError {
        self.0.failures.set(self.0.failures.get().wrapping_add(1));
        *self.0.failure.borrow_mut() = Some((error.kind, error.to_string()));
        error
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.running.set(false);
        self.0.ended.notify_waiters();
    }
}
