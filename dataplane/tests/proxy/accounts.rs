//! Every request that began ends in the metrics and in the log, however it ends.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::support::{Backend, Log, Proxy, TableBuilder};

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

#[tokio::test(flavor = "multi_thread")]
async fn the_log_names_the_endpoints_that_were_tried() {
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap()
    };
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
