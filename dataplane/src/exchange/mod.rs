//! The exchange: one request through the proxy, in one fixed order.
//!
//! Target and listener -> route (one lookup) -> CORS -> action: redirect, answer, or request filters -> backend ->
//! mirrors -> credentials -> attempts -> response filters -> log. Request-phase filters run once and are not repeated on a retry.

mod destination;
mod egress;
pub(crate) mod fence;
mod forward;
pub mod head;
mod hop;
pub mod path;
mod pump;
mod record;
mod reply;
pub mod retry;
mod timeouts;
pub mod tunnel;
mod upgrade;
mod watch;

use std::{rc::Rc, sync::Arc};

use http::{Method, StatusCode, header, request, response};
use portcullis_routing::{
    CompiledListener, CompiledPort, Direction, Found, ListenerKey, ListenerProtocol, PathMatch,
    RequestHead,
};

pub use self::egress::Wanted;
use self::{
    egress::Outgoing,
    forward::Towards,
    head::{Client, Target, Upgrade},
    record::Record,
    retry::Counted,
    timeouts::Timeouts,
};
use crate::{
    downstream::{Connection, Downstream},
    egress::refusal::Refusal,
    filter::{
        cors::CorsOutcome,
        redirect::{self, RedirectedRequest},
    },
    plan::{PreparedAction, PreparedBackend, PreparedDestination, PreparedRoute},
    reason::Reason,
    state::Snapshot,
    worker::Worker,
};

/// Serves one request. Every way out leaves a line in the log and a count in the metrics.
pub async fn serve(worker: &Rc<Worker>, connection: &Connection, downstream: &mut Downstream) {
    let Some(snapshot) = worker.snapshot() else {
        // No listener is open before the first table.
        return downstream.reset();
    };
    let _counted = worker.retry_budget.request();
    let mut head = downstream.take_head();
    let record = Record::begin(worker, connection, &head);
    let mut exchange = Exchange {
        worker,
        connection,
        snapshot: &snapshot,
        record,
        outgoing: None,
        refusal: None,
        retry: None,
        is_over: false,
    };
    if let Err(reason) = exchange.run(downstream, &mut head).await {
        exchange.fail(downstream, reason).await;
    }
    exchange.is_over = true;
}

/// What the stages of one exchange share.
struct Exchange<'s> {
    worker: &'s Rc<Worker>,
    connection: &'s Connection,
    /// The table the request began with; a new one does not touch it.
    snapshot: &'s Snapshot,
    record: Record<'s>,
    /// What is to be told of a request that wants to leave the cluster.
    outgoing: Option<Box<Outgoing<'s>>>,
    /// The words of a refusal that is more than its reason.
    refusal: Option<Box<Refusal>>,
    /// Leave for the retry under way, until an answer has begun.
    retry: Option<Counted<'s>>,
    is_over: bool,
}

impl Drop for Exchange<'_> {
    /// Here, because a broken HTTP/2 connection drops its exchanges wherever they are, and so does the worker in the end.
    fn drop(&mut self) {
        if !self.is_over {
            self.record.reason(if self.worker.has_ended.get() {
                Reason::Shutdown
            } else {
                Reason::ClientGone
            });
        }
        self.record
            .finish(self.worker, self.connection, self.snapshot);
        if let Some(outgoing) = &self.outgoing {
            self.tell(outgoing);
        }
    }
}

impl<'s> Exchange<'s> {
    async fn run(
        &mut self,
        downstream: &mut Downstream,
        head: &mut request::Parts,
    ) -> Result<(), Reason> {
        let port = self.snapshot.compiled.port(self.connection.port);
        if let Some(port) = port.filter(|port| port.direction() == Direction::Egress) {
            self.begin_outgoing(downstream, head)?;
            let target = self.destination(downstream, head, Target::of(head)?)?;
            if head.method == Method::CONNECT && downstream.extended_connect().is_none() {
                // Boxed: requests should not hold the room that a tunnel needs.
                return Box::pin(self.tunnel(port, downstream, &target)).await;
            }
            let upgrade = self.upgrade(downstream, head)?;
            let plan = self.outward(port, head, &target)?;
            return self.follow(downstream, head, &target, upgrade, plan).await;
        }
        let target = Rc::new(Target::of(head)?);
        self.record.target(&target);
        let upgrade = self.upgrade(downstream, head)?;
        let found = self.route(port.ok_or(Reason::NoRoute)?, head, &target)?;
        let plan = self.found(&found)?;
        self.follow(downstream, head, &target, upgrade, plan).await
    }

    /// The upgrade that the client asks for.
    fn upgrade(
        &mut self,
        downstream: &Downstream,
        head: &mut request::Parts,
    ) -> Result<Upgrade, Reason> {
        let upgrade = match (&head.method, downstream.extended_connect()) {
            (&Method::CONNECT, Some("websocket")) => Upgrade::ExtendedWebSocket,
            (&Method::CONNECT | &Method::TRACE, _) => return Err(Reason::MethodNotAllowed),
            // An upgrade is ignored, as RFC 9110 7.8 allows, where HTTP/2 has none, and where a body comes first: a backend
            // that did not switch would have to tell that body from the tunnel.
            _ if downstream.is_http2() || !downstream.body_is_empty() => Upgrade::None,
            _ => Upgrade::of_http1(head),
        };
        if upgrade == Upgrade::ExtendedWebSocket {
            // The GET of RFC 6455 in another form: to routes, CORS and the log it is one.
            head.method = Method::GET;
            self.record.set_method(Method::GET);
        }
        Ok(upgrade)
    }

    /// The plan of a route, and the path of the match that won.
    fn found(
        &mut self,
        found: &Found<'s, PreparedRoute>,
    ) -> Result<(&'s PreparedRoute, &'s PathMatch), Reason> {
        self.record.route = Some(found.route.key());
        let route = found.route.route();
        let matched = route.matches.get(found.match_index);
        let matched = matched.ok_or(Reason::NoRoute)?;
        Ok((found.route.payload(), &matched.path))
    }

    /// Does what a route says.
    async fn follow(
        &mut self,
        downstream: &mut Downstream,
        head: &mut request::Parts,
        target: &Rc<Target>,
        upgrade: Upgrade,
        (plan, matched): (&'s PreparedRoute, &'s PathMatch),
    ) -> Result<(), Reason> {
        let cors = plan
            .cors
            .as_deref()
            .map(|cors| (cors, cors.check(&head.method, &head.headers)));
        if let Some((policy, outcome)) = cors.as_ref().filter(|(_, outcome)| outcome.preflight) {
            return self
                .answer(downstream, policy.preflight(outcome, &head.headers))
                .await;
        }
        match &plan.action {
            PreparedAction::Respond(status, reason) => {
                self.respond(downstream, *reason, *status).await
            }
            PreparedAction::Redirect(redirect) => {
                let location = redirect::location(redirect, self.redirected(head, target), matched)
                    .ok_or(Reason::BadRequest)?;
                let mut answer = reply::redirect(redirect.status, location)?;
                respond_filters(&mut answer, plan, cors.as_ref().map(|(_, outcome)| outcome));
                self.answer(downstream, answer).await
            }
            PreparedAction::Forward(choice) => {
                let backend = choice.pick().ok_or(Reason::InvalidBackend)?;
                let request = forward::Request {
                    plan,
                    backend,
                    cors: cors.map(|(_, outcome)| outcome),
                    upgrade,
                };
                let external = match &backend.destination {
                    PreparedDestination::Cluster(cluster) => {
                        let fence = match &self.outgoing {
                            Some(_) => Some(self.ask_policies(head, target)?),
                            None => None,
                        };
                        self.limit_body(head)?;
                        self.forwarded_head(head, target, matched, &request)?;
                        self.record.cluster = Some(cluster);
                        let prepared = self.prepare(downstream, head, &request, fence.as_ref());
                        let towards = Towards::Cluster(cluster, fence);
                        let mut timeouts = Timeouts::new(plan);
                        let done = self
                            .forward(
                                downstream,
                                head,
                                &request,
                                prepared,
                                &towards,
                                &mut timeouts,
                            )
                            .await;
                        if done == Err(Reason::AddressRefused) {
                            self.fenced_out(target);
                        }
                        return done;
                    }
                    PreparedDestination::External(external) => Some(&**external),
                    PreparedDestination::Requested => None,
                    PreparedDestination::Invalid => return Err(Reason::InvalidBackend),
                };
                self.limit_body(head)?;
                // Boxed: ingress should not hold the room that only this needs.
                Box::pin(self.forward_outside(downstream, head, target, matched, request, external))
                    .await
            }
        }
    }

    /// The listener by host, then its best route. HTTP listener isolation: no other listener is asked.
    fn route(
        &mut self,
        port: &'s CompiledPort<PreparedRoute>,
        head: &request::Parts,
        target: &Target,
    ) -> Result<Found<'s, PreparedRoute>, Reason> {
        // The connection may be older than the port's present listeners.
        if self.connection.tls != (port.protocol() == ListenerProtocol::Https) {
            return Err(Reason::Misdirected);
        }
        let listener = port.listener_for(&target.host);
        // Requests for another listener do not belong on a connection, be it by HTTP/2 coalescing or by intent (GEP-3567).
        if !self.is_made_for(&target.host, listener, port) {
            return Err(Reason::Misdirected);
        }
        let listener = listener.ok_or(Reason::NoRoute)?;
        self.record.listener = Some(listener.key());
        if listener.listener().needs_client_certificate() && !self.is_authenticated(listener.key())
        {
            return Err(Reason::ClientCertificate);
        }
        let request = RequestHead {
            host: &target.host,
            path: &target.path,
            query: head.uri.query(),
            method: &head.method,
            headers: &head.headers,
        };
        listener.lookup(&request).ok_or(Reason::NoRoute)
    }

    /// Whether the host's listener is the one that the connection's SNI names. Both are asked of the present table: what a
    /// listener was called at the handshake says nothing about the host.
    fn is_made_for(
        &self,
        host: &str,
        listener: Option<&Arc<CompiledListener<PreparedRoute>>>,
        port: &CompiledPort<PreparedRoute>,
    ) -> bool {
        match (self.connection.sni.as_deref(), listener) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(sni), Some(listener)) => {
                *sni == *host
                    || port
                        .listener_for(sni)
                        .is_some_and(|named| named.key() == listener.key())
            }
        }
    }

    /// Whether the port has changed since the connection was made, so that its client does better with a new one: another
    /// protocol is spoken there, or its name belongs to another listener.
    fn is_outdated(&self) -> bool {
        let connection = self.connection;
        let Some(port) = self.snapshot.compiled.port(connection.port) else {
            return true;
        };
        let present = connection
            .sni
            .as_deref()
            .and_then(|sni| port.listener_for(sni));
        let same_name = connection.sni.is_none()
            || present.map(|listener| listener.key()) == connection.sni_listener.as_ref();
        !same_name || connection.tls != (port.protocol() == ListenerProtocol::Https)
    }

    /// Asked of every request: the connection may be older than the CAs, or its client may have named no host and got another
    /// listener.
    fn is_authenticated(&self, listener: &ListenerKey) -> bool {
        let shown = self.connection.identity.as_ref();
        shown
            .zip(self.snapshot.tls.identity(listener))
            .is_some_and(|(shown, wanted)| shown.satisfies(wanted))
    }

    fn redirected<'r>(
        &self,
        head: &'r request::Parts,
        target: &'r Target,
    ) -> RedirectedRequest<'r> {
        RedirectedRequest {
            scheme: if self.connection.tls { "https" } else { "http" },
            host: &target.host,
            listener_port: self.connection.port,
            path: &target.path,
            query: head.uri.query(),
        }
    }

    /// Request filters, once per request: first the hop, then the rule's filters, then the backend's.
    fn forwarded_head(
        &mut self,
        head: &mut request::Parts,
        target: &Target,
        matched: &PathMatch,
        request: &forward::Request<'_>,
    ) -> Result<(), Reason> {
        let trusted_hops = self.snapshot.settings().client_address.trusted_hops;
        let peer = self.connection.client.ip();
        self.record
            .client(head::client_address(&head.headers, peer, trusted_hops));
        let client = Client {
            address: &self.connection.client_text,
            tls: self.connection.tls,
            trusted_hops,
        };
        head::to_upstream(head, target, request.upgrade, client)?;
        self.record.request_id(head::request_id_of(head));
        filter_request(head, matched, request.plan, request.backend)
    }

    fn limit_body(&self, head: &request::Parts) -> Result<(), Reason> {
        let length = head
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        match (length, self.snapshot.settings().limits.max_body_bytes) {
            (Some(length), Some(limit)) if length > limit => Err(Reason::BodyTooLarge),
            _ => Ok(()),
        }
    }

    /// Ends an exchange that went wrong: with an answer if none has begun, else by breaking off.
    async fn fail(&mut self, downstream: &mut Downstream, reason: Reason) {
        self.record.reason(reason);
        self.never_decided(reason);
        if self.record.answered() || reason == Reason::ClientGone {
            return downstream.reset();
        }
        // The rest of the request is of no use to anybody. Whoever sends a path that others would read differently is not
        // listened to any longer, as with every ambiguity; a connection made for something else is not needed here.
        // What comes behind a CONNECT was meant for a tunnel.
        let ends = matches!(reason, Reason::BadPath | Reason::Misdirected)
            || self.record.method() == Method::CONNECT;
        let is_useless = match reason {
            Reason::ClientCertificate => true,
            Reason::Misdirected => self.is_outdated(),
            _ => false,
        };
        if is_useless {
            downstream.retire();
        }
        if ends || !downstream.body_is_empty() {
            downstream.close_after();
        }
        if self
            .respond(downstream, reason, reason.status())
            .await
            .is_err()
        {
            downstream.reset();
        }
    }

    async fn respond(
        &mut self,
        downstream: &mut Downstream,
        reason: Reason,
        status: StatusCode,
    ) -> Result<(), Reason> {
        self.record.reason(reason);
        let (head, body) = match self.refusal.take() {
            Some(refusal) => reply::in_words(refusal.told, status, refusal.body),
            None => reply::local(reason, status),
        };
        let without_body = self.record.method() == Method::HEAD;
        self.record.status(head.status);
        downstream
            .send_head(head, without_body)
            .await
            .map_err(|error| error.reason())?;
        if !without_body {
            self.record.sent(body.len());
            downstream
                .send_body(body)
                .await
                .map_err(|error| error.reason())?;
            downstream
                .finish(None)
                .await
                .map_err(|error| error.reason())?;
        }
        downstream.flushed().await.map_err(|error| error.reason())
    }

    /// An answer without a body.
    async fn answer(
        &mut self,
        downstream: &mut Downstream,
        head: response::Parts,
    ) -> Result<(), Reason> {
        self.record.status(head.status);
        downstream
            .send_head(head, true)
            .await
            .map_err(|error| error.reason())?;
        downstream.flushed().await.map_err(|error| error.reason())
    }
}

/// Applies request filters: those of the rule, then those of the backend. `matched` is the path of the match that won.
pub fn filter_request(
    head: &mut request::Parts,
    matched: &PathMatch,
    plan: &PreparedRoute,
    backend: &PreparedBackend,
) -> Result<(), Reason> {
    for filters in [&plan.request, &backend.request] {
        if let Some(rewrite) = &filters.rewrite {
            head::rewrite(head, rewrite, matched)?;
        }
        for modifier in &filters.headers {
            modifier.apply(&mut head.headers);
        }
    }
    Ok(())
}

/// Response filters of the rule: they have the last word, after the backend's.
fn respond_filters(head: &mut response::Parts, plan: &PreparedRoute, cors: Option<&CorsOutcome>) {
    for modifier in &plan.response {
        modifier.apply(&mut head.headers);
    }
    if let (Some(policy), Some(outcome)) = (&plan.cors, cors) {
        policy.apply_response(outcome, head);
    }
}
