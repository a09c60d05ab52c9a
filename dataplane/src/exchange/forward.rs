//! Forwarding: attempts at a backend until one answers, within the deadlines of the route.

use std::{net::SocketAddr, pin::pin, rc::Rc, time::Duration};

use http::{HeaderMap, HeaderName, header, request, response};
use portcullis_routing::ClusterKey;

use super::{
    Exchange,
    fence::Fence,
    head::{self, Upgrade},
    hop,
    pump::Pump,
    retry::{Again, Attempts, Counted, Repeat, Replay},
    timeouts::Timeouts,
    upgrade::Handshake,
    watch::Watch,
};
use crate::{
    downstream::Downstream,
    filter::{
        cors::CorsOutcome,
        mirror::{self, Mirrors},
    },
    plan::{PreparedBackend, PreparedRoute},
    reason::Reason,
    upstream::{
        External, OpenRequest, Outcome, Progress, Upstream, UpstreamError, Upstreams, Within,
    },
};

/// A request on its way to a backend that was chosen.
pub(super) struct Request<'a> {
    pub(super) plan: &'a PreparedRoute,
    pub(super) backend: &'a PreparedBackend,
    pub(super) cors: Option<CorsOutcome>,
    pub(super) upgrade: Upgrade,
}

/// Where it goes.
pub(super) enum Towards<'a> {
    /// To a cluster of the table; what wants to leave, to certain endpoints of it only.
    Cluster(&'a ClusterKey, Option<Rc<Fence>>),
    /// To a host outside.
    Outside(&'a Outside<'a>),
}

/// A host outside, for one request.
pub(super) struct Outside<'a> {
    pub(super) external: External,
    pub(super) watch: Watch<'a>,
}

impl Towards<'_> {
    /// Whether the connection must not serve others after a head that has `field`, on its way to or from a host outside.
    pub(super) fn binds(&self, headers: &HeaderMap, field: &HeaderName) -> bool {
        matches!(self, Self::Outside(_)) && authenticates_connection(headers, field)
    }

    async fn open(
        &self,
        upstreams: &Upstreams,
        request: OpenRequest<'_>,
    ) -> Result<Upstream, UpstreamError> {
        match self {
            Self::Cluster(cluster, None) => upstreams.open(cluster, request).await,
            Self::Cluster(cluster, Some(fence)) => {
                let admits = |address| fence.admits(address);
                let request = OpenRequest {
                    fence: Some(&admits),
                    ..request
                };
                upstreams.open(cluster, request).await
            }
            Self::Outside(outside) => {
                let checked = outside.watch.checked();
                let within = Some(Within {
                    addresses: &checked.addresses,
                    in_order: checked.in_order,
                });
                let request = OpenRequest { within, ..request };
                let upstream = outside.external.open(request).await?;
                outside.watch.is_sent_to(upstream.endpoint());
                Ok(upstream)
            }
        }
    }

    /// Whether the request may (still) go there. Nothing is sent by the leave of a table that is not in force any more, and an
    /// address that gets a request again is asked about again.
    fn stands(&self) -> Result<(), Failure> {
        match self {
            Self::Outside(outside) if !outside.watch.stands() => {
                Err(Failure::last(Reason::Revoked))
            }
            Self::Cluster(..) | Self::Outside(_) => Ok(()),
        }
    }
}

/// Why an attempt failed, and what may be done about it.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    pub(super) repeat: Repeat,
    endpoint: Option<SocketAddr>,
    /// What the endpoint has to answer for.
    blame: Option<Outcome>,
}

impl Failure {
    /// A failure that no other attempt can mend. A backend that breaks the protocol is blamed for it.
    pub(super) fn last(reason: Reason) -> Self {
        Self {
            reason,
            repeat: Repeat::Never,
            endpoint: None,
            blame: (reason == Reason::UpstreamProtocol).then_some(Outcome::Broken),
        }
    }

    /// Time is up. `owed` says that the backend had all it could want, and has said nothing.
    pub(super) fn timed_out(reason: Reason, endpoint: SocketAddr, owed: bool) -> Self {
        let repeat = match reason {
            Reason::BackendDeadline => Repeat::MayHaveActed,
            _ => Repeat::Never,
        };
        Self {
            reason,
            repeat,
            endpoint: Some(endpoint),
            blame: owed.then_some(Outcome::TimedOut),
        }
    }

    /// An answer with a status that the route retries.
    pub(super) fn retried_status(endpoint: SocketAddr) -> Self {
        Self {
            reason: Reason::UpstreamReset,
            repeat: Repeat::MayHaveActed,
            endpoint: Some(endpoint),
            blame: None,
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
            reason: error.kind.into(),
            repeat,
            endpoint: error.endpoint,
            blame: error.blame(),
        }
    }
}

/// Whether a field speaks of a scheme by which a connection, and not a request, is authenticated: NTLM, and Negotiate (RFC 4559 6)
/// as many servers do it.
fn authenticates_connection(headers: &HeaderMap, field: &HeaderName) -> bool {
    let schemes: [&[u8]; 3] = [b"ntlm", b"negotiate", b"kerberos"];
    head::tokens(headers, field).any(|token| {
        let scheme = token.split(|byte| *byte == b' ').next();
        let scheme = scheme.unwrap_or_default();
        schemes.iter().any(|it| it.eq_ignore_ascii_case(scheme))
    })
}

impl<'s> Exchange<'s> {
    /// Makes a head what the backend gets, and has its copies sent, no further than the fence.
    pub(super) fn prepare<'r>(
        &self,
        downstream: &Downstream,
        head: &mut request::Parts,
        request: &Request<'r>,
        fence: Option<&Rc<Fence>>,
    ) -> Prepared<'r> {
        let handshake =
            (request.upgrade == Upgrade::ExtendedWebSocket).then(|| Handshake::begin(head));
        let body_is_empty = downstream.body_is_empty();
        let attempts = Attempts::new(request.plan.retry.as_ref(), self.record.method());
        let mut replay = Replay::new(attempts.keep_body());
        if body_is_empty {
            replay.end(None);
        }
        let mirrors = match request.upgrade {
            Upgrade::None => mirror::start(
                self.worker,
                &request.plan.mirrors,
                fence,
                head,
                body_is_empty,
            ),
            // A tunnel cannot be copied, so its request is not either.
            Upgrade::WebSocket | Upgrade::ExtendedWebSocket => Mirrors::default(),
        };
        inject(head, request);
        Prepared {
            handshake,
            attempts,
            replay,
            mirrors,
        }
    }

    /// Forwards what was prepared, within `timeouts.request`.
    pub(super) async fn forward(
        &mut self,
        downstream: &mut Downstream,
        head: &request::Parts,
        request: &Request<'_>,
        prepared: Prepared<'_>,
        towards: &Towards<'_>,
        timeouts: &mut Timeouts,
    ) -> Result<(), Reason> {
        let Prepared {
            handshake,
            mut attempts,
            mut replay,
            mirrors,
        } = prepared;
        let mut failed: Vec<SocketAddr> = Vec::new();
        let mut fresh = false;
        loop {
            attempts.begin();
            self.record.attempt();
            let open = OpenRequest {
                websocket: request.upgrade != Upgrade::None,
                avoid: &failed,
                fresh,
                ..OpenRequest::default()
            };
            let attempt = Attempt {
                request,
                towards,
                attempts: &attempts,
                mirrors: &mirrors,
                handshake: handshake.as_ref(),
            };
            let failure = match self
                .attempt(downstream, head, &attempt, open, &mut replay, timeouts)
                .await
            {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            self.retry = None;
            match attempts.again(failure.repeat, &replay) {
                Some(Again::AtOnce) => fresh = true,
                Some(Again::After(pause)) => {
                    if let Some(endpoint) = failure.endpoint
                        && !failed.contains(&endpoint)
                    {
                        failed.push(endpoint);
                    }
                    self.retry = self.leave_after(pause, downstream, timeouts).await?;
                    if self.retry.is_none() {
                        self.worker.metrics.retry_over_budget();
                        return Err(failure.reason);
                    }
                }
                None => return Err(failure.reason),
            }
            timeouts.begin_attempt(request.plan);
        }
    }

    /// Leave for a retry after a pause, or none. Whoever waits for its turn does not count: else few slow retries of one route
    /// would use up the budget of all.
    async fn leave_after(
        &self,
        pause: Duration,
        downstream: &mut Downstream,
        timeouts: &mut Timeouts,
    ) -> Result<Option<Counted<'s>>, Reason> {
        let budget = &self.worker.retry_budget;
        if !budget.has_room() {
            return Ok(None);
        }
        let pause = pin!(pingora_timeout::sleep(pause));
        timeouts.wait(downstream, pause).await?;
        Ok(budget.retry())
    }

    /// One attempt, within `timeouts.backendRequest`.
    async fn attempt(
        &mut self,
        downstream: &mut Downstream,
        head: &request::Parts,
        attempt: &Attempt<'_>,
        open: OpenRequest<'_>,
        replay: &mut Replay,
        timeouts: &mut Timeouts,
    ) -> Result<(), Failure> {
        if let Towards::Outside(outside) = attempt.towards {
            outside.watch.is_unsent();
        }
        attempt.towards.stands()?;
        let upstreams = &self.worker.upstreams;
        let opening = pin!(attempt.towards.open(upstreams, open));
        let opened = timeouts.wait(downstream, opening).await;
        let mut upstream = opened.map_err(Failure::last)?.map_err(|error| {
            if let Some(endpoint) = error.endpoint {
                self.tried(endpoint, error.reused);
            }
            Failure::upstream(&error, false)
        })?;
        self.tried(upstream.endpoint(), upstream.reused());
        attempt.towards.stands()?;
        if attempt.towards.binds(&head.headers, &header::AUTHORIZATION) {
            upstream.bind();
        }
        if upstream.is_http2() {
            // A stream may be refused unprocessed: any method may then be sent again (RFC 9113 8.7).
            replay.keep();
        }
        let outcome = self
            .send(downstream, head, attempt, replay, &mut upstream, timeouts)
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
                if let Some(outcome) = failure.blame {
                    upstream.report(outcome);
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

    /// An attempt was made: each one after the first is a retry.
    fn tried(&mut self, endpoint: SocketAddr, reused: bool) {
        if self.record.tried(endpoint, reused) > 1 {
            let labels = &self.snapshot.labels;
            self.worker.metrics.retry(labels, self.record.route);
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
        timeouts: &mut Timeouts,
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
            timeouts,
            request_done,
        }
        .run()
        .await
    }
}

/// Gives the request the credentials of the rule, then those of the backend. Whatever else has a copy of the head was made before.
fn inject(head: &mut request::Parts, request: &Request<'_>) {
    for filters in [&request.plan.request, &request.backend.request] {
        for credential in &filters.credentials {
            credential.apply(&mut head.headers);
        }
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

/// What all attempts of a request share.
pub(super) struct Prepared<'a> {
    /// WebSocket over HTTP/2: what the backend has to prove.
    handshake: Option<Handshake>,
    attempts: Attempts<'a>,
    replay: Replay,
    mirrors: Mirrors,
}

/// What the parts of one attempt share.
pub(super) struct Attempt<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) towards: &'a Towards<'a>,
    pub(super) attempts: &'a Attempts<'a>,
    pub(super) mirrors: &'a Mirrors,
    /// WebSocket over HTTP/2: what the backend has to prove.
    pub(super) handshake: Option<&'a Handshake>,
}
