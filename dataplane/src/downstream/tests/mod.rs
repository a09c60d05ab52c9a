//! Both sessions over real sockets, with an exchange that the test chooses.

mod http1;
mod http2;

use std::{
    cell::{Cell, OnceCell},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, response};
use portcullis_routing::settings::Limits;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{LocalSet, spawn_local},
};

use super::{BodyFrame, Connection, Downstream, DownstreamError, h1, h2};
use crate::{deadline::Deadlines, reason::Reason, stream::BufferedStream};

/// A server whose requests a test answers itself.
struct Server {
    address: std::net::SocketAddr,
    deadlines: Rc<Deadlines>,
    refusals: Rc<Cell<Option<Reason>>>,
}

impl Server {
    /// Accepts connections, all of one HTTP version, in the background of the current local set.
    async fn start(
        http2: bool,
        limits: Limits,
        exchange: impl AsyncFn(&mut Downstream) + Clone + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let deadlines = Deadlines::new();
        let refusals = Rc::new(Cell::new(None));
        let server = Self {
            address,
            deadlines: Rc::clone(&deadlines),
            refusals: Rc::clone(&refusals),
        };
        spawn_local(async move {
            while let Ok((tcp, client)) = listener.accept().await {
                let (exchange, deadlines, limits) =
                    (exchange.clone(), Rc::clone(&deadlines), limits.clone());
                let refusals = Rc::clone(&refusals);
                spawn_local(async move {
                    let stream = BufferedStream::new(tcp);
                    let deadline = Rc::new(deadlines.register(Some(80)));
                    let refused = |reason| refusals.set(Some(reason));
                    if http2 {
                        h2::serve(
                            stream, deadline, &deadlines, &limits, false, exchange, refused,
                        )
                        .await;
                    } else {
                        let connection = connection(client, address);
                        let exchange =
                            async |downstream: &mut Downstream| exchange(downstream).await;
                        h1::serve(stream, &connection, deadline, &limits, exchange, refused).await;
                    }
                });
            }
        });
        server
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// What comes back for `bytes` until the server closes.
    async fn send(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(bytes.as_ref()).await.unwrap();
        rest(stream).await
    }

    /// Lets `duration` pass, as far as deadlines are concerned, once `ready` says so.
    async fn pass(&self, duration: Duration) {
        self.deadlines.sweep_at(duration);
        tokio::task::yield_now().await;
    }
}

fn connection(client: std::net::SocketAddr, local: std::net::SocketAddr) -> Connection {
    Connection {
        port: 80,
        tls: false,
        sni: None,
        sni_listener: None,
        identity: None,
        egress: false,
        pinned: OnceCell::new(),
        caller: None,
        client,
        client_text: HeaderValue::from_static("192.0.2.7"),
        local,
        http2: false,
    }
}

/// Runs a test where local tasks can be spawned. A fault ends as a failed test, not as a hanging one.
async fn local<T>(test: impl Future<Output = T>) -> T {
    let tasks = LocalSet::new();
    let test = tasks.run_until(test);
    tokio::time::timeout(Duration::from_secs(30), test)
        .await
        .expect("in time")
}

/// Everything up to the end of the stream.
async fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer would be a fault.
    stream.read_to_end(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until what was read ends with `end`.
async fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        let byte = stream.read_u8().await;
        bytes.push(byte.unwrap_or_else(|_| panic!("no {end:?} in {}", bytes.escape_ascii())));
    }
    String::from_utf8(bytes).unwrap()
}

fn ok() -> response::Parts {
    Response::new(()).into_parts().0
}

/// Answers with the path and the body, after the whole body.
async fn echo(downstream: &mut Downstream) {
    let head = downstream.take_head();
    let mut text = head.uri.path().as_bytes().to_vec();
    let mut trailers = None;
    loop {
        match downstream.read_body().await {
            Ok(BodyFrame::Data(data)) => text.extend_from_slice(&data),
            Ok(BodyFrame::Trailers(fields)) => trailers = Some(fields),
            Ok(BodyFrame::End) => break,
            Err(error) => return fail(downstream, &error).await,
        }
    }
    let mut head = ok();
    if trailers.is_none() {
        head.headers
            .insert("content-length", HeaderValue::from(text.len()));
    }
    downstream.send_head(head, false).await.unwrap();
    downstream.send_body(text.into()).await.unwrap();
    downstream.finish(trailers).await.unwrap();
}

/// Answers with the error's reason.
async fn fail(downstream: &mut Downstream, error: &DownstreamError) {
    let mut head = ok();
    head.status = error.reason().status();
    downstream.close_after();
    _ = downstream.send_head(head, true).await;
}

/// Streams the body back while it arrives, never holding more than the writer has room for.
async fn stream_back(downstream: &mut Downstream) {
    downstream.take_head();
    downstream.send_head(ok(), false).await.unwrap();
    let writer = downstream.writer();
    loop {
        writer.room().await.unwrap();
        assert!(writer.has_room());
        match downstream.read_body().await.unwrap() {
            BodyFrame::Data(data) => downstream.send_body(data).await.unwrap(),
            BodyFrame::Trailers(_) => {}
            BodyFrame::End => return downstream.finish(None).await.unwrap(),
        }
    }
}

/// Sends `count` bytes of a known pattern and checks that they come back while they are still being sent.
async fn echo_of_pattern(mut stream: TcpStream, count: usize) {
    let pattern: Vec<u8> = (0..count)
        .map(|index| u8::try_from(index % 251).unwrap())
        .collect();
    let (mut read, mut write) = stream.split();
    let sent = pattern.clone();
    let received = async {
        let mut bytes = vec![0; count];
        read.read_exact(&mut bytes).await.unwrap();
        bytes
    };
    let ((), received) = tokio::join!(async { write.write_all(&sent).await.unwrap() }, received);
    assert!(received == pattern);
}

/// A limit of each kind that a test can reach.
fn limits() -> Limits {
    Limits {
        max_headers: 10,
        max_target_bytes: 100,
        max_header_bytes: 4096,
        ..Limits::default()
    }
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}
