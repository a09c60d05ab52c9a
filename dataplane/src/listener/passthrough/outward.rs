//! TLS that passes through to a host outside.
//!
//! Greeting -> name in normal form -> listener -> TLSRoute, if one takes the caller's connections -> decision -> addresses, all of them
//! checked -> a connection to one of these, which gets the greeting first. A route may also lead to a backend of the cluster: then
//! only policies are asked, and each endpoint has to be where a request may be led.

use std::{net::SocketAddr, rc::Rc, time::Instant};

use bytes::BytesMut;
use portcullis_routing::{
    ClusterKey, CompiledListener, CompiledPort, RouteKey,
    egress::{CompiledEgress, Decision, Destination, Question, Seen, Verdict},
};
use tokio::net::TcpStream;

use super::Greeted;
use crate::{
    deadline::Deadline,
    egress::{
        Identity, OpenTunnel, Ruling,
        entrance::KeptEntrance,
        event::{Departure, Form},
        greeting,
        guard::{Guard, Obstacle},
        led::{self, Way},
        reach::{Reached, reach},
        refusal::FENCED_OUT,
        tunnel::{Grant, Greets, Passage},
    },
    plan::{PreparedAction, PreparedDestination, PreparedExternal, PreparedRoute},
    reason::Reason,
    state::Snapshot,
    upstream::{OpenRequest, UpstreamErrorKind},
    worker::Worker,
};

/// A connection of a client that speaks TLS with somebody outside.
struct Passing<'s> {
    worker: &'s Rc<Worker>,
    snapshot: &'s Snapshot,
    egress: &'s CompiledEgress,
    port: &'s CompiledPort<PreparedRoute>,
    since: Instant,
    client: SocketAddr,
    /// The address that the client connected to.
    local: SocketAddr,
    caller: Option<Rc<Identity>>,
    /// What it greets with, and the particulars of a refusal.
    greeted: Greeted,
    /// The route that leads it.
    route: Option<&'s RouteKey>,
    /// The host that the route puts in place of the one that is greeted, and its port.
    routed: Option<(Box<str>, u16)>,
    ruling: Option<Ruling<'s>>,
    address: Option<SocketAddr>,
}

/// Where a connection is to go.
#[derive(Clone, Copy)]
enum Towards<'s> {
    /// To the host that it greets.
    Greeted,
    /// To a host of an entry that a route names.
    Through(&'s PreparedExternal),
    /// To a backend of the cluster that a route names.
    Inside(&'s ClusterKey),
}

impl<'s> Towards<'s> {
    /// Where a route leads, by chance and weight.
    fn of(route: &'s PreparedRoute) -> Option<Self> {
        let PreparedAction::Forward(choice) = &route.action else {
            return None;
        };
        match &choice.pick()?.destination {
            PreparedDestination::Cluster(key) => Some(Self::Inside(key)),
            PreparedDestination::External(external) => Some(Self::Through(external)),
            PreparedDestination::Requested | PreparedDestination::Invalid => None,
        }
    }

    /// How a tunnel is led there.
    fn way(self) -> Option<Way> {
        match self {
            Self::Greeted => None,
            Self::Through(external) => Some(Way::Through(external.entry.clone())),
            Self::Inside(_) => Some(Way::Inside),
        }
    }
}

/// A connection that may pass.
pub(in crate::listener) struct Admitted {
    passage: Passage,
    tcp: TcpStream,
    /// Its greeting.
    read: BytesMut,
}

impl Admitted {
    /// Passes bytes on until the tunnel ends.
    pub(in crate::listener) async fn run(self) {
        self.passage.run(self.tcp, self.read).await;
    }
}

/// A tunnel for a connection to a port of TLS that passes through; `None` if it may not pass, which it has been told.
pub(super) async fn admit(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    port: &CompiledPort<PreparedRoute>,
    mut tcp: TcpStream,
    client: SocketAddr,
    deadline: &Deadline,
) -> Option<Admitted> {
    // Without either there is nobody to serve: validation has refused the listener, or the client is gone.
    let (egress, local) = (snapshot.compiled.egress()?, tcp.local_addr().ok()?);
    let mut passing = Passing {
        worker,
        snapshot,
        egress,
        port,
        since: Instant::now(),
        client,
        local,
        caller: Identity::of_address(egress, client.ip()),
        greeted: Greeted::default(),
        route: None,
        routed: None,
        ruling: None,
        address: None,
    };
    let mut read = BytesMut::new();
    match passing.admit(&mut tcp, &mut read, deadline).await {
        Ok(passage) => Some(Admitted { passage, tcp, read }),
        Err(reason) => {
            passing.tell(reason);
            // That something is wrong with its greeting is known of TLS only.
            let is_tls = passing.greeted.detail.is_some();
            deadline.set(snapshot.settings().limits.header_timeout.duration());
            greeting::refuse(&mut tcp, reason, is_tls, deadline).await;
            None
        }
    }
}

impl<'s> Passing<'s> {
    /// A tunnel to where the client wants to go, if it may.
    async fn admit(
        &mut self,
        tcp: &mut TcpStream,
        read: &mut BytesMut,
        deadline: &Deadline,
    ) -> Result<Passage, Reason> {
        let name = self.greeted.read(tcp, read, deadline).await?;
        let listener = self.port.listener_for(&name).ok_or(Reason::NoRoute)?;
        let towards = self.towards(listener, &name)?;
        let (host, port) = match towards {
            Towards::Through(external) => {
                let host = external.host.clone().unwrap_or_else(|| name.clone());
                self.routed = Some((host.clone(), external.port));
                (host, external.port)
            }
            Towards::Greeted | Towards::Inside(_) => (name.clone(), self.port.port()),
        };
        let caller = self.caller.clone();
        let question = Question {
            destination: Destination::Name(&host),
            port,
            caller: caller.as_deref().map(Identity::caller),
            seen: Seen::Tls,
        };
        let decision = self.decide(towards, &question, &name)?;
        let reached = self.reach(towards, &question, &decision, &host).await?;
        let (open, reached) = reached;
        let ruling = Ruling::of(&decision);
        let grant = Grant {
            form: Form::Sni,
            client: self.client.ip(),
            entrance: KeptEntrance {
                port: self.port.port(),
                protocol: self.port.protocol(),
                listener: listener.key().clone(),
                name: (*host != *name).then(|| name.clone()),
                identity: None,
            },
            address: None,
            port,
            local: self.local.ip(),
            verdict: ruling.verdict,
            reason: ruling.reason,
            entry: ruling.entry.cloned(),
            policy: ruling.policy.cloned(),
            led: self.route.cloned().zip(towards.way()),
            greeted: Some(name),
            greets: Greets::Read,
            rules: self.snapshot.compiled.generation().rules,
            ech: self.greeted.ech,
            since: self.since,
            host,
            caller,
        };
        Ok(Passage::new(self.worker, open, grant, reached))
    }

    /// Where a client who greets this host is to go: where a route of the listener leads that takes the caller's connections, else to
    /// the host.
    fn towards(
        &mut self,
        listener: &'s CompiledListener<PreparedRoute>,
        name: &str,
    ) -> Result<Towards<'s>, Reason> {
        let namespace = self.caller.as_deref().map(Identity::namespace);
        let Some(route) = listener.lookup_connection_of(namespace, name) else {
            return Ok(Towards::Greeted);
        };
        self.route = Some(route.key());
        Towards::of(route.payload()).ok_or(Reason::InvalidBackend)
    }

    /// Asks the table.
    fn decide(
        &mut self,
        towards: Towards<'_>,
        question: &Question<'_>,
        name: &str,
    ) -> Result<Decision<'s>, Reason> {
        let decision = match towards {
            Towards::Greeted => self.egress.decide(question),
            Towards::Through(external) => {
                led::decide(self.egress, &external.entry, question, Some(name))?
            }
            Towards::Inside(_) => self.egress.decide_inside(question),
        };
        self.ruling = Some(Ruling::of(&decision));
        if decision.verdict == Verdict::Refuse {
            return Err(decision.reason.into());
        }
        Ok(decision)
    }

    /// A connection to where it may go.
    async fn reach(
        &mut self,
        towards: Towards<'_>,
        question: &Question<'_>,
        decision: &Decision<'_>,
        host: &str,
    ) -> Result<(OpenTunnel, Reached), Reason> {
        let most = self.snapshot.settings().limits.max_connections;
        if let Towards::Inside(cluster) = towards {
            let open = OpenTunnel::new(self.worker, self.caller.as_deref(), most)?;
            return Ok((open, self.reach_inside(cluster, question).await?));
        }
        let checked = self
            .guard(self.egress)
            .check(question, decision.opened)
            .await;
        let checked = checked.map_err(|obstacle| self.blocked(&obstacle))?;
        let open = OpenTunnel::new(self.worker, self.caller.as_deref(), most)?;
        let place = (host, question.port);
        let reached = reach(self.worker, self.snapshot, place, &checked.addresses).await;
        let dialled = reached.map_err(|missed| {
            self.greeted.detail = Some(missed.error.to_string().into());
            self.address = missed.address;
            missed.reason
        })?;
        Ok((open, Reached::outside(dialled, &checked)))
    }

    /// A connection to an endpoint of a Service that is in the cluster, whatever its EndpointSlices list. The present table is asked, as
    /// the endpoints are its.
    async fn reach_inside(
        &mut self,
        cluster: &ClusterKey,
        question: &Question<'_>,
    ) -> Result<Reached, Reason> {
        let snapshot = self.worker.snapshot().ok_or(Reason::NoRoute)?;
        let egress = snapshot.compiled.egress().ok_or(Reason::NoRoute)?;
        let route = self.route.ok_or(Reason::InvalidBackend)?;
        let guard = self.guard(egress);
        let admits = |address| guard.admits_backend(question, route, address);
        let request = OpenRequest {
            fence: Some(&admits),
            ..OpenRequest::default()
        };
        let reached = self.worker.upstreams.connect(cluster, request).await;
        let reached = reached.map_err(|error| {
            self.greeted.detail = Some(match error.kind {
                UpstreamErrorKind::FencedOut => FENCED_OUT.into(),
                _ => error.to_string().into(),
            });
            self.address = error.endpoint;
            error.kind
        })?;
        Ok(reached.into())
    }

    /// What checks addresses by this table.
    fn guard<'g>(&self, egress: &'g CompiledEgress) -> Guard<'g>
    where
        's: 'g,
    {
        Guard {
            egress,
            resolver: &self.worker.egress.resolver,
            own: &self.worker.egress.own,
            local: self.local.ip(),
        }
    }

    /// Notes why a host leads nowhere, or inside.
    fn blocked(&mut self, obstacle: &Obstacle) -> Reason {
        self.greeted.detail = Some(obstacle.to_string().into());
        obstacle.reason()
    }

    /// Counts and logs a connection that did not pass.
    fn tell(&self, reason: Reason) {
        // What was allowed and went wrong is no refusal.
        let failed = matches!(
            reason,
            Reason::DnsFailed
                | Reason::NoEndpoint
                | Reason::ConnectFailed
                | Reason::ConnectTimeout
                | Reason::Overloaded
                | Reason::TooManyTunnels
                | Reason::TooManyOfNamespace
                | Reason::ClientGone
                | Reason::RequestTimeout
        );
        let ruling = match self.ruling {
            // Who connects and says nothing wants nothing: health checks do.
            None if failed => return,
            None => Ruling::refused(reason),
            Some(granted) if failed => granted,
            Some(before) => Ruling {
                verdict: Verdict::Refuse,
                reason: reason.code(),
                ..before
            },
        };
        let metrics = &self.worker.metrics;
        metrics.error(reason);
        metrics.egress_decision(&self.snapshot.labels, &ruling);
        let name = self.greeted.name.as_deref();
        let routed = self.routed.as_ref();
        let departure = Departure {
            gateway: self.snapshot.compiled.table().gateway.as_str(),
            caller: self.caller.as_deref(),
            client: self.client.ip(),
            form: Form::Sni,
            host: routed.map_or(name.unwrap_or_default(), |(host, _)| host),
            port: Some(routed.map_or(self.port.port(), |(_, port)| *port)),
            sni: name,
            ech: self.greeted.ech,
            address: self.address,
            ruling,
            route: self.route,
            error: failed.then(|| reason.code()),
            detail: self.greeted.detail.as_deref(),
            bytes_in: 0,
            bytes_out: 0,
            duration: self.since.elapsed(),
        };
        if departure.is_wanted(self.egress.settings().decision_log) {
            self.worker.access_log.write(&departure.line());
        }
    }
}
