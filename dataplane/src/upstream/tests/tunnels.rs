//! Connections for tunnels: of their own, and only as many endpoints apart as there are well ones.

use portcullis_routing::Cluster;

use crate::upstream::{
    OpenRequest, RawUpstream, UpstreamError,
    testing::{backend::Backend, world::World},
};

async fn connect(world: &World) -> Result<RawUpstream, UpstreamError> {
    let request = OpenRequest::default();
    world.upstreams.connect(&world.key, request).await
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
