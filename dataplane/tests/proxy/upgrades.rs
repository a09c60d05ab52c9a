//! WebSocket: over HTTP/1.1, and nothing forwarded before the backend agreed.

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    accept_async, client_async,
    tungstenite::{Message, handshake::derive_accept_key},
};

use portcullis_routing::{Filter, Millis, Route, filter::Mirror};

use crate::support::{
    Backend, Log, Proxy, TableBuilder, client,
    table::{cluster_key, with_filter},
};

/// A WebSocket server that answers each text with the same text.
pub(crate) async fn websocket_echo() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() {
                        socket.send(message).await.unwrap();
                    }
                }
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_pass() {
    let backend = websocket_echo().await;
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[backend]).route(
        "/",
        "b",
        |_| {},
    ));
    let stream = TcpStream::connect(proxy.address(80)).await.unwrap();
    let (mut socket, response) = client_async("ws://a.example/chat", stream).await.unwrap();
    assert_eq!(response.status(), 101);
    for text in ["one".to_owned(), "x".repeat(300_000), "three".to_owned()] {
        socket.send(Message::text(text.clone())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(text));
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

const UPGRADE: &[u8] =
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SMUGGLED: &[u8] = b"GET /admin HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_an_upgrade_at_once_is_refused() {
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster("b", &[])
            .route("/", "b", |_| {}),
    );
    let answer = client::raw(proxy.address(80), &[UPGRADE, SMUGGLED].concat()).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

/// The client speaks before the backend has agreed: what it says must not reach the backend on the refused connection.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_forwarded_before_the_backend_agrees() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[address]).route(
        "/",
        "b",
        |_| {},
    ));
    let mut client = TcpStream::connect(proxy.address(80)).await.unwrap();
    client.write_all(UPGRADE).await.unwrap();
    let (mut backend, _) = listener.accept().await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\r\n\r\n") {
        assert!(backend.read_buf(&mut seen).await.unwrap() > 0);
    }
    client.write_all(SMUGGLED).await.unwrap();
    let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    backend.write_all(refusal).await.unwrap();
    let mut answer = vec![0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 403");
    // The proxy ends its side, so this is everything it ever sent on this connection.
    backend.read_to_end(&mut seen).await.unwrap();
    assert!(!String::from_utf8_lossy(&seen).contains("admin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_switches_unasked_is_a_protocol_error() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        let answer =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    });
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[address]).route(
        "/",
        "b",
        |_| {},
    ));
    let answer = proxy.get("a", "/").await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (502, "upstream_protocol")
    );
}

/// RFC 8441: an HTTP/2 stream becomes the tunnel; the backend speaks HTTP/1.1.
#[tokio::test(flavor = "multi_thread")]
async fn websockets_pass_over_http2() {
    let backend = websocket_echo().await;
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[backend]).route(
        "/",
        "b",
        |_| {},
    ));
    let mut sender = http2(&proxy).await;
    let (response, mut send) = sender.send_request(extended_connect(), false).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    let mut body = response.into_body();
    // A masked text frame "hi", and the unmasked echo of it (RFC 6455 5.2).
    let frame = [0x81, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2];
    send.send_data(bytes::Bytes::copy_from_slice(&frame), false)
        .unwrap();
    let mut echo = Vec::new();
    while echo.len() < 4 {
        echo.extend_from_slice(&body.data().await.unwrap().unwrap());
    }
    assert_eq!(echo, [0x81, 2, b'h', b'i']);
}

/// An HTTP/2 connection whose server has said that it speaks extended CONNECT.
async fn http2(proxy: &Proxy) -> h2::client::SendRequest<bytes::Bytes> {
    let stream = TcpStream::connect(proxy.address(80)).await.unwrap();
    let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
    // The proxy's SETTINGS say that extended CONNECT is spoken; they come before any answer.
    while !sender.is_extended_connect_protocol_enabled() {
        std::future::poll_fn(|cx| {
            let _ = std::pin::Pin::new(&mut connection).poll(cx);
            if sender.is_extended_connect_protocol_enabled() {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
    }
    tokio::spawn(connection);
    sender
}

fn extended_connect() -> http::Request<()> {
    http::Request::builder()
        .method("CONNECT")
        .uri("http://a.example/chat")
        .header("sec-websocket-version", "13")
        .extension(h2::ext::Protocol::from_static("websocket"))
        .body(())
        .unwrap()
}

/// A length would make the backend take the next request on its connection for a body that the tunnel never sent.
#[tokio::test(flavor = "multi_thread")]
async fn an_extended_connect_has_no_length() {
    let backend = Backend::start("b").await;
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster("b", &[backend.address])
            .route("/", "b", |_| {}),
    );
    let mut sender = http2(&proxy).await;
    let mut request = extended_connect();
    let length = http::HeaderValue::from_static("5");
    request.headers_mut().insert("content-length", length);
    let (response, _send) = sender.send_request(request, false).unwrap();
    let head = response.await.unwrap();
    assert_eq!(head.status(), 400);
    assert_eq!(proxy.get("a", "/next").await.status, 200);
    assert_eq!(backend.only().target, "/next");
}

/// In HTTP/2 a 200 says that the tunnel is open; a backend that ignores the upgrade has not opened one.
#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_the_backend_ignores_opens_no_tunnel() {
    let backend = Backend::start("b").await;
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster("b", &[backend.address])
            .route("/", "b", |_| {}),
    );
    let mut sender = http2(&proxy).await;
    let (response, _send) = sender.send_request(extended_connect(), false).unwrap();
    let head = response.await.unwrap();
    assert_eq!(head.status(), 502);
    assert_eq!(head.headers()["x-portcullis-reason"], "upstream_protocol");
}

/// A tunnel cannot be copied, so its request is not either.
#[tokio::test(flavor = "multi_thread")]
async fn upgrades_are_not_mirrored() {
    let (backend, mirror) = (websocket_echo().await, Backend::start("m").await);
    let copy = Filter::Mirror(Mirror {
        cluster: cluster_key("m"),
        numerator: 1,
        denominator: 1,
    });
    let proxy = Proxy::start(
        TableBuilder::default()
            .cluster("b", &[backend])
            .cluster("m", &[mirror.address])
            .route("/", "b", with_filter(copy)),
    );
    let stream = TcpStream::connect(proxy.address(80)).await.unwrap();
    let (mut socket, _) = client_async("ws://a.example/chat", stream).await.unwrap();
    socket.send(Message::text("one")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("one"));
    // What the backend makes of this one is of no interest.
    proxy.get("a", "/after").await;
    mirror.wait_seen(1).await;
    assert_eq!(mirror.only().target, "/after");
}

/// One side has nothing more to say; the other may still have.
#[tokio::test(flavor = "multi_thread")]
async fn each_side_of_a_tunnel_ends_by_itself() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
        }
        let switch =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
        stream.write_all(switch).await.unwrap();
        seen.clear();
        stream.read_to_end(&mut seen).await.unwrap();
        assert_eq!(seen, b"bye");
        // Time for a proxy that takes the end of one side for the end of both.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        stream.write_all(b"late").await.unwrap();
    });
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[address]).route(
        "/",
        "b",
        |_| {},
    ));
    let mut client = TcpStream::connect(proxy.address(80)).await.unwrap();
    client.write_all(UPGRADE).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert!(client.read_buf(&mut answer).await.unwrap() > 0);
    }
    client.write_all(b"bye").await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"late");
}

/// The same the other way round, and with the client's last words on their way while it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_says_no_more_still_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let backend = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
        }
        let switch =
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nbye";
        stream.write_all(switch).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    });
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[address]).route(
        "/",
        "b",
        |_| {},
    ));
    let mut client = TcpStream::connect(proxy.address(80)).await.unwrap();
    client.write_all(UPGRADE).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(answer.ends_with(b"\r\n\r\nbye"));
    let late = vec![b'x'; 1 << 20];
    client.write_all(&late).await.unwrap();
    client.shutdown().await.unwrap();
    assert!(backend.await.unwrap() == late);
}

/// The same over HTTP/2, on a stream that has carried data already.
#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_says_no_more_still_listens_over_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let backend = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
        }
        let head = String::from_utf8(seen).unwrap();
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("sec-websocket-key: "))
            .unwrap();
        let accept = derive_accept_key(key.as_bytes());
        let switch = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\nhello, "
        );
        stream.write_all(switch.as_bytes()).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'?');
        stream.write_all(b"bye").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    });
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[address]).route(
        "/",
        "b",
        |_| {},
    ));
    let mut sender = http2(&proxy).await;
    let (response, mut send) = sender.send_request(extended_connect(), false).unwrap();
    let mut body = response.await.unwrap().into_body();
    send.send_data("?".into(), false).unwrap();
    let mut said = Vec::new();
    while let Some(data) = body.data().await {
        said.extend_from_slice(&data.unwrap());
    }
    assert_eq!(said, b"hello, bye");
    send.send_data("late".into(), true).unwrap();
    assert_eq!(backend.await.unwrap(), b"late");
}

/// A backend that does not switch would wait for the body that was announced, and find it in the next request.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_a_body_is_forwarded_without_its_upgrade() {
    for framing in [
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ] {
        let backend = Backend::start("b").await;
        let proxy = Proxy::start(
            TableBuilder::default()
                .cluster("b", &[backend.address])
                .route("/", "b", |_| {}),
        );
        let request = format!(
            "GET /one HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n{framing}"
        );
        let answer = client::raw(proxy.address(80), request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(proxy.get("a", "/two").await.status, 200);
        let seen = backend.seen();
        assert_eq!((seen.len(), &seen[0].body[..]), (2, b"abc".as_slice()));
        assert!(!seen[0].headers.contains_key("upgrade"));
    }
}

fn get_only(route: &mut Route) {
    route.matches[0].method = Some("GET".into());
}

/// RFC 8441 4: the request is the GET of RFC 6455 in another form.
#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_over_http2_is_routed_as_the_get_that_it_is() {
    let log = Log::default();
    let backend = websocket_echo().await;
    let proxy = Proxy::start_with_log(
        TableBuilder::default()
            .cluster("b", &[backend])
            .route("/", "b", get_only),
        Box::new(log.clone()),
    );
    let mut sender = http2(&proxy).await;
    let (response, send) = sender.send_request(extended_connect(), false).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    drop((send, sender));
    let down = tokio::task::spawn_blocking(move || proxy.shutdown());
    down.await.unwrap();
    assert_eq!(log.line("/chat")["method"], "GET");
}

/// Asking for an upgrade is no way around the route's timeouts: a backend that does not agree has them.
#[tokio::test(flavor = "multi_thread")]
async fn timeouts_hold_until_the_backend_agrees() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // The first is never answered, the second with a body that does not end.
    let backend = tokio::spawn(async move {
        let first = listener.accept().await.unwrap();
        let (mut second, _) = listener.accept().await.unwrap();
        let refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nno";
        second.write_all(refusal).await.unwrap();
        (first, second)
    });
    let table = TableBuilder::default()
        .settings(|settings| settings.limits.idle_timeout = Millis(50))
        .cluster("b", &[address])
        .route("/", "b", |route| {
            route.policy.timeouts.request = Some(Millis(300));
        });
    let proxy = Proxy::start(table);
    let answer = client::raw(proxy.address(80), UPGRADE).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    assert!(answer.contains("request_deadline"), "{answer}");
    // What has begun cannot be taken back, only be broken off.
    let mut client = TcpStream::connect(proxy.address(80)).await.unwrap();
    client.write_all(UPGRADE).await.unwrap();
    let mut answer = Vec::new();
    let read = client.read_to_end(&mut answer);
    let read = tokio::time::timeout(Duration::from_mins(1), read).await;
    // Perhaps by a reset.
    _ = read.expect("it is broken off");
    assert!(
        answer.starts_with(b"HTTP/1.1 403 "),
        "{}",
        answer.escape_ascii()
    );
    drop(backend);
}

/// A tunnel that stands has no deadline.
#[tokio::test(flavor = "multi_thread")]
async fn tunnels_outlive_the_timeouts_of_their_route() {
    let backend = websocket_echo().await;
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[backend]).route(
        "/",
        "b",
        |route| {
            let timeout = Millis(1_000);
            route.policy.timeouts.request = Some(timeout);
            route.policy.timeouts.backend_request = Some(timeout);
        },
    ));
    let stream = TcpStream::connect(proxy.address(80)).await.unwrap();
    let (mut socket, _) = client_async("ws://a.example/chat", stream).await.unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        socket.send(Message::text("still there?")).await.unwrap();
        socket.next().await.unwrap().unwrap();
    }
}
