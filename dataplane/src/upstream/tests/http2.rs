//! HTTP/2 sessions by prior knowledge.

use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, HeaderValue, Version};
use portcullis_routing::{Cluster, ClusterProtocol};
use tokio::time::timeout;

use crate::upstream::{
    Outcome, Progress, UpstreamErrorKind, UpstreamEvent,
    testing::{
        backend::{Backend, Reply},
        http2::Http2Backend,
        world::{World, answer, body, exchange, request, send_body},
    },
};

fn world(backend: &Http2Backend) -> World {
    let cluster = Cluster {
        protocol: ClusterProtocol::Http2,
        ..Cluster::default()
    };
    World::with(cluster, &[backend.address])
}

#[tokio::test(flavor = "local")]
async fn many_requests_share_one_connection_even_at_the_first_moment() {
    let backend = Http2Backend::start(100).await;
    let world = world(&backend);
    join_all((0..80).map(|_| world.get())).await;
    join_all((0..80).map(|_| world.get())).await;
    assert_eq!((backend.connections(), backend.requests().len()), (1, 160));
    assert_eq!(world.metric("portcullis_upstream_connects_total", "ok"), 1);
}

#[tokio::test(flavor = "local")]
async fn pseudo_fields_come_from_target_and_host() {
    let backend = Http2Backend::start(100).await;
    world(&backend).get().await;
    let seen = backend.requests().remove(0);
    assert_eq!(seen.uri(), "http://app.example.com/path?query");
    assert!(!seen.headers().contains_key("host"));
}

#[tokio::test(flavor = "local")]
async fn a_full_connection_is_joined_by_another() {
    let backend = Http2Backend::start(5).await;
    let world = world(&backend);
    // The backend's limit is known from its first answer on.
    world.get().await;
    backend.hold();
    let requests = join_all((0..12).map(|_| world.get()));
    tokio::pin!(requests);
    tokio::select! {
        biased;
        _ = &mut requests => panic!("the answers are held"),
        () = backend.seen(13) => {}
    }
    backend.release();
    requests.await;
    assert_eq!(backend.connections(), 3);
}

#[tokio::test(flavor = "local")]
async fn whoever_waits_for_a_connection_joins_the_first_one() {
    let backend = Http2Backend::start(100).await;
    let cluster = Cluster {
        protocol: ClusterProtocol::Http2,
        max_connections: 1,
        ..Cluster::default()
    };
    let world = World::with(cluster, &[backend.address]);
    backend.hold();
    let requests = join_all((0..2).map(|_| world.get()));
    tokio::pin!(requests);
    tokio::select! {
        biased;
        _ = &mut requests => panic!("the answers are held"),
        () = backend.seen(2) => {}
    }
    backend.release();
    requests.await;
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "local")]
async fn bodies_and_trailers_pass_both_ways_at_once() {
    const PIECES: usize = 256;
    let backend = Http2Backend::start(100).await;
    let world = world(&backend);
    let mut upstream = world.open().await.expect("a session");
    upstream.send_head(&request("POST"), false).expect("sent");
    let piece = Bytes::from(vec![7; 16 * 1024]);
    let (writer, mut sent, mut echoed) = (upstream.writer(), 0, 0);
    while sent < PIECES || echoed < 2 + PIECES * piece.len() {
        tokio::select! {
            biased;
            event = upstream.read_event() => match event.expect("the echo") {
                UpstreamEvent::Head(head, false) => assert_eq!((head.status.as_u16(), head.version), (200, Version::HTTP_2)),
                UpstreamEvent::Data(data) => echoed += data.len(),
                event => panic!("{event:?}"),
            },
            () = writer.room(), if sent < PIECES => {
                upstream.send_body(piece.clone()).await.expect("sent");
                sent += 1;
            }
        }
    }
    let trailers = HeaderMap::from_iter([(
        "x-sum".parse().expect("name"),
        HeaderValue::from_static("7"),
    )]);
    upstream
        .finish_body(Some(trailers.clone()))
        .await
        .expect("finished");
    let event = upstream.read_event().await.expect("trailers");
    assert!(
        matches!(&event, UpstreamEvent::Trailers(seen) if *seen == trailers),
        "{event:?}"
    );
    upstream.finish();
}

#[tokio::test(flavor = "local")]
async fn a_request_that_is_dropped_resets_its_stream_only() {
    let backend = Http2Backend::start(100).await;
    let world = world(&backend);
    backend.hold();
    let (mut stays, mut goes) = (
        world.open().await.expect("a session"),
        world.open().await.expect("a session"),
    );
    stays.send_head(&request("GET"), true).expect("sent");
    goes.send_head(&request("GET"), true).expect("sent");
    backend.seen(2).await;
    drop(goes);
    assert_eq!(backend.reset().await, h2::Reason::CANCEL);
    backend.release();
    answer(&mut stays).await.expect("an answer");
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "local")]
async fn after_goaway_requests_finish_and_new_ones_get_a_new_connection() {
    let backend = Http2Backend::start(100).await;
    let world = world(&backend);
    backend.hold();
    let mut old = world.open().await.expect("a session");
    old.send_head(&request("GET"), true).expect("sent");
    backend.seen(1).await;
    backend.go_away();
    // The GOAWAY is seen when the pooled connection is refused for new streams.
    let mut new = world.open().await.expect("a session");
    while new.reused() {
        drop(new);
        tokio::task::yield_now().await;
        new = world.open().await.expect("a session");
    }
    new.send_head(&request("GET"), true).expect("sent");
    backend.seen(2).await;
    backend.release();
    answer(&mut old).await.expect("not cut");
    answer(&mut new).await.expect("an answer");
    assert_eq!(backend.connections(), 2);
}

#[tokio::test(flavor = "local")]
async fn a_refused_stream_was_not_processed() {
    let backend = Http2Backend::start(100).await;
    let world = world(&backend);
    world.get().await;
    backend.refuse(true);
    let mut upstream = world.open().await.expect("a session");
    let error = exchange(&mut upstream).await.expect_err("refused");
    assert_eq!(
        (error.kind, error.progress),
        (UpstreamErrorKind::Reset, Progress::NotProcessed)
    );
    assert!(error.is_unprocessed());
    drop(upstream);
    backend.refuse(false);
    world.get().await;
    assert_eq!(
        backend.connections(),
        1,
        "the connection is as good as before"
    );
}

#[tokio::test(flavor = "local")]
async fn a_connection_on_which_a_request_timed_out_gets_no_new_ones() {
    let backend = Http2Backend::start(100).await;
    let world = world(&backend);
    let mut upstream = world.open().await.expect("a session");
    upstream.report(Outcome::TimedOut);
    drop(upstream);
    world.get().await;
    assert_eq!(backend.connections(), 2);
}

#[tokio::test(flavor = "local")]
async fn a_backend_that_does_not_speak_http2_gets_no_request() {
    let backend = Backend::start(|_| Reply::SendAndClose("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let cluster = Cluster {
        protocol: ClusterProtocol::Http2,
        ..Cluster::default()
    };
    let error = World::with(cluster, &[backend.address])
        .open()
        .await
        .err()
        .expect("no HTTP/2");
    // A backend that closes over what it has not read resets the connection, perhaps before its answer is read.
    assert!(
        matches!(
            error.kind,
            UpstreamErrorKind::Protocol | UpstreamErrorKind::Closed | UpstreamErrorKind::Reset
        ),
        "{error:?}"
    );
    assert!(error.is_unprocessed());
}

#[tokio::test(flavor = "local")]
async fn the_answer_may_end_before_the_request() {
    let backend = Http2Backend::start(100).await;
    let world = world(&backend);
    let mut upstream = world.open().await.expect("a session");
    upstream.send_head(&request("POST"), false).expect("sent");
    let event = upstream.read_event().await.expect("a head");
    assert!(matches!(event, UpstreamEvent::Head(_, false)), "{event:?}");
    upstream.finish_body(None).await.expect("finished");
    assert_eq!(body(&mut upstream).await.expect("a body"), b"ok");
}

/// Long enough for everything that does not wait for ever.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "local")]
async fn answers_that_nobody_takes_hold_back_no_others_on_their_connection() {
    let backend = Http2Backend::start(100).await;
    let world = world(&backend);
    backend.go_on_with(Bytes::from(vec![7; 1024 * 1024]));
    let mut untaken = Vec::new();
    for _ in 1..100 {
        let mut upstream = world.open().await.expect("a session");
        upstream.send_head(&request("GET"), true).expect("sent");
        let event = upstream.read_event().await.expect("a head");
        assert!(matches!(event, UpstreamEvent::Head(_, false)), "{event:?}");
        untaken.push(upstream);
    }
    let mut upstream = world.open().await.expect("a session");
    let answer = timeout(PATIENCE, exchange(&mut upstream)).await;
    let (_, whole) = answer.expect("held back").expect("an answer");
    assert_eq!((whole.len(), backend.connections()), (2 + 1024 * 1024, 1));
    // Nor do they lose anything.
    for mut upstream in untaken {
        let rest = timeout(PATIENCE, body(&mut upstream)).await;
        let rest = rest.expect("held back").expect("a body");
        assert_eq!(rest.len(), 2 + 1024 * 1024);
    }
}

#[tokio::test(flavor = "local")]
async fn bodies_that_do_not_come_take_no_window_from_others() {
    let backend = Http2Backend::start(100).await;
    let world = world(&backend);
    let mut silent = Vec::new();
    for _ in 1..100 {
        let mut upstream = world.open().await.expect("a session");
        upstream.send_head(&request("POST"), false).expect("sent");
        silent.push(upstream);
    }
    let mut upstream = world.open().await.expect("a session");
    upstream.send_head(&request("POST"), false).expect("sent");
    let piece = Bytes::from(vec![7; 16 * 1024]);
    let echo = async {
        send_body(&mut upstream, 1, &piece).await.expect("sent");
        answer(&mut upstream).await.expect("the echo")
    };
    let (_, body) = timeout(PATIENCE, echo).await.expect("held back");
    assert_eq!((body.len(), backend.connections()), (2 + piece.len(), 1));
}
