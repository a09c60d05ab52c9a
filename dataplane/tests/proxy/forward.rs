//! Forwarding: routes, backends, bodies, errors.

use std::time::Duration;

use bytes::Bytes;
use portcullis_routing::{Backend as TableBackend, RouteAction, WeightedCluster};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{Backend, Proxy, TableBuilder, client, nobody, table};

#[tokio::test(flavor = "multi_thread")]
async fn forwards_to_the_backend_of_the_longest_prefix() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let table = TableBuilder::default()
        .cluster("one", &[one.address])
        .cluster("two", &[two.address])
        .route("/", "one", |_| {})
        .route("/two", "two", |_| {});
    let proxy = Proxy::start(table);
    assert_eq!(proxy.get("a.example", "/x").await.text(), "one");
    assert_eq!(proxy.get("a.example", "/two/y?q=1").await.text(), "two");
    let seen = two.only();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("GET", "/two/y?q=1")
    );
    assert_eq!(seen.headers["host"], "a.example");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers["x-forwarded-proto"], "http");
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_clients_and_backends_mix_with_http1() {
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .cluster("h1", &[backend.address])
        .h2c_cluster("h2", &[backend.address])
        .route("/h1", "h1", |_| {})
        .route("/h2", "h2", |_| {});
    let proxy = Proxy::start(table);
    let body = Bytes::from(vec![b'x'; 300_000]);
    for path in ["/h1", "/h2"] {
        let post = || client::request("POST", "a.example", path, body.clone());
        let by_http1 = proxy.send(post()).await;
        let by_http2 = client::http2(proxy.address(80), post()).await;
        assert_eq!((by_http1.text(), by_http2.text()), ("b", "b"), "{path}");
    }
    assert!(backend.seen().iter().all(|seen| seen.body == body));
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_stream_both_ways_at_once() {
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .cluster("h1", &[backend.address])
        .h2c_cluster("h2", &[backend.address])
        .route("/echo/1", "h1", |_| {})
        .route("/echo/2", "h2", |_| {});
    let proxy = Proxy::start(table);
    // Far more than all buffers on the way: an echo of this size deadlocks if one direction waits for the other.
    let body = Bytes::from(
        (0..16 << 20)
            .map(|n: u32| n.to_le_bytes()[1])
            .collect::<Vec<_>>(),
    );
    for path in ["/echo/1", "/echo/2"] {
        let post = || client::request("POST", "a", path, body.clone());
        assert!(proxy.send(post()).await.body == body, "HTTP/1 {path}");
        assert!(
            client::http2(proxy.address(80), post()).await.body == body,
            "HTTP/2 {path}"
        );
    }
}

/// A backend may answer bit by bit and take nothing of the request's body meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_does_not_wait_for_room_for_the_request() {
    const PIECE: &[u8] = b"1\r\n.\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let table = TableBuilder::default()
        .cluster("b", &[listener.local_addr().unwrap()])
        .route("/", "b", |_| {});
    let proxy = Proxy::start(table);
    let mut client = TcpStream::connect(proxy.address(80)).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1099511627776\r\n\r\n";
    client.write_all(head.as_bytes()).await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    backend.write_all(answer.as_bytes()).await.unwrap();
    let exchange = async {
        let body = vec![b'x'; 1 << 16];
        // Until every buffer on the way has been full for some rounds.
        let mut rounds = 0;
        while rounds < 5 {
            rounds += 1;
            while client.try_write(&body).is_ok() {
                rounds = 0;
            }
            backend.write_all(PIECE).await.unwrap();
            let mut received = Vec::new();
            while !received.ends_with(PIECE) {
                received.push(client.read_u8().await.unwrap());
            }
        }
    };
    let in_time = tokio::time::timeout(std::time::Duration::from_secs(30), exchange).await;
    in_time.expect("each piece of the answer arrives");
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_backend_are_reused() {
    let backend = Backend::start("b").await;
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster("b", &[backend.address])
            .route("/", "b", |_| {}),
    );
    for _ in 0..20 {
        assert_eq!(proxy.get("a", "/").await.status, 200);
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_says_its_reason() {
    let (_held, gone) = nobody();
    let invalid = WeightedCluster {
        weight: 1,
        backend: TableBackend::Invalid {
            reason: "BackendNotFound".into(),
        },
        filters: vec![],
    };
    let table = TableBuilder::default()
        .cluster("empty", &[])
        .cluster("gone", &[gone])
        .route("/empty", "empty", |_| {})
        .route("/gone", "gone", |_| {})
        .action("/invalid", RouteAction::Forward(vec![invalid]), |_| {})
        .action("/none", RouteAction::Forward(vec![]), |_| {});
    let proxy = Proxy::start(table);
    for (path, status, reason) in [
        ("/nowhere", 404, "no_route"),
        ("/empty", 503, "no_endpoint"),
        ("/gone", 502, "connect_failed"),
        ("/invalid", 500, "invalid_backend"),
        ("/none", 500, "invalid_backend"),
        ("/%00", 400, "bad_path"),
    ] {
        let answer = proxy.get("a", path).await;
        assert_eq!(
            (answer.status.as_u16(), answer.reason()),
            (status, reason),
            "{path}"
        );
        assert!(answer.text().starts_with(reason), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_follow_the_weights() {
    let (one, two) = (Backend::start("one").await, Backend::start("two").await);
    let split = RouteAction::Forward(vec![table::weighted("one", 3), table::weighted("two", 1)]);
    let table = TableBuilder::default()
        .cluster("one", &[one.address])
        .cluster("two", &[two.address])
        .action("/", split, |_| {});
    let proxy = Proxy::start(table);
    for _ in 0..200 {
        assert_eq!(proxy.get("a", "/").await.status, 200);
    }
    let share = one.seen().len();
    assert!((120..180).contains(&share), "{share} of 200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_refused() {
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .settings(|settings| settings.limits.max_body_bytes = Some(10))
        .cluster("b", &[backend.address])
        .route("/", "b", |_| {});
    let proxy = Proxy::start(table);
    let small = proxy
        .send(client::request("POST", "a", "/", "0123456789"))
        .await;
    let large = proxy
        .send(client::request("POST", "a", "/", "0123456789+"))
        .await;
    assert_eq!((small.status.as_u16(), large.status.as_u16()), (200, 413));
    assert_eq!(large.reason(), "body_too_large");
    let chunked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n01234567890123456789\r\n0\r\n\r\n";
    assert!(
        client::raw(proxy.address(80), chunked)
            .await
            .starts_with("HTTP/1.1 413 ")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_takes_its_request_along() {
    let backend = Backend::start("b").await;
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster("b", &[backend.address])
            .route("/", "b", |_| {}),
    );
    let address = proxy.address(80);
    let request =
        tokio::spawn(async move { client::http1(address, client::get("a", "/hang")).await });
    backend.wait_seen(1).await;
    request.abort();
    backend.wait_cancelled().await;
}

/// Nothing of its body can be passed on, so nothing is read either.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_is_noticed_while_the_backend_takes_no_body() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster("b", &[listener.local_addr().unwrap()])
            .route("/", "b", |_| {}),
    );
    let mut client = TcpStream::connect(proxy.address(80)).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n";
    client.write_all(head).await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    // Until every buffer on the way is full, as far as one can tell.
    let stuck = Duration::from_millis(300);
    let body = vec![b'x'; 64 * 1024];
    while let Ok(written) = tokio::time::timeout(stuck, client.write(&body)).await {
        written.unwrap();
    }
    // An orderly end could not get through either.
    client.set_zero_linger().unwrap();
    drop(client);

    let given_up = async {
        while proxy.metric("portcullis_requests_in_flight") > 0.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), given_up)
        .await
        .expect("long before the stream idle timeout of five minutes");
    // And the backend hears of it.
    let mut received = Vec::new();
    _ = backend.read_to_end(&mut received).await;
    assert!(received.starts_with(b"POST / "));
}

/// What HTTP/2 delimits by itself may still be announced, and a client of HTTP/1 believes it (RFC 9113 8.1.1).
#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_repeated_or_wrong_is_malformed() {
    for (lengths, body) in [
        (&["5", "5"][..], "12345"),
        (&["5, 5"], "12345"),
        (&["6"], "12345"),
        (&["4"], "12345"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let mut response = http::Response::new(());
                for length in lengths {
                    let length = http::HeaderValue::from_static(length);
                    response.headers_mut().append("content-length", length);
                }
                let mut stream = respond.send_response(response, false).unwrap();
                stream.send_data(body.into(), true).unwrap();
            }
        });
        let proxy = Proxy::start(TableBuilder::default().h2c_cluster("b", &[address]).route(
            "/",
            "b",
            |_| {},
        ));
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answer = client::raw(proxy.address(80), request).await;
        // An answer that has begun before the data shows what is wrong with it is broken off.
        let is_cut = matches!(lengths, ["4" | "6"]) && !answer.ends_with(body);
        assert!(
            answer.contains("upstream_protocol") || is_cut,
            "{lengths:?}: {answer}"
        );
    }
}

/// A rule that cannot be compiled protects its paths from broader rules all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_rule_answers_500() {
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .cluster("b", &[backend.address])
        .route("/", "b", |_| {});
    let proxy = Proxy::start(table);
    let table = TableBuilder::default()
        .cluster("b", &[backend.address])
        .route("/", "b", |_| {})
        .route("/admin", "unknown", |_| {});
    assert_eq!(proxy.apply(table.build()).rejected.len(), 1);
    assert_eq!(proxy.get("a", "/x").await.status, 200);
    let answer = proxy.get("a", "/admin").await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (500, "invalid_rule")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_the_same_in_any_case() {
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .cluster("b", &[backend.address])
        .route("/", "b", |_| {});
    let proxy = Proxy::start(table);
    let get =
        b"GET http://A.Example:80/x HTTP/1.1\r\nHost: a.eXample:80\r\nConnection: close\r\n\r\n";
    let answer = client::raw(proxy.address(80), get).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let seen = backend.only();
    assert_eq!(
        (seen.target.as_str(), &seen.headers["host"]),
        ("/x", &"a.eXample:80".parse().unwrap())
    );
}
