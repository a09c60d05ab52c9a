//! A tunnel that was granted: from the moment that it may begin until it ends.
//!
//! Where TLS is to be spoken behind a CONNECT, the first bytes have to be a greeting that names the host that was granted, and
//! nothing is passed on before that is known. Where anything may be spoken, a greeting names no other host. Where no entry opens the
//! host, which is only told, so is all of that. When a new table does not grant the tunnel any more, it ends.

use std::{
    cell::RefCell,
    future::poll_fn,
    net::IpAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use portcullis_routing::{
    EntryKey, PolicyKey, ProxySettings, RouteKey,
    egress::{
        CompiledEgress, Destination, EntryProtocol, Opened, Question, Seen, Verdict, Workload,
        host::Host,
    },
};
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use super::{
    Identity, OpenTunnel, Ruling,
    caller::are_same,
    entrance::{Door, KeptEntrance},
    event::{Departure, Form},
    greeting::{self, Hello, NoHello},
    guard::{Found, Guard},
    led::{self, Way},
    reach::Reached,
};
use crate::{
    deadline::Deadline,
    reason::Reason,
    state::Snapshot,
    telemetry::Labels,
    tunnel::{
        end::End,
        relay::{Clock, Ended, Limits, Moved, Tunnel},
    },
    upstream::Hold,
    worker::Worker,
};

/// The first byte of TLS that greets (RFC 8446 5.1).
const HANDSHAKE: u8 = 22;

/// What a tunnel was granted for. It owns all that it needs: the exchange that made it is over long before it ends.
pub(crate) struct Grant {
    /// How the host was named.
    pub(crate) form: Form,
    pub(crate) caller: Option<Rc<Identity>>,
    pub(crate) client: IpAddr,
    /// How the caller came in.
    pub(crate) entrance: KeptEntrance,
    /// The host, in normal form; an IPv6 address in brackets.
    pub(crate) host: Box<str>,
    /// The same, if it is an address.
    pub(crate) address: Option<IpAddr>,
    /// The port, as the caller names it.
    pub(crate) port: u16,
    /// The proxy's own address, as the caller has it.
    pub(crate) local: IpAddr,
    pub(crate) verdict: Verdict,
    pub(crate) reason: &'static str,
    pub(crate) entry: Option<EntryKey>,
    pub(crate) policy: Option<PolicyKey>,
    /// The route that leads it, and how.
    pub(crate) led: Option<(RouteKey, Way)>,
    /// The name in the greeting, if that has been read already.
    pub(crate) greeted: Option<Box<str>>,
    pub(crate) greets: Greets,
    /// The rules that granted it ([`Generation::rules`](portcullis_routing::Generation)).
    pub(crate) rules: u64,
    /// The greeting has an encrypted one behind it, as far as one has been read.
    pub(crate) ech: bool,
    pub(crate) since: Instant,
}

/// What the first bytes of a tunnel have to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Greets {
    /// They are read already: they named the host.
    Read,
    /// A greeting of TLS that names the host.
    Must,
    /// Anything, but no greeting that names another host.
    May,
}

/// What a tunnel was granted by. While all of it stays as it is, so does the answer.
#[derive(Clone, Debug)]
struct Granted {
    rules: u64,
    caller: Option<Rc<Identity>>,
    /// Although this pod is behind the address.
    behind: Option<Arc<Workload>>,
}

/// A tunnel, both ends of it open.
pub(crate) struct Passage {
    worker: Rc<Worker>,
    grant: Grant,
    upstream: Option<TcpStream>,
    to: Found,
    moved: Moved,
    /// By what it was granted last.
    granted: RefCell<Granted>,
    /// The name in the greeting.
    sni: Option<Box<str>>,
    detail: Option<Box<str>>,
    /// How it ended, if not by itself.
    end: Option<Reason>,
    is_over: bool,
    /// Of a backend of the cluster.
    hold: Option<Hold>,
    _open: OpenTunnel,
}

impl Passage {
    /// A tunnel to who was reached.
    pub(crate) fn new(
        worker: &Rc<Worker>,
        open: OpenTunnel,
        grant: Grant,
        reached: Reached,
    ) -> Self {
        Self {
            worker: Rc::clone(worker),
            upstream: Some(reached.stream),
            to: reached.to,
            hold: reached.hold,
            moved: Moved::default(),
            granted: RefCell::new(Granted {
                rules: grant.rules,
                caller: grant.caller.clone(),
                behind: None,
            }),
            sni: grant.greeted.clone(),
            detail: None,
            end: None,
            is_over: false,
            grant,
            _open: open,
        }
    }

    /// Passes bytes on until the tunnel ends. `read` has come already.
    pub(crate) async fn run(mut self, client: impl End, read: BytesMut) {
        self.pass(client, read).await;
        self.is_over = true;
    }

    async fn pass(&mut self, mut client: impl End, mut read: BytesMut) {
        let (Some(upstream), Some((limits, patience))) = (self.upstream.take(), self.limits())
        else {
            return;
        };
        let relay = &self.worker.egress.relay;
        let mut clock = relay.clock(self.grant.entrance.port, limits);
        if self.is_left_over() {
            clock.drain();
        }
        if self.grant.greets != Greets::Read {
            let begun = self.begins(&mut client, &upstream, &mut read, &mut clock);
            let greeted = match begun.await {
                Ok(true) => {
                    self.greeting(&mut client, &upstream, &mut read, patience)
                        .await
                }
                Ok(false) if self.grant.greets == Greets::Must => self.tolerate(Reason::NotTls),
                begun => begun.map(drop),
            };
            if let Err(reason) = greeted {
                self.end = Some(reason);
                // The host is not made to wait for a client that it never hears of.
                drop((upstream, clock));
                return self.refuse(&mut client, reason, &read, patience).await;
            }
        }
        let tunnel = Tunnel {
            client,
            upstream,
            prefix: read,
            clock,
            revoked: self.revoked(),
        };
        let relay = &self.worker.egress.relay;
        let ended = {
            let tunnel = pin!(relay.run(tunnel, &self.moved));
            match &self.hold {
                Some(hold) => hold.watch(tunnel, &self.moved).await,
                None => tunnel.await,
            }
        };
        if let Ended::ClientGone(error) | Ended::UpstreamGone(error) = &ended {
            self.detail = Some(error.to_string().into());
        }
        self.end = ended.reason();
    }

    /// Whether the client begins, so that it may greet. Where anything is spoken the host may do so as well, and then speaks no TLS.
    async fn begins(
        &self,
        client: &mut impl End,
        upstream: &TcpStream,
        read: &mut BytesMut,
        clock: &mut Clock,
    ) -> Result<bool, Reason> {
        if self.insists() || !read.is_empty() {
            return Ok(true);
        }
        // What comes in one piece is passed on in one.
        read.reserve(greeting::READ);
        let mut first = [0];
        let begins = tokio::select! {
            biased;
            () = self.revoked() => return Err(Reason::Revoked),
            // That it has ended is told by the tunnel.
            begun = client.read_buf(read) => begun.is_ok_and(|read| read > 0),
            _ = upstream.peek(&mut first) => false,
            ended = poll_fn(|cx| clock.poll(cx, &self.moved)) => {
                return ended.reason().map_or(Ok(false), Err);
            }
        };
        if !begins {
            // Without the room that was made for it.
            *read = BytesMut::new();
        }
        Ok(begins)
    }

    /// Tells a client why it may not pass, if TLS is what it speaks or was to speak.
    async fn refuse(&self, client: &mut impl End, reason: Reason, read: &[u8], patience: Duration) {
        if !self.insists() && read.first() != Some(&HANDSHAKE) {
            return client.abort();
        }
        let deadline = self.deadline(patience);
        let is_tls = self.detail.is_some();
        greeting::refuse(client, reason, is_tls, &deadline).await;
    }

    fn deadline(&self, after: Duration) -> Deadline {
        let deadline = self
            .worker
            .deadlines
            .register(Some(self.grant.entrance.port));
        deadline.set(after);
        deadline
    }

    /// Reads what the client greets with, and tells whether it may pass. Of a client that leaves off in the middle nothing is passed
    /// on; if the host speaks meanwhile it waits for no greeting.
    async fn greeting(
        &mut self,
        client: &mut impl End,
        upstream: &TcpStream,
        read: &mut BytesMut,
        patience: Duration,
    ) -> Result<(), Reason> {
        let deadline = self.deadline(patience);
        let mut first = [0];
        let greeted = tokio::select! {
            biased;
            greeted = greeting::read(client, read, &deadline) => greeted,
            _ = upstream.peek(&mut first), if !self.insists() => Err(Reason::NotTls.into()),
        };
        match self.judge(greeted) {
            Err(reason) if self.is_told() => self.tolerate(reason),
            judged => judged,
        }
    }

    /// Whether what the client begins with is what it has to be.
    fn judge(&mut self, greeted: Result<Hello, NoHello>) -> Result<(), Reason> {
        let must = self.grant.greets == Greets::Must;
        match greeted {
            Ok(hello) => {
                self.sni = hello.name;
                self.grant.ech = hello.encrypted;
            }
            Err(no) if !must && no.names_nobody() => return Ok(()),
            Err(NoHello { reason, refusal }) => {
                self.detail = refusal.map(|refusal| refusal.to_string().into());
                return Err(reason);
            }
        }
        match self.sni.as_deref() {
            Some(name) if *name == *self.grant.host || self.is_of_address(name) => Ok(()),
            Some(_) => Err(Reason::SniMismatch),
            // Who wants an address has no name to greet (RFC 6066 3).
            None if !must || self.grant.address.is_some() => Ok(()),
            None => Err(Reason::SniMissing),
        }
    }

    /// Whether no entry opens the host, and that is only told: then it was not looked up for what is spoken there.
    fn is_told(&self) -> bool {
        self.grant.entry.is_none()
    }

    /// Whether the client has to greet, and nothing passes before it does.
    fn insists(&self) -> bool {
        self.grant.greets == Greets::Must && !self.is_told()
    }

    /// What would be refused if an entry opened the host passes, and is told, unless policies refuse the host that is greeted.
    fn tolerate(&mut self, reason: Reason) -> Result<(), Reason> {
        if reason != Reason::ClientGone {
            self.detail.get_or_insert_with(|| reason.code().into());
        }
        let (worker, grant) = (&self.worker, &mut self.grant);
        let Some((name, snapshot)) =
            greeted_elsewhere(grant, self.sni.as_deref()).zip(worker.snapshot())
        else {
            return Ok(());
        };
        let Some(egress) = snapshot.compiled.egress() else {
            return Ok(());
        };
        let caller = grant.renewed(&snapshot);
        let decision = egress.decide(&Question {
            destination: Destination::Name(&name),
            ..grant.question(caller.as_deref())
        });
        if decision.verdict != Verdict::Refuse {
            return Ok(());
        }
        let (policy, reason) = (decision.policy.cloned(), decision.reason.into());
        grant.policy = policy;
        Err(reason)
    }

    /// Whether a tunnel to an address may greet a host by this name: one that the entry has which opens the address.
    fn is_of_address(&self, name: &str) -> bool {
        let entry = self.grant.entry.as_ref();
        let entry = entry.filter(|_| self.grant.address.is_some());
        let snapshot = self.worker.snapshot();
        entry.zip(snapshot).is_some_and(|(entry, snapshot)| {
            let egress = snapshot.compiled.egress();
            egress.is_some_and(|egress| egress.lists(entry, Destination::Name(name)))
        })
    }

    /// How long the tunnel may still last, no longer than it is known who has it, and how long its client may take to greet. Of the
    /// settings nothing is kept: the tunnel may outlive many tables.
    fn limits(&self) -> Option<(Limits, Duration)> {
        let snapshot = self.worker.snapshot()?;
        let settings = snapshot.settings();
        let egress = settings.egress.as_ref()?;
        let most = egress.tunnel_max_duration;
        let most = most.map(|most| most.duration().saturating_sub(self.grant.since.elapsed()));
        let known = self.grant.caller.as_deref().and_then(Identity::remaining);
        let limits = Limits {
            idle: egress.tunnel_idle_timeout.duration(),
            total: most.into_iter().chain(known).min(),
            // Of the time that the process takes to end it gets half, so that its end is still told.
            drain: settings.drain_timeout.0.duration() / 2,
        };
        Some((limits, settings.limits.header_timeout.duration()))
    }

    /// Whether the port is gone that the tunnel came by, before it could hear of that.
    fn is_left_over(&self) -> bool {
        let entrance = self.grant.entrance.of(&self.grant.host);
        let snapshot = self.worker.snapshot();
        snapshot.is_some_and(|snapshot| entrance.door(&snapshot) == Door::Gone)
    }

    /// Resolves once the table does not grant the tunnel any more.
    async fn revoked(&self) {
        let mut changes = self.worker.egress.changes.listen();
        loop {
            let is_granted = self
                .worker
                .snapshot()
                .is_some_and(|snapshot| self.is_granted(&snapshot));
            if !is_granted {
                return;
            }
            changes.changed().await;
            self.worker.egress.turn().await;
        }
    }

    /// Whether the tunnel would be granted by this table, to the same address. Asked only if something has changed that matters to it.
    fn is_granted(&self, snapshot: &Snapshot) -> bool {
        let Some(egress) = snapshot.compiled.egress() else {
            return false;
        };
        let now = Granted {
            rules: snapshot.compiled.generation().rules,
            caller: self.grant.renewed(snapshot),
            behind: egress.workload_behind(self.to.address.ip()).cloned(),
        };
        let stays = self.granted.borrow().covers(&now)
            || self.is_granted_to(now.caller.as_deref(), egress, snapshot);
        self.granted.replace(now);
        stays
    }

    /// The same for who has it now.
    fn is_granted_to(
        &self,
        caller: Option<&Identity>,
        egress: &CompiledEgress,
        snapshot: &Snapshot,
    ) -> bool {
        let grant = &self.grant;
        if grant.entrance.of(&grant.host).door(snapshot) == Door::Shut {
            return false;
        }
        let question = grant.question(caller);
        let guard = Guard {
            egress,
            resolver: &self.worker.egress.resolver,
            own: &self.worker.egress.own,
            local: grant.local,
        };
        let decision = match &grant.led {
            None => egress.decide(&question),
            Some((route, Way::Inside)) => {
                return egress.decide_inside(&question).verdict != Verdict::Refuse
                    && guard.admits_backend(&question, route, self.to.address);
            }
            Some((_, Way::Through(entry))) => {
                match led::decide(egress, entry, &question, self.sni.as_deref()) {
                    Ok(decision) => decision,
                    Err(_) => return false,
                }
            }
        };
        let elsewhere = greeted_elsewhere(grant, self.sni.as_deref());
        let is_refused_there = elsewhere.is_some_and(|name| {
            let destination = Destination::Name(&name);
            let there = egress.decide(&Question {
                destination,
                ..question
            });
            there.verdict == Verdict::Refuse
        });
        decision.verdict != Verdict::Refuse
            && !is_refused_there
            && self.suits(egress, decision.opened)
            && guard.may_stay(&question, decision.opened, &self.to)
    }

    /// Whether a tunnel that nobody reads may go on by what its port is listed for now. What has not greeted may be anything.
    fn suits(&self, egress: &CompiledEgress, opened: Option<Opened<'_>>) -> bool {
        let Some(Opened { key, port, .. }) = opened else {
            return true;
        };
        // Of a host that was only told of any other one may have been greeted.
        let names_another = self.is_told()
            && self.sni.as_deref().is_some_and(|name| {
                let is_of_address =
                    self.grant.address.is_some() && egress.lists(key, Destination::Name(name));
                *name != *self.grant.host && !is_of_address
            });
        match port.protocol {
            EntryProtocol::Http | EntryProtocol::Http2 | EntryProtocol::Grpc => false,
            EntryProtocol::Https | EntryProtocol::Tls => {
                (self.sni.is_some() || self.insists()) && !names_another
            }
            EntryProtocol::Tcp => !names_another,
        }
    }

    fn tell(&self, settings: &ProxySettings, labels: &Labels, gateway: &str) {
        let grant = &self.grant;
        let granted = Ruling {
            verdict: grant.verdict,
            reason: grant.reason,
            entry: grant.entry.as_ref(),
            policy: grant.policy.as_ref(),
        };
        let is_refused = matches!(
            self.end,
            Some(
                Reason::SniMismatch
                    | Reason::SniMissing
                    | Reason::NotTls
                    | Reason::Revoked
                    | Reason::DeniedByPolicy
                    | Reason::NotAllowedByPolicy
                    | Reason::LedElsewhere
                    | Reason::UnknownCaller
            )
        );
        let ruling = match self.end {
            Some(reason) if is_refused => Ruling {
                verdict: Verdict::Refuse,
                reason: reason.code(),
                ..granted
            },
            _ => granted,
        };
        if let Some(reason) = self.end {
            self.worker.metrics.error(reason);
        }
        self.worker.metrics.egress_decision(labels, &ruling);
        self.worker
            .metrics
            .egress_tunnel_bytes(self.moved.to_upstream(), self.moved.to_client());
        let departure = Departure {
            gateway,
            caller: grant.caller.as_deref(),
            client: grant.client,
            form: grant.form,
            host: &grant.host,
            port: Some(grant.port),
            sni: self.sni.as_deref(),
            ech: grant.ech,
            address: Some(self.to.address),
            ruling,
            route: grant.led.as_ref().map(|(route, _)| route),
            error: self.end.filter(|_| !is_refused).map(Reason::code),
            detail: self.detail.as_deref(),
            bytes_in: self.moved.to_upstream(),
            bytes_out: self.moved.to_client(),
            duration: grant.since.elapsed(),
        };
        let log = settings.egress.as_ref().map(|egress| egress.decision_log);
        if departure.is_wanted(log.unwrap_or_default()) {
            self.worker.access_log.write(&departure.line());
        }
    }
}

impl Drop for Passage {
    /// Here, because a tunnel may also end with its connection, or with the worker.
    fn drop(&mut self) {
        // The hold on a backend counts by itself.
        if self.hold.is_none() {
            self.worker.metrics.upstream_closed();
        }
        if !self.is_over {
            self.end = Some(if self.worker.has_ended.get() {
                Reason::Shutdown
            } else {
                Reason::ClientGone
            });
        }
        if let Some(snapshot) = self.worker.snapshot() {
            let gateway = &snapshot.compiled.table().gateway;
            self.tell(snapshot.settings(), &snapshot.labels, gateway.as_str());
        }
    }
}

impl Granted {
    /// Whether what was granted by this is granted by that as well.
    fn covers(&self, now: &Self) -> bool {
        self.rules == now.rules
            && now.behind.as_ref().is_none_or(|now| {
                let known = self.behind.as_ref();
                known.is_some_and(|known| Arc::ptr_eq(known, now))
            })
            && are_same(self.caller.as_deref(), now.caller.as_deref())
    }
}

impl Grant {
    /// Who has it, as far as the table tells now.
    fn renewed(&self, snapshot: &Snapshot) -> Option<Rc<Identity>> {
        let caller = self.caller.as_ref();
        caller.and_then(|caller| caller.renewed(snapshot, self.client))
    }

    /// What was asked, of this caller.
    fn question<'a>(&'a self, caller: Option<&'a Identity>) -> Question<'a> {
        let name = Destination::Name(&self.host);
        Question {
            destination: self.address.map_or(name, Destination::Address),
            port: self.port,
            caller: caller.map(Identity::caller),
            seen: match self.form {
                Form::Sni => Seen::Tls,
                Form::Absolute | Form::Connect | Form::Host => Seen::Tunnel,
            },
        }
    }
}

/// The host that was greeted in a tunnel that is only told of, in normal form, if it is another one than was asked for.
fn greeted_elsewhere(grant: &Grant, sni: Option<&str>) -> Option<Box<str>> {
    let name = sni.filter(|name| grant.entry.is_none() && **name != *grant.host)?;
    match Host::parse(name) {
        Ok(Host::Name(name)) => Some(name),
        // No policy names such a host.
        Ok(Host::Address(_)) | Err(_) => None,
    }
}
