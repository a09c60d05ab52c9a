//! Forwarding: attempts at a backend until one answers, within the deadlines of the route.

use std::{
    net::SocketAddr,
    pin::{Pin, pin},
    time::Duration,
};

use http::{request, response};
use portcullis_routing::ClusterKey;

use super::{
    Exchange,
    head::Upgrade,
    hop,
    pump::Pump,
    retry::{Again, Attempts, Repeat, Replay},
    upgrade::Handshake,
};
use crate::{
    downstream::Downstream,
    filter::{
        cors::CorsOutcome,
        mirror::{self, Mirrors},
    },
    plan::{PreparedBackend, PreparedRoute},
    reason::Reason,
    upstream::{OpenRequest, Outcome, Progress, Upstream, UpstreamError, UpstreamErrorKind},
};

/// A request on its way to a backend that was chosen.
pub(super) struct Request<'a> {
    pub(super) plan: &'a PreparedRoute,
    pub(super) backend: &'a PreparedBackend,
    pub(super) cluster: &'a ClusterKey,
    pub(super) cors: Option<CorsOutcome>,
    pub(super) upgrade: Upgrade,
}

impl Request<'_> {
    /// A tunnel has no end to wait for: only its idle time is bounded.
    fn deadline(&self, timeout: Option<Duration>) -> Option<Duration> {
        timeout.filter(|_| self.upgrade == Upgrade::None)
    }
}

/// Why an attempt failed, and what may be done about it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) repeat: Repeat,
    endpoint: Option<SocketAddr>,
}

impl Failure {
    /// A failure that no other attempt can mend.
    pub(super) fn last(reason: Reason) -> Self {
        Self {
            reason,
            repeat: Repeat::Never,
            endpoint: None,
        }
    }

    /// An answer with a status that the route retries.
    pub(super) fn retried_status(endpoint: SocketAddr) -> Self {
        Self {
            reason: Reason::UpstreamReset,
            repeat: Repeat::MayHaveActed,
            endpoint: Some(endpoint),
        }
    }

    /// A failure at the backend.
    pub(super) fn upstream(error: &UpstreamError, answered: bool) -> Self {
        let repeat = if answered {
            Repeat::Never
        } else if error.progress == Progress::NotProcessed {
            Repeat::Refused
        } else if error.is_unprocessed() {
            Repeat::Unprocessed
        } else if error.is_stale() {
            Repeat::Stale
        } else {
            Repeat::MayHaveActed
        };
        Self {
            reason: reason_of(error.kind),
            repeat,
            endpoint: error.endpoint,
        }
    }
}

fn reason_of(kind: UpstreamErrorKind) -> Reason {
    match kind {
        UpstreamErrorKind::NoCluster => Reason::InvalidBackend,
        UpstreamErrorKind::NoEndpoint => Reason::NoEndpoint,
        UpstreamErrorKind::Overloaded => Reason::Overloaded,
        UpstreamErrorKind::Dns | UpstreamErrorKind::Refused => Reason::ConnectFailed,
        UpstreamErrorKind::ConnectTimeout => Reason::ConnectTimeout,
        UpstreamErrorKind::Tls => Reason::UpstreamTls,
        UpstreamErrorKind::Closed | UpstreamErrorKind::Reset => Reason::UpstreamReset,
        UpstreamErrorKind::Protocol => Reason::UpstreamProtocol,
        UpstreamErrorKind::Request => Reason::BadRequest,
    }
}

impl<'s> Exchange<'s> {
    /// Forwards within `timeouts.request`.
    pub(super) async fn forward(
        &mut self,
        downstream: &mut Downstream,
        head: &mut request::Parts,
        request: Request<'s>,
    ) -> Result<(), Reason> {
        self.record.cluster = Some(request.cluster);
        let deadline = request.deadline(request.plan.request_timeout);
        within(
            deadline,
            Reason::RequestDeadline,
            pin!(self.attempts(downstream, head, &request)),
        )
        .await
    }

    async fn attempts(
        &mut self,
        downstream: &mut Downstream,
        head: &mut request::Parts,
        request: &Request<'_>,
    ) -> Result<(), Reason> {
        let handshake =
            (request.upgrade == Upgrade::ExtendedWebSocket).then(|| Handshake::begin(head));
        let body_is_empty = downstream.body_is_empty();
        let mut attempts = Attempts::new(request.plan.retry.as_ref(), self.record.method());
        let mut replay = Replay::new(attempts.keep_body());
        if body_is_empty {
            replay.end(None);
        }
        let mirrors = match request.upgrade {
            Upgrade::None => mirror::start(self.worker, &request.plan.mirrors, head, body_is_empty),
            // A tunnel cannot be copied, so its request is not either.
            Upgrade::WebSocket | Upgrade::ExtendedWebSocket => Mirrors::default(),
        };
        let mut failed: Vec<SocketAddr> = Vec::new();
        let mut fresh = false;
        let mut leave = None;
        loop {
            attempts.begin();
            self.record.attempt();
            let open = OpenRequest {
                websocket: request.upgrade != Upgrade::None,
                avoid: &failed,
                fresh,
            };
            let attempt = Attempt {
                request,
                attempts: &attempts,
                mirrors: &mirrors,
                handshake: handshake.as_ref(),
            };
            let failure = match self
                .attempt(downstream, head, &attempt, open, &mut replay)
                .await
            {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            drop(leave.take());
            match attempts.again(failure.repeat, &replay) {
                Some(Again::AtOnce) => fresh = true,
                Some(Again::After(pause)) => {
                    let Some(retry) = self.worker.retry_budget.retry() else {
                        self.worker.metrics.retry_over_budget();
                        return Err(failure.reason);
                    };
                    leave = Some(retry);
                    failed.extend(failure.endpoint);
                    pingora_timeout::sleep(pause).await;
                }
                None => return Err(failure.reason),
            }
        }
    }

    /// One attempt, within `timeouts.backendRequest`.
    async fn attempt(
        &mut self,
        downstream: &mut Downstream,
        head: &request::Parts,
        attempt: &Attempt<'_>,
        open: OpenRequest<'_>,
        replay: &mut Replay,
    ) -> Result<(), Failure> {
        let opened = self
            .worker
            .upstreams
            .open(attempt.request.cluster, open)
            .await;
        let mut upstream = opened.map_err(|error| {
            if let Some(endpoint) = error.endpoint {
                self.record.tried(endpoint, error.reused);
            }
            Failure::upstream(&error, false)
        })?;
        self.record.tried(upstream.endpoint(), upstream.reused());
        if upstream.is_http2() {
            // A stream may be refused unprocessed: any method may then be sent again (RFC 9113 8.7).
            replay.keep();
        }
        let timed_out = Failure {
            reason: Reason::BackendDeadline,
            repeat: Repeat::MayHaveActed,
            endpoint: Some(upstream.endpoint()),
        };
        let deadline = attempt
            .request
            .deadline(attempt.request.plan.backend_timeout);
        let outcome = within(
            deadline,
            timed_out,
            pin!(self.send(downstream, head, attempt, replay, &mut upstream)),
        )
        .await;
        match outcome {
            Ok(complete) => {
                upstream.report(Outcome::Answered);
                if complete {
                    upstream.finish();
                }
                Ok(())
            }
            Err(failure) => {
                match failure.reason {
                    Reason::BackendDeadline => upstream.report(Outcome::TimedOut),
                    Reason::UpstreamReset | Reason::UpstreamProtocol
                        if !matches!(failure.repeat, Repeat::Stale | Repeat::Refused) =>
                    {
                        upstream.report(Outcome::Broken);
                    }
                    _ => {}
                }
                let repeat = if self.record.answered() {
                    Repeat::Never
                } else {
                    failure.repeat
                };
                Err(Failure { repeat, ..failure })
            }
        }
    }

    /// Sends the request and passes the answer on. Returns whether both were complete.
    async fn send(
        &mut self,
        downstream: &mut Downstream,
        head: &request::Parts,
        attempt: &Attempt<'_>,
        replay: &mut Replay,
        upstream: &mut Upstream,
    ) -> Result<bool, Failure> {
        let request_done =
            attempt.handshake.is_some() || (replay.ended().is_some() && replay.kept().is_empty());
        upstream
            .send_head(head, request_done)
            .map_err(|error| Failure::upstream(&error, false))?;
        Pump {
            exchange: self,
            downstream,
            upstream,
            replay,
            attempt,
            request_done,
        }
        .run()
        .await
    }
}

/// Turns the backend's head into the client's: the hop ends, filters of backend and rule apply.
pub(super) fn response_head(head: &mut response::Parts, request: &Request<'_>) {
    hop::strip_response(head);
    for modifier in &request.backend.response {
        modifier.apply(&mut head.headers);
    }
    super::respond_filters(head, request.plan, request.cors.as_ref());
}

/// What the parts of one attempt share.
pub(super) struct Attempt<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) attempts: &'a Attempts<'a>,
    pub(super) mirrors: &'a Mirrors,
    /// WebSocket over HTTP/2: what the backend has to prove.
    pub(super) handshake: Option<&'a Handshake>,
}

/// Runs `work` for as long as it may take. It is borrowed, since a future that owns another one holds it several times.
async fn within<T, E>(
    deadline: Option<Duration>,
    timed_out: E,
    work: Pin<&mut impl Future<Output = Result<T, E>>>,
) -> Result<T, E> {
    match deadline {
        Some(deadline) => pingora_timeout::timeout(deadline, work)
            .await
            .unwrap_or(Err(timed_out)),
        None => work.await,
    }
}
