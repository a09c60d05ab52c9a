//! WebSocket: over HTTP/1.1, and nothing forwarded before the backend agreed.

use futures::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{accept_async, client_async, tungstenite::Message};

use crate::support::{Proxy, TableBuilder, client};

/// A WebSocket server that answers each text with the same text.
async fn websocket_echo() -> std::net::SocketAddr {
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
    let stream = TcpStream::connect(proxy.address(80)).await.unwrap();
    let (mut sender, mut connection) = h2::client::handshake(stream).await.unwrap();
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
    let request = http::Request::builder()
        .method("CONNECT")
        .uri("http://a.example/chat")
        .header("sec-websocket-version", "13")
        .extension(h2::ext::Protocol::from_static("websocket"))
        .body(())
        .unwrap();
    let (response, mut send) = sender.send_request(request, false).unwrap();
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
