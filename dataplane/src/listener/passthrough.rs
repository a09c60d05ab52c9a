//! TLS that passes through: the name in its greeting says where it is to go, and nothing of it is decrypted.
//!
//! Greeting -> name in normal form -> listener -> decision -> addresses, all of them checked -> a connection to one of these,
//! which gets the greeting first. Whoever may not pass gets an alert.

use std::{net::SocketAddr, rc::Rc, time::Instant};

use bytes::BytesMut;
use portcullis_routing::{
    CompiledPort,
    egress::{CompiledEgress, Destination, Question, Seen, Verdict, host::Host},
};
use tokio::net::TcpStream;

use crate::{
    deadline::Deadline,
    egress::{
        Identity, OpenTunnel, Ruling,
        entrance::KeptEntrance,
        event::{Departure, Form},
        greeting::{self, NoHello},
        guard::{Guard, Obstacle},
        reach::reach,
        tunnel::{Grant, Greets, Passage},
    },
    plan::PreparedRoute,
    reason::Reason,
    state::Snapshot,
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
    /// The name in the greeting.
    name: Option<Box<str>>,
    /// It has an encrypted one behind it.
    ech: bool,
    ruling: Option<Ruling<'s>>,
    /// The particulars of a refusal.
    detail: Option<Box<str>>,
    address: Option<SocketAddr>,
}

/// A connection that may pass.
pub(super) struct Admitted {
    passage: Passage,
    tcp: TcpStream,
    /// Its greeting.
    read: BytesMut,
}

impl Admitted {
    /// Passes bytes on until the tunnel ends.
    pub(super) async fn run(self) {
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
        name: None,
        ech: false,
        ruling: None,
        detail: None,
        address: None,
    };
    let mut read = BytesMut::new();
    match passing.admit(&mut tcp, &mut read, deadline).await {
        Ok(passage) => Some(Admitted { passage, tcp, read }),
        Err(reason) => {
            passing.tell(reason);
            let is_tls = passing.detail.is_some();
            deadline.set(snapshot.settings().limits.header_timeout.duration());
            greeting::refuse(&mut tcp, reason, is_tls, deadline).await;
            None
        }
    }
}

impl Passing<'_> {
    /// A tunnel to where the client wants to go, if it may.
    async fn admit(
        &mut self,
        tcp: &mut TcpStream,
        read: &mut BytesMut,
        deadline: &Deadline,
    ) -> Result<Passage, Reason> {
        let name = self.greeted(tcp, read, deadline).await?;
        let listener = self.port.listener_for(&name).ok_or(Reason::NoRoute)?;
        let caller = self.caller.clone();
        let question = Question {
            destination: Destination::Name(&name),
            port: self.port.port(),
            caller: caller.as_deref().map(Identity::caller),
            seen: Seen::Tls,
        };
        let decision = self.egress.decide(&question);
        let ruling = Ruling::of(&decision);
        self.ruling = Some(ruling);
        if decision.verdict == Verdict::Refuse {
            return Err(decision.reason.into());
        }
        let guard = Guard {
            egress: self.egress,
            resolver: &self.worker.egress.resolver,
            own: &self.worker.egress.own,
            local: self.local.ip(),
        };
        let checked = guard.check(&question, decision.opened).await;
        let checked = checked.map_err(|obstacle| self.blocked(&obstacle))?;
        let most = self.snapshot.settings().limits.max_connections;
        let open = OpenTunnel::new(self.worker, most).ok_or(Reason::TooManyTunnels)?;
        let place = (&*name, question.port);
        let reached = reach(self.worker, self.snapshot, place, &checked.addresses).await;
        let dialled = reached.map_err(|missed| {
            self.detail = Some(missed.error.to_string().into());
            self.address = missed.address;
            missed.reason
        })?;
        let grant = Grant {
            form: Form::Sni,
            caller,
            client: self.client.ip(),
            entrance: KeptEntrance {
                port: self.port.port(),
                protocol: self.port.protocol(),
                listener: listener.key().clone(),
                name: None,
                identity: None,
            },
            host: name,
            address: None,
            port: self.port.port(),
            local: self.local.ip(),
            verdict: ruling.verdict,
            reason: ruling.reason,
            entry: ruling.entry.cloned(),
            policy: ruling.policy.cloned(),
            greets: Greets::Read,
            rules: self.snapshot.compiled.generation().rules,
            ech: self.ech,
            since: self.since,
        };
        let (stream, address) = (dialled.stream, dialled.address);
        Ok(Passage::new(self.worker, open, grant, stream, address))
    }

    /// The host that the client greets, in normal form.
    async fn greeted(
        &mut self,
        tcp: &mut TcpStream,
        read: &mut BytesMut,
        deadline: &Deadline,
    ) -> Result<Box<str>, Reason> {
        self.name = match greeting::read(tcp, read, deadline).await {
            Ok(hello) => {
                self.ech = hello.encrypted;
                hello.name
            }
            Err(NoHello { reason, refusal }) => {
                self.detail = refusal.map(|refusal| refusal.to_string().into());
                return Err(reason);
            }
        };
        match Host::parse(self.name.as_deref().ok_or(Reason::SniMissing)?) {
            Ok(Host::Name(name)) => Ok(name),
            // Who wants an address has no name to greet (RFC 6066 3).
            Ok(Host::Address(_)) => Err(Reason::BadDestination),
            Err(error) => {
                self.detail = Some(error.to_string().into());
                Err(Reason::BadDestination)
            }
        }
    }

    /// Notes why a host leads nowhere, or inside.
    fn blocked(&mut self, obstacle: &Obstacle) -> Reason {
        self.detail = Some(obstacle.to_string().into());
        match obstacle {
            Obstacle::Unresolved { .. } => Reason::DnsFailed,
            Obstacle::NoEndpoint => Reason::NoEndpoint,
            Obstacle::Refused { .. } => Reason::AddressRefused,
        }
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
                | Reason::TooManyTunnels
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
        let departure = Departure {
            gateway: self.snapshot.compiled.table().gateway.as_str(),
            caller: self.caller.as_deref(),
            client: self.client.ip(),
            form: Form::Sni,
            host: self.name.as_deref().unwrap_or_default(),
            port: Some(self.port.port()),
            sni: self.name.as_deref(),
            ech: self.ech,
            address: self.address,
            ruling,
            route: None,
            error: failed.then(|| reason.code()),
            detail: self.detail.as_deref(),
            bytes_in: 0,
            bytes_out: 0,
            duration: self.since.elapsed(),
        };
        if departure.is_wanted(self.egress.settings().decision_log) {
            self.worker.access_log.write(&departure.line());
        }
    }
}
