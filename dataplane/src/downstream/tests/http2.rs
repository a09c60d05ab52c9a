//! HTTP/2 towards the client.

use ::h2::{client, ext::Protocol};
use http::{HeaderMap, Method, Request, StatusCode, Version};

use super::*;

type Sender = client::SendRequest<Bytes>;

/// A connection of a client that is driven in the background; the handle ends with the connection.
async fn connect(server: &Server) -> (Sender, tokio::task::JoinHandle<Result<(), ::h2::Error>>) {
    let (sender, connection) = client::Builder::new()
        .initial_window_size(1 << 16)
        .handshake::<_, Bytes>(server.connect().await)
        .await
        .unwrap();
    let driver = spawn_local(connection);
    (sender.ready().await.unwrap(), driver)
}

fn request(method: Method, uri: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(uri)
        .version(Version::HTTP_2)
        .body(())
        .unwrap()
}

/// Status, body and trailers of the answer to a request without a body.
async fn get(
    sender: &mut Sender,
    request: Request<()>,
) -> Result<(StatusCode, Bytes), ::h2::Error> {
    let (response, _) = sender.send_request(request, true)?;
    collect(response)
        .await
        .map(|(status, body, _)| (status, body))
}

async fn collect(
    response: impl Future<Output = Result<http::Response<::h2::RecvStream>, ::h2::Error>>,
) -> Result<(StatusCode, Bytes, Option<HeaderMap>), ::h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok((head.status, bytes.into(), body.trailers().await?))
}

#[tokio::test]
async fn streams_carry_bodies_and_trailers() {
    local(async {
        let server = Server::start(true, limits(), echo).await;
        let (mut sender, _driver) = connect(&server).await;
        let (status, body) = get(&mut sender, request(Method::GET, "http://a/one"))
            .await
            .unwrap();
        assert_eq!((status, text(&body)), (StatusCode::OK, "/one"));
        let (response, mut stream) = sender
            .send_request(request(Method::POST, "http://a/p"), false)
            .unwrap();
        stream.send_data("abc".into(), false).unwrap();
        let sum = HeaderMap::from_iter([("x-sum".parse().unwrap(), "1".parse().unwrap())]);
        stream.send_trailers(sum.clone()).unwrap();
        let (status, body, trailers) = collect(response).await.unwrap();
        assert_eq!(
            (status, text(&body), trailers),
            (StatusCode::OK, "/pabc", Some(sum))
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_not_served_never_reaches_an_exchange() {
    local(async {
        let server =
            Server::start(true, limits(), async |_: &mut Downstream| panic!("served")).await;
        let (mut sender, _driver) = connect(&server).await;
        let with = |name: &str, value: &str| {
            let mut request = request(Method::GET, "http://a/");
            request.headers_mut().insert(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
            request
        };
        let mut many = request(Method::GET, "http://a/");
        for index in 0..11 {
            many.headers_mut().insert(
                http::HeaderName::try_from(format!("x-{index}")).unwrap(),
                "y".parse().unwrap(),
            );
        }
        let cases = [
            (
                request(Method::CONNECT, "a:443"),
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            (
                request(Method::TRACE, "http://a/"),
                StatusCode::METHOD_NOT_ALLOWED,
            ),
            (request(Method::GET, "http://u@a/"), StatusCode::BAD_REQUEST),
            (with("host", "b"), StatusCode::BAD_REQUEST),
            (
                request(Method::GET, &format!("http://a/{}", "x".repeat(100))),
                StatusCode::URI_TOO_LONG,
            ),
            (many, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        ];
        for (request, expected) in cases {
            let what = format!("{request:?}");
            let (status, _) = get(&mut sender, request).await.unwrap();
            assert_eq!(status, expected, "{what}");
            assert!(server.refusals.take().is_some());
        }
    })
    .await;
}

#[tokio::test]
async fn an_extended_connect_becomes_a_tunnel() {
    local(async {
        let server = Server::start(true, limits(), async |downstream: &mut Downstream| {
            assert_eq!(downstream.extended_connect(), Some("websocket"));
            stream_back(downstream).await;
        })
        .await;
        let (mut sender, _driver) = connect(&server).await;
        // The server's settings have arrived with its first answer at the latest.
        while !sender.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let mut request = request(Method::CONNECT, "http://a/chat");
        request
            .extensions_mut()
            .insert(Protocol::from_static("websocket"));
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        let mut body = response.await.unwrap().into_body();
        for message in ["one", "two"] {
            stream.send_data(message.into(), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), message);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        assert!(body.data().await.is_none_or(|end| end.unwrap().is_empty()));
    })
    .await;
}

#[tokio::test]
async fn a_window_that_stays_shut_holds_the_writer_back() {
    local(async {
        let (told, full) = tokio::sync::oneshot::channel();
        let told = Rc::new(Cell::new(Some(told)));
        let server = Server::start(true, limits(), async move |downstream: &mut Downstream| {
            downstream.send_head(ok(), false).await.unwrap();
            let writer = downstream.writer();
            let mut sent = 0;
            while writer.has_room() {
                downstream
                    .send_body(Bytes::from_static(&[7; 16 * 1024]))
                    .await
                    .unwrap();
                downstream.flushed().await.unwrap();
                sent += 16 * 1024;
            }
            told.take().unwrap().send(sent).unwrap();
            writer.room().await.unwrap();
            downstream.finish(None).await.unwrap();
        })
        .await;
        let (mut sender, _driver) = connect(&server).await;
        let (response, _) = sender
            .send_request(request(Method::GET, "http://a/"), true)
            .unwrap();
        let sent: usize = full.await.unwrap();
        assert!((64 * 1024..=128 * 1024).contains(&sent), "{sent}");
        assert_eq!(collect(response).await.unwrap().1.len(), sent);
    })
    .await;
}

#[tokio::test]
async fn a_reset_stream_is_noticed_and_the_others_go_on() {
    local(async {
        let (told, gone) = tokio::sync::oneshot::channel();
        let told = Rc::new(Cell::new(Some(told)));
        let server = Server::start(true, limits(), async move |downstream: &mut Downstream| {
            if downstream.head().uri.path() == "/wait" {
                told.take()
                    .unwrap()
                    .send(downstream.closed().await)
                    .unwrap();
            } else {
                echo(downstream).await;
            }
        })
        .await;
        let (mut sender, _driver) = connect(&server).await;
        let (_response, mut stream) = sender
            .send_request(request(Method::GET, "http://a/wait"), false)
            .unwrap();
        stream.send_reset(::h2::Reason::CANCEL);
        assert!(matches!(gone.await.unwrap(), DownstreamError::Gone));
        assert!(
            get(&mut sender, request(Method::GET, "http://a/"))
                .await
                .is_ok()
        );
    })
    .await;
}

#[tokio::test]
async fn a_client_that_resets_all_its_streams_is_cut_off() {
    local(async {
        let server = Server::start(true, limits(), async |downstream: &mut Downstream| {
            downstream.closed().await;
        })
        .await;
        let (mut sender, driver) = connect(&server).await;
        let flood = async {
            loop {
                sender = sender.ready().await?;
                let (_response, mut stream) =
                    sender.send_request(request(Method::GET, "http://a/"), false)?;
                // Not before the server has seen it.
                tokio::task::yield_now().await;
                stream.send_reset(::h2::Reason::CANCEL);
            }
        };
        let flood: Result<(), ::h2::Error> = flood.await;
        assert!(flood.is_err());
        let end = driver.await.unwrap().unwrap_err();
        // Whoever goes on writing may meet the closed connection before the GOAWAY.
        assert!(
            end.is_io() || end.reason() == Some(::h2::Reason::ENHANCE_YOUR_CALM),
            "{end}"
        );
    })
    .await;
}

#[tokio::test]
async fn draining_lets_streams_finish() {
    local(async {
        let (release, released) = tokio::sync::watch::channel(false);
        let (told, begun) = tokio::sync::oneshot::channel();
        let told = Rc::new(Cell::new(Some(told)));
        let server = Server::start(true, limits(), async move |downstream: &mut Downstream| {
            told.take().unwrap().send(()).unwrap();
            released
                .clone()
                .wait_for(|released| *released)
                .await
                .unwrap();
            echo(downstream).await;
        })
        .await;
        let (mut sender, driver) = connect(&server).await;
        let (response, _) = sender
            .send_request(request(Method::GET, "http://a/slow"), true)
            .unwrap();
        begun.await.unwrap();
        server.deadlines.drain(None);
        release.send_replace(true);
        assert_eq!(text(&collect(response).await.unwrap().1), "/slow");
        driver.await.unwrap().unwrap();
        assert!(sender.ready().await.is_err());
    })
    .await;
}

/// GOAWAY in front of the first request would leave a client without any answer that has nowhere else to go yet.
#[tokio::test]
async fn whoever_comes_while_draining_gets_one_answer() {
    local(async {
        for end in [Deadlines::announce_drain, |all: &Deadlines| all.drain(None)] {
            let server = Server::start(true, limits(), echo).await;
            end(&server.deadlines);
            let tcp = server.connect().await;
            let (sender, mut connection) = client::handshake(tcp).await.unwrap();
            let mut pings = connection.ping_pong().unwrap();
            let driver = spawn_local(connection);
            // A GOAWAY that was sent with the settings is known by now.
            for _ in 0..3 {
                pings.ping(::h2::Ping::opaque()).await.unwrap();
            }
            let mut sender = sender.ready().await.unwrap();
            let answer = get(&mut sender, request(Method::GET, "http://a/late")).await;
            assert_eq!(text(&answer.unwrap().1), "/late");
            driver.await.unwrap().unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn draining_waits_for_a_first_request_as_long_as_for_a_head() {
    local(async {
        let server = Server::start(true, limits(), echo).await;
        let tcp = server.connect().await;
        let (_sender, mut connection) = client::handshake(tcp).await.unwrap();
        let mut pings = connection.ping_pong().unwrap();
        let driver = spawn_local(connection);
        server.deadlines.drain(None);
        pings.ping(::h2::Ping::opaque()).await.unwrap();
        let patience = limits().header_timeout.duration();
        server.pass(patience + Duration::from_secs(2)).await;
        driver.await.unwrap().unwrap();
    })
    .await;
}

/// An exchange is over long before a slow client has read its answer.
#[tokio::test]
async fn draining_cuts_no_response_that_the_client_is_still_reading() {
    local(async {
        for with_trailers in [false, true] {
            let (told, answered) = tokio::sync::oneshot::channel();
            let told = Rc::new(Cell::new(Some(told)));
            let server = Server::start(true, limits(), async move |downstream: &mut Downstream| {
                downstream.send_head(ok(), false).await.unwrap();
                // Twice the client's window.
                for _ in 0..2 {
                    let piece = vec![b'x'; 1 << 16].into();
                    downstream.send_body(piece).await.unwrap();
                }
                let trailers = with_trailers.then(HeaderMap::new);
                downstream.finish(trailers).await.unwrap();
                told.take().unwrap().send(()).unwrap();
            })
            .await;
            let (mut sender, driver) = connect(&server).await;
            let (response, _) = sender
                .send_request(request(Method::GET, "http://a/"), true)
                .unwrap();
            answered.await.unwrap();
            let response = response.await.unwrap();
            server.deadlines.drain(None);
            for seconds in [6, 12, 60] {
                server.pass(Duration::from_secs(seconds)).await;
            }
            let body = collect(async { Ok(response) }).await.unwrap().1;
            assert_eq!(body.len(), 2 << 16);
            driver.await.unwrap().unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up() {
    local(async {
        let server = Server::start(true, limits(), async |downstream: &mut Downstream| {
            downstream.send_head(ok(), false).await.unwrap();
            let piece = vec![b'x'; 1 << 17].into();
            downstream.send_body(piece).await.unwrap();
            downstream.finish(None).await.unwrap();
        })
        .await;
        let (mut sender, driver) = connect(&server).await;
        let (response, _) = sender
            .send_request(request(Method::GET, "http://a/"), true)
            .unwrap();
        let mut unread = response.await.unwrap().into_body();
        // GOAWAY first, then the end.
        for seconds in [301, 602, 903] {
            server.pass(Duration::from_secs(seconds)).await;
        }
        _ = driver.await.unwrap();
        let is_broken = loop {
            match unread.data().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => break true,
                None => break false,
            }
        };
        assert!(is_broken, "the answer must not be taken for complete");
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go() {
    local(async {
        let server = Server::start(true, limits(), echo).await;
        let (mut sender, driver) = connect(&server).await;
        get(&mut sender, request(Method::GET, "http://a/"))
            .await
            .unwrap();
        server.pass(Duration::from_secs(50)).await;
        get(&mut sender, request(Method::GET, "http://a/"))
            .await
            .unwrap();
        server.pass(Duration::from_secs(200)).await;
        driver.await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_broken_response_is_reset() {
    local(async {
        let server = Server::start(true, limits(), async |downstream: &mut Downstream| {
            downstream.send_head(ok(), false).await.unwrap();
            downstream.send_body("part".into()).await.unwrap();
            downstream.reset();
        })
        .await;
        let (mut sender, _driver) = connect(&server).await;
        // That backends fail is not the client's fault, however often it happens.
        for _ in 0..150 {
            let error = get(&mut sender, request(Method::GET, "http://a/"))
                .await
                .unwrap_err();
            assert_eq!(error.reason(), Some(::h2::Reason::INTERNAL_ERROR));
        }
    })
    .await;
}

/// The status of each interim head of an answer.
async fn interim(server: &Server) -> Vec<StatusCode> {
    let (mut sender, _driver) = connect(server).await;
    let (mut response, _) = sender
        .send_request(request(Method::GET, "http://a/"), true)
        .unwrap();
    let mut heads = Vec::new();
    while let Some(head) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
        heads.push(head.unwrap().status());
    }
    assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    heads
}

/// They are sent whatever the client's windows say, so each would be held for a client that does not read.
#[tokio::test]
async fn interim_heads_are_bounded() {
    local(async {
        for (length, passed) in [(1, 8), (6000, 2), (20_000, 0)] {
            let many = async move |downstream: &mut Downstream| {
                downstream.take_head();
                for _ in 0..1000 {
                    let mut head = ok();
                    head.status = StatusCode::EARLY_HINTS;
                    let link = HeaderValue::from_str(&"a".repeat(length)).unwrap();
                    head.headers.insert("link", link);
                    downstream.send_head(head, false).await.unwrap();
                }
                downstream.send_head(ok(), true).await.unwrap();
            };
            let server = Server::start(true, limits(), many).await;
            let heads = interim(&server).await;
            assert_eq!(heads, vec![StatusCode::EARLY_HINTS; passed], "{length}");
        }
    })
    .await;
}

#[tokio::test]
async fn there_is_no_101() {
    local(async {
        let switch = async |downstream: &mut Downstream| {
            downstream.take_head();
            let mut head = ok();
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            downstream.send_head(head, false).await.unwrap_err();
            downstream.send_head(ok(), true).await.unwrap();
        };
        let server = Server::start(true, limits(), switch).await;
        assert_eq!(interim(&server).await, [] as [StatusCode; 0]);
    })
    .await;
}

#[tokio::test]
async fn the_authority_may_be_repeated_in_host_in_any_case() {
    local(async {
        let server = Server::start(true, limits(), echo).await;
        let (mut sender, _driver) = connect(&server).await;
        for (host, status) in [("A:80", 200), ("b:80", 400)] {
            let mut request = request(Method::GET, "http://a:80/");
            request
                .headers_mut()
                .insert("host", HeaderValue::from_static(host));
            let (found, _) = get(&mut sender, request).await.unwrap();
            assert_eq!(found.as_u16(), status, "{host}");
        }
    })
    .await;
}
