//! HTTP/1 towards the client.

use futures::FutureExt as _;
use http::{HeaderValue, StatusCode};

use super::*;

const GET: &str = "GET /one HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &str = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn post(fields: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

/// How many times `part` stands in `text`.
fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    local(async {
        let server = Server::start(false, limits(), echo).await;
        let chunked = post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n");
        let answer = server
            .send(format!(
                "{GET}{}{chunked}{LAST}",
                post("Content-Length: 2\r\n", "xy")
            ))
            .await;
        let bodies: Vec<_> = answer
            .split("\r\n\r\n")
            .skip(1)
            .map(|part| part.split("HTTP/").next().unwrap())
            .collect();
        assert_eq!(bodies, ["/one", "/pxy", "/pabc", "/last"]);
        assert_eq!(count(&answer, "Connection: keep-alive"), 3, "{answer}");
        assert_eq!(count(&answer, "Connection: close"), 1);
    })
    .await;
}

#[tokio::test]
async fn trailers_are_for_those_who_ask_for_them() {
    local(async {
        let with_trailers = async |downstream: &mut Downstream| {
            downstream.take_head();
            downstream.send_head(ok(), false).await.unwrap();
            downstream.send_body("abc".into()).await.unwrap();
            let fields = [("x-sum", "1"), ("x-end", "2")];
            let fields =
                fields.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            let trailers = http::HeaderMap::from_iter(fields);
            downstream.finish(Some(trailers)).await.unwrap();
        };
        let server = Server::start(false, limits(), with_trailers).await;
        for (request, end) in [
            (
                "HTTP/1.1\r\nHost: a\r\nTE: deflate, Trailers\r\n",
                "0\r\nx-sum: 1\r\nx-end: 2\r\n\r\n",
            ),
            ("HTTP/1.1\r\nHost: a\r\n", "0\r\n\r\n"),
            ("HTTP/1.0\r\nTE: trailers\r\n", "\r\n\r\nabc"),
        ] {
            let request = format!("GET / {request}Connection: close\r\n\r\n");
            let answer = server.send(request).await;
            assert!(answer.ends_with(end), "{answer}");
        }
        // And the connection goes on behind them.
        let asks = "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n";
        let answer = server.send(format!("{asks}{LAST}")).await;
        assert_eq!(count(&answer, "HTTP/1.1 200"), 2, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_101_is_for_those_who_asked_for_an_upgrade() {
    local(async {
        let switch = async |downstream: &mut Downstream| {
            downstream.take_head();
            let mut head = ok();
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            if downstream.send_head(head, false).await.is_err() {
                downstream.send_head(ok(), true).await.unwrap();
            }
        };
        let server = Server::start(false, limits(), switch).await;
        let answer = server.send(LAST).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn http_1_0_gets_no_chunks_and_a_close() {
    local(async {
        let server = Server::start(false, limits(), stream_back).await;
        let answer = server
            .send("POST / HTTP/1.0\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\nabc")
            .await;
        assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
        assert!(
            answer.contains("Connection: close") && !answer.contains("chunked"),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_body_without_length_is_chunked_and_an_empty_one_has_length_0() {
    local(async {
        let server = Server::start(false, limits(), stream_back).await;
        let answer = server
            .send(post("Content-Length: 3\r\nConnection: close\r\n", "abc"))
            .await;
        assert!(
            answer.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
            "{answer}"
        );
        let empty =
            async |downstream: &mut Downstream| downstream.send_head(ok(), true).await.unwrap();
        let server = Server::start(false, limits(), empty).await;
        let answer = server.send(LAST).await;
        assert!(
            answer.contains("Content-Length: 0\r\n") && answer.ends_with("\r\n\r\n"),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn head_gets_no_body_and_the_connection_stays() {
    local(async {
        let server = Server::start(false, limits(), echo).await;
        let answer = server
            .send(format!("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n{LAST}"))
            .await;
        assert!(answer.contains("Content-Length: 2\r\n"), "{answer}");
        assert!(answer.contains("\r\n\r\nHTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("/last"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn continue_is_sent_when_somebody_reads() {
    local(async {
        let server = Server::start(false, limits(), echo).await;
        let mut stream = server.connect().await;
        stream
            .write_all(
                post(
                    "Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n",
                    "",
                )
                .as_bytes(),
            )
            .await
            .unwrap();
        assert_eq!(
            until(&mut stream, "\r\n\r\n").await,
            "HTTP/1.1 100 Continue\r\n\r\n"
        );
        stream.write_all(b"abc").await.unwrap();
        assert!(rest(stream).await.ends_with("/pabc"));
        // Whoever does not wait needs no permission.
        let answer = server
            .send(post(
                "Content-Length: 3\r\nExpect: 100-continue\r\nConnection: close\r\n",
                "abc",
            ))
            .await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // Without the body being wanted the connection cannot go on: nobody knows whether it will be sent.
        let refuse =
            async |downstream: &mut Downstream| fail(downstream, &DownstreamError::Idle).await;
        let server = Server::start(false, limits(), refuse).await;
        let answer = server
            .send(post("Content-Length: 3\r\nExpect: 100-continue\r\n", ""))
            .await;
        assert!(
            answer.starts_with("HTTP/1.1 504") && answer.contains("Connection: close"),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn what_is_ambiguous_never_reaches_an_exchange() {
    local(async {
        let server = Server::start(false, limits(), async |_: &mut Downstream| panic!("served")).await;
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(100));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(10));
        let cases = [
            (post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), Reason::BadRequest),
            (post("Transfer-Encoding: chunked\r\n", "3\nabc\r\n0\r\n\r\n"), Reason::BadRequest),
            (post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), Reason::NotImplemented),
            ("GET / HTTP/1.1\n\n".to_owned(), Reason::BadRequest),
            ("GET / HTTP/2.0\r\n\r\n".to_owned(), Reason::VersionNotSupported),
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned(), Reason::MethodNotAllowed),
            (long, Reason::TargetTooLong),
            (many, Reason::HeadersTooLarge),
            (format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n{GET}"), Reason::BadRequest),
        ];
        for (request, reason) in cases {
            // More than the guard looks at, so that closing must not reset the connection.
            let answer = server.send(request.clone() + &"x".repeat(100_000)).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {}", reason.status().as_str())), "{request:?}: {answer}");
            assert!(answer.contains(reason.code()) && answer.contains("Connection: close"), "{answer}");
            assert_eq!(server.refusals.take(), Some(reason));
        }
    })
    .await;
}

#[tokio::test]
async fn a_fault_in_a_later_chunk_ends_the_exchange() {
    local(async {
        let server = Server::start(false, limits(), echo).await;
        let mut stream = server.connect().await;
        stream
            .write_all(
                post("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n", "").as_bytes(),
            )
            .await
            .unwrap();
        until(&mut stream, "Continue\r\n\r\n").await;
        stream.write_all(b"3\r\nabc\r\n0x1\r\n").await.unwrap();
        let answer = rest(stream).await;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("Connection: close"),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed() {
    local(async {
        let (told, gone) = tokio::sync::oneshot::channel();
        let told = Rc::new(Cell::new(Some(told)));
        let wait = async move |downstream: &mut Downstream| {
            told.take()
                .unwrap()
                .send(downstream.closed().await)
                .unwrap();
        };
        let server = Server::start(false, limits(), wait).await;
        let mut stream = server.connect().await;
        stream.write_all(GET.as_bytes()).await.unwrap();
        drop(stream);
        assert!(matches!(gone.await.unwrap(), DownstreamError::Gone));
    })
    .await;
}

#[tokio::test]
async fn a_response_that_is_broken_off_does_not_look_complete() {
    local(async {
        let cut = async |downstream: &mut Downstream| {
            downstream.send_head(ok(), false).await.unwrap();
            downstream.send_body("part".into()).await.unwrap();
            downstream.flushed().await.unwrap();
            downstream.reset();
        };
        let server = Server::start(false, limits(), cut).await;
        let answer = server.send(GET).await;
        assert!(answer.ends_with("4\r\npart\r\n"), "{answer}");
        let short = async |downstream: &mut Downstream| {
            let mut head = ok();
            head.headers.insert("content-length", HeaderValue::from(10));
            downstream.send_head(head, false).await.unwrap();
            downstream.send_body("part".into()).await.unwrap();
            assert!(downstream.finish(None).await.is_err());
            downstream.flushed().await.unwrap();
        };
        let server = Server::start(false, limits(), short).await;
        assert!(
            server
                .send(format!("{GET}{GET}"))
                .await
                .ends_with("\r\n\r\npart")
        );
    })
    .await;
}

#[tokio::test]
async fn an_unread_body_is_thrown_away_if_it_is_short() {
    local(async {
        let ignore =
            async |downstream: &mut Downstream| downstream.send_head(ok(), true).await.unwrap();
        let server = Server::start(false, limits(), ignore).await;
        let answer = server
            .send(format!("{}{LAST}", post("Content-Length: 3\r\n", "abc")))
            .await;
        assert_eq!(count(&answer, "HTTP/1.1 200"), 2, "{answer}");
        let long = "x".repeat(200_000);
        let answer = server
            .send(format!(
                "{}{LAST}",
                post("Content-Length: 200000\r\n", &long)
            ))
            .await;
        assert_eq!(count(&answer, "HTTP/1.1 200"), 1, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn large_bodies_stream_both_ways_at_once() {
    local(async {
        let count = 8 << 20;
        let exchange = async move |downstream: &mut Downstream| {
            downstream.take_head();
            let mut head = ok();
            head.headers
                .insert("content-length", HeaderValue::from(count));
            downstream.send_head(head, false).await.unwrap();
            let writer = downstream.writer();
            loop {
                writer.room().await.unwrap();
                match downstream.read_body().await.unwrap() {
                    BodyFrame::Data(data) => downstream.send_body(data).await.unwrap(),
                    BodyFrame::Trailers(_) => {}
                    BodyFrame::End => return downstream.finish(None).await.unwrap(),
                }
            }
        };
        let server = Server::start(false, limits(), exchange).await;
        let mut stream = server.connect().await;
        stream
            .write_all(post(&format!("Content-Length: {count}\r\n"), "").as_bytes())
            .await
            .unwrap();
        until(&mut stream, "\r\n\r\n").await;
        echo_of_pattern(stream, count).await;
    })
    .await;
}

#[tokio::test]
async fn an_upgrade_becomes_a_tunnel() {
    local(async {
        let upgrade = async |downstream: &mut Downstream| {
            downstream.take_head();
            let mut head = ok();
            head.status = StatusCode::SWITCHING_PROTOCOLS;
            head.headers
                .insert("connection", HeaderValue::from_static("upgrade"));
            downstream.send_head(head, false).await.unwrap();
            while let Ok(BodyFrame::Data(data)) = downstream.read_body().await {
                downstream.send_body(data).await.unwrap();
            }
            downstream.finish(None).await.unwrap();
        };
        let server = Server::start(false, limits(), upgrade).await;
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            .await
            .unwrap();
        assert!(
            until(&mut stream, "\r\n\r\n")
                .await
                .starts_with("HTTP/1.1 101")
        );
        stream.write_all(b"GET / raw").await.unwrap();
        until(&mut stream, "GET / raw").await;
        stream.shutdown().await.unwrap();
        assert_eq!(rest(stream).await, "");
    })
    .await;
}

#[tokio::test]
async fn bytes_behind_an_upgrade_that_was_not_confirmed_are_no_request() {
    local(async {
        let server = Server::start(false, limits(), async |downstream: &mut Downstream| {
            // The second request is there before the first is answered.
            if let DownstreamError::Gone = downstream.closed().await {
                downstream.send_head(ok(), true).await.unwrap();
            }
        })
        .await;
        let mut stream = server.connect().await;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            .await
            .unwrap();
        tokio::task::yield_now().await;
        stream.write_all(GET.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let answer = rest(stream).await;
        assert!(
            count(&answer, "HTTP/1.1") <= 1 && !answer.contains("/one"),
            "{answer}"
        );
    })
    .await;
}

#[tokio::test]
async fn idle_connections_end_and_slow_heads_are_answered() {
    local(async {
        let server = Server::start(false, limits(), echo).await;
        let mut idle = server.connect().await;
        idle.write_all(GET.as_bytes()).await.unwrap();
        until(&mut idle, "/one").await;
        let mut slow = server.connect().await;
        slow.write_all(GET.as_bytes()).await.unwrap();
        until(&mut slow, "/one").await;
        slow.write_all(b"GET / HT").await.unwrap();
        let silent = server.connect().await;
        // The server has seen the beginning when it has answered somebody who came later.
        until_answered(&server).await;
        server.pass(Duration::from_secs(11)).await;
        assert!(rest(slow).await.starts_with("HTTP/1.1 408"));
        assert_eq!(rest(silent).await, "");
        // The idle one has more time.
        idle.write_all(GET.as_bytes()).await.unwrap();
        until(&mut idle, "/one").await;
        server.pass(Duration::from_secs(100)).await;
        assert_eq!(rest(idle).await, "");
    })
    .await;
}

async fn until_answered(server: &Server) {
    assert!(server.send(LAST).await.ends_with("/last"));
}

#[tokio::test]
async fn draining_closes_what_is_idle_and_lets_the_rest_finish() {
    local(async {
        let (release, released) = tokio::sync::watch::channel(false);
        let exchange = async move |downstream: &mut Downstream| {
            if downstream.head().uri.path() == "/slow" {
                released
                    .clone()
                    .wait_for(|released| *released)
                    .await
                    .unwrap();
            }
            echo(downstream).await;
        };
        let server = Server::start(false, limits(), exchange).await;
        let mut idle = server.connect().await;
        idle.write_all(GET.as_bytes()).await.unwrap();
        until(&mut idle, "/one").await;
        let mut busy = server.connect().await;
        busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        until_answered(&server).await;
        server.deadlines.drain(None);
        assert_eq!(rest(idle).await, "");
        release.send_replace(true);
        let answer = rest(busy).await;
        assert!(
            answer.contains("Connection: close") && answer.ends_with("/slow"),
            "{answer}"
        );
        // Whoever comes now is served once.
        let answer = server.send(format!("{GET}{GET}")).await;
        assert_eq!(count(&answer, "HTTP/1.1 200"), 1, "{answer}");
    })
    .await;
}

#[tokio::test]
async fn announced_drain_answers_once_more_and_loses_no_request_on_its_way() {
    local(async {
        let server = Server::start(false, limits(), echo).await;
        let (mut idle, mut unused) = (server.connect().await, server.connect().await);
        for stream in [&mut idle, &mut unused] {
            stream.write_all(GET.as_bytes()).await.unwrap();
            until(stream, "/one").await;
        }
        server.deadlines.announce_drain();
        // Others come and go meanwhile, with one answer each.
        let answer = server.send(format!("{GET}{GET}")).await;
        assert_eq!(count(&answer, "HTTP/1.1 200"), 1, "{answer}");
        idle.write_all(GET.as_bytes()).await.unwrap();
        let answer = rest(idle).await;
        assert!(
            answer.contains("Connection: close") && answer.ends_with("/one"),
            "{answer}"
        );
        server.deadlines.drain(None);
        assert_eq!(rest(unused).await, "");
    })
    .await;
}

/// A connection of a client that reads nothing of an answer, which is complete but for its bytes: the kernel takes no more.
async fn unread_answer(fields: &str) -> (Server, TcpStream) {
    let (told, answered) = tokio::sync::oneshot::channel();
    let told = Rc::new(Cell::new(Some(told)));
    let fill = async move |downstream: &mut Downstream| {
        downstream.take_head();
        downstream.send_head(ok(), false).await.unwrap();
        let writer = downstream.writer();
        // Until the kernel takes no more.
        while writer.room().now_or_never().is_some() {
            downstream
                .send_body(vec![b'x'; 20_000].into())
                .await
                .unwrap();
            tokio::task::yield_now().await;
        }
        downstream.finish(None).await.unwrap();
        told.take().unwrap().send(()).unwrap();
    };
    let server = Server::start(false, limits(), fill).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    // What the kernel holds back stays with the server.
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    answered.await.unwrap();
    (server, stream)
}

#[tokio::test]
async fn draining_cuts_no_response_that_the_client_is_still_reading() {
    local(async {
        let (server, stream) = unread_answer("").await;
        server.deadlines.drain(None);
        tokio::task::yield_now().await;
        let answer = rest(stream).await;
        assert!(answer.ends_with("\r\n0\r\n\r\n"), "{}", answer.len());
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_still_reading_is_not_idle() {
    local(async {
        for fields in ["", "Connection: close\r\n"] {
            let (server, mut stream) = unread_answer(fields).await;
            server.pass(Duration::from_secs(65)).await;
            let mut answer = vec![0; 1 << 16];
            stream.read_exact(&mut answer).await.unwrap();
            // Progress begins the wait anew, and so does the end of the answer.
            server.pass(Duration::from_secs(290)).await;
            while !answer.ends_with(b"\r\n0\r\n\r\n") {
                assert!(stream.read_buf(&mut answer).await.unwrap() > 0);
            }
            for seconds in [400, 500] {
                server.pass(Duration::from_secs(seconds)).await;
            }
            assert_eq!(rest(stream).await, "");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_is_given_up() {
    local(async {
        for fields in ["", "Connection: close\r\n"] {
            let (server, stream) = unread_answer(fields).await;
            for seconds in [65, 400] {
                server.pass(Duration::from_secs(seconds)).await;
            }
            let mut answer = Vec::new();
            let mut stream = stream;
            // Cut, whether it looks like an end or not.
            _ = stream.read_to_end(&mut answer).await;
            assert!(!answer.ends_with(b"\r\n0\r\n\r\n"));
        }
    })
    .await;
}

#[tokio::test]
async fn the_last_request_of_a_connection_says_so() {
    local(async {
        let limits = Limits {
            max_requests_per_connection: Some(2),
            ..limits()
        };
        let server = Server::start(false, limits, echo).await;
        let answer = server.send(format!("{GET}{GET}{GET}")).await;
        assert_eq!(count(&answer, "HTTP/1.1 200"), 2, "{answer}");
        assert_eq!(count(&answer, "Connection: close"), 1, "{answer}");
    })
    .await;
}
