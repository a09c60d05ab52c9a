//! HTTP/1.1 sessions.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::upstream::{
    OpenRequest, Progress, Upstream, UpstreamErrorKind, UpstreamEvent,
    testing::{
        backend::{Backend, OK, Reply},
        world::{World, answer, body, exchange, request, send_body},
    },
};

async fn session(backend: &Backend) -> (World, Upstream) {
    let world = World::new(&[backend.address]);
    let upstream = world.open().await.expect("a session");
    (world, upstream)
}

#[tokio::test(flavor = "local")]
async fn bodies_are_framed_by_length_or_in_chunks() {
    let backend = Backend::ok();
    let world = World::new(&[backend.address]);

    let mut upstream = world.open().await.expect("a session");
    let mut head = request("PUT");
    head.headers
        .insert("content-length", HeaderValue::from_static("10"));
    upstream.send_head(&head, false).expect("sent");
    send_body(&mut upstream, 2, &Bytes::from_static(b"hello"))
        .await
        .expect("sent");
    answer(&mut upstream).await.expect("an answer");
    upstream.finish();

    let mut upstream = world.open().await.expect("a session");
    upstream.send_head(&request("PUT"), false).expect("sent");
    send_body(&mut upstream, 2, &Bytes::from_static(b"hello"))
        .await
        .expect("sent");
    answer(&mut upstream).await.expect("an answer");
    upstream.finish();

    let mut upstream = world.open().await.expect("a session");
    upstream.send_head(&request("POST"), true).expect("sent");
    answer(&mut upstream).await.expect("an answer");
    upstream.finish();

    let requests = backend.requests();
    assert!(
        requests[0].ends_with("content-length: 10\r\n\r\nhellohello"),
        "{}",
        requests[0]
    );
    assert!(
        requests[1]
            .to_ascii_lowercase()
            .contains("transfer-encoding: chunked\r\n"),
        "{}",
        requests[1]
    );
    assert!(
        requests[1].ends_with("\r\n\r\n5\r\nhello\r\n5\r\nhello\r\n0\r\n\r\n"),
        "{}",
        requests[1]
    );
    assert!(
        requests[2]
            .to_ascii_lowercase()
            .ends_with("content-length: 0\r\n\r\n"),
        "{}",
        requests[2]
    );
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "local")]
async fn informational_heads_come_first_and_trailers_last() {
    const ANSWER: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n\
        HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
    let backend = Backend::start(|_| Reply::Send(ANSWER));
    let (world, mut upstream) = session(&backend).await;
    upstream.send_head(&request("GET"), true).expect("sent");
    let UpstreamEvent::Informational(hints) = upstream.read_event().await.expect("hints") else {
        panic!("hints")
    };
    assert_eq!(hints.status, 103);
    let UpstreamEvent::Head(head, false) = upstream.read_event().await.expect("a head") else {
        panic!("a head")
    };
    assert_eq!(head.status, 200);
    let UpstreamEvent::Data(data) = upstream.read_event().await.expect("data") else {
        panic!("data")
    };
    assert_eq!(data, "ok");
    let UpstreamEvent::Trailers(trailers) = upstream.read_event().await.expect("trailers") else {
        panic!("trailers")
    };
    assert_eq!(trailers["x-sum"], "7");
    upstream.finish();
    assert!(world.open().await.expect("a session").reused());
}

#[tokio::test(flavor = "local")]
async fn the_answer_to_head_has_no_body() {
    let backend =
        Backend::start(|_| Reply::Send("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"));
    let (world, mut upstream) = session(&backend).await;
    upstream.send_head(&request("HEAD"), true).expect("sent");
    let event = upstream.read_event().await.expect("a head");
    assert!(matches!(event, UpstreamEvent::Head(_, true)), "{event:?}");
    upstream.finish();
    assert!(world.open().await.expect("a session").reused());
}

#[tokio::test(flavor = "local")]
async fn an_answer_before_the_end_of_the_request_costs_the_connection() {
    const EARLY: &str = "HTTP/1.1 413 Too Long\r\ncontent-length: 0\r\n\r\n";
    let backend = Backend::start(|_| Reply::Send(EARLY));
    let (world, mut upstream) = session(&backend).await;
    let mut head = request("PUT");
    head.headers
        .insert("content-length", HeaderValue::from_static("4"));
    upstream.send_head(&head, false).expect("sent");
    // The test's backend waits for the body, so it gets a body; but the request is never said to be complete.
    upstream
        .send_body(Bytes::from_static(b"body"))
        .await
        .expect("sent");
    let (head, _) = answer(&mut upstream).await.expect("an answer");
    assert_eq!(head.status, 413);
    upstream.finish();
    assert!(!world.open().await.expect("a session").reused());
}

#[tokio::test(flavor = "local")]
async fn an_answer_is_read_although_the_backend_takes_no_more() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let world = World::new(&[listener.local_addr().expect("address")]);
    let backend = tokio::task::spawn_local(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut some = [0; 1024];
        stream
            .read_exact(&mut some)
            .await
            .expect("some of the request");
        let answer = b"HTTP/1.1 413 Too Long\r\ncontent-length: 2\r\n\r\nno";
        stream.write_all(answer).await.expect("answered");
        // Closed with unread data: the proxy's next writes are reset.
    });
    let mut upstream = world.open().await.expect("a session");
    let mut head = request("PUT");
    head.headers
        .insert("content-length", HeaderValue::from_static("8388608"));
    upstream.send_head(&head, false).expect("sent");
    send_body(&mut upstream, 256, &Bytes::from(vec![7; 32 * 1024]))
        .await
        .expect("given up silently");
    backend.await.expect("the backend is gone");
    let (head, body) = answer(&mut upstream).await.expect("an answer");
    assert_eq!(
        (head.status.as_u16(), body.as_slice()),
        (413, b"no".as_slice())
    );
}

#[tokio::test(flavor = "local")]
async fn a_body_that_does_not_fit_its_length_is_told() {
    let backend = Backend::ok();
    let world = World::new(&[backend.address]);
    for pieces in [1, 3] {
        let mut upstream = world.open().await.expect("a session");
        let mut head = request("PUT");
        head.headers
            .insert("content-length", HeaderValue::from_static("10"));
        upstream.send_head(&head, false).expect("sent");
        let error = send_body(&mut upstream, pieces, &Bytes::from_static(b"hello")).await;
        assert_eq!(error.expect_err("told").kind, UpstreamErrorKind::Request);
        upstream.finish();
    }
    assert!(!world.open().await.expect("a session").reused());
}

#[tokio::test(flavor = "local")]
async fn an_upgrade_opens_a_tunnel_that_either_side_may_end() {
    const SWITCHING: &str =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let backend = Backend::start(|_| Reply::Tunnel(SWITCHING));
    let world = World::new(&[backend.address]);
    let websocket = OpenRequest {
        websocket: true,
        ..OpenRequest::default()
    };
    let mut upstream = world
        .upstreams
        .open(&world.key, websocket)
        .await
        .expect("a session");
    let mut head = request("GET");
    head.headers
        .insert("connection", HeaderValue::from_static("upgrade"));
    head.headers
        .insert("upgrade", HeaderValue::from_static("websocket"));
    upstream.send_head(&head, true).expect("sent");
    let event = upstream.read_event().await.expect("a head");
    assert!(
        matches!(&event, UpstreamEvent::Head(head, false) if head.status == 101),
        "{event:?}"
    );

    upstream
        .send_body(Bytes::from_static(b"ping"))
        .await
        .expect("sent");
    let event = upstream.read_event().await.expect("the echo");
    assert!(
        matches!(&event, UpstreamEvent::Data(data) if data == "ping"),
        "{event:?}"
    );

    upstream
        .send_body(Bytes::from_static(b"bye"))
        .await
        .expect("sent");
    upstream.finish_body(None).await.expect("half closed");
    assert_eq!(body(&mut upstream).await.expect("the rest"), b"bye");
    upstream.finish();
    backend.closed(1).await;
}

#[tokio::test(flavor = "local")]
async fn a_switch_that_nobody_asked_for_is_refused() {
    const SWITCHING: &str =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    let backend = Backend::start(|_| Reply::Send(SWITCHING));
    let (_world, mut upstream) = session(&backend).await;
    let error = exchange(&mut upstream).await.expect_err("refused");
    assert_eq!(error.kind, UpstreamErrorKind::Protocol);
}

#[tokio::test(flavor = "local")]
async fn malformed_and_truncated_answers_are_told_apart() {
    const TWO_LENGTHS: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok";
    const TRUNCATED: &str = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok";
    for (answer, kind, progress) in [
        (
            "nonsense\r\n\r\n",
            UpstreamErrorKind::Protocol,
            Progress::Answered,
        ),
        (TWO_LENGTHS, UpstreamErrorKind::Protocol, Progress::Answered),
        (TRUNCATED, UpstreamErrorKind::Closed, Progress::Answered),
        (
            "HTTP/1.1 200",
            UpstreamErrorKind::Closed,
            Progress::Answered,
        ),
    ] {
        let backend = Backend::start(move |_| Reply::SendAndClose(answer));
        let (_world, mut upstream) = session(&backend).await;
        let error = exchange(&mut upstream).await.expect_err("broken");
        assert_eq!(
            (error.kind, error.progress),
            (kind, progress),
            "{answer:?}: {error}"
        );
    }
}

#[tokio::test(flavor = "local")]
async fn a_request_that_is_dropped_closes_its_connection() {
    let backend = Backend::start(|_| Reply::Held(OK));
    let (_world, mut upstream) = session(&backend).await;
    upstream.send_head(&request("GET"), true).expect("sent");
    let mut event = Box::pin(upstream.read_event());
    tokio::select! {
        biased;
        event = &mut event => panic!("{event:?} although the answer is held"),
        () = backend.seen(1) => {}
    }
    drop(event);
    drop(upstream);
    backend.release();
    backend.closed(1).await;
}

#[tokio::test(flavor = "local")]
async fn a_body_larger_than_all_buffers_passes_both_ways_at_once() {
    const SWITCHING: &str =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    const PIECES: usize = 512;
    let backend = Backend::start(|_| Reply::Tunnel(SWITCHING));
    let (_world, mut upstream) = session(&backend).await;
    let mut head = request("GET");
    head.headers
        .insert("connection", HeaderValue::from_static("upgrade"));
    head.headers
        .insert("upgrade", HeaderValue::from_static("echo"));
    upstream.send_head(&head, true).expect("sent");
    upstream.read_event().await.expect("a head");

    let piece = Bytes::from(vec![7; 32 * 1024]);
    let (writer, mut sent, mut echoed) = (upstream.writer(), 0, 0);
    while echoed < PIECES * piece.len() {
        tokio::select! {
            biased;
            event = upstream.read_event() => match event.expect("the echo") {
                UpstreamEvent::Data(data) => echoed += data.len(),
                event => panic!("{event:?}"),
            },
            () = writer.room(), if sent < PIECES => {
                upstream.send_body(piece.clone()).await.expect("sent");
                sent += 1;
            }
        }
    }
    assert_eq!(echoed, PIECES * piece.len());
    upstream
        .finish_body(Some(HeaderMap::new()))
        .await
        .expect("half closed");
    assert!(body(&mut upstream).await.expect("the end").is_empty());
}
