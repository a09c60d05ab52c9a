//! Requests that leave the cluster: from what the client names to a host outside, if the client may reach it.
//!
//! Destination in normal form -> HTTPRoute of the listener, if one takes the request -> its filters -> decision -> addresses,
//! all of them checked -> a connection to one of these.

use std::{pin::pin, rc::Rc};

use http::{Method, header, request, uri::Scheme};
use portcullis_routing::{
    CompiledListener, CompiledPort, ListenerProtocol, PathMatch, RequestHead,
    egress::{CompiledEgress, Decision, DecisionReason, EntryProtocol, Question, Seen, Verdict},
};

pub use super::destination::Wanted;
use super::{
    Exchange,
    destination::{Requested, authority, normal},
    fence::Fence,
    filter_request,
    forward::{self, Outside, Towards},
    head::{self, Target},
    timeouts::Timeouts,
    watch::{Leave, Watch},
};
use crate::{
    downstream::Downstream,
    egress::{
        Identity, Ruling,
        event::{Blamed, Departure, Form},
        guard::{Checked, Guard},
        refusal::Refusal,
    },
    plan::{PreparedExternal, PreparedRoute},
    reason::Reason,
    upstream::{ExternalHost, HostTls, usual},
};

/// Told of a path that policies cannot be held against.
const AMBIGUOUS: &str = "the path can be read in several ways";

/// What is to be told of a request that wants to leave.
pub(super) struct Outgoing<'s> {
    pub(super) egress: &'s CompiledEgress,
    pub(super) caller: Option<Rc<Identity>>,
    form: Form,
    pub(super) requested: Requested,
    /// The host that a route puts in place of the requested one, and its port.
    routed: Option<(&'s str, u16)>,
    pub(super) ruling: Option<Ruling<'s>>,
    /// The particulars of a refusal.
    pub(super) detail: Option<Box<str>>,
    /// What policies are against, if that is not the destination as such.
    blamed: Option<Blamed>,
}

/// A question that was answered with yes.
pub(super) struct Granted<'s> {
    pub(super) decision: Decision<'s>,
    pub(super) checked: Checked,
}

impl<'s> Exchange<'s> {
    /// Begins what is to be told of a request that wants to leave.
    pub(super) fn begin_outgoing(
        &mut self,
        downstream: &Downstream,
        head: &request::Parts,
    ) -> Result<(), Reason> {
        let egress = self.snapshot.compiled.egress().ok_or(Reason::NoRoute)?;
        let address = self.connection.client.ip();
        let pinned = self.connection.pinned.get();
        let known = pinned.map_or(&self.connection.caller, |pin| &pin.caller);
        let caller = match known {
            // What a token said in a CONNECT holds for as long as the token.
            Some(known) if known.remaining().is_some_and(|left| left.is_zero()) => None,
            Some(known) => known.renewed(self.snapshot, address),
            None => Identity::of_address(egress, address),
        };
        let is_absolute = !self.connection.http2 && head.uri.authority().is_some();
        self.outgoing = Some(Box::new(Outgoing {
            egress,
            caller,
            form: match (is_connect(downstream, head), is_absolute) {
                (true, _) => Form::Connect,
                (false, true) => Form::Absolute,
                (false, false) => Form::Host,
            },
            requested: Requested {
                address: None,
                port: None,
            },
            routed: None,
            ruling: None,
            detail: None,
            blamed: None,
        }));
        Ok(())
    }

    /// What the client wants to reach, in normal form. That target and `Host` agree was checked with the framing.
    pub(super) fn destination(
        &mut self,
        downstream: &Downstream,
        head: &request::Parts,
        raw: Target,
    ) -> Result<Rc<Target>, Reason> {
        let usual_port = (!is_connect(downstream, head)).then(|| self.usual_port(head));
        let normal = match normal(&raw, usual_port) {
            Ok(normal) => normal,
            Err(why) => {
                self.record.target(&Rc::new(raw));
                let (ruling, words) = (Ruling::refused(Reason::BadDestination), &why);
                self.refuse(
                    ruling,
                    Reason::BadDestination,
                    Refusal::no_destination(words),
                );
                if let Some(outgoing) = &mut self.outgoing {
                    outgoing.detail = Some(why.into());
                }
                return Err(Reason::BadDestination);
            }
        };
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.requested = normal.requested;
        }
        let target = Rc::new(raw.of_destination(normal.respelled, normal.authority));
        self.record.target(&target);
        self.believe(head)?;
        self.check_pin(&target)?;
        Ok(target)
    }

    /// A request that is refused before anything was asked about it: that is told as well. Who is gone, or has left off, was refused
    /// nothing.
    pub(super) fn never_decided(&mut self, reason: Reason) {
        let is_refusal = !matches!(reason, Reason::ClientGone | Reason::RequestTimeout);
        if let Some(outgoing) = &mut self.outgoing
            && is_refusal
        {
            outgoing
                .ruling
                .get_or_insert_with(|| Ruling::refused(reason));
        }
    }

    /// Believes the token that came with the request, if it has to be known: a certificate says as much, and what is said in a
    /// tunnel is not for us.
    fn believe(&mut self, head: &request::Parts) -> Result<(), Reason> {
        let is_known = self.connection.pinned.get().is_some()
            || matches!(
                self.connection.caller.as_deref(),
                Some(Identity::Certificate(..))
            );
        let keys = self.snapshot.token_keys.as_ref().filter(|_| !is_known);
        let Some((keys, outgoing)) = keys.zip(self.outgoing.as_mut()) else {
            return Ok(());
        };
        match self.worker.egress.tokens.account(keys, &head.headers) {
            Ok(None) => Ok(()),
            Ok(Some(account)) => {
                let address = self.connection.client.ip();
                outgoing.caller = Some(Identity::of_token(outgoing.egress, account, address));
                Ok(())
            }
            Err(fault) => {
                outgoing.caller = None;
                outgoing.detail = Some(fault.to_string().into());
                let refusal = Refusal::bad_token(&fault, keys.audience());
                self.refuse(Ruling::refused(Reason::BadToken), Reason::BadToken, refusal);
                Err(Reason::BadToken)
            }
        }
    }

    /// The port of a destination that names none: the one of the scheme that the client names, else of what it speaks.
    fn usual_port(&self, head: &request::Parts) -> u16 {
        // In any case of letters, which `Scheme` tells apart.
        let is_tls = match head.uri.scheme_str() {
            Some(scheme) => scheme.eq_ignore_ascii_case(Scheme::HTTPS.as_str()),
            None => self.is_encrypted(),
        };
        if is_tls { 443 } else { 80 }
    }

    /// Whether the client speaks TLS with us for the sake of the request. In a tunnel to a port of clear HTTP that was for the
    /// CONNECT.
    pub(super) fn is_encrypted(&self) -> bool {
        self.connection.tls && self.connection.pinned.get().is_none()
    }

    /// Whether the connection is for this destination, if it is for a certain one.
    fn check_pin(&mut self, target: &Target) -> Result<(), Reason> {
        let Some(pin) = self.connection.pinned.get() else {
            return Ok(());
        };
        let port = self.outgoing.as_ref().and_then(|it| it.requested.port);
        if *pin.host == *target.host && port == Some(pin.port) {
            return Ok(());
        }
        let ruling = Ruling::refused(Reason::AuthorityMismatch);
        let refusal = Refusal::not_pinned(&target.host, pin);
        self.refuse(ruling, Reason::AuthorityMismatch, refusal);
        Err(Reason::AuthorityMismatch)
    }

    /// Notes a refusal that is not the table's.
    pub(super) fn refuse(&mut self, ruling: Ruling<'s>, reason: Reason, refusal: Refusal) {
        self.refusal = Some(Box::new(refusal));
        if let Some(outgoing) = &mut self.outgoing {
            outgoing.ruling = Some(Ruling {
                verdict: Verdict::Refuse,
                reason: reason.code(),
                ..ruling
            });
        }
    }

    /// What the request follows: a route of the listener that takes the caller's requests, else straight to the host that it names.
    pub(super) fn outward(
        &mut self,
        port: &'s CompiledPort<PreparedRoute>,
        head: &request::Parts,
        target: &Target,
    ) -> Result<(&'s PreparedRoute, &'s PathMatch), Reason> {
        let listener = self.egress_listener(port, target)?;
        let request = RequestHead {
            host: &target.host,
            path: &target.path,
            query: head.uri.query(),
            method: &head.method,
            headers: &head.headers,
        };
        let outgoing = self.outgoing.as_ref();
        let caller = outgoing.and_then(|outgoing| outgoing.caller.as_deref());
        if let Some(found) = listener.lookup_of(caller.map(Identity::namespace), &request) {
            return self.found(&found);
        }
        let egress = &self.worker.egress;
        Ok((&egress.route, &egress.path))
    }

    /// The listener that takes what wants to leave.
    pub(super) fn egress_listener(
        &mut self,
        port: &'s CompiledPort<PreparedRoute>,
        target: &Target,
    ) -> Result<&'s CompiledListener<PreparedRoute>, Reason> {
        // The connection may be older than the port's present listeners.
        if self.connection.tls != (port.protocol() == ListenerProtocol::Https) {
            return Err(Reason::Misdirected);
        }
        // Over TLS the client may have named the proxy, and not where it wants to go.
        let listener = match &self.connection.sni_listener {
            Some(key) => {
                let name = self.connection.sni.as_deref().unwrap_or_default();
                let named = port.listener_for(name);
                named.filter(|listener| listener.key() == key)
            }
            None => port.listener_for(&target.host),
        };
        let listener = listener.ok_or(Reason::NoRoute)?;
        self.record.listener = Some(listener.key());
        if listener.listener().needs_client_certificate() && !self.is_authenticated(listener.key())
        {
            return Err(Reason::ClientCertificate);
        }
        Ok(listener)
    }

    /// Forwards to a host outside: the one of `external`, else the requested one.
    pub(super) async fn forward_outside(
        &mut self,
        downstream: &mut Downstream,
        head: &mut request::Parts,
        target: &Rc<Target>,
        matched: &PathMatch,
        request: forward::Request<'s>,
        external: Option<&'s PreparedExternal>,
    ) -> Result<(), Reason> {
        head::to_outside(head, target, request.upgrade)?;
        filter_request(head, matched, request.plan, request.backend)?;
        let mut timeouts = Timeouts::new(request.plan);
        let listener = self.record.listener.ok_or(Reason::NoRoute)?;
        let host = self.wanted_host(target, external)?;
        let seen = Seen::Request {
            method: head.method.as_str(),
            path: head.uri.path(),
            encrypted: self.is_encrypted(),
        };
        let granted = self
            .ask(downstream, seen, &host, external, &mut timeouts)
            .await?;
        let tls = self.tls(&granted.decision, host.port);
        let opened = granted.decision.opened;
        let caller = self.outgoing.as_ref().and_then(|it| it.caller.as_deref());
        let caller = caller.map_or("", Identity::namespace);
        let wanted = ExternalHost {
            entry: opened.map(|opened| (opened.key, opened.entry)),
            host: host.name,
            port: host.port,
            http2: match opened.map(|opened| opened.port.protocol) {
                Some(EntryProtocol::Http) => false,
                Some(EntryProtocol::Http2 | EntryProtocol::Grpc) => true,
                // What a host that no entry opens speaks in clear is not for the client's way to us to say.
                Some(_) | None => tls.is_some(),
            },
            tls,
        };
        let found = self.worker.upstreams.external(&wanted, caller);
        let outside = found.map_err(|error| error.kind)?;
        // Whatever filters made of it: the host that was decided on is the host that is asked.
        let authority = match external {
            None => target.authority.clone(),
            Some(_) => authority(host.name, host.port, if tls.is_some() { 443 } else { 80 })?,
        };
        head.headers.insert(header::HOST, authority);
        self.record.external = Some(outside.key().clone());
        let fence = match &*request.plan.mirrors {
            [] => None,
            _ => Some(self.fence(head, target)?),
        };
        let prepared = self.prepare(downstream, head, &request, fence.as_ref());
        let head = &*head;
        let outside = Outside {
            external: outside,
            watch: Watch::new(Leave {
                worker: self.worker,
                granted_by: self.snapshot,
                connection: self.connection,
                entrance: self.connection.entrance(listener, &target.host),
                caller: self.outgoing.as_ref().and_then(|it| it.caller.clone()),
                host,
                method: &head.method,
                path: head.uri.path(),
                encrypted: self.is_encrypted(),
                entry: external.map(|external| &external.entry),
                since: self.record.started(),
                checked: granted.checked,
            }),
        };
        let towards = Towards::Outside(&outside);
        let ended = {
            let done = self.forward(
                downstream,
                head,
                &request,
                prepared,
                &towards,
                &mut timeouts,
            );
            let done = pin!(done);
            // First whether it may go on: what is ready to be sent is not sent when it may not.
            tokio::select! {
                biased;
                reason = outside.watch.ends() => Err(reason),
                done = done => done,
            }
        };
        if let (Err(Reason::Revoked), Some(outgoing)) = (ended, &mut self.outgoing) {
            outgoing.ruling = Some(Ruling {
                verdict: Verdict::Refuse,
                reason: Reason::Revoked.code(),
                ..Ruling::of(&granted.decision)
            });
        }
        ended
    }

    /// The host that is to be reached.
    pub(super) fn wanted_host<'t>(
        &mut self,
        target: &'t Target,
        external: Option<&'s PreparedExternal>,
    ) -> Result<Wanted<'t>, Reason>
    where
        's: 't,
    {
        // Without it the listener is one of ingress.
        let outgoing = self.outgoing.as_mut().ok_or(Reason::InvalidBackend)?;
        let requested = Wanted {
            name: &target.host,
            address: outgoing.requested.address,
            port: outgoing.requested.port.ok_or(Reason::BadDestination)?,
        };
        let Some(external) = external else {
            return Ok(requested);
        };
        if let Some(name) = external.host.as_deref() {
            outgoing.routed = Some((name, external.port));
        }
        Ok(requested.through(external))
    }

    /// Asks the table, then DNS. Whatever the answer is stays to be told.
    pub(super) async fn ask(
        &mut self,
        downstream: &mut Downstream,
        seen: Seen<'_>,
        host: &Wanted<'_>,
        external: Option<&PreparedExternal>,
        timeouts: &mut Timeouts,
    ) -> Result<Granted<'s>, Reason> {
        let audience = self.audience();
        let outgoing = self.outgoing.as_deref_mut();
        let outgoing = outgoing.ok_or(Reason::InvalidBackend)?;
        let egress = outgoing.egress;
        let question = host.question(outgoing.caller.as_deref(), seen);
        // A route leads through its own entry only: what it adds to a request is meant for where that one leads.
        let decision = match external {
            Some(external) => egress.decide_through(&external.entry, &question),
            None => Some(egress.decide(&question)),
        };
        let Some(decision) = decision else {
            outgoing.ruling = Some(Ruling::refused(Reason::InvalidBackend));
            return Err(Reason::InvalidBackend);
        };
        outgoing.ruling = Some(Ruling::of(&decision));
        outgoing.blamed = Blamed::of(&decision, &seen);
        if decision.verdict != Verdict::Allow && seen.is_ambiguous() {
            outgoing.detail = Some(AMBIGUOUS.into());
        }
        if decision.verdict == Verdict::Refuse {
            let caller = outgoing.caller.as_deref();
            let (refusal, reason) = refused(&question, &decision, caller, audience);
            self.refusal = Some(Box::new(refusal));
            return Err(reason);
        }
        let guard = Guard {
            egress,
            resolver: &self.worker.egress.resolver,
            own: &self.worker.egress.own,
            local: self.connection.local.ip(),
        };
        let checking = pin!(guard.check(&question, decision.opened));
        let checked = timeouts.wait(downstream, checking).await?;
        let checked = checked.map_err(|obstacle| {
            outgoing.detail = Some(obstacle.to_string().into());
            self.refusal = Some(Box::new(Refusal::of_addresses(&question, &obstacle)));
            let reason = obstacle.reason();
            if obstacle.is_refusal() {
                outgoing.ruling = Some(Ruling {
                    verdict: Verdict::Refuse,
                    reason: reason.code(),
                    ..Ruling::of(&decision)
                });
            }
            reason
        })?;
        Ok(Granted { decision, checked })
    }

    /// Asks policies about a request that a route leads to a backend of the cluster: about what the client names, whatever
    /// filters will make of it. Its copies go where the same route leads, so this is for them too, and so is what is given: to which
    /// endpoints it may be led.
    pub(super) fn ask_policies(
        &mut self,
        head: &request::Parts,
        target: &Rc<Target>,
    ) -> Result<Rc<Fence>, Reason> {
        let host = self.wanted_host(target, None)?;
        let encrypted = self.is_encrypted();
        let seen = Seen::Request {
            method: head.method.as_str(),
            path: &target.path,
            encrypted,
        };
        let audience = self.audience();
        let outgoing = self.outgoing.as_deref_mut();
        let outgoing = outgoing.ok_or(Reason::InvalidBackend)?;
        let question = host.question(outgoing.caller.as_deref(), seen);
        let decision = outgoing.egress.decide_inside(&question);
        outgoing.ruling = Some(Ruling::of(&decision));
        outgoing.blamed = Blamed::of(&decision, &seen);
        if decision.verdict == Verdict::Refuse {
            let caller = outgoing.caller.as_deref();
            let (refusal, reason) = refused(&question, &decision, caller, audience);
            self.refusal = Some(Box::new(refusal));
            return Err(reason);
        }
        self.fence(head, target)
    }

    /// The audience of the tokens that a caller who is not known can be asked for. In a tunnel the host would be taken to ask.
    fn audience(&self) -> Option<&'s str> {
        let keys = self.snapshot.token_keys.as_ref();
        let keys = keys.filter(|_| self.connection.pinned.get().is_none());
        keys.map(|keys| keys.audience())
    }

    /// TLS that the proxy begins: as the entry says, else as is usual because the client came over TLS, or for the port.
    fn tls(&self, decision: &Decision<'s>, port: u16) -> Option<HostTls<'s>> {
        let usual = HostTls {
            server_name: None,
            configs: usual(),
        };
        let Some(opened) = decision.opened else {
            return (port == 443).then_some(usual);
        };
        if let Some(place) = opened.port.tls {
            let tls = opened.entry.tls_of(opened.port);
            let policies = &self.snapshot.backend_tls;
            return Some(HostTls {
                server_name: tls.and_then(|tls| tls.server_name.as_deref()),
                configs: policies.of_entry(opened.key, place),
            });
        }
        let is_usual = self.is_encrypted() && opened.port.protocol == EntryProtocol::Https;
        is_usual.then_some(usual)
    }

    /// Counts and logs what wanted to leave. Nothing, if a route had another answer for it.
    pub(super) fn tell(&self, outgoing: &Outgoing<'s>) {
        let Some(ruling) = outgoing.ruling else {
            return;
        };
        self.worker
            .metrics
            .egress_decision(&self.snapshot.labels, &ruling);
        let requested = self.record.departure(ruling);
        let departure = Departure {
            gateway: self.snapshot.compiled.table().gateway.as_str(),
            caller: outgoing.caller.as_deref(),
            form: outgoing.form,
            host: outgoing.routed.map_or(requested.host, |(host, _)| host),
            port: outgoing
                .routed
                .map(|(_, port)| port)
                .or(outgoing.requested.port),
            sni: self.connection.sni.as_deref(),
            detail: outgoing.detail.as_deref(),
            // Who connects, whatever the client says of others.
            client: self.connection.client.ip(),
            ..requested
        };
        if departure.is_wanted(outgoing.egress.settings().decision_log) {
            let line = departure.line().blaming(outgoing.blamed.as_ref());
            self.worker.access_log.write(&line);
        }
    }
}

fn is_connect(downstream: &Downstream, head: &request::Parts) -> bool {
    head.method == Method::CONNECT && downstream.extended_connect().is_none()
}

/// What a caller is told that is refused. Some clients send credentials only when they are asked for them (RFC 9110 11.7.1); who
/// has shown good ones has no better.
fn refused(
    question: &Question<'_>,
    decision: &Decision<'_>,
    caller: Option<&Identity>,
    audience: Option<&str>,
) -> (Refusal, Reason) {
    let asks = caller.is_none() && decision.reason == DecisionReason::UnknownCaller;
    match audience.filter(|_| asks) {
        Some(audience) => (
            Refusal::no_token(question, decision, audience),
            Reason::TokenNeeded,
        ),
        None => (
            Refusal::decided(question, decision, caller),
            decision.reason.into(),
        ),
    }
}
