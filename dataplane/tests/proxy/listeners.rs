//! Ports that come and go, who may connect, and how it ends.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use portcullis_routing::{
    Certificate, CertificateKey, GatewayKey, Listener, ListenerKey, ListenerProtocol, ListenerTls,
    Millis, RoutingTable, Secret, listener::TlsVersion, settings::DrainTimeout,
};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{Backend, Proxy, TableBuilder, client};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// A table that forwards everything, of whatever listener, to `backend`.
fn table(backend: &Backend) -> TableBuilder {
    TableBuilder::default()
        .cluster("backend", &[backend.address])
        .route("/", "backend", |route| {
            route.listeners.push(key("second"));
            route.listeners.push(key("third"));
        })
}

fn key(name: &str) -> ListenerKey {
    ListenerKey::of(&GatewayKey::of("test", "gateway"), name)
}

/// `table` without the references to listeners that it does not have.
fn sealed(mut table: RoutingTable) -> RoutingTable {
    let listeners: Vec<_> = table.listeners.keys().cloned().collect();
    for route in table.routes.values_mut() {
        Arc::make_mut(route)
            .listeners
            .retain(|key| listeners.contains(key));
    }
    table.seal();
    table
}

/// The same with another HTTP listener, on port 443.
fn with_second_port(table: TableBuilder) -> RoutingTable {
    let mut table = table.build();
    let listener = Listener {
        port: 443,
        protocol: ListenerProtocol::Http,
        hostname: None,
        tls: None,
        direction: portcullis_routing::Direction::Ingress,
    };
    table.listeners.insert(key("second"), Arc::new(listener));
    sealed(table)
}

async fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).await.unwrap()
}

/// One request on a connection that stays open; tells whether it was answered with 200.
async fn is_served(stream: &mut TcpStream) -> bool {
    stream.write_all(GET).await.unwrap();
    read_until(stream, b"\r\n\r\nbackend")
        .await
        .starts_with(b"HTTP/1.1 200")
}

async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(error) => panic!("{error} after {}", bytes.escape_ascii()),
        }
    }
    bytes
}

async fn read_to_end(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_port_comes_and_goes_while_the_others_serve_on() {
    let backend = Backend::start("backend").await;
    let proxy = Proxy::start(TableBuilder::from(sealed(table(&backend).build())));
    let mut first = connect(proxy.address(80)).await;
    assert!(is_served(&mut first).await);

    proxy.apply(with_second_port(table(&backend)));
    let second_address = proxy.address(443);
    let mut idle = connect(second_address).await;
    assert!(is_served(&mut idle).await);
    let mut busy = connect(second_address).await;
    let head = b"POST /echo HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    busy.write_all(&[head, &b"3\r\nabc\r\n"[..]].concat())
        .await
        .unwrap();
    read_until(&mut busy, b"3\r\nabc\r\n").await;

    proxy.apply(sealed(table(&backend).build()));
    assert_eq!(
        read_to_end(idle).await,
        "",
        "what is idle is closed at once"
    );
    busy.write_all(b"3\r\ndef\r\n0\r\n\r\n").await.unwrap();
    let end = read_to_end(busy).await;
    assert!(
        end.ends_with("3\r\ndef\r\n0\r\n\r\n"),
        "what is under way finishes: {end:?}"
    );
    assert!(TcpStream::connect(second_address).await.is_err());
    assert!(
        is_served(&mut first).await,
        "the other port has noticed nothing"
    );
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client() {
    let backend = Backend::start("backend").await;
    let table = table(&backend).settings(|settings| settings.client_address.proxy_protocol = true);
    let proxy = Proxy::start(TableBuilder::from(sealed(table.build())));
    let mut stream = connect(proxy.address(80)).await;
    stream
        .write_all(b"PROXY TCP4 192.0.2.7 198.51.100.1 12345 80\r\n")
        .await
        .unwrap();
    assert!(is_served(&mut stream).await);
    assert_eq!(backend.only().headers["x-forwarded-for"], "192.0.2.7");
    // Who does not speak it could claim anything later.
    let mut stream = connect(proxy.address(80)).await;
    stream.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    // Closed with or without a reset, but without a word.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(answer.is_empty(), "{}", answer.escape_ascii());
    backend.only();
}

#[tokio::test]
async fn connections_beyond_the_limit_are_closed() {
    let backend = Backend::start("backend").await;
    let table = table(&backend).settings(|settings| settings.limits.max_connections = 1);
    let proxy = Proxy::start(TableBuilder::from(sealed(table.build())));
    let mut first = connect(proxy.address(80)).await;
    assert!(is_served(&mut first).await);
    // Nothing is sent, so nothing can be reset by the close.
    assert_eq!(read_to_end(connect(proxy.address(80)).await).await, "");
    assert!(is_served(&mut first).await);
    drop(first);
    // The place is free once the proxy has noticed.
    loop {
        let mut next = connect(proxy.address(80)).await;
        let mut byte = [0];
        if next.write_all(GET).await.is_ok() && next.read(&mut byte).await.is_ok_and(|n| n == 1) {
            return;
        }
    }
}

#[tokio::test]
async fn shutting_down_closes_what_is_idle_and_finishes_the_rest() {
    let backend = Backend::start("backend").await;
    let proxy = Proxy::start(TableBuilder::from(sealed(table(&backend).build())));
    let address = proxy.address(80);
    let mut idle = connect(address).await;
    assert!(is_served(&mut idle).await);
    let mut busy = connect(address).await;
    let head = b"POST /echo HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";
    busy.write_all(&[head, &b"3\r\nabc\r\n"[..]].concat())
        .await
        .unwrap();
    read_until(&mut busy, b"3\r\nabc\r\n").await;

    let down = tokio::task::spawn_blocking(move || proxy.shutdown());
    assert_eq!(read_to_end(idle).await, "");
    // Whoever has not heard of it yet is served once.
    let late = client::raw(address, &[GET, GET].concat()).await;
    assert_eq!(late.matches("HTTP/1.1 200").count(), 1, "{late}");
    assert!(late.contains("Connection: close"), "{late}");
    busy.write_all(b"0\r\n\r\n").await.unwrap();
    assert!(read_to_end(busy).await.ends_with("0\r\n\r\n"));
    down.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}

/// A browser connects before it knows whether it will need to. Nothing is lost with such a connection.
#[tokio::test]
async fn shutting_down_does_not_wait_for_those_who_have_said_nothing() {
    let backend = Backend::start("backend").await;
    let (mut table, config) = https(&backend);
    let settings = Arc::make_mut(&mut table.settings);
    settings.limits.header_timeout = Millis(3_600_000);
    settings.drain_timeout = DrainTimeout(Millis(3_600_000));
    table.seal();
    let proxy = Proxy::start(TableBuilder::from(table));
    let silent = [
        connect(proxy.address(80)).await,
        connect(proxy.address(443)).await,
    ];
    let mut without_alpn = ClientConfig::clone(&config);
    without_alpn.alpn_protocols.clear();
    let shaken = [
        tls(proxy.address(443), &config, "a.example").await,
        tls(proxy.address(443), &Arc::new(without_alpn), "a.example").await,
    ];
    // All of them are accepted, since this one is.
    assert!(is_served(&mut connect(proxy.address(80)).await).await);
    let down = tokio::task::spawn_blocking(move || proxy.shutdown());
    let gone = async {
        for stream in silent {
            assert_eq!(read_to_end(stream).await, "");
        }
        for mut stream in shaken {
            _ = stream.read_to_end(&mut Vec::new()).await;
        }
        down.await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .expect("nobody is waited for");
}

/// Without it a client cannot tell the end from an attack that cuts the connection (RFC 8446 6.1).
#[tokio::test]
async fn an_idle_tls_connection_ends_with_a_goodbye() {
    let backend = Backend::start("backend").await;
    let (table, config) = https(&backend);
    let proxy = Proxy::start(TableBuilder::from(table));
    let mut config = ClientConfig::clone(&config);
    config.alpn_protocols.clear();
    let mut stream = tls(proxy.address(443), &Arc::new(config), "a.example").await;
    stream.write_all(GET).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nbackend") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let down = tokio::task::spawn_blocking(move || proxy.shutdown());
    // An end without `close_notify` is an error of rustls.
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    down.await.unwrap();
}

/// Two HTTPS listeners with a certificate each, and what a client needs to trust them.
fn https(backend: &Backend) -> (RoutingTable, Arc<ClientConfig>) {
    let mut table = table(backend).build();
    let mut roots = RootCertStore::empty();
    for (name, hostname) in [("second", "a.example"), ("third", "b.example")] {
        let made = rcgen::generate_simple_self_signed([hostname.to_owned()]).unwrap();
        roots.add(made.cert.der().clone()).unwrap();
        let certificate = Certificate {
            chain_pem: made.cert.pem(),
            key_pem: Secret::new(made.signing_key.serialize_pem()),
        };
        let certificate_key = CertificateKey::new(hostname);
        table
            .certificates
            .insert(certificate_key.clone(), Arc::new(certificate));
        let listener = Listener {
            port: 443,
            protocol: ListenerProtocol::Https,
            hostname: Some(hostname.into()),
            tls: Some(ListenerTls {
                certificates: vec![certificate_key],
                min_version: TlsVersion::V1_2,
                client_validation: None,
            }),
            direction: portcullis_routing::Direction::Ingress,
        };
        table.listeners.insert(key(name), Arc::new(listener));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let mut config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (sealed(table), Arc::new(config))
}

/// A mistake of everyday life; an end without a word would say nothing about it.
#[tokio::test]
async fn plain_http_on_a_tls_port_is_told() {
    let backend = Backend::start("backend").await;
    let proxy = Proxy::start(TableBuilder::from(https(&backend).0));
    for sent in [GET, &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &b"G"[..]] {
        let answer = client::raw(proxy.address(443), sent).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(
            answer.contains("x-portcullis-reason: plain_http\r\n"),
            "{answer}"
        );
        assert!(answer.contains("\r\n\r\nplain_http: "), "{answer}");
    }
    let told = proxy.metric("portcullis_errors_total{reason=\"plain_http\"}");
    assert!((told - 3.0).abs() < 0.1, "{told}");
    // What is neither is no business of HTTP's. A balancer's line looks like a method.
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.2 1 443\r\n";
    for sent in [&b"\x00\x01\x02\x03\x04\x05"[..], line, b"PROXY "] {
        let answer = client::raw(proxy.address(443), sent).await;
        assert!(!answer.contains("HTTP"), "{answer}");
    }
}

/// Also of a client that says nothing at all, and of one that speaks plain HTTP.
#[tokio::test]
async fn a_handshake_that_fails_is_counted() {
    let backend = Backend::start("backend").await;
    let mut table = https(&backend).0;
    Arc::make_mut(&mut table.settings).limits.header_timeout = Millis(100);
    table.seal();
    let proxy = Proxy::start(TableBuilder::from(table));
    for (sent, told) in [
        (&b""[..], 1.0),
        (GET, 2.0),
        (b"\x00\x01\x02\x03\x04\x05", 3.0),
    ] {
        client::raw(proxy.address(443), sent).await;
        let failed = "portcullis_tls_handshakes_total{result=\"failed\"}";
        proxy.reaches(failed, told).await;
    }
}

/// What a listener asks of its clients must not be evaded by a connection that is older than the listener.
#[tokio::test]
async fn a_clear_connection_is_not_served_by_a_listener_that_asks_for_tls() {
    let backend = Backend::start("backend").await;
    let proxy = Proxy::start(TableBuilder::from(with_second_port(table(&backend))));
    let mut clear = connect(proxy.address(443)).await;
    assert!(is_served(&mut clear).await);
    assert!(proxy.apply(https(&backend).0).rejected.is_empty());
    clear.write_all(GET).await.unwrap();
    let end = read_to_end(clear).await;
    assert!(end.starts_with("HTTP/1.1 421 "), "{end}");
    backend.only();
}

async fn tls(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &'static str,
) -> TlsStream<TcpStream> {
    let name = ServerName::try_from(name).unwrap();
    TlsConnector::from(Arc::clone(config))
        .connect(name, connect(address).await)
        .await
        .unwrap()
}

/// A Secret is replaced, and for a moment its two halves do not belong together.
#[tokio::test]
async fn a_listener_whose_certificate_is_broken_shows_the_one_before() {
    let backend = Backend::start("backend").await;
    let (table, config) = https(&backend);
    let proxy = Proxy::start(TableBuilder::from(table.clone()));
    let address = proxy.address(443);
    let open = tls(address, &config, "a.example").await;
    let mut broken = table;
    broken.certificates.remove("a.example");
    let rejected = proxy.apply(sealed(broken)).rejected;
    assert_eq!(rejected.len(), 2, "{rejected:?}");
    // Both the connection that is open and a new one, with the certificate that the client trusts.
    for stream in [open, tls(address, &config, "a.example").await] {
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        let driver = tokio::spawn(connection);
        let mut sender = sender.ready().await.unwrap();
        let request = http::Request::get("https://a.example/").body(()).unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        driver.abort();
    }
}

#[tokio::test]
async fn http2_over_tls_is_served_for_its_own_listener_only() {
    let backend = Backend::start("backend").await;
    let (table, config) = https(&backend);
    let proxy = Proxy::start(TableBuilder::from(table));
    let stream = tls(proxy.address(443), &config, "a.example").await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    // A coalesced request for another listener's host does not belong here.
    for (host, status) in [("a.example", 200), ("b.example", 421), ("a.example", 200)] {
        let request = http::Request::get(format!("https://{host}/"))
            .body(())
            .unwrap();
        let (response, _) = sender.send_request(request, true).unwrap();
        assert_eq!(response.await.unwrap().status(), status, "{host}");
    }
    drop(sender);
    driver.abort();
}

/// One listener for `*.example` on port 443, called `wildcard`; with `exact`, a more specific one of that name for a.example.
/// All routes are on all listeners, and one certificate covers everything.
fn wildcard(
    backend: &Backend,
    made: &rcgen::CertifiedKey<rcgen::KeyPair>,
    wildcard: &str,
    exact: Option<&str>,
) -> RoutingTable {
    let mut table = table(backend).build();
    let certificate = Certificate {
        chain_pem: made.cert.pem(),
        key_pem: Secret::new(made.signing_key.serialize_pem()),
    };
    table
        .certificates
        .insert(CertificateKey::new("c"), Arc::new(certificate));
    let exact = exact.map(|name| (name, "a.example"));
    for (name, hostname) in std::iter::once((wildcard, "*.example")).chain(exact) {
        let listener = Listener {
            port: 443,
            protocol: ListenerProtocol::Https,
            hostname: Some(hostname.into()),
            tls: Some(ListenerTls {
                certificates: vec![CertificateKey::new("c")],
                min_version: TlsVersion::V1_2,
                client_validation: None,
            }),
            direction: portcullis_routing::Direction::Ingress,
        };
        table.listeners.insert(key(name), Arc::new(listener));
    }
    sealed(table)
}

/// A certificate for a.example and b.example, and what makes a client that trusts it and speaks `protocol`.
fn wildcard_certificate() -> (
    rcgen::CertifiedKey<rcgen::KeyPair>,
    impl Fn(&str) -> Arc<ClientConfig>,
) {
    let names = ["a.example", "b.example"].map(str::to_owned);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = builder
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = move |protocol: &str| {
        let mut config = config.clone();
        config.alpn_protocols = vec![protocol.into()];
        Arc::new(config)
    };
    (made, client)
}

/// Listeners are added, renamed and moved under connections that are open.
#[tokio::test]
async fn connections_survive_a_new_listener_for_their_host() {
    let backend = Backend::start("backend").await;
    let (made, client) = wildcard_certificate();
    let proxy = Proxy::start(TableBuilder::from(wildcard(
        &backend, &made, "second", None,
    )));
    let address = proxy.address(443);
    let mut kept = tls(address, &client("http/1.1"), "a.example").await;
    let stream = tls(address, &client("h2"), "a.example").await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let tables = [
        ("second", None),
        ("second", Some("third")),
        ("third", None),
        ("third", Some("second")),
    ];
    for (name, exact) in tables {
        let report = proxy.apply(wildcard(&backend, &made, name, exact));
        assert!(report.rejected.is_empty(), "{:?}", report.rejected);
        kept.write_all(GET).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nbackend") {
            assert!(kept.read_buf(&mut answer).await.unwrap() > 0);
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200 "),
            "{name} {exact:?}: {answer}"
        );
        let status = h2_status(&mut sender, "a.example").await;
        assert_eq!(status, Some(200), "{name} {exact:?}");
    }
    driver.abort();
}

/// The status of a GET on an HTTP/2 connection; `None` if the connection takes no more.
async fn h2_status(sender: &mut h2::client::SendRequest<Bytes>, host: &str) -> Option<u16> {
    std::future::poll_fn(|cx| sender.poll_ready(cx))
        .await
        .ok()?;
    let uri = format!("https://{host}/");
    let request = http::Request::get(uri).body(()).unwrap();
    let (response, _) = sender.send_request(request, true).ok()?;
    Some(response.await.ok()?.status().as_u16())
}

/// What a connection was made for has become something else: its client is told to make another one, and can.
#[tokio::test]
async fn a_connection_whose_listener_has_changed_is_not_misdirected_for_ever() {
    let backend = Backend::start("backend").await;
    let (made, client) = wildcard_certificate();
    let before = wildcard(&backend, &made, "second", None);
    let proxy = Proxy::start(TableBuilder::from(before));
    let address = proxy.address(443);
    let stream = tls(address, &client("h2"), "a.example").await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    assert_eq!(h2_status(&mut sender, "b.example").await, Some(200));
    // Now b.example belongs to another listener than a.example, for which the connection was made.
    proxy.apply(wildcard(&backend, &made, "second", Some("third")));
    assert_eq!(h2_status(&mut sender, "b.example").await, Some(421));
    let end = async {
        while h2_status(&mut sender, "b.example").await.is_some() {}
        // However it ends: a request may be on its way.
        _ = driver.await.unwrap();
    };
    let end = tokio::time::timeout(Duration::from_mins(1), end).await;
    end.expect("the connection ends");
}

#[tokio::test]
async fn a_stream_under_way_survives_a_change_of_everything_else() {
    let backend = Backend::start("backend").await;
    let (before, config) = https(&backend);
    let proxy = Proxy::start(TableBuilder::from(before));
    let stream = tls(proxy.address(443), &config, "a.example").await;
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let request = http::Request::post("https://a.example/echo")
        .body(())
        .unwrap();
    let (response, mut body) = sender.send_request(request, false).unwrap();
    body.send_data(Bytes::from("abc"), false).unwrap();
    let mut answer = response.await.unwrap().into_body();
    assert_eq!(answer.data().await.unwrap().unwrap(), "abc");

    // New certificates, a listener less on port 80.
    let (mut after, fresh) = https(&backend);
    after.listeners.retain(|_, listener| listener.port == 443);
    assert!(proxy.apply(sealed(after)).rejected.is_empty());
    tls(proxy.address(443), &fresh, "a.example").await;
    body.send_data(Bytes::from("def"), true).unwrap();
    assert_eq!(answer.data().await.unwrap().unwrap(), "def");
    let end = answer.data().await;
    assert!(end.is_none_or(|end| end.unwrap().is_empty()));
    driver.abort();
}
