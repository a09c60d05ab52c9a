//! How a request gets a session: a pooled one at once, or the first connect that succeeds.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::{
    pin,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    OpenRequest,
    cluster::{ClusterState, Lease},
    dns::NoAnswer,
    error::{UpstreamError, UpstreamErrorKind},
    limit::Slot,
    peer::Peer,
    session::{Session, Upstream},
};
use crate::telemetry::ConnectResult;

/// A connect that takes longer than this gets a rival at another endpoint; if the rival wins, the endpoint is ejected.
/// (Happy Eyeballs' connection attempt delay, RFC 8305 5.)
pub(crate) const SLOW_CONNECT: Duration = Duration::from_millis(250);
/// Connects under way at once for one request.
pub(crate) const MAX_RIVALS: usize = 3;

/// What a request lacks that finds no open connection free.
enum Lack {
    /// A connection, which may be opened with this.
    Connection(Lease, Slot),
    /// Room: the cluster has as many connections as it may have, all busy.
    Room,
    /// An endpoint.
    Endpoint,
}

/// A session with an endpoint of `cluster`. Cancel-safe.
pub(super) async fn open(
    cluster: &Rc<ClusterState>,
    request: OpenRequest<'_>,
) -> Result<Upstream, UpstreamError> {
    let mut deadline = None;
    loop {
        let lack = match start(cluster, &request) {
            Ok((session, lease)) => return Ok(hand_over(session, lease, true)),
            Err(lack) => lack,
        };
        let deadline = *deadline.get_or_insert_with(|| Instant::now() + cluster.connect_timeout());
        match lack {
            Lack::Connection(lease, slot) => {
                let connect = async |lease, slot| connect(lease, slot, &request).await;
                let (session, lease, reused) = race(
                    cluster,
                    &request,
                    (lease, slot),
                    deadline,
                    ClusterState::slot,
                    connect,
                )
                .await?;
                return Ok(hand_over(session, lease, reused));
            }
            Lack::Room => wait_for_room(cluster, deadline).await?,
            Lack::Endpoint => wait_for_endpoint(cluster, &request, deadline).await?,
        }
    }
}

/// Whether there are endpoints, and none is for this request.
fn is_fenced_out(cluster: &ClusterState, request: &OpenRequest<'_>) -> bool {
    request.fence.is_some() && !cluster.peers().is_empty()
}

/// Waits until there may be an endpoint for a request that found none. It is told at once if there is none for it.
pub(super) async fn wait_for_endpoint(
    cluster: &ClusterState,
    request: &OpenRequest<'_>,
    deadline: Instant,
) -> Result<(), UpstreamError> {
    if is_fenced_out(cluster, request) {
        return Err(UpstreamError::new(
            UpstreamErrorKind::FencedOut,
            format_args!("the request may have no endpoint of {}", cluster.key),
        ));
    }
    wait_for_address(cluster, deadline).await
}

fn hand_over(session: Session, lease: Lease, reused: bool) -> Upstream {
    lease.cluster().shared().metrics.upstream_request(reused);
    Upstream::new(session, lease, reused)
}

fn start(cluster: &Rc<ClusterState>, request: &OpenRequest<'_>) -> Result<(Session, Lease), Lack> {
    let peer = cluster.select(request, &[]).ok_or(Lack::Endpoint)?;
    let lease = Lease::new(cluster, peer);
    if let Some(session) = lease.peer().pooled(request) {
        return Ok((session, lease));
    }
    match cluster.slot() {
        Some(slot) => Err(Lack::Connection(lease, slot)),
        None => borrow_elsewhere(cluster, request).ok_or(Lack::Room),
    }
}

/// No connection may be opened to the endpoint that was chosen, but another one may have an open one with room.
fn borrow_elsewhere(
    cluster: &Rc<ClusterState>,
    request: &OpenRequest<'_>,
) -> Option<(Session, Lease)> {
    let peers = cluster.peers();
    let mut available = peers
        .iter()
        .filter(|peer| peer.health.is_available() && request.may_have(peer.address()));
    available.find_map(|peer| Some((peer.pooled(request)?, Lease::new(cluster, Rc::clone(peer)))))
}

async fn wait_for_room(cluster: &ClusterState, deadline: Instant) -> Result<(), UpstreamError> {
    let too_late = |_| {
        Err(UpstreamError::new(
            UpstreamErrorKind::Overloaded,
            "no connection became free in time",
        ))
    };
    timeout_at(deadline, cluster.limit.wait())
        .await
        .unwrap_or_else(too_late)
}

async fn wait_for_address(cluster: &ClusterState, deadline: Instant) -> Result<(), UpstreamError> {
    if cluster.names.is_pending() {
        let too_late = |_| {
            UpstreamError::new(
                UpstreamErrorKind::Dns,
                "the backend's name was not resolved in time",
            )
        };
        return timeout_at(deadline, cluster.names.changed())
            .await
            .map_err(too_late);
    }
    Err(match cluster.names.error() {
        Some(NoAnswer::Unresolved(why)) => UpstreamError::new(UpstreamErrorKind::Dns, why),
        Some(NoAnswer::Refused(why)) => UpstreamError::new(UpstreamErrorKind::NoEndpoint, why),
        None => UpstreamError::new(
            UpstreamErrorKind::NoEndpoint,
            format_args!("{} has no endpoint", cluster.key),
        ),
    })
}

/// A connect under way.
struct Attempt {
    peer: Rc<Peer>,
    since: Instant,
}

/// Connects to one endpoint after another, until the first success. One that fails is followed by the next at once, one
/// that is slow gets a rival. Nothing is sent before, so none of this is a retry. `room` gives the right to one more connect, if there is
/// one. `connect` also says whether others use what it gives.
pub(super) async fn race<S, R>(
    cluster: &Rc<ClusterState>,
    request: &OpenRequest<'_>,
    (lease, right): (Lease, R),
    deadline: Instant,
    room: impl Fn(&ClusterState) -> Option<R>,
    connect: impl AsyncFn(Lease, R) -> (Lease, Result<(S, bool), UpstreamError>),
) -> Result<(S, Lease, bool), UpstreamError> {
    let mut running = FuturesUnordered::new();
    let mut attempts = Attempts {
        cluster,
        tried: Vec::new(),
        pending: Vec::new(),
    };
    attempts.begin(&lease);
    running.push(connect(lease, right));

    let rival_due = sleep_until(Instant::now() + SLOW_CONNECT);
    let end = sleep_until(deadline);
    pin!(rival_due, end);
    loop {
        tokio::select! {
            biased;
            Some((lease, result)) = running.next() => match result {
                Ok((session, reused)) => {
                    attempts.won(&lease, reused);
                    return Ok((session, lease, reused));
                }
                Err(error) => {
                    let error = error.at(lease.peer().address());
                    attempts.lost(&lease, &error);
                    drop(lease);
                    match attempts.next(request, &room) {
                        Some((lease, right)) => running.push(connect(lease, right)),
                        None if running.is_empty() => return Err(error),
                        None => {}
                    }
                }
            },
            () = &mut rival_due => {
                if running.len() < MAX_RIVALS && let Some((lease, right)) = attempts.next(request, &room) {
                    running.push(connect(lease, right));
                }
                rival_due.as_mut().reset(Instant::now() + SLOW_CONNECT);
            }
            () = &mut end => {
                attempts.out_of_time();
                let last = attempts.tried.last();
                return Err(last.map_or_else(out_of_time, |last| out_of_time().at(*last)));
            }
        }
    }
}

/// The failure of a connect that did not end in time.
pub(super) fn out_of_time() -> UpstreamError {
    UpstreamError::new(UpstreamErrorKind::ConnectTimeout, "no connection in time")
}

async fn connect(
    lease: Lease,
    slot: Slot,
    request: &OpenRequest<'_>,
) -> (Lease, Result<(Session, bool), UpstreamError>) {
    let result = lease.peer().connect(slot, request).await;
    (lease, result)
}

/// The connects of one request: who was tried, who is still being tried.
struct Attempts<'a> {
    cluster: &'a Rc<ClusterState>,
    tried: Vec<SocketAddr>,
    pending: Vec<Attempt>,
}

impl Attempts<'_> {
    fn begin(&mut self, lease: &Lease) {
        self.tried.push(lease.peer().address());
        self.pending.push(Attempt {
            peer: Rc::clone(lease.peer()),
            since: Instant::now(),
        });
    }

    /// The next endpoint, if there is one that was not tried and a connection may be opened.
    fn next<R>(
        &mut self,
        request: &OpenRequest<'_>,
        room: impl Fn(&ClusterState) -> Option<R>,
    ) -> Option<(Lease, R)> {
        let peer = self.cluster.select(request, &self.tried)?;
        let right = room(self.cluster)?;
        let lease = Lease::new(self.cluster, peer);
        self.begin(&lease);
        Some((lease, right))
    }

    fn end(&mut self, lease: &Lease) -> Instant {
        let index = self
            .pending
            .iter()
            .position(|attempt| Rc::ptr_eq(&attempt.peer, lease.peer()));
        index.map_or_else(Instant::now, |index| self.pending.swap_remove(index).since)
    }

    fn lost(&mut self, lease: &Lease, error: &UpstreamError) {
        let since = self.end(lease);
        self.cluster.count_connect(error.kind.into(), since);
        self.cluster.tell_tls_failure(lease.peer(), error);
        self.cluster.connect_failed(lease.peer(), error.kind);
    }

    /// Whoever had a start of [`SLOW_CONNECT`] and still lost is taken for unreachable.
    fn won(&mut self, winner: &Lease, reused: bool) {
        let since = self.end(winner);
        if !reused {
            self.cluster.count_connect(ConnectResult::Ok, since);
        }
        winner.peer().health.reachable();
        self.give_up(SLOW_CONNECT);
    }

    fn out_of_time(&mut self) {
        self.give_up(Duration::ZERO);
    }

    fn give_up(&mut self, longer_than: Duration) {
        for attempt in self
            .pending
            .drain(..)
            .filter(|attempt| attempt.since.elapsed() >= longer_than)
        {
            self.cluster
                .count_connect(ConnectResult::Timeout, attempt.since);
            self.cluster
                .connect_failed(&attempt.peer, UpstreamErrorKind::ConnectTimeout);
        }
    }
}
