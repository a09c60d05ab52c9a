//! TLS that passes through to backends of the cluster: which one gets it, and how those end who may not pass.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use portcullis_routing::{Backend, Millis, WeightedCluster, settings::DrainTimeout};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    egress::{
        passthrough::nameless,
        tunnels::{Echo, hello, read, rest},
    },
    support::{
        Log, Proxy, TableBuilder, nobody,
        table::{tls_route, weighted},
    },
};

/// A server that speaks TLS as `name`, and says who it is. With its certificate.
async fn server(name: &str) -> (SocketAddr, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new([name.to_owned()]).unwrap();
    let made = made.self_signed(&key).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = format!("I am {name}");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            // The question first, to its end.
            stream.read_to_end(&mut Vec::new()).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (address, made.der().clone())
}

/// What a client is told that speaks TLS with `name` and trusts only this certificate.
async fn ask(to: SocketAddr, name: &str, certificate: CertificateDer<'static>) -> String {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(to).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let name = name.to_owned().try_into().unwrap();
    let mut stream = connector.connect(name, tcp).await.unwrap();
    stream.write_all(b"who are you?").await.unwrap();
    // The answer comes although nothing more is said.
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn greet(proxy: &Proxy, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address(443)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

fn start(table: TableBuilder) -> (Proxy, Log) {
    let log = Log::default();
    (Proxy::start_with_log(table, Box::new(log.clone())), log)
}

/// A listener for `*.example`, and a route for one host behind it.
fn table(backend: SocketAddr) -> TableBuilder {
    TableBuilder::default()
        .passthrough("tls", 443, Some("*.example"))
        .cluster("echo", &[backend])
        .tls_route("tls", "a.example", vec![weighted("echo", 1)])
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_speak_with_the_backend_of_the_host_that_they_greet() {
    let ((one, first), (two, second)) = (
        server("one.example").await,
        server("deep.two.example").await,
    );
    let table = TableBuilder::default()
        .passthrough("one", 443, Some("one.example"))
        .passthrough("two", 443, Some("*.two.example"))
        .cluster("one", &[one])
        .cluster("two", &[two])
        .tls_route("one", "one.example", vec![weighted("one", 1)])
        .tls_route("two", "*.two.example", vec![weighted("two", 1)]);
    let (proxy, log) = start(table);
    let port = proxy.address(443);
    assert_eq!(ask(port, "one.example", first).await, "I am one.example");
    let answer = ask(port, "deep.two.example", second).await;
    assert_eq!(answer, "I am deep.two.example");

    let lines = log.wait("tls", 2).await;
    for (line, (name, listener, route, endpoint)) in lines.into_iter().zip([
        ("one.example", "one", "r0", one),
        ("deep.two.example", "two", "r1", two),
    ]) {
        let mut line = line;
        for varying in ["time", "duration_ms", "client", "bytes_in", "bytes_out"] {
            assert!(line.as_object_mut().unwrap().remove(varying).is_some());
        }
        let expected = json!({
            "kind": "tls", "sni": name, "listener": format!("test/gateway/{listener}"),
            "route": format!("tlsroute/test/{route}/0"), "endpoint": endpoint.to_string(),
            "cluster": format!("service/test/{listener}/80"),
        });
        assert_eq!(line, expected);
    }
    assert_eq!(
        proxy.metric("portcullis_tls_tunnels_total").to_string(),
        "2"
    );
    assert_eq!(proxy.metric("portcullis_tls_tunnels").to_string(), "0");
    assert!(proxy.metric(r#"portcullis_tls_tunnel_bytes_total{direction="out"}"#) > 100.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_are_shares_and_what_leads_nowhere_keeps_its_own() {
    let (one, two) = (Echo::start().await, Echo::start().await);
    let invalid = WeightedCluster {
        backend: Backend::Invalid {
            reason: "BackendNotFound".into(),
        },
        ..weighted("one", 1)
    };
    let backends = vec![weighted("one", 2), weighted("two", 0), invalid];
    let table = TableBuilder::default()
        .passthrough("tls", 443, None)
        .cluster("one", &[one.address])
        .cluster("two", &[two.address])
        .tls_route("tls", "a.example", backends);
    let (proxy, log) = start(table);
    let greeting = hello("a.example");
    let (mut passed, mut refused) = (0, 0);
    while passed == 0 || refused == 0 {
        let mut stream = greet(&proxy, &greeting).await;
        stream.shutdown().await.unwrap();
        match rest(&mut stream).await {
            answer if answer == greeting => passed += 1,
            answer => {
                assert_eq!(answer, b"");
                refused += 1;
            }
        }
        assert!(passed + refused < 200, "{passed} passed, {refused} did not");
    }
    let lines = log.wait("tls", passed + refused).await;
    let invalid = lines.iter().filter(|it| it["reason"] == "invalid_backend");
    assert_eq!(invalid.count(), refused);
    assert_eq!(two.received.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_greets_no_host_of_a_route_is_left_without_a_word() {
    let echo = Echo::start().await;
    let (proxy, log) = start(table(echo.address));
    let cases = [
        (hello("b.example"), "no_route", true),
        (hello("a.example.org"), "no_route", false),
        (nameless(), "sni_missing", false),
        (b"GET / HTTP/1.1\r\n".to_vec(), "not_tls", false),
    ];
    for (count, (greeting, reason, has_listener)) in (1..).zip(cases) {
        let mut stream = greet(&proxy, &greeting).await;
        assert_eq!(rest(&mut stream).await, b"", "{reason}");
        let line = log.wait("tls", count).await.pop().unwrap();
        assert_eq!(line["reason"], reason, "{line}");
        assert_eq!(line["listener"] != Value::Null, has_listener, "{line}");
        assert_eq!(line["route"], Value::Null, "{line}");
    }
    // Somebody who connects and leaves wants nothing, so that nothing is told.
    for said in [&[][..], &[22]] {
        let mut gone = greet(&proxy, said).await;
        gone.shutdown().await.unwrap();
        assert_eq!(rest(&mut gone).await, b"");
    }
    assert_eq!(log.of_kind("tls").count(), 4);
    let counted = r#"portcullis_errors_total{reason="client_gone"}"#;
    assert_eq!(proxy.metric(counted).to_string(), "0");
    assert_eq!(echo.received.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_that_is_never_complete_is_told_and_silence_is_not() {
    let echo = Echo::start().await;
    let table = table(echo.address).settings(|settings| {
        settings.limits.header_timeout = Millis(500);
    });
    let (proxy, log) = start(table);
    let mut silent = greet(&proxy, &[]).await;
    let mut slow = greet(&proxy, &hello("a.example")[..50]).await;
    let ends = tokio::join!(rest(&mut silent), rest(&mut slow));
    assert_eq!(ends, (vec![], vec![]));
    let line = log.wait("tls", 1).await.pop().unwrap();
    assert_eq!(line["reason"], "request_timeout", "{line}");
    assert_eq!(line["client"], slow.local_addr().unwrap().to_string());
    let counted = r#"portcullis_errors_total{reason="request_timeout"}"#;
    assert_eq!(proxy.metric(counted).to_string(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_refuses_is_passed_over_and_none_is_the_end() {
    let (echo, (socket, closed)) = (Echo::start().await, nobody());
    let mut table = TableBuilder::default()
        .passthrough("tls", 443, None)
        .cluster("half", &[closed, echo.address])
        .cluster("dead", &[closed])
        .cluster("empty", &[]);
    for name in ["half", "dead", "empty"] {
        table = table.tls_route("tls", &format!("{name}.example"), vec![weighted(name, 1)]);
    }
    let (proxy, log) = start(table);
    let greeting = hello("half.example");
    for _ in 0..8 {
        let mut stream = greet(&proxy, &greeting).await;
        assert_eq!(read(&mut stream, greeting.len()).await, greeting);
    }
    log.wait("tls", 8).await;
    for (count, (host, reason)) in (9..).zip([
        ("dead.example", "connect_failed"),
        ("empty.example", "no_endpoint"),
    ]) {
        let mut stream = greet(&proxy, &hello(host)).await;
        assert_eq!(rest(&mut stream).await, b"");
        let line = log.wait("tls", count).await.pop().unwrap();
        assert_eq!(line["reason"], reason, "{line}");
    }
    drop(socket);
}

/// How an endpoint takes a connection and says nothing on it.
#[derive(Clone, Copy, Debug)]
enum Mute {
    Resets,
    Closes,
}

/// An endpoint that is mute, and later sends back what it gets.
struct Moody {
    address: SocketAddr,
    is_well: Arc<AtomicBool>,
}

impl Moody {
    async fn start(mute: Mute) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let is_well = Arc::new(AtomicBool::new(false));
        let well = Arc::clone(&is_well);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                if well.load(Ordering::SeqCst) {
                    tokio::spawn(async move {
                        let (mut from, mut to) = stream.split();
                        _ = tokio::io::copy(&mut from, &mut to).await;
                    });
                    continue;
                }
                let mut some = [0; 4096];
                // What is not read when a connection is closed resets it.
                _ = match mute {
                    Mute::Resets => stream.peek(&mut some).await,
                    Mute::Closes => stream.read(&mut some).await,
                };
            }
        });
        Self { address, is_well }
    }
}

/// The connection, if what it greets with comes back.
async fn echoed(proxy: &Proxy, greeting: &[u8]) -> Option<TcpStream> {
    let mut stream = greet(proxy, greeting).await;
    let mut bytes = vec![0; greeting.len()];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(stream)
}

/// The one that breaks every tunnel has the fewest of them, and would get all that come.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_takes_tunnels_and_is_mute_gets_no_more_of_them() {
    for mute in [Mute::Resets, Mute::Closes] {
        let (echo, bad) = (Echo::start().await, Moody::start(mute).await);
        let table = TableBuilder::default()
            .passthrough("tls", 443, None)
            .cluster("some", &[echo.address, bad.address])
            .tls_route("tls", "a.example", vec![weighted("some", 1)]);
        let (proxy, _) = start(table);
        let greeting = hello("a.example");
        let mut held = Vec::new();
        for _ in 0..50 {
            held.extend(echoed(&proxy, &greeting).await);
        }
        // Three until it is known, and one more after each pause.
        assert!(held.len() >= 44, "{mute:?}: {} of 50", held.len());
        assert!(proxy.metric("portcullis_upstream_ejections_total") >= 1.0);

        bad.is_well.store(true, Ordering::SeqCst);
        let back = async {
            while proxy.metric("portcullis_upstream_ejected_endpoints") > 0.0 {
                held.extend(echoed(&proxy, &greeting).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let back = tokio::time::timeout(Duration::from_secs(30), back).await;
        back.unwrap_or_else(|_| panic!("{mute:?}: the endpoint is never back"));
    }
}

/// Sends back what it is greeted with, but closes without a word if the name in that ends in `.none.example`.
async fn picky() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut some = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut some).await {
                    let unknown = b".none.example";
                    if some[..read].windows(unknown.len()).any(|it| it == unknown) {
                        return;
                    }
                    stream.write_all(&some[..read]).await.unwrap();
                }
            });
        }
    });
    address
}

/// Else whoever greets names that no endpoint knows would take all of them from others.
#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_serves_others_is_not_to_blame_for_a_name_that_it_does_not_know() {
    let endpoints = [picky().await, picky().await];
    let table = TableBuilder::default()
        .passthrough("tls", 443, None)
        .cluster("some", &endpoints)
        .tls_route("tls", "*.example", vec![weighted("some", 1)]);
    let (proxy, _) = start(table);
    // One at each.
    let greeting = hello("a.example");
    let one = echoed(&proxy, &greeting).await.unwrap();
    let other = echoed(&proxy, &greeting).await.unwrap();
    for number in 0..20 {
        let mut stream = greet(&proxy, &hello(&format!("{number}.none.example"))).await;
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await, b"");
    }
    let ejections = proxy.metric("portcullis_upstream_ejections_total");
    assert_eq!(ejections.to_string(), "0");
    drop((one, other));
}

/// A table can lead a tunnel to where it came from.
#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_the_proxy_itself_ends_at_its_limit_of_connections() {
    let echo = Echo::start().await;
    let (proxy, _) = start(table(echo.address));
    let port = proxy.address(443);
    let looped = table(echo.address)
        .settings(|settings| settings.limits.max_connections = 50)
        .cluster("self", &[port])
        .tls_route("tls", "loop.example", vec![weighted("self", 1)]);
    proxy.apply(looped.build());
    let mut stream = greet(&proxy, &hello("loop.example")).await;
    assert_eq!(rest(&mut stream).await, b"");
    drop(stream);
    let refused = r#"portcullis_errors_total{reason="too_many_connections"}"#;
    assert!(proxy.metric(refused) >= 1.0);
    let greeting = hello("a.example");
    let next = async {
        while echoed(&proxy, &greeting).await.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let next = tokio::time::timeout(Duration::from_secs(10), next).await;
    next.expect("others are served");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_begins_when_its_port_is_gone_is_drained_with_it() {
    let echo = Echo::start().await;
    let before = table(echo.address).settings(|settings| {
        settings.drain_timeout = DrainTimeout(Millis(1000));
    });
    let before = before.build();
    let mut without = before.clone();
    without.listeners.clear();
    without.routes.clear();
    without.seal();
    let (proxy, log) = start(TableBuilder::from(before));
    let greeting = hello("a.example");
    let (first, second) = greeting.split_at(9);
    let mut stream = greet(&proxy, first).await;
    proxy.reaches("portcullis_connections_total", 1.0).await;
    let port = proxy.address(443);
    proxy.apply(without);
    while TcpStream::connect(port).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stream.write_all(second).await.unwrap();
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
    let ended = tokio::time::timeout(Duration::from_secs(10), rest(&mut stream)).await;
    assert_eq!(ended.expect("the tunnel ends"), b"");
    let line = log.wait("tls", 1).await.pop().unwrap();
    assert_eq!(line["reason"], "shutdown", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_outlives_its_route() {
    let echo = Echo::start().await;
    let before = table(echo.address).build();
    let mut without = before.clone();
    without.routes.clear();
    without.seal();
    let (proxy, log) = start(TableBuilder::from(before));
    let greeting = hello("a.example");
    let mut stream = greet(&proxy, &greeting).await;
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
    proxy.apply(without);
    stream.write_all(b"more").await.unwrap();
    assert_eq!(read(&mut stream, 4).await, b"more");
    // Who comes now finds no route.
    let mut late = greet(&proxy, &greeting).await;
    assert_eq!(rest(&mut late).await, b"");
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, b"");
    let line = log.wait("tls", 2).await.pop().unwrap();
    assert_eq!(line["bytes_in"], greeting.len() + 4, "{line}");
    assert_eq!(line["reason"], Value::Null, "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_ends_when_nothing_moves_for_long() {
    let echo = Echo::start().await;
    let table = table(echo.address).settings(|settings| {
        settings.limits.stream_idle_timeout = Millis(300);
    });
    let (proxy, log) = start(table);
    let greeting = hello("a.example");
    let mut stream = greet(&proxy, &greeting).await;
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
    assert_eq!(rest(&mut stream).await, b"");
    let line = log.wait("tls", 1).await.pop().unwrap();
    assert_eq!(line["reason"], "tunnel_idle", "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_drained_with_the_proxy() {
    let echo = Echo::start().await;
    let table = table(echo.address).settings(|settings| {
        settings.drain_timeout = DrainTimeout(Millis(1000));
    });
    let (proxy, log) = start(table);
    let greeting = hello("a.example");
    let mut stream = greet(&proxy, &greeting).await;
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
    tokio::task::spawn_blocking(move || proxy.shutdown())
        .await
        .unwrap();
    assert_eq!(rest(&mut stream).await, b"");
    let line = log.wait("tls", 1).await.pop().unwrap();
    assert_eq!(line["reason"], "shutdown", "{line}");
}

/// A listener that becomes one of HTTP has no use for routes of connections, and the other way round.
#[tokio::test(flavor = "multi_thread")]
async fn routes_of_another_protocol_are_rejected_and_nothing_else() {
    let echo = Echo::start().await;
    let table = table(echo.address);
    let mut table = table.build();
    let (key, route) = tls_route(("test", "astray"), "http", "a.example", vec![]);
    table.routes.insert(key, route);
    table.seal();
    let (proxy, _) = start(TableBuilder::default());
    let rejected = proxy.apply(table).rejected;
    let rejected: Vec<_> = rejected.iter().map(ToString::to_string).collect();
    assert_eq!(rejected, ["route tlsroute/test/astray/0: it has no match"]);
    let greeting = hello("a.example");
    let mut stream = greet(&proxy, &greeting).await;
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
}
