//! Retries, as the backend counts them.

use portcullis_routing::{Millis, Route, policy::Retry};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::support::{Backend, Proxy, TableBuilder, client};

fn retry(codes: &[u16], attempts: u32) -> impl FnOnce(&mut Route) {
    let retry = Retry {
        codes: codes.to_vec(),
        attempts,
        backoff: Millis(1),
    };
    move |route| route.policy.retry = Some(retry)
}

fn proxy(backend: &Backend, change: impl FnOnce(&mut Route)) -> Proxy {
    Proxy::start(
        TableBuilder::default()
            .cluster("b", &[backend.address])
            .route("/", "b", change),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_codes_are_retried_as_often_as_allowed() {
    for (failures, status, seen) in [(2, 200, 3), (9, 500, 4)] {
        let backend = Backend::start("b").await;
        let proxy = proxy(&backend, retry(&[500], 3));
        let answer = proxy.get("a", &format!("/flaky/{failures}/500")).await;
        assert_eq!(
            (answer.status.as_u16(), backend.seen().len()),
            (status, seen)
        );
        assert!(
            !answer.headers.contains_key("x-portcullis-reason"),
            "the backend's own answer"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_codes_and_zero_attempts_are_not_retried() {
    for change in [retry(&[503], 3), retry(&[500], 0)] {
        let backend = Backend::start("b").await;
        let proxy = proxy(&backend, change);
        assert_eq!(proxy.get("a", "/flaky/1/500").await.status, 500);
        assert_eq!(backend.seen().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_sent_again() {
    let backend = Backend::start("b").await;
    let proxy = proxy(&backend, retry(&[503], 1));
    let answer = proxy
        .send(client::request("PUT", "a", "/flaky/1/503", "payload"))
        .await;
    assert_eq!(answer.status, 200);
    let bodies: Vec<_> = backend.seen().into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, ["payload", "payload"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_acted_is_not_repeated() {
    let backend = Backend::start("b").await;
    let proxy = proxy(&backend, retry(&[503], 3));
    let post = proxy
        .send(client::request("POST", "a", "/flaky/1/503", "payload"))
        .await;
    assert_eq!((post.status.as_u16(), backend.seen().len()), (503, 1));
    let large = proxy
        .send(client::request(
            "PUT",
            "a",
            "/status/503",
            vec![b'x'; 100_000],
        ))
        .await;
    assert_eq!((large.status.as_u16(), backend.seen().len()), (503, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_times_out_is_retried() {
    let backend = Backend::start("b").await;
    let proxy = proxy(&backend, |route| {
        retry(&[], 2)(route);
        route.policy.timeouts.backend_request = Some(Millis(50));
    });
    let answer = proxy.get("a", "/hang").await;
    assert_eq!(
        (answer.status.as_u16(), answer.reason()),
        (504, "backend_deadline")
    );
    assert_eq!(backend.seen().len(), 3);
}

/// Ten retries may always be under way on a worker. Those whose answers have begun are no more a load than any request.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_never_end_leave_retries_to_others() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endless = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let answers = [
            "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx",
        ];
        let mut kept = Vec::new();
        for answer in answers.into_iter().cycle() {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            if answer.ends_with('x') {
                kept.push(stream);
            }
        }
    });
    let backend = Backend::start("b").await;
    let table = TableBuilder::default()
        .cluster("b", &[backend.address])
        .cluster("endless", &[endless])
        .route("/", "b", retry(&[500], 1))
        .route("/endless", "endless", retry(&[503], 1));
    let proxy = Proxy::start(table);
    let mut begun = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(proxy.address(80)).await.unwrap();
        let request = b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nx") {
            assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
        begun.push(stream);
    }
    assert_eq!(proxy.get("a", "/flaky/1/500").await.status, 200);
    assert_eq!(backend.seen().len(), 2);
}

/// A backend that closes the kept-alive connection just when the next request is on its way.
#[tokio::test(flavor = "multi_thread")]
async fn the_race_of_keep_alive_is_forgiven_without_a_policy() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0);
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
            // The second request is read, and the connection closed without an answer.
            let _ = stream.read(&mut buffer).await;
        }
    });
    let proxy = Proxy::start(TableBuilder::default().cluster("b", &[address]).route(
        "/",
        "b",
        |_| {},
    ));
    for _ in 0..5 {
        assert_eq!(proxy.get("a", "/").await.status, 200);
    }
}

/// A backend that takes no more streams says that it has done nothing with the last one (RFC 9113 8.7): any method may be
/// sent again, and no route has to ask for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_is_sent_again_without_a_policy() {
    refused_once("").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_is_sent_again_with_its_body() {
    refused_once("payload").await;
}

/// A backend that refuses the first stream after it has read the body.
async fn refused_once(body: &'static str) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut refused = false;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let is_first = !std::mem::replace(&mut refused, true);
            tokio::spawn(async move {
                let mut body = request.into_body();
                let mut read = Vec::new();
                while read.len() < 7
                    && let Some(data) = body.data().await
                {
                    read.extend_from_slice(&data.unwrap());
                }
                if is_first {
                    return respond.send_reset(h2::Reason::REFUSED_STREAM);
                }
                let mut stream = respond
                    .send_response(http::Response::new(()), false)
                    .unwrap();
                stream.send_data(read.into(), true).unwrap();
            });
        }
    });
    let proxy = Proxy::start(TableBuilder::default().h2c_cluster("b", &[address]).route(
        "/",
        "b",
        |_| {},
    ));
    let request = client::request("POST", "a", "/", body);
    let answer = proxy.send(request).await;
    assert_eq!((answer.status.as_u16(), answer.text()), (200, body));
}
