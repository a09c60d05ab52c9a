//! A connection of its own to an endpoint of a cluster, for a tunnel: what is spoken on it is not for the proxy to say, so it is
//! neither pooled nor wrapped in TLS. Endpoints are chosen, tried and taken out as for requests.
//!
//! These connections are not counted against the cluster's limit: each has one of a client, and there is a limit of those.

use std::{net::SocketAddr, rc::Rc};

use tokio::{net::TcpStream, time::Instant};

use super::{
    OpenRequest, Outcome, UpstreamError,
    cluster::{ClusterState, Lease},
    connect::connect_tcp,
    open::{race, wait_for_endpoint},
};

/// A connection to an endpoint.
pub(crate) struct RawUpstream {
    /// The connection.
    pub(crate) stream: TcpStream,
    /// To whom.
    pub(crate) endpoint: SocketAddr,
    /// To be kept for as long as the connection is open.
    pub(crate) hold: Hold,
}

/// The place of an open connection among those of its endpoint.
pub(crate) struct Hold {
    lease: Lease,
}

impl Hold {
    /// The endpoint broke the connection off, and had said nothing.
    pub(crate) fn broken(&self) {
        self.lease.report(Outcome::Broken);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.lease.cluster().shared().metrics.upstream_closed();
    }
}

/// A connection to an endpoint of `cluster` that `request` may have. Cancel-safe.
pub(super) async fn open(
    cluster: &Rc<ClusterState>,
    request: OpenRequest<'_>,
) -> Result<RawUpstream, UpstreamError> {
    let deadline = Instant::now() + cluster.connect_timeout();
    let peer = loop {
        match cluster.select(&request, &[]) {
            Some(peer) => break peer,
            None => wait_for_endpoint(cluster, &request, deadline).await?,
        }
    };
    let first = (Lease::new(cluster, peer), ());
    let (stream, lease, _) =
        race(cluster, &request, first, deadline, |_| Some(()), connect).await?;
    // Of what is spoken nothing is seen: that it takes connections is all that can be asked of an endpoint.
    lease.report(Outcome::Answered);
    Ok(RawUpstream {
        stream,
        endpoint: lease.peer().address(),
        hold: Hold { lease },
    })
}

async fn connect(lease: Lease, (): ()) -> (Lease, Result<(TcpStream, bool), UpstreamError>) {
    let connected = connect_tcp(lease.peer().address()).await;
    (lease, connected.map(|stream| (stream, false)))
}
