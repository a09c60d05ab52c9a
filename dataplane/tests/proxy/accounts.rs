//! Every request that began ends in the metrics and in the log, however it ends.

use std::time::Duration;

use portcullis_routing::{Millis, settings::DrainTimeout};
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::support::{Backend, Log, Proxy, TableBuilder, nobody};

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_ends_its_requests() {
    let backend = Backend::start("b").await;
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster("b", &[backend.address])
            .route("/", "b", |_| {}),
    );
    let stream = TcpStream::connect(proxy.address(80)).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::get("http://a.example/hang")
        .body(())
        .unwrap();
    let _response = sender.send_request(request, true).unwrap();
    backend.wait_seen(1).await;
    assert!(proxy.metric("portcullis_requests_in_flight") > 0.0);
    driver.abort();
    backend.wait_cancelled().await;
    let settled = async {
        while proxy.metric("portcullis_requests_in_flight") > 0.0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), settled)
        .await
        .expect("no request is left");
}

/// Nobody but the proxy ends them, so the client is not to blame.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_by_a_shutdown_is_told_as_that() {
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .cluster("b", &[backend.address])
        .route("/", "b", |_| {})
        .settings(|settings| settings.drain_timeout = DrainTimeout(Millis(100)));
    let log = Log::default();
    let proxy = Proxy::start_with_log(table, Box::new(log.clone()));
    let mut http1 = TcpStream::connect(proxy.address(80)).await.unwrap();
    let request = b"POST /hang HTTP/1.1\r\nHost: a\r\n\r\n";
    http1.write_all(request).await.unwrap();
    let stream = TcpStream::connect(proxy.address(80)).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://a.example/hang")
        .body(())
        .unwrap();
    let _response = sender.send_request(request, true).unwrap();
    backend.wait_seen(2).await;
    tokio::task::spawn_blocking(move || proxy.shutdown())
        .await
        .unwrap();
    let mut told: Vec<_> = log
        .lines("/hang")
        .map(|line| {
            (
                line["protocol"].clone(),
                line["reason"].clone(),
                line["status"].clone(),
            )
        })
        .collect();
    told.sort_by_key(|(protocol, ..)| protocol.to_string());
    let cut = |protocol: &str| (protocol.into(), "shutdown".into(), 0.into());
    assert_eq!(told, [cut("HTTP/1.1"), cut("HTTP/2")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_the_endpoints_that_were_tried() {
    let (_held, gone) = nobody();
    let table = TableBuilder::default()
        .cluster("empty", &[])
        .cluster("gone", &[gone])
        .route("/empty", "empty", |_| {})
        .route("/gone", "gone", |_| {});
    let log = Log::default();
    let proxy = Proxy::start_with_log(table, Box::new(log.clone()));
    for path in ["/empty", "/gone"] {
        proxy.get("a", path).await;
    }
    tokio::task::spawn_blocking(move || proxy.shutdown())
        .await
        .unwrap();
    let empty = log.line("/empty");
    assert_eq!(
        (&empty["reason"], &empty["attempts"], &empty["endpoint"]),
        (&"no_endpoint".into(), &0.into(), &serde_json::Value::Null)
    );
    let failed = log.line("/gone");
    assert_eq!(
        (&failed["reason"], &failed["attempts"], &failed["endpoint"]),
        (
            &"connect_failed".into(),
            &1.into(),
            &gone.to_string().into()
        )
    );
}
