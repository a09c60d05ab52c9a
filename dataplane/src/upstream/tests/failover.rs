//! Endpoints that fail: nobody notices, and they come back.

use std::time::{Duration, Instant};

use futures::future::join_all;
use portcullis_routing::{Cluster, Millis};

use crate::upstream::{
    OpenRequest, Outcome, Progress, UpstreamErrorKind,
    testing::{
        backend::{Backend, OK, Reply, black_hole},
        nobody::nobody,
        world::{World, exchange, ready},
    },
};

fn three_backends() -> [Backend; 3] {
    [Backend::ok(), Backend::ok(), Backend::ok()]
}

#[tokio::test(flavor = "local")]
async fn one_of_four_refuses_and_no_request_fails() {
    let backends = three_backends();
    let (_held, bad) = nobody();
    let addresses: Vec<_> = backends
        .iter()
        .map(|backend| backend.address)
        .chain([bad])
        .collect();
    let world = World::new(&addresses);
    for _ in 0..50 {
        join_all((0..4).map(|_| world.get())).await;
    }
    let failed = world.metric("portcullis_upstream_connects_total", "refused");
    assert!(
        (1..=4).contains(&failed),
        "ejected at once, but {failed} connects were refused"
    );
    assert_eq!(world.metric("portcullis_upstream_ejected_endpoints", ""), 1);
}

#[tokio::test(flavor = "local")]
async fn one_of_four_is_a_black_hole_and_hardly_a_request_is_slow() {
    let backends = three_backends();
    let (bad, _listener, _filler) = black_hole().await;
    let addresses: Vec<_> = backends
        .iter()
        .map(|backend| backend.address)
        .chain([bad])
        .collect();
    let world = World::new(&addresses);
    let mut slow = 0;
    for _ in 0..200 {
        let begun = Instant::now();
        world.get().await;
        slow += usize::from(begun.elapsed() > Duration::from_millis(200));
        assert!(
            begun.elapsed() < Duration::from_secs(1),
            "took {:?}",
            begun.elapsed()
        );
    }
    assert!(slow <= 3, "{slow} of 200 requests were slow");
    assert_eq!(world.metric("portcullis_upstream_ejections_total", ""), 1);
}

#[tokio::test(flavor = "local")]
async fn without_another_endpoint_the_failure_is_told() {
    let (_held, bad) = nobody();
    let refused = World::new(&[bad])
        .open()
        .await
        .err()
        .expect("nobody listens");
    assert_eq!(
        (refused.kind, refused.progress),
        (UpstreamErrorKind::Refused, Progress::NothingSent)
    );
    assert!(refused.is_unprocessed());

    let (address, _listener, _filler) = black_hole().await;
    let cluster = Cluster {
        connect_timeout: Millis(50),
        ..Cluster::default()
    };
    let dropped = World::with(cluster, &[address])
        .open()
        .await
        .err()
        .expect("nobody answers");
    assert_eq!(
        (dropped.kind, dropped.progress),
        (UpstreamErrorKind::ConnectTimeout, Progress::NothingSent)
    );
}

#[tokio::test(flavor = "local")]
async fn when_all_refuse_each_is_tried_once() {
    let held = [nobody(), nobody(), nobody(), nobody()];
    let addresses = held.each_ref().map(|(_, address)| *address);
    let world = World::new(&addresses);
    let error = world.open().await.err().expect("nobody listens");
    assert_eq!(error.kind, UpstreamErrorKind::Refused);
    assert_eq!(
        world.metric("portcullis_upstream_connects_total", "refused"),
        4
    );
    assert_eq!(
        world.metric("portcullis_upstream_ejected_endpoints", ""),
        2,
        "never more than half"
    );
}

#[tokio::test(flavor = "local")]
async fn an_ejected_endpoint_comes_back_without_costing_a_request() {
    let good = Backend::ok();
    let (socket, bad) = nobody();
    let world = World::new(&[good.address, bad]);
    while world.metric("portcullis_upstream_ejected_endpoints", "") == 0 {
        world.get().await;
    }
    let revived = Backend::start_on(socket, |_| Reply::Send(OK));
    // The proxy itself connects, in the background.
    while revived.connections() == 0 {
        tokio::task::yield_now().await;
    }
    while revived.requests().is_empty() {
        world.get().await;
    }
    while world.metric("portcullis_upstream_ejected_endpoints", "") == 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        world.metric("portcullis_upstream_connects_total", "refused"),
        1,
        "only the first request met it"
    );
}

#[tokio::test(flavor = "local")]
async fn an_endpoint_that_breaks_requests_is_ejected_after_a_few() {
    let good = Backend::ok();
    let bad = Backend::start(|_| Reply::SendAndClose(""));
    let world = World::new(&[good.address, bad.address]);
    let mut broken = 0;
    for _ in 0..100 {
        let mut upstream = world.open().await.expect("a session");
        if exchange(&mut upstream).await.is_ok() {
            upstream.report(Outcome::Answered);
            upstream.finish();
        } else {
            broken += 1;
            upstream.report(Outcome::Broken);
        }
    }
    assert_eq!(broken, 3);
}

#[tokio::test(flavor = "local")]
async fn a_repeat_goes_to_another_endpoint_if_there_is_one() {
    let backends = [Backend::ok(), Backend::ok()];
    let world = World::new(&[backends[0].address, backends[1].address]);
    for _ in 0..20 {
        let avoid = [backends[0].address];
        let request = OpenRequest {
            avoid: &avoid,
            ..OpenRequest::default()
        };
        let upstream = world
            .upstreams
            .open(&world.key, request)
            .await
            .expect("a session");
        assert_eq!(upstream.endpoint(), backends[1].address);
    }
    world.set_endpoints(vec![ready(backends[0].address)]);
    let avoid = [backends[0].address];
    let request = OpenRequest {
        avoid: &avoid,
        ..OpenRequest::default()
    };
    world
        .upstreams
        .open(&world.key, request)
        .await
        .expect("better than nothing");
}
