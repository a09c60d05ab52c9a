//! Connections for tunnels: of their own, and only as many endpoints apart as there are well ones.

use std::time::Duration;

use portcullis_routing::{Cluster, ClusterTls};
use tokio::{task::yield_now, time::timeout};

use crate::upstream::{
    OpenRequest, RawUpstream, UpstreamError,
    testing::{
        backend::{Backend, OK, Reply},
        nobody::nobody,
        world::World,
    },
};

/// Verified against the system's roots, and no test's backend speaks TLS.
fn with_tls() -> Cluster {
    Cluster {
        tls: Some(ClusterTls {
            server_name: "backend.example".into(),
            ..ClusterTls::default()
        }),
        ..Cluster::default()
    }
}

async fn connect(world: &World) -> Result<RawUpstream, UpstreamError> {
    let request = OpenRequest::default();
    world.upstreams.connect(&world.key, request).await
}

/// What requests speak with a backend is nothing to those who bring their own.
#[tokio::test(flavor = "local")]
async fn an_ejected_endpoint_comes_back_to_tunnels_whatever_requests_would_speak_with_it() {
    let good = Backend::ok();
    let (socket, bad) = nobody();
    let world = World::with(with_tls(), &[good.address, bad]);
    while world.metric("portcullis_upstream_ejected_endpoints", "") == 0 {
        let reached = connect(&world).await.expect("one of both");
        assert_eq!(reached.endpoint, good.address);
    }
    let revived = Backend::start_on(socket, |_| Reply::Send(OK));
    let back = async {
        while connect(&world).await.expect("one of both").endpoint != bad {
            yield_now().await;
        }
    };
    let back = timeout(Duration::from_secs(10), back).await;
    back.expect("the endpoint is tried again");
    drop(revived);
}

/// Each has a connection of a client, and these are limited.
#[tokio::test(flavor = "local")]
async fn tunnels_take_nothing_of_what_requests_may_open() {
    let backend = Backend::ok();
    let cluster = Cluster {
        max_connections: 1,
        ..Cluster::default()
    };
    let world = World::with(cluster, &[backend.address]);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(connect(&world).await.expect("a connection"));
    }
    world.get().await;
    assert_eq!(world.metric("portcullis_upstream_connections", ""), 4);
    drop(open);
    assert_eq!(world.metric("portcullis_upstream_connections", ""), 1);
}
