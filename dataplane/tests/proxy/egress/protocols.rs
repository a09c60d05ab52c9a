//! What is spoken with clients and with the outside: TLS on either side, WebSocket, gRPC.

use std::{net::SocketAddr, sync::Arc};

use futures::{SinkExt, StreamExt};
use http::{HeaderMap, Request};
use portcullis_routing::{
    Certificate, CertificateKey, Direction, GatewayKey, Listener, ListenerKey, ListenerProtocol,
    ListenerTls, Secret, listener::TlsVersion,
};
use rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client::TlsStream};
use tokio_tungstenite::{client_async, tungstenite::Message};

use crate::{
    grpc::streaming_echo,
    support::{
        Backend,
        fake_dns::FakeDns,
        outside::{A, Outside, connect, fixed, outcome},
    },
    upgrades::websocket_echo,
};

const PROXY: &str = "proxy.internal";

/// A host outside that speaks TLS as `name`, and its certificate. It answers with the name in the client's greeting, and the
/// request's head.
async fn tls_host(name: &str) -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that does not trust it is what one test is about.
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let sni = stream
                .get_ref()
                .1
                .server_name()
                .unwrap_or("none")
                .to_owned();
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..length]);
            let body = format!("{sni}\n{head}");
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    (address, made.cert.pem())
}

/// Adds an HTTPS listener on `port`, and tells what a client needs to trust it.
pub(super) fn with_https(mut outside: Outside, port: u16) -> (Outside, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed([PROXY.to_owned()]).unwrap();
    let certificate = Certificate {
        chain_pem: made.cert.pem(),
        key_pem: Secret::new(made.signing_key.serialize_pem()),
    };
    let key = CertificateKey::new("proxy");
    let listener = Listener {
        port,
        protocol: ListenerProtocol::Https,
        hostname: None,
        tls: Some(ListenerTls {
            certificates: vec![key.clone()],
            min_version: TlsVersion::V1_2,
            client_validation: None,
        }),
        direction: Direction::Egress,
    };
    let table = &mut outside.0;
    table.certificates.insert(key, Arc::new(certificate));
    let name = ListenerKey::of(&GatewayKey::of("test", "gateway"), "https");
    table.listeners.insert(name, Arc::new(listener));
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (outside, Arc::new(config))
}

pub(super) async fn secure(stream: TcpStream, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let name = ServerName::try_from(PROXY).unwrap();
    let connector = TlsConnector::from(Arc::clone(config));
    connector.connect(name, stream).await.unwrap()
}

/// What comes back for `bytes` until the proxy closes.
async fn say(stream: &mut TlsStream<TcpStream>, bytes: &str) -> String {
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_itself_may_be_spoken_to_over_tls() {
    let (backend, dns) = (Backend::start("up").await, FakeDns::start(&[], 60).await);
    let mut raw = fixed("raw.example.com", backend.address);
    raw["ports"] =
        json!([{"number": 22, "protocol": "TCP", "target_port": backend.address.port()}]);
    let outside = Outside::new(&dns)
        .entry("api", fixed("api.example.com", backend.address))
        .entry("raw", raw);
    let (outside, config) = with_https(outside, 443);
    let (proxy, log) = outside.start();
    let get = "GET / HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n";
    let connect_to =
        |authority: &str| format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    let cases = [
        ("GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n".into(), "absolute"),
        // In a tunnel to a port of clear HTTP the usual port is that of clear HTTP.
        (format!("{}{get}", connect_to("api.example.com:80")), "host"),
        (format!("{}{get}", connect_to("raw.example.com:22")), "connect"),
    ];
    for (number, (request, form)) in cases.into_iter().enumerate() {
        let mut stream = secure(connect(A, proxy.address(443)).await, &config).await;
        let answer = say(&mut stream, &request).await;
        assert!(answer.ends_with("\r\n\r\nup"), "{answer}");
        // Half of a tunnel may be open for long.
        drop(stream);
        let line = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(
            (&line["form"], &line["verdict"]),
            (&json!(form), &json!("allow"))
        );
    }
    // Without a port that of https is meant, which is not listed.
    let mut stream = secure(connect(A, proxy.address(443)).await, &config).await;
    let answer = say(&mut stream, get).await;
    assert_eq!(outcome(&answer), ("403", Some("host_not_listed")));
    assert!(
        answer.contains("api.example.com:443 is not listed"),
        "{answer}"
    );
    let line = log.departures(4).await.pop().unwrap();
    assert_eq!((&line["sni"], &line["port"]), (&json!(PROXY), &json!(443)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_begun_for_the_host_that_was_named_and_verified() {
    let dns = FakeDns::start(&[], 60).await;
    let (host, ca) = tls_host("api.example.com").await;
    let (other, _) = tls_host("api.example.com").await;
    let entry = |to: SocketAddr, host: &str| {
        let mut entry = fixed(host, to);
        entry["ports"] = json!([
            {"number": 80, "protocol": "HTTP", "target_port": to.port(), "tls": 0},
            {"number": 443, "protocol": "HTTPS", "target_port": to.port(), "tls": 0},
        ]);
        entry["tls"] = json!([{"ca_pem": [ca]}]);
        entry
    };
    let (literal, its_ca) = tls_host("2001:db8::7").await;
    let mut address = fixed("address.example.com", literal);
    address["addresses"] = json!(["2001:db8::7/128"]);
    address["ports"] = json!([{
        "number": 80, "protocol": "HTTP", "target_port": literal.port(), "tls": 0,
    }]);
    address["tls"] = json!([{"ca_pem": [its_ca]}]);
    let mut usual = fixed("usual.example.com", host);
    usual["ports"] = json!([{"number": 443, "protocol": "HTTPS", "target_port": host.port()}]);
    let outside = Outside::new(&dns)
        .entry("api", entry(host, "api.example.com"))
        .entry("name", entry(host, "name.example.com"))
        .entry("ca", entry(other, "ca.example.com"))
        .entry("address", address)
        .entry("usual", usual);
    let (outside, config) = with_https(outside, 443);
    let (proxy, log) = outside.start();
    let answer = proxy.fetch(A, "http://api.example.com/x").await;
    assert!(
        answer
            .ends_with("\r\n\r\napi.example.com\nGET /x HTTP/1.1\r\nhost: api.example.com\r\n\r\n"),
        "{answer}"
    );
    for (number, host) in ["name.example.com", "ca.example.com"]
        .into_iter()
        .enumerate()
    {
        let answer = proxy.fetch(A, &format!("http://{host}/")).await;
        assert_eq!(outcome(&answer), ("502", Some("upstream_tls")), "{answer}");
        let line = log.departures(number + 2).await.pop().unwrap();
        assert_eq!(
            (&line["verdict"], &line["error"]),
            (&json!("allow"), &json!("upstream_tls"))
        );
    }
    // An address is verified as well, and no name is sent for it.
    let answer = proxy.fetch(A, "http://[2001:db8::7]/").await;
    assert!(
        answer.contains("\r\n\r\nnone\nGET / HTTP/1.1\r\nhost: [2001:db8::7]\r\n"),
        "{answer}"
    );
    let get = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut stream = secure(connect(A, proxy.address(443)).await, &config).await;
    let answer = say(&mut stream, &get("api.example.com")).await;
    assert!(answer.contains("\nhost: api.example.com\r\n"), "{answer}");
    // Without settings of its own it is TLS all the same, by the system's trust.
    let mut stream = secure(connect(A, proxy.address(443)).await, &config).await;
    let answer = say(&mut stream, &get("usual.example.com")).await;
    assert_eq!(outcome(&answer), ("502", Some("upstream_tls")), "{answer}");
    let answer = proxy.fetch(A, "http://usual.example.com:443/").await;
    assert_eq!(
        outcome(&answer),
        ("403", Some("protocol_not_listed")),
        "{answer}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_and_grpc_pass() {
    let dns = FakeDns::start(&[], 60).await;
    let grpc = streaming_echo().await;
    let mut streams = fixed("grpc.example.com", grpc);
    streams["ports"] = json!([{"number": 80, "protocol": "GRPC", "target_port": grpc.port()}]);
    let (proxy, log) = Outside::new(&dns)
        .entry("chat", fixed("chat.example.com", websocket_echo().await))
        .entry("grpc", streams)
        .start();
    let stream = connect(A, proxy.address(80)).await;
    let (mut socket, response) = client_async("ws://chat.example.com/", stream)
        .await
        .unwrap();
    assert_eq!(response.status(), 101);
    socket.send(Message::text("one")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("one"));
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);

    let stream = connect(A, proxy.address(80)).await;
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://grpc.example.com/s/m").header("te", "trailers");
    let mut client = client.ready().await.unwrap();
    let (response, mut send) = client
        .send_request(request.body(()).unwrap(), false)
        .unwrap();
    send.send_data("one".into(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    assert_eq!(body.data().await.unwrap().unwrap(), "one");
    send.send_trailers(HeaderMap::new()).unwrap();
    assert!(body.data().await.is_none());
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    let told = log.departures(2).await;
    assert!(
        told.iter().all(|line| line["reason"] == "allowed"),
        "{told:?}"
    );
}
