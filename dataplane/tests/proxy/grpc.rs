//! What gRPC needs: HTTP/2 all the way, trailers both ways, streams that stay open in both directions.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Proxy, TableBuilder};

/// Echoes each piece of a stream as it comes, then answers the request's trailers with its own.
pub(crate) async fn streaming_echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            tokio::spawn(async move {
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(echo(request.into_body(), respond));
                }
            });
        }
    });
    address
}

async fn echo(mut body: h2::RecvStream, mut respond: h2::server::SendResponse<Bytes>) {
    let head = Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut send = respond.send_response(head, false).unwrap();
    while let Some(data) = body.data().await {
        let data = data.unwrap();
        body.flow_control().release_capacity(data.len()).unwrap();
        send.send_data(data, false).unwrap();
    }
    let mut trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("grpc-status"),
        "0".parse().unwrap(),
    )]);
    if let Some(sent) = body.trailers().await.unwrap() {
        trailers.insert("x-received", sent.len().into());
        trailers.extend(sent);
    }
    trailers.insert("x-forwarded-host", "b.example".parse().unwrap());
    send.send_trailers(trailers).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_trailers_pass_both_ways() {
    let backend = streaming_echo().await;
    let proxy = Proxy::start(TableBuilder::default().h2c_cluster("b", &[backend]).route(
        "/",
        "b",
        |_| {},
    ));
    let stream = TcpStream::connect(proxy.address(80)).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("http://a.example/pkg.Service/Method")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let (response, mut send) = sender.send_request(request, false).unwrap();
    let mut body = response.await.unwrap().into_body();
    // Each message is answered before the next one is sent: the stream is open both ways at once.
    for message in ["one", "two", "three"] {
        send.send_data(Bytes::from(message), false).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), message);
        body.flow_control().release_capacity(message.len()).unwrap();
    }
    // What the way of a message is, and where it ends, is not said by trailers: neither by the client's nor by the backend's.
    let ours = [
        "x-sent",
        "x-forwarded-for",
        "x_forwarded_for",
        "forwarded",
        "x-request-id",
        "x-real-ip",
        "proxy",
        "host",
        "content-length",
    ];
    let ours = ours.map(|name| (http::HeaderName::from_static(name), "7".parse().unwrap()));
    send.send_trailers(HeaderMap::from_iter(ours)).unwrap();
    assert!(body.data().await.is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["x-sent"], "7");
    assert_eq!(trailers["x-received"], "1");
    assert_eq!(trailers.len(), 3, "{trailers:?}");
}
