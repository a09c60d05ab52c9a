//! The way out: clusters, their endpoints, connections and sessions. One instance per worker, single-threaded.
//!
//! `open` -> cluster (by key) -> endpoint (balancer, health) -> pooled session, or the first connect that succeeds.

mod balancer;
mod cluster;
mod connect;
pub(crate) mod dns;
mod error;
mod external;
mod limit;
mod names;
mod open;
mod outlier;
mod peer;
mod pool;
mod raw;
mod resumption;
mod san;
mod session;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod tls;

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};

use foldhash::fast::RandomState;
use portcullis_routing::{ClusterKey, RoutingTable};
use tokio::{
    task::AbortHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use self::{
    cluster::{ClusterResources, ClusterState},
    dns::Dns,
    external::Externals,
};
pub(crate) use self::{
    connect::tune,
    external::{External, ExternalHost, HostTls},
    open::{MAX_RIVALS, SLOW_CONNECT},
    raw::{Hold, RawUpstream},
    tls::usual,
};
pub use self::{
    error::{Progress, UpstreamError, UpstreamErrorKind},
    session::{Outcome, Upstream, UpstreamEvent, UpstreamWriter},
    tls::{TlsPolicies, system_roots},
};
use crate::telemetry::{Labels, WorkerMetrics};

/// How often idle connections are looked through.
const SWEEP: Duration = Duration::from_secs(1);
/// How long the state of a cluster outlives its place in the table, for requests that began with an older table.
const LINGER: Duration = Duration::from_mins(1);

/// What a request needs of the connection it gets.
#[derive(Clone, Copy, Default)]
pub struct OpenRequest<'a> {
    /// The request asks for an HTTP/1.1 upgrade (WebSocket): it gets an HTTP/1.1 connection whatever the cluster speaks.
    pub websocket: bool,
    /// Endpoints that failed in this exchange already: used only if there is no other.
    pub avoid: &'a [SocketAddr],
    /// Not on a pooled HTTP/1.1 connection: after a [stale](UpstreamError::is_stale) one.
    pub fresh: bool,
    /// The endpoints that this request may have; `None` is all of the cluster's.
    pub within: Option<Within<'a>>,
    /// Whether this request may have this endpoint; `None` is any. Asked before each of them is used.
    pub fence: Option<&'a dyn Fn(SocketAddr) -> bool>,
}

impl OpenRequest<'_> {
    /// Whether the request may have an endpoint.
    fn may_have(&self, address: SocketAddr) -> bool {
        self.within
            .is_none_or(|within| within.addresses.contains(&address))
            && self.fence.is_none_or(|admits| admits(address))
    }
}

/// Endpoints that a request may have, and no others.
#[derive(Clone, Copy, Debug)]
pub struct Within<'a> {
    /// Their addresses.
    pub addresses: &'a [SocketAddr],
    /// Each is used only if none before it can be; else they share the requests.
    pub in_order: bool,
}

/// The backends as one worker sees them. Health, requests in flight and pools stand beside the table, by key, and
/// survive a new one. A cluster gets its state with its first request.
pub struct Upstreams {
    shared: Rc<Shared>,
    clusters: Clusters,
    externals: Rc<Externals>,
    table: RefCell<Option<(Arc<RoutingTable>, Arc<TlsPolicies>)>>,
    sweeper: AbortHandle,
}

type Clusters = Rc<RefCell<HashMap<ClusterKey, Rc<ClusterState>, RandomState>>>;

/// What all clusters of a worker share.
struct Shared {
    metrics: Arc<WorkerMetrics>,
    labels: RefCell<Arc<Labels>>,
    /// Endpoints that are ejected at present.
    ejected: Rc<Cell<usize>>,
    dns: Dns,
}

impl Upstreams {
    /// Without any cluster. Must be called on the worker's own runtime, where local tasks can be spawned.
    pub fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self::with_dns(metrics, Dns::default())
    }

    fn with_dns(metrics: Arc<WorkerMetrics>, dns: Dns) -> Self {
        let shared = Rc::new(Shared {
            metrics,
            labels: RefCell::default(),
            ejected: Rc::default(),
            dns,
        });
        let clusters = Clusters::default();
        let externals = Rc::<Externals>::default();
        let sweep = sweep(
            Rc::downgrade(&clusters),
            Rc::downgrade(&externals),
            Rc::clone(&shared),
        );
        let sweeper = tokio::task::spawn_local(sweep).abort_handle();
        Self {
            shared,
            clusters,
            externals,
            table: RefCell::new(None),
            sweeper,
        }
    }

    /// Takes a new table's clusters and endpoints, and how TLS is spoken with them. What is gone gets no new requests;
    /// requests in flight finish.
    pub fn sync(&self, table: &Arc<RoutingTable>, tls: &Arc<TlsPolicies>, labels: &Arc<Labels>) {
        *self.shared.labels.borrow_mut() = Arc::clone(labels);
        for (key, state) in self.clusters.borrow().iter() {
            match resources(table, tls, key) {
                Some(resources) => state.update(resources),
                None => state.remove(),
            }
        }
        *self.table.borrow_mut() = Some((Arc::clone(table), Arc::clone(tls)));
    }

    /// A session with an endpoint of `cluster`: pooled, or new. A connect that fails or is slow moves on to another
    /// endpoint at once. Cancel-safe.
    pub async fn open(
        &self,
        cluster: &ClusterKey,
        request: OpenRequest<'_>,
    ) -> Result<Upstream, UpstreamError> {
        open::open(&self.known(cluster)?, request).await
    }

    /// A connection of its own to an endpoint of `cluster`, on which the proxy speaks nothing. Connects that fail or are slow are
    /// dealt with as in [`Self::open`]. Cancel-safe.
    pub(crate) async fn connect(
        &self,
        cluster: &ClusterKey,
        request: OpenRequest<'_>,
    ) -> Result<RawUpstream, UpstreamError> {
        raw::open(&self.known(cluster)?, request).await
    }

    /// The connections of a host outside, for a request of somebody in the namespace `caller`; those of whom nothing is known are as
    /// one. Fails if there are too many such hosts, or too many of that namespace.
    pub(crate) fn external(
        &self,
        host: &ExternalHost<'_>,
        caller: &str,
    ) -> Result<External, UpstreamError> {
        self.externals.get(host, caller, &self.shared)
    }

    fn known(&self, cluster: &ClusterKey) -> Result<Rc<ClusterState>, UpstreamError> {
        self.cluster(cluster).ok_or_else(|| {
            UpstreamError::new(
                UpstreamErrorKind::NoCluster,
                format_args!("the table has no cluster {cluster}"),
            )
        })
    }

    fn cluster(&self, key: &ClusterKey) -> Option<Rc<ClusterState>> {
        if let Some(state) = self.clusters.borrow().get(key) {
            return Some(Rc::clone(state));
        }
        let table = self.table.borrow();
        let (table, tls) = table.as_ref()?;
        let state = ClusterState::new(key, &self.shared, resources(table, tls, key)?);
        self.clusters
            .borrow_mut()
            .insert(key.clone(), Rc::clone(&state));
        Some(state)
    }
}

/// What the table says about a cluster.
fn resources<'a>(
    table: &'a RoutingTable,
    tls: &'a TlsPolicies,
    key: &ClusterKey,
) -> Option<ClusterResources<'a>> {
    Some(ClusterResources {
        cluster: table.clusters.get(key)?,
        endpoints: table.endpoints.get(key).cloned().unwrap_or_default(),
        tls: tls.get(key),
    })
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

/// Closes idle connections and forgets clusters, coarsely: one timer for all of them.
async fn sweep(
    clusters: Weak<RefCell<HashMap<ClusterKey, Rc<ClusterState>, RandomState>>>,
    externals: Weak<Externals>,
    shared: Rc<Shared>,
) {
    let mut ticks = interval(SWEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ticks.tick().await;
        let (Some(clusters), Some(externals)) = (clusters.upgrade(), externals.upgrade()) else {
            return;
        };
        externals.sweep(now);
        clusters.borrow_mut().retain(|_, state| {
            state.sweep(now);
            state
                .removed_at()
                .is_none_or(|since: Instant| since + LINGER > now)
        });
        shared.metrics.set_ejected(shared.ejected.get());
    }
}
