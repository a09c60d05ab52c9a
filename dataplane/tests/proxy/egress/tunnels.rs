//! CONNECT: who gets a tunnel, what may be in it, and how it ends.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, StatusCode};
use portcullis_routing::{Millis, settings::DrainTimeout};
use rustls::{ClientConfig, ClientConnection, RootCertStore, crypto::aws_lc_rs};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::support::{
    Backend,
    fake_dns::FakeDns,
    outside::{A, Outside, connect, fixed, outcome},
};

/// Sends back what it gets, and tells how much that was.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    pub(crate) received: Arc<AtomicUsize>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&received);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    // A tunnel that is cut is what some tests are about.
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        count.fetch_add(read, Ordering::SeqCst);
                        if stream.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, received }
    }

    /// An entry that opens `host` with this behind it.
    pub(crate) fn entry(&self, host: &str, port: u16, protocol: &str) -> Value {
        let mut entry = fixed(host, self.address);
        entry["ports"] =
            json!([{"number": port, "protocol": protocol, "target_port": self.address.port()}]);
        entry
    }
}

/// How a TLS client greets `name`.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = name.to_owned().try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut greeting = Vec::new();
    client.write_tls(&mut greeting).unwrap();
    greeting
}

/// A tunnel to `authority`, with `first` sent in one piece with the CONNECT.
pub(super) async fn open(to: SocketAddr, authority: &str, first: &[u8]) -> TcpStream {
    let mut stream = connect(A, to).await;
    let mut request =
        format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes();
    request.extend_from_slice(first);
    stream.write_all(&request).await.unwrap();
    assert_eq!(read(&mut stream, CONNECTED.len()).await, CONNECTED);
    stream
}

const CONNECTED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

pub(crate) async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// What comes until the stream ends, in whatever way.
pub(crate) async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    _ = stream.read_to_end(&mut bytes).await;
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_passes_to_the_host_that_it_greets_and_either_side_may_end_first() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let entry = echo.entry("api.example.com", 443, "TLS");
    let (proxy, log) = Outside::new(&dns).entry("api", entry).start();
    let greeting = hello("api.example.com");
    let mut stream = open(proxy.address(80), "API.example.com.:443", &greeting).await;
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
    proxy.reaches("portcullis_egress_tunnels", 1.0).await;
    stream.write_all(b"more").await.unwrap();
    // The answer comes although nothing more is said.
    stream.shutdown().await.unwrap();
    assert_eq!(rest(&mut stream).await, b"more");

    let mut line = log.departures(1).await.pop().unwrap();
    for varying in ["time", "duration_ms"] {
        assert!(line.as_object_mut().unwrap().remove(varying).is_some());
    }
    let bytes = greeting.len() + 4;
    assert_eq!(
        line,
        json!({
            "kind": "egress", "gateway": "test/gateway",
            "caller": {"namespace": "a", "service_account": "x", "pod": "a-1", "ip": A, "identity": "pod"},
            "form": "connect", "host": "api.example.com", "port": 443, "sni": "api.example.com",
            "address": echo.address.to_string(), "verdict": "allow", "reason": "allowed",
            "entry": "serviceentry/test/api", "bytes_in": bytes, "bytes_out": bytes,
        })
    );
    let sent = r#"portcullis_egress_tunnel_bytes_total{direction="out"}"#;
    proxy
        .reaches(sent, f64::from(u32::try_from(bytes).unwrap()))
        .await;
    assert_eq!(proxy.metric("portcullis_egress_tunnels").to_string(), "0");
    assert_eq!(log.line("/")["status"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_greeting_for_another_host_or_none_gets_nowhere() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let mut entry = echo.entry("api.example.com", 443, "HTTPS");
    entry["hosts"] = json!(["api.example.com", "other.example.com"]);
    let (proxy, log) = Outside::new(&dns).entry("api", entry).start();
    let unrecognised = [21, 3, 3, 0, 2, 2, 112];
    let mut broken = hello("api.example.com");
    broken[5] = 2;
    let cases: [(Vec<u8>, &[u8], &str); 5] = [
        (hello("other.example.com"), &unrecognised, "sni_mismatch"),
        (hello("192.0.2.1"), &unrecognised, "sni_missing"),
        (b"SSH-2.0-x\r\n".to_vec(), &[], "not_tls"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), &[], "not_tls"),
        (broken, &[21, 3, 3, 0, 2, 2, 49], "not_tls"),
    ];
    for (number, (first, answer, reason)) in cases.into_iter().enumerate() {
        let mut stream = open(proxy.address(80), "api.example.com:443", &first).await;
        assert_eq!(rest(&mut stream).await, answer, "{reason}");
        let line = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(
            (&line["verdict"], &line["reason"]),
            (&json!("refuse"), &json!(reason))
        );
    }
    assert_eq!(echo.received.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_may_not_be_is_refused_before_anything_is_connected() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let (proxy, log) = Outside::new(&dns)
        .entry("api", echo.entry("api.example.com", 443, "TLS"))
        .entry("h2", echo.entry("h2.example.com", 80, "HTTP2"))
        .start();
    let behind = "GET / HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n";
    for (number, (authority, host, outcome_wanted)) in [
        (
            "other.example.com:443",
            "other.example.com:443",
            ("403", Some("host_not_listed")),
        ),
        (
            "api.example.com:80",
            "api.example.com:80",
            ("403", Some("host_not_listed")),
        ),
        (
            "api.example.com",
            "api.example.com",
            ("400", Some("bad_destination")),
        ),
        ("0x7f.1:443", "0x7f.1:443", ("400", Some("bad_destination"))),
        (
            "h2.example.com:80",
            "h2.example.com:80",
            ("403", Some("tunnel_unread")),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {host}\r\n\r\n{behind}");
        let answer = proxy.tell(A, &request).await;
        assert_eq!(outcome(&answer), outcome_wanted, "{answer}");
        assert_eq!(
            answer.matches("HTTP/1.1").count(),
            1,
            "what came behind is no request: {answer}"
        );
        let line = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(
            (&line["form"], &line["verdict"]),
            (&json!("connect"), &json!("refuse"))
        );
    }
    for request in [
        "CONNECT api.example.com:443 HTTP/1.1\r\nHost: other.example.com:443\r\n\r\n",
        "CONNECT api.example.com:443 HTTP/1.1\r\nHost: api.example.com:443\r\nContent-Length: 1\r\n\r\nx",
        "CONNECT http://api.example.com:443/ HTTP/1.1\r\nHost: api.example.com:443\r\n\r\n",
    ] {
        assert_eq!(
            outcome(&proxy.tell(A, request).await),
            ("400", Some("bad_request"))
        );
    }
    assert_eq!(echo.received.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_a_tunnel_are_read_and_stay_with_its_host() {
    let (backend, dns) = (Backend::start("up").await, FakeDns::start(&[], 60).await);
    let deny = json!({"scope": "Gateway", "action": "Deny", "to": [{"methods": ["DELETE"]}]});
    let (proxy, log) = Outside::new(&dns)
        .entry("api", fixed("api.example.com", backend.address))
        .entry("other", fixed("other.example.com", backend.address))
        .policy("read-only", deny)
        .start();
    let requests = [
        ("GET /1", "api.example.com", "200", None),
        (
            "GET http://api.example.com:80/2",
            "API.example.com:80",
            "200",
            None,
        ),
        (
            "DELETE /3",
            "api.example.com",
            "403",
            Some("denied_by_policy"),
        ),
        (
            "GET /4",
            "other.example.com",
            "403",
            Some("authority_mismatch"),
        ),
        (
            "GET /5",
            "api.example.com:81",
            "403",
            Some("authority_mismatch"),
        ),
        (
            "CONNECT api.example.com:80",
            "api.example.com:80",
            "405",
            Some("method_not_allowed"),
        ),
    ];
    for (number, (line, host, status, reason)) in requests.into_iter().enumerate() {
        let host_of_target = if line.contains("://") {
            "api.example.com:80"
        } else {
            host
        };
        let request =
            format!("{line} HTTP/1.1\r\nHost: {host_of_target}\r\nConnection: close\r\n\r\n");
        let mut stream = open(proxy.address(80), "api.example.com:80", request.as_bytes()).await;
        let answer = String::from_utf8(rest(&mut stream).await).unwrap();
        assert_eq!(outcome(&answer), (status, reason), "{answer}");
        let told = log.departures(number + 1).await.pop().unwrap();
        assert_eq!(told["reason"], reason.unwrap_or("allowed"));
    }
    assert_eq!(backend.seen().len(), 2);
    assert_eq!(backend.seen()[1].headers["host"], "api.example.com");
    let mut stream = open(
        proxy.address(80),
        "api.example.com:80",
        &hello("api.example.com"),
    )
    .await;
    let answer = String::from_utf8(rest(&mut stream).await).unwrap();
    assert_eq!(outcome(&answer), ("400", Some("bad_request")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_tunnel_ends_and_so_does_one_that_is_not_allowed_any_more() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let table = |idle: u64| {
        Outside::new(&dns)
            .settings(|egress| egress.tunnel_idle_timeout = Millis(idle))
            .entry("api", echo.entry("api.example.com", 22, "TCP"))
    };
    let (proxy, log) = table(1).start();
    let mut silent = open(proxy.address(80), "api.example.com:22", b"x").await;
    assert_eq!(rest(&mut silent).await, b"x");
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(
        (&line["verdict"], &line["error"]),
        (&json!("allow"), &json!("tunnel_idle"))
    );

    let mut other = table(600_000).0;
    other.seal();
    proxy.apply(other);
    let mut kept = open(proxy.address(80), "api.example.com:22", b"x").await;
    assert_eq!(read(&mut kept, 1).await, b"x");
    // Another table that allows it still.
    let mut more = table(600_000)
        .entry("more", fixed("more.example.com", echo.address))
        .0;
    more.seal();
    proxy.apply(more);
    kept.write_all(b"y").await.unwrap();
    assert_eq!(read(&mut kept, 1).await, b"y");
    let deny = json!({"scope": "Gateway", "action": "Deny", "from": [{"namespaces": ["a"]}], "to": [{"ports": [22]}]});
    let mut revoked = table(600_000).policy("no", deny).0;
    revoked.seal();
    proxy.apply(revoked);
    assert_eq!(rest(&mut kept).await, b"");
    let line = log.departures(2).await.pop().unwrap();
    assert_eq!(
        (&line["verdict"], &line["reason"]),
        (&json!("refuse"), &json!("revoked"))
    );
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&json!(2), &json!(2))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_end_with_the_proxy_and_that_is_told() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let mut outside = Outside::new(&dns).entry("api", echo.entry("api.example.com", 22, "TCP"));
    Arc::make_mut(&mut outside.0.settings).drain_timeout = DrainTimeout(Millis(4_000));
    let (proxy, log) = outside.start();
    let mut stream = open(proxy.address(80), "api.example.com:22", b"x").await;
    assert_eq!(read(&mut stream, 1).await, b"x");
    // Neither end has said anything in this one yet.
    let mut silent = open(proxy.address(80), "api.example.com:22", b"").await;
    let ended = tokio::task::spawn_blocking(move || proxy.shutdown());
    // It may go on for a while.
    stream.write_all(b"y").await.unwrap();
    assert_eq!(read(&mut stream, 1).await, b"y");
    let ends = tokio::join!(rest(&mut stream), rest(&mut silent));
    assert_eq!(ends, (vec![], vec![]));
    ended.await.unwrap();
    for line in log.departures(2).await {
        assert_eq!(line["error"], "shutdown");
        assert!(line["duration_ms"].as_f64().unwrap() >= 1_500.0, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_alert_is_said_in_a_tunnel_that_speaks_no_tls() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let table = |most: Option<u64>| {
        Outside::new(&dns)
            .settings(|egress| egress.tunnel_max_duration = most.map(Millis))
            .entry("api", echo.entry("api.example.com", 22, "TCP"))
    };
    let (proxy, log) = table(None).start();
    let mut silent = open(proxy.address(80), "api.example.com:22", b"").await;
    let deny = json!({"scope": "Gateway", "action": "Deny"});
    let mut denied = table(None).policy("no", deny).0;
    denied.seal();
    proxy.apply(denied);
    assert_eq!(rest(&mut silent).await, b"");
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(line["reason"], "revoked");
    // Nor when it lasts too long, which is not for want of bytes.
    let mut short = table(Some(1)).0;
    short.seal();
    proxy.apply(short);
    let mut silent = open(proxy.address(80), "api.example.com:22", b"").await;
    assert_eq!(rest(&mut silent).await, b"");
    let line = log.departures(2).await.pop().unwrap();
    assert_eq!(line["error"], "tunnel_too_long");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_http2_may_be_a_tunnel_and_there_are_only_so_many() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let mut outside = Outside::new(&dns)
        .entry("api", echo.entry("api.example.com", 443, "TLS"))
        .entry("clear", echo.entry("clear.example.com", 80, "HTTP"));
    Arc::make_mut(&mut outside.0.settings)
        .limits
        .max_connections = 1;
    let (proxy, log) = outside.start();
    let stream = connect(A, proxy.address(80)).await;
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut ask = async |authority: &str| {
        let request = Request::connect(authority).body(()).unwrap();
        client = client.clone().ready().await.unwrap();
        let (response, send) = client.send_request(request, false).unwrap();
        (response.await.unwrap(), send)
    };
    let (refused, _) = ask("clear.example.com:80").await;
    assert_eq!(refused.headers()["x-portcullis-reason"], "tunnel_unread");
    let (answer, mut stream) = ask("api.example.com:443").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(!answer.headers().contains_key("content-length"));
    let (refused, _) = ask("api.example.com:443").await;
    assert_eq!(refused.headers()["x-portcullis-reason"], "too_many_tunnels");

    // More than the windows of either side.
    let mut sent = hello("api.example.com");
    sent.resize(300_000, 7);
    let mut body = answer.into_body();
    let whole = sent.len();
    let sending = tokio::spawn(async move {
        let mut left = Bytes::from(sent.clone());
        while !left.is_empty() {
            stream.reserve_capacity(left.len());
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let piece = left.split_to(room.unwrap().unwrap().min(left.len()));
            stream.send_data(piece, left.is_empty()).unwrap();
        }
        sent
    });
    let mut received = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        received.extend_from_slice(&data);
    }
    assert_eq!(received, sending.await.unwrap());
    let line = log.departures(3).await.pop().unwrap();
    assert_eq!(
        (&line["bytes_in"], &line["bytes_out"]),
        (&json!(whole), &json!(whole))
    );
    assert_eq!(line.get("error"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_take_nothing_leave_room_for_all_others() {
    let dns = FakeDns::start(&[], 60).await;
    let mut outside = Outside::new(&dns);
    let limits = &mut Arc::make_mut(&mut outside.0.settings).limits;
    limits.max_concurrent_streams = 100;
    let (proxy, _) = outside.start();
    let mut stream = connect(A, proxy.address(80)).await;
    // The preface, and settings that are all as usual.
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(preface).await.unwrap();
    let window_update = loop {
        let head = read(&mut stream, 9).await;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let payload = read(&mut stream, length.try_into().unwrap()).await;
        // WINDOW_UPDATE of the connection.
        if head[3] == 8 && head[5..] == [0; 4] {
            break u32::from_be_bytes(payload.try_into().unwrap());
        }
    };
    assert_eq!(window_update + 65_535, 100 * 64 * 1024);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_that_gives_no_room_holds_neither_the_host_nor_its_tunnel() {
    let dns = FakeDns::start(&[], 60).await;
    let host = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut entry = fixed("api.example.com", host.local_addr().unwrap());
    let target = host.local_addr().unwrap().port();
    entry["ports"] = json!([{"number": 443, "protocol": "TLS", "target_port": target}]);
    let mut outside = Outside::new(&dns).entry("api", entry);
    let limits = &mut Arc::make_mut(&mut outside.0.settings).limits;
    limits.header_timeout = Millis::from_secs(1);
    let (proxy, log) = outside.start();
    let stream = connect(A, proxy.address(80)).await;
    let mut builder = h2::client::Builder::new();
    let handshake = builder.initial_window_size(0).handshake::<_, Bytes>(stream);
    let (mut client, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let request = Request::connect("api.example.com:443").body(()).unwrap();
    let (answer, mut stream) = client.send_request(request, false).unwrap();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let (mut reached, _) = host.accept().await.unwrap();
    stream
        .send_data(hello("other.example.com").into(), false)
        .unwrap();
    assert_eq!(rest(&mut reached).await, b"");
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(line["reason"], "sni_mismatch");
    let mut body = answer.into_body();
    let end = body.data().await;
    assert!(end.is_some_and(|data| data.is_err()), "the stream is reset");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_bytes_must_come_in_time() {
    let (echo, dns) = (Echo::start().await, FakeDns::start(&[], 60).await);
    let mut outside = Outside::new(&dns).entry("api", echo.entry("api.example.com", 443, "TLS"));
    let limits = &mut Arc::make_mut(&mut outside.0.settings).limits;
    limits.header_timeout = Millis::from_secs(1);
    let (proxy, log) = outside.start();
    let mut stream = open(proxy.address(80), "api.example.com:443", b"\x16\x03").await;
    assert_eq!(rest(&mut stream).await, b"");
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(line["error"], "request_timeout");
    assert_eq!(echo.received.load(Ordering::SeqCst), 0);
}
