//! Deadlines of routes and limits on silence.

use std::net::SocketAddr;

use portcullis_routing::Millis;
use tokio::net::TcpListener;

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

/// A backend that takes everything and says nothing.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            kept.push(stream);
        }
    });
    address
}

const EJECTIONS: &str = "portcullis_upstream_ejections_total";

/// Whichever timeout it is that a silent endpoint lets pass.
fn impatient(table: TableBuilder, reason: &str) -> TableBuilder {
    table
        .settings(|settings| {
            if reason == "stream_idle" {
                settings.limits.stream_idle_timeout = Millis(50);
            }
        })
        .route("/", "b", |route| {
            let timeouts = &mut route.policy.timeouts;
            match reason {
                "request_deadline" => timeouts.request = Some(Millis(500)),
                "backend_deadline" => timeouts.backend_request = Some(Millis(500)),
                _ => {}
            }
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_never_answers_is_ejected_whatever_timeout_passes() {
    for reason in ["request_deadline", "backend_deadline", "stream_idle"] {
        let backend = Backend::start("b").await;
        let table = TableBuilder::default().cluster("b", &[backend.address, silent().await]);
        let proxy = Proxy::start(impatient(table, reason));
        let mut failed = 0;
        for _ in 0..40 {
            let answer = proxy.get("a", "/").await;
            if answer.status != 200 {
                assert_eq!((answer.status.as_u16(), answer.reason()), (504, reason));
                failed += 1;
            }
        }
        assert!(proxy.metric(EJECTIONS) > 0.0, "{reason}");
        assert!((3..12).contains(&failed), "{reason}: {failed} of 40");
    }
}

/// One that is waiting for the client has nothing to answer yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_ejects_nobody() {
    for reason in ["request_deadline", "backend_deadline"] {
        let backends = [Backend::start("b").await, Backend::start("b").await];
        let addresses = backends.each_ref().map(|backend| backend.address);
        let table = TableBuilder::default().cluster("b", &addresses);
        let proxy = Proxy::start(impatient(table, reason));
        let half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc";
        for _ in 0..8 {
            let answer = client::raw(proxy.address(80), half).await;
            assert!(answer.contains(reason), "{answer}");
        }
        assert!(proxy.metric(EJECTIONS) < 1.0, "{reason}");
    }
}

/// The client may have taken the whole time for its body: how long the backend has had is not known.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_runs_out_of_time_ejects_nobody() {
    let addresses = [silent().await, silent().await];
    let table = TableBuilder::default().cluster("b", &addresses);
    let proxy = Proxy::start(impatient(table, "request_deadline"));
    let upload =
        b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 6\r\n\r\nabcdef";
    for _ in 0..8 {
        let answer = client::raw(proxy.address(80), upload).await;
        assert!(answer.contains("request_deadline"), "{answer}");
    }
    assert!(proxy.metric(EJECTIONS) < 1.0);
}

/// A connection whose other end is gone without a word: the next request gets another one.
#[tokio::test(flavor = "multi_thread")]
async fn an_http2_connection_that_falls_silent_is_left() {
    for reason in ["request_deadline", "backend_deadline", "stream_idle"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let (_, mut respond) = connection.accept().await.unwrap().unwrap();
                respond
                    .send_response(http::Response::new(()), true)
                    .unwrap();
                // Nothing more is read than it takes to send that.
                let sent = std::future::poll_fn(|cx| {
                    _ = connection.poll_accept(cx);
                    std::task::Poll::Ready(())
                });
                sent.await;
                kept.push(connection);
            }
        });
        let table = TableBuilder::default().h2c_cluster("b", &[address]);
        let proxy = Proxy::start(impatient(table, reason));
        for expected in [200, 504, 200, 504] {
            let answer = proxy.get("a", "/").await;
            assert_eq!(answer.status, expected, "{reason}");
        }
    }
}
