//! Every request that began ends in the metrics, however it ends.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::support::{Backend, Proxy, TableBuilder};

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
