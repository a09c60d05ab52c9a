//! A connection of its own to an endpoint of a cluster, for a tunnel: what is spoken on it is not for the proxy to say, so it is
//! neither pooled nor wrapped in TLS. Endpoints are chosen, tried and taken out as for requests.
//!
//! These connections are not counted against the cluster's limit: each has one of a client, and there is a limit of those.

use std::{cell::Cell, future::poll_fn, net::SocketAddr, pin::Pin, rc::Rc};

use tokio::{net::TcpStream, time::Instant};

use super::{
    OpenRequest, Outcome, UpstreamError,
    cluster::{ClusterState, Lease},
    connect::connect_tcp,
    open::{race, wait_for_endpoint},
};
use crate::tunnel::relay::{Ended, Moved};

/// A connection to an endpoint.
pub(crate) struct RawUpstream {
    /// The connection.
    pub(crate) stream: TcpStream,
    /// To whom.
    pub(crate) endpoint: SocketAddr,
    /// To be kept for as long as the connection is open.
    pub(crate) hold: Hold,
}

/// The place of an open connection among those of its endpoint, which learns here how well it serves it.
pub(crate) struct Hold {
    lease: Lease,
    /// Bytes that the endpoint had said when it was last looked.
    heard: Cell<u64>,
}

impl Hold {
    /// Passes on what `tunnel` ends with. The endpoint is well as soon as it has said something: that it takes connections means little,
    /// and a tunnel may last. One that was greeted and never had anything to say is not well. But that it merely closes the tunnel may be
    /// the client's doing, who greets a name that it does not know: that counts only while it has nothing to say to anybody else either.
    pub(crate) async fn watch(
        &self,
        mut tunnel: Pin<&mut impl Future<Output = Ended>>,
        moved: &Moved,
    ) -> Ended {
        let ended = poll_fn(|cx| {
            let ended = tunnel.as_mut().poll(cx);
            self.look(moved);
            ended
        });
        let ended = ended.await;
        let was_greeted = moved.to_upstream() > 0;
        let outcome = match &ended {
            Ended::UpstreamGone(_) => Some(Outcome::Broken),
            Ended::Closed if was_greeted && !self.lease.peer().health.has_spoken() => {
                Some(Outcome::Broken)
            }
            Ended::Idle if was_greeted => Some(Outcome::TimedOut),
            _ => None,
        };
        if let Some(outcome) = outcome.filter(|_| self.heard.get() == 0) {
            self.lease.report(outcome);
        }
        ended
    }

    fn look(&self, moved: &Moved) {
        let said = moved.to_client();
        let heard = self.heard.replace(said);
        if said > heard {
            self.lease.peer().health.spoke();
        }
        if said > 0 && heard == 0 {
            self.lease.report(Outcome::Answered);
        }
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
    cluster.has_tunnels();
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
    Ok(RawUpstream {
        stream,
        endpoint: lease.peer().address(),
        hold: Hold {
            lease,
            heard: Cell::new(0),
        },
    })
}

async fn connect(lease: Lease, (): ()) -> (Lease, Result<(TcpStream, bool), UpstreamError>) {
    let connected = connect_tcp(lease.peer().address()).await;
    (lease, connected.map(|stream| (stream, false)))
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin, time::Duration};

    use bytes::BytesMut;
    use portcullis_routing::Cluster;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        net::TcpListener,
        time,
    };

    use super::{
        super::{outlier::CREDIT, testing::world::World},
        *,
    };
    use crate::{
        deadline::Deadlines,
        tunnel::relay::{Limits, Relay, Tunnel},
    };

    #[tokio::test(flavor = "local")]
    async fn an_endpoint_speaks_for_as_long_as_something_comes_however_old_the_tunnel_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let world = World::with(Cluster::default(), &[address]);
        let connecting = world.upstreams.connect(&world.key, OpenRequest::default());
        let RawUpstream { stream, hold, .. } = connecting.await.unwrap();
        let (mut endpoint, _) = listener.accept().await.unwrap();
        let (mut client, near) = duplex(64);
        let relay = Relay::new(&Deadlines::new());
        let limits = Limits {
            idle: Duration::from_hours(1),
            total: None,
            drain: Duration::from_hours(1),
        };
        let tunnel = Tunnel {
            client: near,
            upstream: stream,
            prefix: BytesMut::new(),
            clock: relay.clock(443, limits),
            revoked: pending(),
        };
        let moved = Moved::default();
        let tunnel = pin!(relay.run(tunnel, &moved));
        let has_spoken = || hold.lease.peer().health.has_spoken();
        let stream = async {
            for _ in 0..3 {
                assert!(!has_spoken());
                endpoint.write_all(b"x").await.unwrap();
                client.read_exact(&mut [0]).await.unwrap();
                assert!(has_spoken());
                time::pause();
                time::advance(CREDIT).await;
                time::resume();
            }
        };
        tokio::select! {
            ended = hold.watch(tunnel, &moved) => panic!("{ended:?}"),
            () = stream => {}
        }
    }
}
