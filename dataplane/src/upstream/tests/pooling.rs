//! Connections are used again, within limits.

use std::time::Duration;

use futures::{FutureExt, future::join_all};
use portcullis_routing::Cluster;

use crate::upstream::{
    OpenRequest, Progress, UpstreamErrorKind,
    testing::{
        backend::{Backend, OK, Reply},
        world::{World, exchange},
    },
};

#[tokio::test(flavor = "local")]
async fn one_connection_serves_one_request_after_another() {
    let backend = Backend::ok();
    let world = World::new(&[backend.address]);
    for _ in 0..100 {
        world.get().await;
    }
    assert_eq!((backend.connections(), backend.requests().len()), (1, 100));
    assert_eq!(
        world.metric("portcullis_upstream_requests_total", "reused"),
        99
    );
    assert_eq!(world.metric("portcullis_upstream_connects_total", "ok"), 1);
    assert_eq!(world.metric("portcullis_upstream_connections", ""), 1);
}

#[tokio::test(flavor = "local")]
async fn the_connection_used_last_is_used_next() {
    let backend = Backend::ok();
    let world = World::new(&[backend.address]);
    join_all((0..8).map(|_| world.get())).await;
    assert_eq!(backend.connections(), 8);
    for _ in 0..20 {
        world.get().await;
    }
    assert_eq!(backend.connections(), 8);
    assert_eq!(world.metric("portcullis_upstream_connections", ""), 8);
}

#[tokio::test(flavor = "local")]
async fn a_connection_is_used_again_only_after_both_messages_are_complete() {
    const CLOSES: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
    const UNTIL_CLOSE: &str = "HTTP/1.1 200 OK\r\n\r\nok";
    const HTTP10: &str = "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const OVERLONG: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    const NO_MORE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nkeep-alive: timeout=0\r\n\r\nok";
    for answer in [CLOSES, UNTIL_CLOSE, HTTP10, OVERLONG, NO_MORE] {
        let reply = move |_| {
            if answer == UNTIL_CLOSE {
                Reply::SendAndClose(answer)
            } else {
                Reply::Send(answer)
            }
        };
        let backend = Backend::start(reply);
        let world = World::new(&[backend.address]);
        world.get().await;
        world.get().await;
        assert_eq!(backend.connections(), 2, "{answer:?}");
        backend.closed(2).await;
    }
}

#[tokio::test(flavor = "local")]
async fn a_connection_that_the_backend_closed_meanwhile_is_not_used() {
    let backend = Backend::start(|_| Reply::SendAndClose(OK));
    let world = World::new(&[backend.address]);
    world.get().await;
    backend.closed(1).await;
    // Lets the event loop see the end.
    tokio::task::yield_now().await;
    world.get().await;
    assert_eq!(world.metric("portcullis_upstream_requests_total", "new"), 2);
}

#[tokio::test(flavor = "local")]
async fn a_stale_connection_is_told_apart_and_is_no_failure_of_the_endpoint() {
    // Reads the second request and closes without an answer, as a server whose keep-alive ran out seems to.
    let backend = Backend::start(|number| {
        if number == 1 {
            Reply::SendAndClose("")
        } else {
            Reply::Send(OK)
        }
    });
    let world = World::new(&[backend.address]);
    world.get().await;

    let mut upstream = world.open().await.expect("the pooled connection");
    let error = exchange(&mut upstream).await.expect_err("closed");
    assert!(error.is_stale(), "{error:?}");
    assert!(!error.is_unprocessed());
    assert_eq!(error.endpoint, Some(backend.address));
    drop(upstream);

    let fresh = OpenRequest {
        fresh: true,
        ..OpenRequest::default()
    };
    let mut upstream = world
        .upstreams
        .open(&world.key, fresh)
        .await
        .expect("a new connection");
    assert!(!upstream.reused());
    exchange(&mut upstream).await.expect("an answer");
}

#[tokio::test(flavor = "local")]
async fn on_a_new_connection_an_early_end_is_a_failure() {
    let backend = Backend::start(|_| Reply::SendAndClose(""));
    let world = World::new(&[backend.address]);
    let mut upstream = world.open().await.expect("a session");
    let error = exchange(&mut upstream).await.expect_err("closed");
    assert_eq!(
        (error.kind, error.progress, error.is_stale()),
        (UpstreamErrorKind::Closed, Progress::Sent, false)
    );
}

#[tokio::test(flavor = "local")]
async fn beyond_the_limit_requests_wait_for_a_connection_and_the_queue_is_bounded() {
    let backend = Backend::start(|_| Reply::Held(OK));
    let cluster = Cluster {
        max_connections: 1,
        ..Cluster::default()
    };
    let world = World::with(cluster, &[backend.address]);

    let (mut first, mut second) = (Box::pin(world.get()), Box::pin(world.get()));
    tokio::select! {
        biased;
        _ = &mut first => panic!("the answer is held"),
        () = backend.seen(1) => {}
    }
    assert!((&mut second).now_or_never().is_none());
    let third = world.open().await.err().expect("one waits already");
    assert_eq!(
        (third.kind, third.progress),
        (UpstreamErrorKind::Overloaded, Progress::NothingSent)
    );

    backend.release();
    first.await;
    second.await;
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "local")]
async fn at_the_limit_an_idle_connection_makes_room_for_another_endpoint() {
    let backends = [Backend::ok(), Backend::ok()];
    let cluster = Cluster {
        max_connections: 1,
        ..Cluster::default()
    };
    let mut world = World::with(cluster, &[backends[0].address]);
    world.get().await;
    world.cluster.max_connections = 1;
    world.set_endpoints(
        backends
            .iter()
            .map(|backend| super::super::testing::world::ready(backend.address))
            .collect(),
    );
    for _ in 0..20 {
        world.get().await;
    }
    assert_eq!(world.metric("portcullis_upstream_connections", ""), 1);
}

/// Lets so much time pass for the timers of this runtime.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test(flavor = "local")]
async fn idle_connections_are_closed_in_time() {
    const BRIEFLY: &str =
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nkeep-alive: timeout=5, max=100\r\n\r\nok";
    for (answer, kept, too_long) in [(OK, 40, 60), (BRIEFLY, 3, 5)] {
        let backend = Backend::start(move |_| Reply::Send(answer));
        let world = World::new(&[backend.address]);
        world.get().await;
        pass(Duration::from_secs(kept)).await;
        world.get().await;
        assert_eq!(backend.connections(), 1, "{answer:?}");
        pass(Duration::from_secs(too_long)).await;
        backend.closed(1).await;
        world.get().await;
        assert_eq!(backend.connections(), 2, "{answer:?}");
    }
}
