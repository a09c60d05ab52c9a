//! What is under way, when the listener changes by which it came in, or what its caller has shown there.

use std::sync::Arc;

use portcullis_routing::{GatewayKey, ListenerKey, Millis, settings::DrainTimeout};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    callers::{bearer, believed, connect_tls, https, workload},
    revoked::{head, sealed, switching},
    tunnels::{Echo, hello, open, read, rest},
};
use crate::{
    client_certificates::Authority,
    support::{
        fake_dns::FakeDns,
        outside::{A, Outside, STRANGER, connect, fixed},
        tokens::{Signer, claims, now},
    },
};

const CONNECT: &str = "CONNECT api.example.com:22 HTTP/1.1\r\nHost: api.example.com:22\r\n";
const SOCKET: &str =
    "GET / HTTP/1.1\r\nHost: ws.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn listener(name: &str) -> ListenerKey {
    ListenerKey::of(&GatewayKey::of("test", "gateway"), name)
}

/// The table, with another hostname at a listener.
fn narrowed(mut outside: Outside, name: &str, hostname: Option<&str>) -> Outside {
    let listener = outside.0.listeners.get_mut(&listener(name)).unwrap();
    Arc::make_mut(listener).hostname = hostname.map(str::to_owned);
    outside
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_and_web_sockets_end_when_their_listener_takes_their_host_no_more() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let socket = switching().await;
    let table = |hostname| {
        let outside = Outside::new(&dns)
            .passthrough()
            .entry("api", echo.entry("api.example.com", 22, "TCP"))
            .entry("tls", echo.entry("tls.example.com", 443, "TLS"))
            .entry("ws", fixed("ws.example.com", socket));
        sealed(narrowed(
            narrowed(outside, "http", hostname),
            "tls",
            hostname,
        ))
    };
    let (proxy, log) = Outside(table(None)).start();
    let mut tunnel = open(proxy.address(80), "api.example.com:22", b"x").await;
    assert_eq!(read(&mut tunnel, 1).await, b"x");
    let mut passing = connect(A, proxy.address(443)).await;
    let greeting = hello("tls.example.com");
    passing.write_all(&greeting).await.unwrap();
    assert_eq!(read(&mut passing, greeting.len()).await, greeting);
    let mut socket = connect(A, proxy.address(80)).await;
    socket.write_all(SOCKET.as_bytes()).await.unwrap();
    head(&mut socket).await;
    // A hostname that takes all of them.
    proxy.apply(table(Some("*.example.com")));
    for stream in [&mut tunnel, &mut passing, &mut socket] {
        stream.write_all(b"y").await.unwrap();
        assert_eq!(read(stream, 1).await, b"y");
    }
    proxy.apply(table(Some("*.example.org")));
    for stream in [&mut tunnel, &mut passing, &mut socket] {
        assert_eq!(rest(stream).await, b"");
    }
    for line in log.departures(3).await {
        assert_eq!(line["reason"], "revoked", "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_ends_with_the_trust_in_the_certificate_of_its_caller() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let [old, new] = ["old", "new"].map(Authority::new);
    let mut certificates = None;
    let mut table = |trusted: &[&Authority]| {
        let mut entry = echo.entry("api.example.com", 22, "TCP");
        entry["exported_to"] = json!({"Namespaces": ["team"]});
        let outside = Outside::new(&dns).entry("api", entry);
        let (mut outside, roots) = https(outside, trusted[0]);
        // The same certificate of the proxy's own in all of them.
        let (known, roots) = certificates.get_or_insert((outside.0.certificates.clone(), roots));
        outside.0.certificates = known.clone();
        let https = outside.0.listeners.get_mut(&listener("https")).unwrap();
        let tls = Arc::make_mut(https).tls.as_mut().unwrap();
        let validation = tls.client_validation.as_mut().unwrap();
        validation.ca_pem = trusted
            .iter()
            .map(|authority| authority.pem.clone())
            .collect();
        (sealed(outside), roots.clone())
    };
    let (both, roots) = table(&[&old, &new]);
    let (only_old, only_new) = (table(&[&old]).0, table(&[&new]).0);
    let (proxy, log) = Outside(both).start();
    let app = workload(&old, "spiffe://cluster.local/ns/team/sa/app");
    let mut tunnel = connect_tls(&proxy, STRANGER, &roots, &app).await;
    tunnel
        .write_all(format!("{CONNECT}\r\nx").as_bytes())
        .await
        .unwrap();
    assert!(head(&mut tunnel).await.starts_with("HTTP/1.1 200"));
    assert_eq!(tunnel.read_u8().await.unwrap(), b'x');
    proxy.apply(only_old);
    tunnel.write_all(b"y").await.unwrap();
    assert_eq!(tunnel.read_u8().await.unwrap(), b'y');
    proxy.apply(only_new);
    assert!(tunnel.read_u8().await.is_err());
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(line["reason"], "revoked");
    assert_eq!(line["caller"]["identity"], "certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_ends_with_the_key_of_the_token_of_its_caller() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let [old, new] = ["old", "new"].map(Signer::p256);
    let table = |signers: &[&Signer]| {
        let mut entry = echo.entry("api.example.com", 22, "TCP");
        entry["exported_to"] = json!({"Namespaces": ["team"]});
        let tokens = believed(signers);
        let outside = Outside::new(&dns).settings(|settings| settings.tokens = Some(tokens));
        sealed(outside.entry("api", entry))
    };
    let (proxy, log) = Outside(table(&[&old])).start();
    let credentials = bearer(&old.token(&claims("team", "app", now())));
    let mut tunnel = connect(STRANGER, proxy.address(80)).await;
    let request = format!("{CONNECT}Proxy-Authorization: {credentials}\r\n\r\nx");
    tunnel.write_all(request.as_bytes()).await.unwrap();
    assert!(head(&mut tunnel).await.starts_with("HTTP/1.1 200"));
    assert_eq!(read(&mut tunnel, 1).await, b"x");
    proxy.apply(table(&[&new, &old]));
    tunnel.write_all(b"y").await.unwrap();
    assert_eq!(read(&mut tunnel, 1).await, b"y");
    proxy.apply(table(&[&new]));
    assert_eq!(rest(&mut tunnel).await, b"");
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(line["reason"], "revoked");
    assert_eq!(line["caller"]["identity"], "token");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_port_a_web_socket_ends_as_a_tunnel_does() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let socket = switching().await;
    let table = || {
        let mut outside = Outside::new(&dns)
            .passthrough()
            .entry("api", echo.entry("api.example.com", 22, "TCP"))
            .entry("ws", fixed("ws.example.com", socket));
        Arc::make_mut(&mut outside.0.settings).drain_timeout = DrainTimeout(Millis(1_000));
        outside
    };
    let (proxy, log) = table().start();
    let mut tunnel = open(proxy.address(80), "api.example.com:22", b"x").await;
    assert_eq!(read(&mut tunnel, 1).await, b"x");
    let mut socket = connect(A, proxy.address(80)).await;
    socket.write_all(SOCKET.as_bytes()).await.unwrap();
    head(&mut socket).await;
    let mut without = table();
    without.0.listeners.remove(&listener("http"));
    proxy.apply(sealed(without));
    // Each has some time left.
    for stream in [&mut tunnel, &mut socket] {
        stream.write_all(b"y").await.unwrap();
        assert_eq!(read(stream, 1).await, b"y");
    }
    for stream in [&mut tunnel, &mut socket] {
        assert_eq!(rest(stream).await, b"");
    }
    for line in log.departures(2).await {
        assert_eq!(
            (&line["verdict"], &line["error"]),
            (&json!("allow"), &json!("shutdown"))
        );
    }
}
