//! A tunnel that was granted: from the moment that it may begin until it ends.
//!
//! Where TLS is to be spoken behind a CONNECT, the first bytes have to be a greeting that names the host that was granted, and
//! nothing is passed on before that is known. When a new table does not grant the tunnel any more, it ends.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use portcullis_routing::{
    EntryKey, Millis, PolicyKey, ProxySettings,
    egress::{Destination, Question, Seen, Verdict},
};
use tokio::net::TcpStream;

use super::{
    Identity, OpenTunnel, Ruling,
    event::{Departure, Form},
    greeting::{self, NoHello},
    guard::Guard,
};
use crate::{
    reason::Reason,
    state::Snapshot,
    telemetry::Labels,
    tunnel::{
        end::End,
        relay::{Ended, Limits, Moved, Tunnel},
    },
    worker::Worker,
};

/// Time for the connection to a host, all its addresses together: that of a cluster.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a tunnel was granted for. It owns all that it needs: the exchange that made it is over long before it ends.
pub(crate) struct Grant {
    /// How the host was named.
    pub(crate) form: Form,
    pub(crate) caller: Option<Identity>,
    pub(crate) client: IpAddr,
    /// The listener's port.
    pub(crate) listener: u16,
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
    /// A greeting has to come that names the host. One that was what named it has been read.
    pub(crate) must_greet: bool,
    pub(crate) since: Instant,
}

/// A tunnel, both ends of it open.
pub(crate) struct Passage {
    worker: Rc<Worker>,
    grant: Grant,
    upstream: Option<TcpStream>,
    to: SocketAddr,
    moved: Moved,
    /// The name in the greeting.
    sni: Option<Box<str>>,
    detail: Option<Box<str>>,
    /// How it ended, if not by itself.
    end: Option<Reason>,
    is_over: bool,
    _open: OpenTunnel,
}

impl Passage {
    /// A tunnel to `upstream`, which was reached at `to`.
    pub(crate) fn new(
        worker: &Rc<Worker>,
        open: OpenTunnel,
        grant: Grant,
        upstream: TcpStream,
        to: SocketAddr,
    ) -> Self {
        Self {
            worker: Rc::clone(worker),
            upstream: Some(upstream),
            to,
            moved: Moved::default(),
            sni: (grant.form == Form::Sni).then(|| grant.host.clone()),
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
        let (Some(upstream), Some(snapshot)) = (self.upstream.take(), self.worker.snapshot())
        else {
            return;
        };
        let settings = Arc::clone(&snapshot.settings);
        // It may outlive many tables.
        drop(snapshot);
        if self.grant.must_greet
            && let Err(reason) = self.greeting(&mut client, &mut read, &settings).await
        {
            self.end = Some(reason);
            return greeting::refuse(&mut client, reason, self.detail.is_some()).await;
        }
        let Some(limits) = limits(&settings) else {
            return;
        };
        let tunnel = Tunnel {
            client,
            upstream,
            prefix: read,
            port: self.grant.listener,
            limits,
            revoked: self.revoked(),
        };
        let relay = &self.worker.egress.relay;
        let ended = relay.run(tunnel, &self.moved).await;
        if let Ended::ClientGone(error) | Ended::UpstreamGone(error) = &ended {
            self.detail = Some(error.to_string().into());
        }
        self.end = reason_of(&ended);
    }

    /// Reads what the client greets with, and tells whether it may pass.
    async fn greeting(
        &mut self,
        client: &mut impl End,
        read: &mut BytesMut,
        settings: &ProxySettings,
    ) -> Result<(), Reason> {
        let deadline = self.worker.deadlines.register(Some(self.grant.listener));
        deadline.set(settings.limits.header_timeout.duration());
        match greeting::read(client, read, &deadline).await {
            Ok(name) => self.sni = name,
            Err(NoHello { reason, detail }) => {
                self.detail = detail;
                return Err(reason);
            }
        }
        match self.sni.as_deref() {
            Some(name) if *name == *self.grant.host => Ok(()),
            Some(_) => Err(Reason::SniMismatch),
            None => Err(Reason::SniMissing),
        }
    }

    /// Resolves once the table does not grant the tunnel any more.
    async fn revoked(&self) {
        loop {
            let changed = self.worker.egress.changed.notified();
            let is_granted = self
                .worker
                .snapshot()
                .is_some_and(|snapshot| self.is_granted(&snapshot));
            if !is_granted {
                return;
            }
            changed.await;
        }
    }

    /// Whether the tunnel would be granted by this table, to the same address.
    fn is_granted(&self, snapshot: &Snapshot) -> bool {
        let Some(egress) = snapshot.compiled.egress() else {
            return false;
        };
        let grant = &self.grant;
        let question = Question {
            destination: grant
                .address
                .map_or(Destination::Name(&grant.host), Destination::Address),
            port: grant.port,
            caller: grant.caller.as_ref().map(Identity::caller),
            seen: match grant.form {
                Form::Sni => Seen::Tls,
                Form::Absolute | Form::Connect | Form::Host => Seen::Tunnel,
            },
        };
        let decision = egress.decide(&question);
        let guard = Guard {
            egress,
            resolver: &self.worker.egress.resolver,
            local: grant.local,
        };
        decision.verdict != Verdict::Refuse
            && guard.may_stay(&question, decision.opened, self.to.ip())
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
            Some(Reason::SniMismatch | Reason::SniMissing | Reason::NotTls | Reason::Revoked)
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
            caller: grant.caller.as_ref(),
            client: grant.client,
            form: grant.form,
            host: &grant.host,
            port: Some(grant.port),
            sni: self.sni.as_deref(),
            address: Some(self.to),
            ruling,
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
        self.worker.metrics.upstream_closed();
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

/// How long a tunnel may last. Of the time that the process takes to end it gets half, so that its end is still told.
fn limits(settings: &ProxySettings) -> Option<Limits> {
    let egress = settings.egress.as_ref()?;
    Some(Limits {
        idle: egress.tunnel_idle_timeout.duration(),
        total: egress.tunnel_max_duration.map(Millis::duration),
        drain: settings.drain_timeout.0.duration() / 2,
    })
}

fn reason_of(ended: &Ended) -> Option<Reason> {
    match ended {
        Ended::Closed => None,
        Ended::ClientGone(_) => Some(Reason::ClientGone),
        Ended::UpstreamGone(_) => Some(Reason::UpstreamReset),
        Ended::Idle => Some(Reason::TunnelIdle),
        Ended::TooLong => Some(Reason::TunnelTooLong),
        Ended::Drained => Some(Reason::Shutdown),
        Ended::Revoked => Some(Reason::Revoked),
    }
}
