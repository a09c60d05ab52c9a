//! TLS that passes through to a backend of the cluster.
//!
//! Greeting -> name in normal form -> listener -> TLSRoute -> backend by weight -> endpoint, which gets the greeting first. Whoever may
//! not pass is not told why: the Gateway API wants its connection rejected, and its conformance suite takes no alert for that.

use std::{future::pending, net::SocketAddr, pin::pin, rc::Rc, time::Instant};

use bytes::BytesMut;
use portcullis_routing::{ClusterKey, CompiledPort, ListenerKey, RouteKey};
use tokio::net::TcpStream;

use super::Greeted;
use crate::{
    deadline::Deadline,
    plan::{PreparedAction, PreparedDestination, PreparedRoute},
    reason::Reason,
    state::Snapshot,
    telemetry::ConnectionRecord,
    tunnel::relay::{Clock, Ended, Limits, Moved, Tunnel},
    upstream::{Hold, OpenRequest, RawUpstream},
    worker::Worker,
};

/// A connection, of which is told when it is over.
struct Connection {
    worker: Rc<Worker>,
    since: Instant,
    client: SocketAddr,
    greeted: Greeted,
    listener: Option<ListenerKey>,
    route: Option<RouteKey>,
    cluster: Option<ClusterKey>,
    endpoint: Option<SocketAddr>,
    /// It is a tunnel by now.
    is_open: bool,
    moved: Moved,
    is_over: bool,
    /// How it ended, if not by itself.
    end: Option<Reason>,
    detail: Option<Box<str>>,
}

/// A connection that may pass.
pub(in crate::listener) struct Admitted {
    connection: Connection,
    tcp: TcpStream,
    /// Its greeting.
    read: BytesMut,
    upstream: TcpStream,
    hold: Hold,
    clock: Clock,
}

/// A tunnel for a connection to a port of ingress; `None` if it may not pass: then it is closed.
pub(super) async fn admit(
    worker: &Rc<Worker>,
    snapshot: &Snapshot,
    port: &CompiledPort<PreparedRoute>,
    mut tcp: TcpStream,
    client: SocketAddr,
    deadline: &Deadline,
) -> Option<Admitted> {
    let mut connection = Connection::new(worker, client);
    let mut read = BytesMut::new();
    let reached = connection.reach(port, &mut tcp, &mut read, deadline).await;
    match reached {
        Ok(RawUpstream { stream, hold, .. }) => {
            connection.is_open = true;
            worker.metrics.tls_tunnel_opened();
            Some(Admitted {
                connection,
                tcp,
                read,
                upstream: stream,
                hold,
                clock: clock(worker, snapshot, port.port(), deadline),
            })
        }
        Err(reason) => {
            connection.end(Some(reason));
            None
        }
    }
}

/// How long a tunnel may last: as long as a WebSocket. Of the time that the process takes to end it gets half, so that its end is
/// still told. `deadline` is the one that its connection has had so far.
fn clock(worker: &Worker, snapshot: &Snapshot, port: u16, deadline: &Deadline) -> Clock {
    let settings = snapshot.settings();
    let limits = Limits {
        idle: settings.limits.stream_idle_timeout.duration(),
        total: None,
        drain: settings.drain_timeout.0.duration() / 2,
    };
    let mut clock = worker.egress.relay.clock(port, limits);
    // A port that is gone by now does not go once more.
    if deadline.closes_when_idle() {
        clock.drain();
    }
    clock
}

impl Connection {
    fn new(worker: &Rc<Worker>, client: SocketAddr) -> Self {
        Self {
            worker: Rc::clone(worker),
            since: Instant::now(),
            client,
            greeted: Greeted::default(),
            listener: None,
            route: None,
            cluster: None,
            endpoint: None,
            is_open: false,
            moved: Moved::default(),
            is_over: false,
            end: None,
            detail: None,
        }
    }

    fn end(&mut self, reason: Option<Reason>) {
        self.is_over = true;
        self.end = reason;
    }

    /// A connection to where the client wants to go.
    async fn reach(
        &mut self,
        port: &CompiledPort<PreparedRoute>,
        tcp: &mut TcpStream,
        read: &mut BytesMut,
        deadline: &Deadline,
    ) -> Result<RawUpstream, Reason> {
        let name = self.greeted.read(tcp, read, deadline).await?;
        let listener = port.listener_for(&name).ok_or(Reason::NoRoute)?;
        self.listener = Some(listener.key().clone());
        let route = listener.lookup_connection(&name).ok_or(Reason::NoRoute)?;
        self.route = Some(route.key().clone());
        let cluster = cluster(route.payload()).ok_or(Reason::InvalidBackend)?;
        self.cluster = Some(cluster.clone());
        let request = OpenRequest::default();
        let reached = self.worker.upstreams.connect(cluster, request).await;
        let reached = reached.map_err(|error| {
            self.endpoint = error.endpoint;
            self.detail = Some(error.to_string().into());
            error.kind
        })?;
        self.endpoint = Some(reached.endpoint);
        Ok(reached)
    }

    /// Counts and logs the connection.
    fn tell(&self, snapshot: &Snapshot) {
        // Who connects and says nothing wants nothing: health checks do. Nor does who leaves by itself.
        let wants_nothing = match self.end {
            Some(Reason::ClientGone) => self.listener.is_none(),
            Some(Reason::RequestTimeout) => !self.greeted.has_begun,
            _ => false,
        };
        if wants_nothing {
            return;
        }
        if let Some(reason) = self.end {
            self.worker.metrics.error(reason);
        }
        let record = ConnectionRecord {
            client: self.client,
            name: self.greeted.name.as_deref().unwrap_or_default(),
            listener: self.listener.as_ref(),
            route: self.route.as_ref(),
            cluster: self.cluster.as_ref(),
            endpoint: self.endpoint,
            reason: self.end,
            detail: self.greeted.detail.as_deref().or(self.detail.as_deref()),
            duration: self.since.elapsed(),
            bytes_in: self.moved.to_upstream(),
            bytes_out: self.moved.to_client(),
        };
        let log = snapshot.settings().access_log;
        self.worker.access_log.log_connection(log, &record);
    }
}

impl Drop for Connection {
    /// Here, because a tunnel may also end with the worker.
    fn drop(&mut self) {
        if !self.is_over {
            self.end = Some(if self.worker.has_ended.get() {
                Reason::Shutdown
            } else {
                Reason::ClientGone
            });
        }
        if self.is_open {
            let (received, sent) = (self.moved.to_upstream(), self.moved.to_client());
            self.worker.metrics.tls_tunnel_closed(received, sent);
        }
        if let Some(snapshot) = self.worker.snapshot() {
            self.tell(&snapshot);
        }
    }
}

/// The backend that gets the connection, if there is one.
fn cluster(route: &PreparedRoute) -> Option<&ClusterKey> {
    let PreparedAction::Forward(choice) = &route.action else {
        return None;
    };
    match &choice.pick()?.destination {
        PreparedDestination::Cluster(key) => Some(key),
        PreparedDestination::External(_)
        | PreparedDestination::Requested
        | PreparedDestination::Invalid => None,
    }
}

impl Admitted {
    /// Passes bytes on until the tunnel ends.
    pub(in crate::listener) async fn run(self) {
        let Self {
            mut connection,
            tcp,
            read,
            upstream,
            hold,
            clock,
        } = self;
        let worker = Rc::clone(&connection.worker);
        let tunnel = Tunnel {
            client: tcp,
            upstream,
            prefix: read,
            clock,
            revoked: pending(),
        };
        let moved = &connection.moved;
        let tunnel = worker.egress.relay.run(tunnel, moved);
        let ended = hold.watch(pin!(tunnel), moved).await;
        if let Ended::ClientGone(error) | Ended::UpstreamGone(error) = &ended {
            connection.detail = Some(error.to_string().into());
        }
        connection.end(ended.reason());
    }
}
