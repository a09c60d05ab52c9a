//! Deadlines of routes and limits on silence.

use portcullis_routing::Millis;

use crate::support::{Backend, Proxy, TableBuilder};

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
