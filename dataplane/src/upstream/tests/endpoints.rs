//! Endpoints come and go with new tables; names are resolved.

use std::{net::SocketAddr, time::Duration};

use futures::future::join_all;
use portcullis_routing::{Cluster, Endpoint, EndpointHost, EndpointState};

use crate::upstream::{
    Outcome, UpstreamErrorKind,
    dns::{Dns, NoAnswer},
    testing::{
        backend::{Backend, OK, Reply},
        dns::FakeDns,
        world::{World, answer, draining, ready, request},
    },
};

#[tokio::test(flavor = "local")]
async fn an_endpoint_that_is_removed_finishes_what_it_has_and_gets_nothing_new() {
    let (old, new) = (Backend::start(|_| Reply::Held(OK)), Backend::ok());
    let world = World::new(&[old.address]);
    let mut upstream = world.open().await.expect("a session");
    upstream.send_head(&request("GET"), true).expect("sent");

    world.set_endpoints(vec![ready(new.address)]);
    for _ in 0..10 {
        assert_eq!(world.get().await, new.address);
    }
    let mut answered = Box::pin(answer(&mut upstream));
    tokio::select! {
        biased;
        _ = &mut answered => panic!("the answer is held"),
        () = old.seen(1) => {}
    }
    old.release();
    let (head, body) = answered.await.expect("not cut");
    assert_eq!(
        (head.status.as_u16(), body.as_slice()),
        (200, b"ok".as_slice())
    );
    upstream.report(Outcome::Answered);
    upstream.finish();
    old.closed(1).await;
    assert_eq!(old.requests().len(), 1);
}

#[tokio::test(flavor = "local")]
async fn idle_connections_of_a_removed_endpoint_are_closed_and_those_of_others_stay() {
    let (stays, goes) = (Backend::ok(), Backend::ok());
    let world = World::new(&[stays.address, goes.address]);
    while stays.connections() == 0 || goes.connections() == 0 {
        world.get().await;
    }
    world.set_endpoints(vec![ready(stays.address)]);
    goes.closed(1).await;
    world.get().await;
    assert_eq!(stays.connections(), 1);
}

#[tokio::test(flavor = "local")]
async fn draining_endpoints_serve_only_while_none_is_ready() {
    let (fresh, old) = (Backend::ok(), Backend::ok());
    let world = World::new(&[]);
    world.set_endpoints(vec![draining(old.address)]);
    assert_eq!(world.get().await, old.address);
    world.set_endpoints(vec![draining(old.address), ready(fresh.address)]);
    for _ in 0..10 {
        assert_eq!(world.get().await, fresh.address);
    }
}

#[tokio::test(flavor = "local")]
async fn a_thousand_changes_under_load_cost_no_request() {
    let backends = [Backend::ok(), Backend::ok(), Backend::ok(), Backend::ok()];
    let world = World::new(&[backends[0].address]);
    let changes = async {
        for change in 1..=1000_usize {
            // Every subset but the empty one, in turn; each second time the rest is draining.
            let serves = |index: usize| (change % 15 + 1) >> index & 1 == 1;
            let endpoints = backends.iter().enumerate().filter_map(|(index, backend)| {
                let rest = change.is_multiple_of(2).then(|| draining(backend.address));
                if serves(index) {
                    Some(ready(backend.address))
                } else {
                    rest
                }
            });
            world.set_endpoints(endpoints.collect());
            tokio::task::yield_now().await;
        }
    };
    let load = async {
        loop {
            join_all((0..8).map(|_| world.get())).await;
        }
    };
    tokio::select! {
        biased;
        () = load => {}
        () = changes => {}
    }
    let answered: usize = backends
        .iter()
        .map(|backend| backend.requests().len())
        .sum();
    assert!(answered > 1000, "only {answered} requests");
}

#[tokio::test(flavor = "local")]
async fn no_cluster_and_no_endpoint_are_told_apart() {
    let backend = Backend::ok();
    let world = World::new(&[]);
    assert_eq!(
        world.open().await.err().map(|error| error.kind),
        Some(UpstreamErrorKind::NoEndpoint)
    );
    world.set_endpoints(vec![ready(backend.address)]);
    world.get().await;

    world.remove_cluster();
    backend.closed(1).await;
    // A request that was matched by the table before still gets through.
    world.get().await;

    let unknown = World::new(&[]);
    unknown.remove_cluster();
    assert_eq!(
        unknown.open().await.err().map(|error| error.kind),
        Some(UpstreamErrorKind::NoCluster)
    );
}

fn named(name: &str) -> Vec<Endpoint> {
    vec![Endpoint {
        host: EndpointHost::Name(name.to_owned()),
        port: 80,
        state: EndpointState::Ready,
    }]
}

#[tokio::test(flavor = "local")]
async fn a_name_that_leads_back_to_the_proxy_is_refused() {
    let server = FakeDns::start(&["127.0.0.1".parse().expect("address")], 60).await;
    let world = World::with_dns(Cluster::default(), Dns::with_config(server.config()));
    world.set_endpoints(named("rebind.example.com"));
    let error = world.open().await.err().expect("refused");
    assert_eq!(error.kind, UpstreamErrorKind::NoEndpoint);
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[tokio::test(flavor = "local")]
async fn a_name_that_turns_back_to_the_proxy_has_no_endpoint_any_more() {
    let server = FakeDns::start(&["203.0.113.7".parse().expect("address")], 0).await;
    let world = World::with_dns(Cluster::default(), Dns::with_config(server.config()));
    world.set_endpoints(named("turns.example.com"));
    assert_eq!(resolved(&world).await.len(), 1);
    server.change(&["169.254.169.254".parse().expect("address")]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    let state = world.upstreams.cluster(&world.key).expect("a cluster");
    state.names.changed().await;
    assert_eq!(resolved(&world).await, []);
}

/// The endpoints once every name has had an answer.
async fn resolved(world: &World) -> Vec<SocketAddr> {
    let state = world.upstreams.cluster(&world.key).expect("a cluster");
    while state.names.is_pending() {
        state.names.changed().await;
    }
    // The answer is taken in before anybody else runs.
    state.peers().iter().map(|peer| peer.address()).collect()
}

#[tokio::test(flavor = "local")]
async fn a_name_is_asked_for_once_and_again_when_its_answer_has_expired() {
    let server = FakeDns::start(&["203.0.113.7".parse().expect("address")], 0).await;
    let world = World::with_dns(Cluster::default(), Dns::with_config(server.config()));
    world.set_endpoints(named("up.example.com"));
    assert_eq!(
        resolved(&world).await,
        ["203.0.113.7:80".parse().expect("address")]
    );
    resolved(&world).await;
    assert_eq!(server.questions(), 2, "A and AAAA");

    server.change(&["203.0.113.8".parse().expect("address")]);
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    tokio::time::resume();
    let state = world.upstreams.cluster(&world.key).expect("a cluster");
    state.names.changed().await;
    assert_eq!(
        resolved(&world).await,
        ["203.0.113.8:80".parse().expect("address")]
    );
}

#[tokio::test(flavor = "local")]
async fn a_resolver_that_fails_changes_nothing() {
    let server = FakeDns::start(&["203.0.113.7".parse().expect("address")], 60).await;
    let world = World::with_dns(Cluster::default(), Dns::with_config(server.config()));
    world.set_endpoints(named("up.example.com"));
    let before = resolved(&world).await;
    let state = world.upstreams.cluster(&world.key).expect("a cluster");
    state.names.answered(
        "up.example.com",
        Err(NoAnswer::Unresolved("SERVFAIL".to_owned())),
    );
    world.set_endpoints(named("up.example.com"));
    assert_eq!(
        resolved(&world).await,
        before,
        "stale is better than nothing"
    );
}
