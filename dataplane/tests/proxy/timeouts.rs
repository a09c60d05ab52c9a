//! Deadlines of routes and limits on silence.

use portcullis_routing::Millis;

use crate::support::{Backend, Proxy, TableBuilder, client};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_no_longer_than_its_route_says() {
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .cluster("b", &[backend.address])
        .route("/", "b", |route| {
            route.policy.timeouts.request = Some(Millis(50));
        });
    let proxy = Proxy::start(table);
    let answer = proxy.get("a", "/hang").await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (504, "request_deadline")
    );
    backend.wait_cancelled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_has_no_longer_than_its_route_says() {
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .cluster("b", &[backend.address])
        .route("/", "b", |route| {
            route.policy.timeouts.backend_request = Some(Millis(50));
        });
    let proxy = Proxy::start(table);
    let answer = proxy.get("a", "/hang").await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (504, "backend_deadline")
    );
    assert_eq!(backend.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_an_exchange() {
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .settings(|settings| settings.limits.stream_idle_timeout = Millis(50))
        .cluster("b", &[backend.address])
        .route("/", "b", |_| {});
    let proxy = Proxy::start(table);
    let answer = proxy.get("a", "/hang").await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (504, "stream_idle")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stops_is_the_clients_fault() {
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .settings(|settings| settings.limits.stream_idle_timeout = Millis(50))
        .cluster("b", &[backend.address])
        .route("/", "b", |_| {});
    let proxy = Proxy::start(table);
    let half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc";
    let answer = client::raw(proxy.address(80), half).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout: "), "{answer}");
    // One that may wait for more of the answer is not.
    let begun = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let answer = client::raw(proxy.address(80), begun).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for (reason, times) in [("request_timeout", 1.0), ("stream_idle", 1.0)] {
        let count = format!("portcullis_errors_total{{reason=\"{reason}\"}}");
        assert_eq!(
            proxy.metric(&count).total_cmp(&times),
            std::cmp::Ordering::Equal
        );
    }
}
