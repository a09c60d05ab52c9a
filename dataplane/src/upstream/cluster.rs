//! One cluster as a worker sees it: its endpoints, who of them may be chosen, what is known about their health.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use portcullis_routing::{
    Cluster, ClusterEndpoints, ClusterKey, Endpoint, EndpointHost, EndpointState,
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    OpenRequest, Shared, balancer,
    connect::{Profile, connect_tcp},
    error::{UpstreamError, UpstreamErrorKind},
    limit::{ConnectionLimit, Slot},
    names::Names,
    open::out_of_time,
    outlier::OutlierDetector,
    peer::Peer,
    session::{Outcome, Session},
    tls::TlsPolicy,
};
use crate::telemetry::ConnectResult;

/// State of a cluster: outlives the tables that name it.
pub(super) struct ClusterState {
    pub(super) key: ClusterKey,
    shared: Rc<Shared>,
    config: RefCell<Config>,
    /// Those that get requests: the ready ones, or the draining ones while none is ready.
    peers: RefCell<Rc<[Rc<Peer>]>>,
    /// `None`: no endpoint is ever taken out, nor connected to in the background to see whether it is back.
    outliers: Option<OutlierDetector>,
    pub(super) limit: Rc<ConnectionLimit>,
    pub(super) names: Names,
    /// Tunnels lead here.
    has_tunnels: Cell<bool>,
    removed_at: Cell<Option<Instant>>,
    /// The failure of a handshake that was told last: the same one is not told for every connection.
    told: RefCell<String>,
}

struct Config {
    cluster: Arc<Cluster>,
    endpoints: Arc<ClusterEndpoints>,
    profile: Rc<Profile>,
}

impl Config {
    fn new(resources: ClusterResources<'_>) -> Self {
        let ClusterResources {
            cluster,
            endpoints,
            tls,
        } = resources;
        Self {
            profile: Rc::new(Profile::new(cluster, tls.cloned())),
            cluster: Arc::clone(cluster),
            endpoints,
        }
    }
}

/// What a table says about a cluster.
pub(super) struct ClusterResources<'a> {
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) endpoints: Arc<ClusterEndpoints>,
    /// How TLS is spoken with it, or why it cannot be.
    pub(super) tls: Option<&'a Result<Arc<TlsPolicy>, String>>,
}

impl ClusterState {
    pub(super) fn new(
        key: &ClusterKey,
        shared: &Rc<Shared>,
        resources: ClusterResources<'_>,
    ) -> Rc<Self> {
        let outliers = OutlierDetector::new(Rc::clone(&shared.ejected));
        Self::with_outliers(key, shared, resources, Some(outliers))
    }

    /// A host outside. Its endpoints are those that requests [bring](Self::meet), and nobody connects to them without a request
    /// that may.
    pub(super) fn external(
        key: &ClusterKey,
        shared: &Rc<Shared>,
        resources: ClusterResources<'_>,
    ) -> Rc<Self> {
        Self::with_outliers(key, shared, resources, None)
    }

    fn with_outliers(
        key: &ClusterKey,
        shared: &Rc<Shared>,
        resources: ClusterResources<'_>,
        outliers: Option<OutlierDetector>,
    ) -> Rc<Self> {
        let max_connections = resources.cluster.max_connections;
        let config = Config::new(resources);
        let state = Rc::new(Self {
            key: key.clone(),
            shared: Rc::clone(shared),
            config: RefCell::new(config),
            peers: RefCell::new(Rc::new([])),
            outliers,
            limit: Rc::new(ConnectionLimit::new(Arc::clone(&shared.metrics))),
            names: Names::default(),
            has_tunnels: Cell::new(false),
            removed_at: Cell::new(None),
            told: RefCell::default(),
        });
        state.limit.set_max(max_connections);
        state.apply_endpoints();
        state
    }

    /// Takes what a new table says about the cluster.
    pub(super) fn update(self: &Rc<Self>, resources: ClusterResources<'_>) {
        self.removed_at.set(None);
        let mut config = self.config.borrow_mut();
        let ClusterResources {
            cluster,
            endpoints,
            tls,
        } = &resources;
        let same_profile = config.profile.fits(cluster, *tls);
        if config.cluster == **cluster && config.endpoints == *endpoints && same_profile {
            return;
        }
        let max_connections = cluster.max_connections;
        if same_profile {
            config.cluster = Arc::clone(cluster);
            config.endpoints = Arc::clone(endpoints);
        } else {
            *config = Config::new(resources);
            self.told.borrow_mut().clear();
        }
        drop(config);
        self.limit.set_max(max_connections);
        self.apply_endpoints();
    }

    /// The table has no such cluster any more. Requests that began with an older table may still come.
    pub(super) fn remove(&self) {
        if self.removed_at.get().is_none() {
            self.removed_at.set(Some(Instant::now()));
            self.peers().iter().for_each(|peer| peer.pool().clear());
        }
    }

    /// Since when the table has had no such cluster.
    pub(super) fn removed_at(&self) -> Option<Instant> {
        self.removed_at.get()
    }

    pub(super) fn shared(&self) -> &Rc<Shared> {
        &self.shared
    }

    pub(super) fn profile(&self) -> Rc<Profile> {
        Rc::clone(&self.config.borrow().profile)
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.config.borrow().cluster.connect_timeout.duration()
    }

    pub(super) fn peers(&self) -> Rc<[Rc<Peer>]> {
        Rc::clone(&self.peers.borrow())
    }

    /// Follows the names among the endpoints, and takes the addresses as they are at present.
    fn apply_endpoints(self: &Rc<Self>) {
        let endpoints = Arc::clone(&self.config.borrow().endpoints);
        let names = endpoints
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.host.name().map(Into::into));
        self.names
            .set(names, |name| follow(Rc::downgrade(self), name));
        self.apply_addresses(&endpoints);
    }

    /// Endpoints that stay keep their state; those that are gone drain.
    fn apply_addresses(self: &Rc<Self>, endpoints: &ClusterEndpoints) {
        let profile = self.profile();
        let before = self.peers();
        let mut gone: HashMap<SocketAddr, &Rc<Peer>> =
            before.iter().map(|peer| (peer.address(), peer)).collect();
        let addresses = self.serving(endpoints);
        let peers: Vec<_> = addresses
            .into_iter()
            .map(|address| match gone.remove(&address) {
                Some(peer) if Rc::ptr_eq(peer.profile(), &profile) => Rc::clone(peer),
                Some(peer) => self.replace(peer, &profile),
                None => Peer::new(address, &profile, &self.limit),
            })
            .collect();
        for peer in gone.into_values() {
            self.part_from(peer);
        }
        self.peers.replace(peers.into());
    }

    fn part_from(&self, peer: &Peer) {
        peer.remove();
        if let Some(outliers) = &self.outliers {
            outliers.removed(&peer.health);
        }
    }

    /// Makes endpoints of `addresses`. Those of before stay as long as they have connections: an address may come again.
    pub(super) fn meet(&self, addresses: &[SocketAddr]) {
        let before = self.peers();
        let is_known = |address: &SocketAddr| before.iter().any(|it| it.address() == *address);
        if addresses.iter().all(is_known) {
            return;
        }
        let profile = self.profile();
        let (kept, gone): (Vec<_>, Vec<_>) = before
            .iter()
            .cloned()
            .partition(|peer| addresses.contains(&peer.address()) || !peer.is_unused());
        for peer in &gone {
            self.part_from(peer);
        }
        let new = addresses.iter().filter(|address| !is_known(address));
        let new = new.map(|address| Peer::new(*address, &profile, &self.limit));
        self.peers.replace(kept.into_iter().chain(new).collect());
    }

    /// A tunnel leads here, and others may.
    pub(super) fn has_tunnels(&self) {
        self.has_tunnels.set(true);
    }

    /// Whether there is neither a request nor a connection.
    pub(super) fn is_unused(&self) -> bool {
        self.peers.borrow().iter().all(|peer| peer.is_unused())
    }

    /// No new requests for any endpoint; what is idle is closed.
    pub(super) fn close(&self) {
        self.peers().iter().for_each(|peer| self.part_from(peer));
    }

    /// Closes what has been idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        self.peers().iter().for_each(|peer| peer.pool().sweep(now));
    }

    /// An endpoint that is to be talked to in another way: its connections drain, its health stays. One that is out is tried
    /// at once, since it may have been the old way that it refused.
    fn replace(self: &Rc<Self>, before: &Peer, profile: &Rc<Profile>) -> Rc<Peer> {
        before.remove();
        let peer = before.under(profile);
        if peer.health.is_ejected() {
            self.probe_after(&peer, Duration::ZERO);
        }
        peer
    }

    /// The addresses that get requests, sorted and without duplicates.
    fn serving(&self, endpoints: &ClusterEndpoints) -> Vec<SocketAddr> {
        let of_state = |state: EndpointState| {
            let endpoints = endpoints
                .endpoints
                .iter()
                .filter(move |endpoint| endpoint.state == state);
            let mut addresses: Vec<_> = endpoints
                .flat_map(|endpoint| self.addresses(endpoint))
                .collect();
            addresses.sort_unstable();
            addresses.dedup();
            addresses
        };
        let ready = of_state(EndpointState::Ready);
        if ready.is_empty() {
            of_state(EndpointState::Draining)
        } else {
            ready
        }
    }

    fn addresses(&self, endpoint: &Endpoint) -> Vec<SocketAddr> {
        let ips = match &endpoint.host {
            EndpointHost::Ip(ip) => vec![*ip],
            EndpointHost::Name(name) => self.names.addresses(name),
        };
        ips.into_iter()
            .map(|ip| SocketAddr::new(ip, endpoint.port))
            .collect()
    }

    /// Chooses an endpoint: a healthy one; else an ejected one; one that failed in this exchange only if there is no
    /// other. Never one of `tried`.
    pub(super) fn select(
        &self,
        request: &OpenRequest<'_>,
        tried: &[SocketAddr],
    ) -> Option<Rc<Peer>> {
        let peers = self.peers.borrow();
        let choose = |eligible: &dyn Fn(&Peer) -> bool| {
            let eligible = |peer: &&Rc<Peer>| eligible(peer) && !tried.contains(&peer.address());
            match request.within {
                Some(within) if within.in_order => within.addresses.iter().find_map(|address| {
                    let mut peers = peers.iter();
                    peers.find(|peer| peer.address() == *address && eligible(peer))
                }),
                _ => {
                    let candidate = |index: usize| {
                        let peer = peers.get(index);
                        peer.filter(|peer| request.may_have(peer.address()) && eligible(peer))
                    };
                    balancer::choose(peers.len(), candidate, |peer| peer.in_flight())
                }
            }
        };
        let failed = |peer: &Peer| request.avoid.contains(&peer.address());
        choose(&|peer| peer.health.is_available() && !failed(peer))
            .or_else(|| choose(&|peer| !failed(peer)))
            .or_else(|| choose(&|_| true))
            .map(Rc::clone)
    }

    /// The right to open a connection, if need be in place of an idle one.
    pub(super) fn slot(&self) -> Option<Slot> {
        self.limit.take().or_else(|| {
            self.peers
                .borrow()
                .iter()
                .find(|peer| peer.pool().evict())?;
            self.limit.take()
        })
    }

    /// Logs why a handshake with `peer` failed, unless it is what was logged last.
    pub(super) fn tell_tls_failure(&self, peer: &Peer, error: &UpstreamError) {
        if error.kind != UpstreamErrorKind::Tls {
            return;
        }
        let error = error.to_string();
        let mut told = self.told.borrow_mut();
        if *told != error {
            tracing::warn!(cluster = %self.key, endpoint = %peer.address(), error, "TLS with a backend failed");
            *told = error;
        }
    }

    /// A connect to `peer` failed or was given up.
    pub(super) fn connect_failed(self: &Rc<Self>, peer: &Rc<Peer>, kind: UpstreamErrorKind) {
        // The proxy's own shortage says nothing about the endpoint.
        if let Some(outliers) = &self.outliers
            && kind != UpstreamErrorKind::Overloaded
            && !peer.is_removed()
        {
            let pause = outliers.connect_failed(&peer.health, self.peers.borrow().len());
            self.eject(peer, pause);
        }
    }

    fn report(self: &Rc<Self>, peer: &Rc<Peer>, outcome: Outcome) {
        let Some(outliers) = &self.outliers else {
            return;
        };
        if outcome != Outcome::Answered {
            self.request_failed(outliers, peer);
        } else if outliers.answered(&peer.health) {
            tracing::info!(cluster = %self.key, endpoint = %peer.address(), "endpoint is back");
        }
    }

    fn request_failed(self: &Rc<Self>, outliers: &OutlierDetector, peer: &Rc<Peer>) {
        if !peer.is_removed() {
            let pause = outliers.request_failed(&peer.health, self.peers.borrow().len());
            self.eject(peer, pause);
        }
    }

    fn eject(self: &Rc<Self>, peer: &Rc<Peer>, pause: Option<Duration>) {
        let Some(pause) = pause else { return };
        tracing::info!(cluster = %self.key, endpoint = %peer.address(), ?pause, "endpoint ejected");
        self.shared.metrics.ejected(self.shared.ejected.get());
        peer.pool().clear();
        self.probe_after(peer, pause);
    }

    fn probe_after(self: &Rc<Self>, peer: &Rc<Peer>, pause: Duration) {
        if !peer.probing.replace(true) {
            tokio::task::spawn_local(probe(Rc::downgrade(self), Rc::downgrade(peer), pause));
        }
    }

    /// Whether a connect to an ejected endpoint succeeds. If it does, the endpoint goes on trial, and the connection is
    /// kept for the request that tries it.
    async fn reaches(&self, peer: &Peer, slot: Slot) -> bool {
        let since = Instant::now();
        let connected = timeout(self.connect_timeout(), self.probe(peer, slot)).await;
        let (session, reused) = match connected.unwrap_or_else(|_| Err(out_of_time())) {
            Ok(connected) => connected,
            Err(error) => {
                self.count_connect(error.kind.into(), since);
                return false;
            }
        };
        if !reused {
            self.count_connect(ConnectResult::Ok, since);
        }
        if let Some(Session::Http1(session)) = session {
            session
                .into_unused()
                .into_iter()
                .for_each(|idle| peer.pool().put(idle));
        }
        peer.health.reachable();
        true
    }

    /// Connects to `peer` as requests do. Where tunnels lead it is enough that it takes connections: they do not speak what requests
    /// would, which may be more than the endpoint can. That is then found out by the request that tries it.
    async fn probe(
        &self,
        peer: &Peer,
        slot: Slot,
    ) -> Result<(Option<Session>, bool), UpstreamError> {
        if self.has_tunnels.get() {
            connect_tcp(peer.address()).await?;
            slot.opened();
            return Ok((None, false));
        }
        let request = OpenRequest {
            fresh: true,
            ..OpenRequest::default()
        };
        let (session, reused) = peer.connect(slot, &request).await?;
        Ok((Some(session), reused))
    }

    /// Counts the end of a connect.
    pub(super) fn count_connect(&self, result: ConnectResult, since: Instant) {
        let labels = Arc::clone(&self.shared.labels.borrow());
        self.shared
            .metrics
            .upstream_connect(&labels, &self.key, result, since.elapsed());
    }
}

/// Asks for a name again and again while the cluster lives.
async fn follow(cluster: Weak<ClusterState>, name: Box<str>) {
    loop {
        let Some(shared) = cluster.upgrade().map(|cluster| Rc::clone(&cluster.shared)) else {
            return;
        };
        let answer = shared.dns.resolve(&name).await;
        let Some(cluster) = cluster.upgrade() else {
            return;
        };
        let pause = cluster.names.answered(&name, answer);
        let endpoints = Arc::clone(&cluster.config.borrow().endpoints);
        cluster.apply_addresses(&endpoints);
        drop(cluster);
        sleep(pause).await;
    }
}

/// Tries to connect to an ejected endpoint after each pause, until it can or the endpoint is gone.
async fn probe(cluster: Weak<ClusterState>, peer: Weak<Peer>, mut pause: Duration) {
    loop {
        sleep(pause).await;
        let (Some(cluster), Some(peer)) = (cluster.upgrade(), peer.upgrade()) else {
            return;
        };
        if peer.is_removed() || !peer.health.is_ejected() {
            return peer.probing.set(false);
        }
        // At the limit of connections requests come first.
        let Some(slot) = cluster.limit.take() else {
            continue;
        };
        if cluster.reaches(&peer, slot).await {
            return peer.probing.set(false);
        }
        pause = peer.health.next_pause();
    }
}

/// A request's hold on an endpoint.
pub(super) struct Lease {
    cluster: Rc<ClusterState>,
    peer: Rc<Peer>,
}

impl Lease {
    pub(super) fn new(cluster: &Rc<ClusterState>, peer: Rc<Peer>) -> Self {
        peer.request_started();
        Self {
            cluster: Rc::clone(cluster),
            peer,
        }
    }

    pub(super) fn cluster(&self) -> &ClusterState {
        &self.cluster
    }

    pub(super) fn peer(&self) -> &Rc<Peer> {
        &self.peer
    }

    pub(super) fn report(&self, outcome: Outcome) {
        self.cluster.report(&self.peer, outcome);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.peer.request_ended();
    }
}
