//! TLS that passes through: who may pass, where to, and what the others are told.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::tunnels::{Echo, hello, read, rest};
use crate::support::{
    Log, Proxy,
    fake_dns::FakeDns,
    outside::{A, B, Outside, STRANGER, connect, fixed},
};

pub(crate) const UNRECOGNISED_NAME: &[u8] = &[21, 3, 3, 0, 2, 2, 112];
pub(crate) const ACCESS_DENIED: &[u8] = &[21, 3, 3, 0, 2, 2, 49];
pub(crate) const INTERNAL_ERROR: &[u8] = &[21, 3, 3, 0, 2, 2, 80];

/// One host that everybody but namespace `b` may reach.
async fn world() -> (Echo, Outside) {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let deny =
        json!({"scope": "Gateway", "action": "Deny", "from": [{"service_accounts": [["b", "x"]]}]});
    let outside = Outside::new(&dns)
        .passthrough()
        .entry("api", echo.entry("api.example.com", 443, "TLS"))
        .entry(
            "nowhere",
            json!({
                "hosts": ["*.nowhere.example"], "ports": [{"number": 443, "protocol": "HTTPS"}],
            }),
        )
        .entry("plain", echo.entry("plain.example.com", 443, "HTTP"))
        .policy("not-b", deny);
    (echo, outside)
}

pub(super) async fn greet(proxy: &Proxy, from: std::net::Ipv4Addr, bytes: &[u8]) -> TcpStream {
    let mut stream = connect(from, proxy.address(443)).await;
    stream.write_all(bytes).await.unwrap();
    stream
}

/// The last of so many lines: verdict, reason, error, host.
async fn told(log: &Log, count: usize) -> [Value; 4] {
    let line = log.departures(count).await.pop().unwrap();
    assert_eq!(line["form"], "sni", "{line}");
    ["verdict", "reason", "error", "host"].map(|field| line[field].clone())
}

/// A greeting with another name in place of one as long.
fn renamed(from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut greeting = hello(from);
    let at = greeting
        .windows(from.len())
        .position(|it| it == from.as_bytes());
    let at = at.unwrap();
    greeting[at..at + to.len()].copy_from_slice(to.as_bytes());
    greeting
}

/// A greeting without a name: its extension becomes one that nobody knows.
pub(crate) fn nameless() -> Vec<u8> {
    let mut greeting = hello("api.example.com");
    let name = b"api.example.com";
    let at = greeting
        .windows(name.len())
        .position(|it| it == name)
        .unwrap();
    // Type, length, length of the list, kind, length of the name.
    greeting[at - 9..at - 7].copy_from_slice(&[0x7a, 0x7a]);
    greeting
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_greets_a_host_that_is_listed_passes_to_it() {
    let (_echo, outside) = world().await;
    let (proxy, log) = outside.start();
    let greeting = renamed("api.example.com", "API.Example.com");
    // In two pieces, neither of which is passed on by itself.
    let mut stream = greet(&proxy, A, &greeting[..50]).await;
    stream.write_all(&greeting[50..]).await.unwrap();
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
    proxy.reaches("portcullis_egress_tunnels", 1.0).await;
    let connected = r#"portcullis_upstream_connects_total{result="ok"}"#;
    proxy.reaches(connected, 1.0).await;
    proxy.reaches("portcullis_upstream_connections", 1.0).await;
    stream.write_all(b"more").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, b"more");
    let line = log.departures(1).await.pop().unwrap();
    for (field, value) in [
        ("form", json!("sni")),
        ("host", json!("api.example.com")),
        ("sni", json!("api.example.com")),
        ("port", json!(443)),
        ("verdict", json!("allow")),
        ("reason", json!("allowed")),
        ("entry", json!("serviceentry/test/api")),
        ("bytes_in", json!(greeting.len() + 4)),
    ] {
        assert_eq!(line[field], value, "{line}");
    }
    assert_eq!(line["caller"]["namespace"], "a");
    proxy.reaches("portcullis_upstream_connections", 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_gets_a_byte_through() {
    let (echo, outside) = world().await;
    let (proxy, log) = outside.start();
    let cases = [
        (
            A,
            hello("other.example.com"),
            ACCESS_DENIED,
            "host_not_listed",
        ),
        (
            A,
            hello("plain.example.com"),
            ACCESS_DENIED,
            "protocol_not_listed",
        ),
        (A, nameless(), UNRECOGNISED_NAME, "sni_missing"),
        // As long as an address, in any spelling of one.
        (
            A,
            renamed("api.example.com", "0x7f.0x00.0x001"),
            ACCESS_DENIED,
            "bad_destination",
        ),
        (
            B,
            hello("api.example.com"),
            ACCESS_DENIED,
            "denied_by_policy",
        ),
        (
            STRANGER,
            hello("api.example.com"),
            ACCESS_DENIED,
            "unknown_caller",
        ),
        (A, b"GET / HTTP/1.1\r\n".to_vec(), b"", "not_tls"),
        (
            A,
            vec![22, 3, 1, 0, 4, 2, 0, 0, 0],
            ACCESS_DENIED,
            "not_tls",
        ),
    ];
    for (count, (from, greeting, alert, reason)) in (1..).zip(cases) {
        let mut stream = greet(&proxy, from, &greeting).await;
        assert_eq!(rest(&mut stream).await, alert, "{reason}");
        let [verdict, told, error, _] = told(&log, count).await;
        assert_eq!(
            [verdict, told, error],
            [json!("refuse"), json!(reason), Value::Null]
        );
    }
    assert_eq!(echo.received.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_no_refusal() {
    let (_echo, outside) = world().await;
    // Nobody listens there.
    let mut shut = fixed("shut.example.com", ([127, 0, 0, 1], 1).into());
    shut["ports"] = json!([{"number": 443, "protocol": "TLS", "target_port": 1}]);
    let (proxy, log) = outside.entry("shut", shut).start();
    // Somebody who connects and leaves wants nothing, so that nothing is told.
    let mut gone = greet(&proxy, A, &[22]).await;
    gone.shutdown().await.unwrap();
    assert_eq!(rest(&mut gone).await, b"");
    let mut stream = greet(&proxy, A, &hello("x.nowhere.example")).await;
    assert_eq!(rest(&mut stream).await, INTERNAL_ERROR);
    assert_eq!(
        told(&log, 1).await,
        [
            json!("allow"),
            json!("allowed"),
            json!("dns_failed"),
            json!("x.nowhere.example")
        ]
    );
    let mut stream = greet(&proxy, A, &hello("shut.example.com")).await;
    assert_eq!(rest(&mut stream).await, INTERNAL_ERROR);
    assert_eq!(told(&log, 2).await[2], json!("connect_failed"));
    let refused = r#"portcullis_upstream_connects_total{result="refused"}"#;
    proxy.reaches(refused, 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_ends_with_the_right_to_it() {
    let (_echo, outside) = world().await;
    let mut table = outside.0.clone();
    let (proxy, log) = outside.start();
    let greeting = hello("api.example.com");
    let mut stream = greet(&proxy, A, &greeting).await;
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
    table
        .entries
        .retain(|key, _| !key.as_str().ends_with("/api"));
    table.seal();
    proxy.apply(table);
    assert_eq!(rest(&mut stream).await, b"");
    assert_eq!(
        told(&log, 1).await[..2],
        [json!("refuse"), json!("revoked")]
    );
}
