//! Clients that leave while their request waits: for a connection, or for its next attempt.

use std::time::Duration;

use bytes::Bytes;
use portcullis_routing::{Cluster, Millis, Route, policy::Retry};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::support::{Backend, Proxy, TableBuilder, nobody};

/// Retries with pauses that are longer than any test.
fn slow_retries(route: &mut Route) {
    route.policy.retry = Some(Retry {
        codes: vec![503],
        attempts: 10,
        backoff: Millis(3_600_000),
    });
}

const CLIENT_GONE: &str = "portcullis_errors_total{reason=\"client_gone\"}";
const REFUSED: &str = "portcullis_upstream_connects_total{result=\"refused\"}";

async fn send(proxy: &Proxy, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address(80)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_its_retries() {
    let (_held, nobody) = nobody();
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[nobody]).route(
        "/",
        "b",
        slow_retries,
    ));
    let whole = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let half = "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc";
    for (nth, request) in (1_u8..).zip([whole, half]) {
        let stream = send(&proxy, request).await;
        proxy.reaches(REFUSED, f64::from(nth)).await;
        drop(stream);
        proxy.reaches(CLIENT_GONE, f64::from(nth)).await;
    }
    let stream = TcpStream::connect(proxy.address(80)).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://a.example/").body(()).unwrap();
    let (_, mut stream) = sender.send_request(request, false).unwrap();
    proxy.reaches(REFUSED, 3.0).await;
    stream.send_reset(h2::Reason::CANCEL);
    proxy.reaches(CLIENT_GONE, 3.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_client_left_in_the_queue_is_not_sent() {
    let backend = Backend::start("b").await;
    let cluster = Cluster {
        max_connections: 1,
        connect_timeout: Millis(60_000),
        ..Cluster::default()
    };
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster_with("b", &[backend.address], cluster)
            .route("/", "b", |_| {}),
    );
    let first = send(&proxy, "GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").await;
    backend.wait_seen(1).await;
    let second = send(&proxy, "POST /second HTTP/1.1\r\nHost: a\r\n\r\n").await;
    proxy.reaches("portcullis_requests_in_flight", 2.0).await;
    drop(second);
    proxy.reaches(CLIENT_GONE, 1.0).await;
    drop(first);
    assert_eq!(proxy.get("a", "/third").await.status, 200);
    let seen: Vec<_> = backend.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, ["/hang", "/third"]);
}

/// Only attempts that are under way can harm a backend.
#[tokio::test(flavor = "multi_thread")]
async fn retries_that_wait_for_their_turn_leave_the_budget_to_others() {
    let backend = Backend::start("b").await;
    let (_held, nobody) = nobody();
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster("dead", &[nobody])
            .cluster("b", &[backend.address])
            .route("/dead", "dead", slow_retries)
            .route("/flaky", "b", |route| {
                slow_retries(route);
                route.policy.retry.as_mut().unwrap().backoff = Millis(1);
            }),
    );
    let mut waiting = Vec::new();
    for _ in 0..20 {
        waiting.push(send(&proxy, "GET /dead HTTP/1.1\r\nHost: a\r\n\r\n").await);
    }
    proxy.reaches(REFUSED, 20.0).await;
    assert_eq!(proxy.get("a", "/flaky/1/503").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_counts_from_its_beginning() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[address]).route(
        "/",
        "b",
        |route| {
            slow_retries(route);
            route.policy.retry.as_mut().unwrap().backoff = Millis(1);
        },
    ));
    let _client = send(&proxy, "GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (first, _) = listener.accept().await.unwrap();
    drop(first);
    // Never answered, so that the request goes on.
    let (mut second, _) = listener.accept().await.unwrap();
    assert!(second.read_u8().await.is_ok());
    proxy.reaches("portcullis_retries_total", 1.0).await;
    let route = "portcullis_route_retries_total{route=\"httproute/test/route\"}";
    proxy.reaches(route, 1.0).await;
}

/// Whatever the route says: a request that fails for ever is given up.
#[tokio::test(flavor = "multi_thread")]
async fn ten_retries_are_the_most() {
    let backend = Backend::start("b").await;
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster("b", &[backend.address])
            .route("/", "b", |route| {
                route.policy.retry = Some(Retry {
                    codes: vec![503],
                    attempts: 1_000,
                    backoff: Millis(1),
                });
            }),
    );
    assert_eq!(proxy.get("a", "/status/503").await.status, 503);
    assert_eq!(backend.seen().len(), 11);
}

/// A backend that answers while a client sends must not keep the proxy from listening to that client.
#[tokio::test(flavor = "multi_thread")]
async fn a_fast_answer_does_not_hold_the_request_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[address]).route(
        "/",
        "b",
        |_| {},
    ));
    let length = 1 << 20;
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    let (mut read, mut write) = send(&proxy, &head).await.into_split();
    let (stream, _) = listener.accept().await.unwrap();
    let (mut inbound, mut outbound) = stream.into_split();
    let flood = tokio::spawn(async move {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
        outbound.write_all(head).await.unwrap();
        let piece = vec![0; 1 << 16];
        while outbound.write_all(&piece).await.is_ok() {}
    });
    let sink = tokio::spawn(async move {
        let mut buffer = vec![0; 1 << 20];
        while read.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
    });
    let upload = tokio::spawn(async move {
        let piece = Bytes::from(vec![b'x'; 1 << 10]);
        for _ in 0..length >> 10 {
            write.write_all(&piece).await.unwrap();
        }
        write
    });
    let upload_arrives = async {
        let mut buffer = vec![0; 1 << 16];
        let mut count = 0;
        while count < length {
            count += inbound.read(&mut buffer).await.unwrap();
        }
    };
    let arrived = tokio::time::timeout(Duration::from_mins(1), upload_arrives).await;
    arrived.expect("the request arrives");
    for task in [flood, sink] {
        task.abort();
    }
    upload.await.unwrap();
}
