//! A connection of its own to an endpoint of a cluster, for a tunnel: what is spoken on it is not for the proxy to say, so it is
//! neither pooled nor wrapped in TLS. Endpoints are chosen, tried and taken out as for requests.

use std::{net::SocketAddr, rc::Rc};

use tokio::{net::TcpStream, time::Instant};

use super::{
    OpenRequest, Outcome, UpstreamError,
    cluster::{ClusterState, Lease},
    connect::connect_tcp,
    limit::Slot,
    open::{race, wait_for_endpoint, wait_for_room},
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

/// The place of an open connection among those of its cluster and endpoint.
pub(crate) struct Hold {
    lease: Lease,
    _slot: Slot,
}

impl Hold {
    /// The endpoint broke the connection off, and had said nothing.
    pub(crate) fn broken(&self) {
        self.lease.report(Outcome::Broken);
    }
}

/// A connection to an endpoint of `cluster` that `request` may have. Cancel-safe.
pub(super) async fn open(
    cluster: &Rc<ClusterState>,
    request: OpenRequest<'_>,
) -> Result<RawUpstream, UpstreamError> {
    let deadline = Instant::now() + cluster.connect_timeout();
    loop {
        let Some(peer) = cluster.select(&request, &[]) else {
            wait_for_endpoint(cluster, &request, deadline).await?;
            continue;
        };
        let Some(slot) = cluster.slot() else {
            wait_for_room(cluster, deadline).await?;
            continue;
        };
        let first = (Lease::new(cluster, peer), slot);
        let ((stream, slot), lease, _) = race(cluster, &request, first, deadline, connect).await?;
        // Of what is spoken nothing is seen: that it takes connections is all that can be asked of an endpoint.
        lease.report(Outcome::Answered);
        return Ok(RawUpstream {
            stream,
            endpoint: lease.peer().address(),
            hold: Hold { lease, _slot: slot },
        });
    }
}

async fn connect(
    lease: Lease,
    slot: Slot,
) -> (Lease, Result<((TcpStream, Slot), bool), UpstreamError>) {
    let connected = connect_tcp(lease.peer().address()).await;
    let connected = connected.map(|stream| {
        slot.opened();
        ((stream, slot), false)
    });
    (lease, connected)
}
