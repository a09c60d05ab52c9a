//! Requests that leave the cluster: from what the client names to a host outside, if the client may reach it.
//!
//! Destination in normal form -> HTTPRoute of the listener, if one takes the request -> its filters -> decision -> addresses,
//! all of them checked -> a connection to one of these.

use std::{borrow::Cow, net::IpAddr, pin::pin, rc::Rc};

use http::{HeaderValue, Method, header, request, uri::Scheme};
use portcullis_routing::{
    CompiledListener, CompiledPort, ListenerProtocol, PathMatch, RequestHead,
    egress::{
        CompiledEgress, Decision, DecisionReason, Destination, EntryProtocol, EntryTls, Question,
        Seen, Verdict,
        host::{Authority, Host},
    },
};

use super::{
    Exchange, filter_request,
    forward::{self, Towards, reason_of},
    head::{self, Target},
    timeouts::Timeouts,
};
use crate::{
    downstream::Downstream,
    egress::{
        Identity, Ruling,
        event::{Departure, Form},
        guard::{Checked, Guard, Obstacle},
        refusal::Refusal,
    },
    plan::{PreparedExternal, PreparedRoute},
    reason::Reason,
    upstream::ExternalHost,
};

/// TLS that is begun because the client came over TLS: for the host that it names, verified.
static USUAL_TLS: EntryTls = EntryTls {
    server_name: None,
    ca_pem: Vec::new(),
    subject_alt_names: Vec::new(),
    client_certificate: None,
};

/// What is to be told of a request that wants to leave.
pub(super) struct Outgoing<'s> {
    egress: &'s CompiledEgress,
    pub(super) caller: Option<Identity>,
    form: Form,
    requested: Requested,
    /// The host that a route puts in place of the requested one, and its port.
    routed: Option<(&'s str, u16)>,
    ruling: Option<Ruling<'s>>,
    /// The particulars of a refusal.
    detail: Option<Box<str>>,
}

/// The host that the client names. Its name, if it has one, is the request's target's.
#[derive(Clone, Copy)]
struct Requested {
    address: Option<IpAddr>,
    port: Option<u16>,
}

/// A question that was answered with yes.
pub(super) struct Granted<'s> {
    pub(super) decision: Decision<'s>,
    pub(super) checked: Checked,
}

impl<'s> Exchange<'s> {
    /// What the client wants to reach, in normal form. That target and `Host` agree was checked with the framing.
    pub(super) fn destination(
        &mut self,
        downstream: &Downstream,
        head: &request::Parts,
        raw: Target,
    ) -> Result<Rc<Target>, Reason> {
        let egress = self.snapshot.compiled.egress().ok_or(Reason::NoRoute)?;
        let address = self.connection.client.ip();
        let pinned = self.connection.pinned.get();
        let known = pinned.map_or(&self.connection.caller, |pin| &pin.caller);
        let known = known.clone();
        let is_connect = head.method == Method::CONNECT && downstream.extended_connect().is_none();
        let is_absolute = !self.connection.http2 && head.uri.authority().is_some();
        let mut outgoing = Outgoing {
            egress,
            caller: known.or_else(|| Identity::of_address(egress, address)),
            form: match (is_connect, is_absolute) {
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
        };
        let usual_port = (!is_connect).then(|| self.usual_port(head));
        let normal = normal(&raw, usual_port);
        let target = Rc::new(match normal {
            Ok(normal) => {
                outgoing.requested = normal.requested;
                raw.of_destination(normal.respelled, normal.authority)
            }
            Err(why) => {
                self.refusal = Some(Box::new(Refusal::no_destination(&why)));
                outgoing.ruling = Some(Ruling::refused(Reason::BadDestination));
                outgoing.detail = Some(why.into());
                raw
            }
        });
        self.record.target(&target);
        let is_bad = outgoing.ruling.is_some();
        self.outgoing = Some(Box::new(outgoing));
        if is_bad {
            return Err(Reason::BadDestination);
        }
        self.believe(head)?;
        self.check_pin(&target)?;
        Ok(target)
    }

    /// Believes the token that came with the request, if it has to be known: a certificate says as much, and what is said in a
    /// tunnel is not for us.
    fn believe(&mut self, head: &request::Parts) -> Result<(), Reason> {
        let is_known = self.connection.pinned.get().is_some()
            || matches!(self.connection.caller, Some(Identity::Certificate(_)));
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
        let is_tls = match head.uri.scheme() {
            Some(scheme) => *scheme == Scheme::HTTPS,
            None => self.is_encrypted(),
        };
        if is_tls { 443 } else { 80 }
    }

    /// Whether the client speaks TLS with us for the sake of the request. In a tunnel to a port of clear HTTP that was for the
    /// CONNECT.
    fn is_encrypted(&self) -> bool {
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

    /// What the request follows: a route of the listener, else straight to the host that it names.
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
        if let Some(found) = listener.lookup(&request) {
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
            Some(key) => port.listeners().find(|listener| listener.key() == key),
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
        target: &Target,
        matched: &PathMatch,
        request: forward::Request<'s>,
        external: Option<&'s PreparedExternal>,
    ) -> Result<(), Reason> {
        head::to_outside(head, target, request.upgrade)?;
        filter_request(head, matched, &request)?;
        let mut timeouts = Timeouts::new(request.plan);
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
        let found = self.worker.upstreams.external(&ExternalHost {
            entry: opened.map(|opened| (opened.key, opened.entry)),
            host: host.name,
            port: host.port,
            http2: match opened.map(|opened| opened.port.protocol) {
                Some(EntryProtocol::Http) => false,
                Some(EntryProtocol::Http2 | EntryProtocol::Grpc) => true,
                Some(_) => tls.is_some(),
                None => tls.is_some() || downstream.is_http2(),
            },
            tls,
            client: tls
                .and_then(|tls| tls.client_certificate.as_ref())
                .and_then(|key| self.snapshot.certificates.get(key)),
        });
        let outside = found.map_err(|error| reason_of(error.kind))?;
        // Whatever filters made of it: the host that was decided on is the host that is asked.
        let authority = match external {
            None => target.authority.clone(),
            Some(_) => authority(host.name, host.port, if tls.is_some() { 443 } else { 80 })?,
        };
        head.headers.insert(header::HOST, authority);
        self.record.external = Some(outside.key().clone());
        let towards = Towards::Outside(outside, granted.checked);
        self.forward(downstream, head, &request, &towards, &mut timeouts)
            .await
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
        let Some(name) = external.host.as_deref() else {
            return Ok(Wanted {
                port: external.port,
                ..requested
            });
        };
        outgoing.routed = Some((name, external.port));
        Ok(Wanted {
            name,
            address: None,
            port: external.port,
        })
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
        let outgoing = self.outgoing.as_deref_mut();
        let outgoing = outgoing.ok_or(Reason::InvalidBackend)?;
        let egress = outgoing.egress;
        let question = Question {
            destination: host
                .address
                .map_or(Destination::Name(host.name), Destination::Address),
            port: host.port,
            caller: outgoing.caller.as_ref().map(Identity::caller),
            seen,
        };
        let decision = egress.decide(&question);
        outgoing.ruling = Some(Ruling::of(&decision));
        if decision.verdict == Verdict::Refuse {
            // Some clients send credentials only when they are asked for them (RFC 9110 11.7.1). In a tunnel the host would be
            // taken to ask.
            let keys = self.snapshot.token_keys.as_ref().filter(|_| {
                decision.reason == DecisionReason::UnknownCaller
                    && self.connection.pinned.get().is_none()
            });
            let (refusal, reason) = match keys {
                Some(keys) => (
                    Refusal::no_token(&question, keys.audience()),
                    Reason::TokenNeeded,
                ),
                None => (
                    Refusal::decided(&question, &decision, outgoing.caller.as_ref()),
                    decision.reason.into(),
                ),
            };
            self.refusal = Some(Box::new(refusal));
            return Err(reason);
        }
        // A route leads through its own entry only: what it adds to a request is meant for where that one leads.
        let strays = |external: &PreparedExternal| {
            decision
                .opened
                .is_none_or(|opened| *opened.key != external.entry)
        };
        if external.is_some_and(strays) {
            return Err(Reason::InvalidBackend);
        }
        let guard = Guard {
            egress,
            resolver: &self.worker.egress.resolver,
            local: self.connection.local.ip(),
        };
        let checking = pin!(guard.check(&question, decision.opened));
        let checked = timeouts.wait(downstream, checking).await?;
        let checked = checked.map_err(|obstacle| {
            outgoing.detail = Some(obstacle.to_string().into());
            self.refusal = Some(Box::new(Refusal::of_addresses(&question, &obstacle)));
            match obstacle {
                Obstacle::Unresolved { .. } => Reason::DnsFailed,
                Obstacle::NoEndpoint => Reason::NoEndpoint,
                Obstacle::Refused { .. } => {
                    outgoing.ruling = Some(Ruling {
                        verdict: Verdict::Refuse,
                        reason: Reason::AddressRefused.code(),
                        ..Ruling::of(&decision)
                    });
                    Reason::AddressRefused
                }
            }
        })?;
        Ok(Granted { decision, checked })
    }

    /// TLS that the proxy begins.
    fn tls(&self, decision: &Decision<'s>, port: u16) -> Option<&'s EntryTls> {
        let Some(opened) = decision.opened else {
            return (port == 443).then_some(&USUAL_TLS);
        };
        let is_usual = self.is_encrypted() && opened.port.protocol == EntryProtocol::Https;
        let own = opened.port.tls.as_ref();
        own.or_else(|| is_usual.then_some(&USUAL_TLS))
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
            caller: outgoing.caller.as_ref(),
            form: outgoing.form,
            host: outgoing.routed.map_or(requested.host, |(host, _)| host),
            port: outgoing
                .routed
                .map(|(_, port)| port)
                .or(outgoing.requested.port),
            sni: self.connection.sni.as_deref(),
            detail: outgoing.detail.as_deref(),
            ..requested
        };
        if departure.is_wanted(outgoing.egress.settings().decision_log) {
            self.worker.access_log.write(&departure.line());
        }
    }
}

/// A host that is to be reached.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'t> {
    pub(super) name: &'t str,
    pub(super) address: Option<IpAddr>,
    pub(super) port: u16,
}

/// A destination in normal form.
struct Normal {
    requested: Requested,
    /// The host, if it was written in another way.
    respelled: Option<Box<str>>,
    authority: HeaderValue,
}

/// The destination of a target; an Err says in words why it is none. Without a usual port it has to name one.
fn normal(raw: &Target, usual_port: Option<u16>) -> Result<Normal, String> {
    let text = raw.authority.to_str().map_err(|error| error.to_string())?;
    let named = Authority::normalize(text).map_err(|error| error.to_string())?;
    let port = named.port.or(usual_port);
    let port = port.ok_or_else(|| "CONNECT names no port".to_owned())?;
    let (address, host) = match named.host {
        Host::Name(name) => (None, name),
        Host::Address(address @ IpAddr::V6(_)) => {
            (Some(address), Cow::Owned(format!("[{address}]")))
        }
        Host::Address(address) => (Some(address), Cow::Owned(address.to_string())),
    };
    let authority = if *text == *host && Some(port) == usual_port {
        raw.authority.clone()
    } else {
        authority(&host, port, usual_port.unwrap_or_default())
            .map_err(|reason| reason.text().to_owned())?
    };
    Ok(Normal {
        requested: Requested {
            address,
            port: Some(port),
        },
        respelled: (*host != *raw.host).then(|| host.into()),
        authority,
    })
}

/// As it stands in `Host`: the port only if it is not the usual one.
fn authority(host: &str, port: u16, usual_port: u16) -> Result<HeaderValue, Reason> {
    let value = if port == usual_port {
        HeaderValue::from_str(host)
    } else {
        HeaderValue::try_from(format!("{host}:{port}"))
    };
    value.map_err(|_| Reason::BadDestination)
}
