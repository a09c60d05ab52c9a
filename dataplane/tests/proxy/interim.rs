//! Interim answers (1xx): what a backend says before its answer is passed on, and must do no harm.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use portcullis_routing::Millis;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{Proxy, TableBuilder, client};

/// A backend that never comes to its answer.
async fn always_processing() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        // Until the proxy has had enough.
        while stream
            .write_all(b"HTTP/1.1 102 Processing\r\n\r\n")
            .await
            .is_ok()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_only_says_that_it_is_at_work_is_silent() {
    let backend = always_processing().await;
    let table = TableBuilder::default()
        .settings(|settings| settings.limits.stream_idle_timeout = Millis(200))
        .cluster("b", &[backend])
        .route("/", "b", |_| {});
    let proxy = Proxy::start(table);
    let answer = tokio::time::timeout(Duration::from_secs(30), proxy.get("a", "/"))
        .await
        .expect("it is given up");
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (504, "stream_idle")
    );
}

/// A backend that speaks HTTP/2 and says 101, which HTTP/2 does not have (RFC 9113 8.6).
async fn switching_http2() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut switching = Response::new(());
            *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            respond.send_informational(switching).unwrap();
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from("HTTP/1.1 200 OK\r\n\r\n"), true)
                .unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_cannot_switch_the_protocol_of_a_client_that_did_not_ask() {
    let backend = switching_http2().await;
    let table = TableBuilder::default()
        .h2c_cluster("b", &[backend])
        .route("/", "b", |_| {});
    let proxy = Proxy::start(table);
    let get = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let answer = client::raw(proxy.address(80), get).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(answer.contains("upstream_protocol"), "{answer}");
}
