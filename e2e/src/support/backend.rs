//! A well-behaved HTTP/1.1, HTTP/2 and WebSocket server to stand behind a proxy, that can be told to misbehave.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::Result;
use bytes::Bytes;
use futures::{SinkExt, StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    header::{
        CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TRAILER, UPGRADE,
    },
    service::service_fn,
    upgrade::Upgraded,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::derive_accept_key, protocol::Role},
};

/// Length of an ordinary answer.
pub(crate) const ANSWER_LENGTH: usize = 1024;
/// Pieces that long answers come in.
const PIECE: usize = 64 * 1024;
const BACKLOG: i32 = 1024;
/// Send buffer of a connection, in bytes. Let grow, a thousand answers that nobody reads would fill the TCP memory of the
/// host, which backends and proxy share here, but not in the world.
const SEND_BUFFER: usize = 256 * 1024;

/// How a backend behaves from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Serving,
    /// Nobody listens; open connections were reset.
    Refusing,
    /// Packets vanish: connects hang, open connections stay silent.
    BlackHole,
}

/// A running backend. Its paths: `/echo` sends the body back as it comes, trailers included; `/sink` counts it;
/// `/bytes/N` sends N bytes without a word of how many, `/sized/N` with a Content-Length; `/ws` is a WebSocket echo;
/// everything else answers 1 KiB.
pub(crate) struct Backend {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
    counters: Arc<Counters>,
}

#[derive(Default)]
struct Counters {
    connections: AtomicU64,
    requests: AtomicU64,
}

type Answer = Response<BoxBody<Bytes, hyper::Error>>;

impl Backend {
    /// Starts a backend that answers with `x-backend: <name>`.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (mode, watched) = watch::channel(Mode::Serving);
        let counters = Arc::<Counters>::default();
        tokio::spawn(accept(
            name.to_owned(),
            listener,
            watched,
            Arc::clone(&counters),
        ));
        Ok(Self {
            name: name.to_owned(),
            address,
            mode,
            counters,
        })
    }

    /// Behaves like `mode` from now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Requests answered so far.
    pub(crate) fn requests(&self) -> u64 {
        self.counters.requests.load(Relaxed)
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> u64 {
        self.counters.connections.load(Relaxed)
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into())?)
}

async fn accept(
    name: String,
    listener: TcpListener,
    mut mode: watch::Receiver<Mode>,
    counters: Arc<Counters>,
) -> Result<()> {
    let address = listener.local_addr()?;
    let mut listener = Some(listener);
    let name: Arc<str> = name.into();
    loop {
        let current = *mode.borrow_and_update();
        match (current, &listener) {
            (Mode::Serving, Some(open)) => tokio::select! {
                accepted = open.accept() => {
                    counters.connections.fetch_add(1, Relaxed);
                    tokio::spawn(connection(accepted?.0, mode.clone(), Arc::clone(&name), Arc::clone(&counters)));
                }
                changed = mode.changed() => changed?,
            },
            (Mode::Serving | Mode::BlackHole, None) => listener = Some(listen(address)?),
            (Mode::Refusing, _) => {
                listener = None;
                mode.changed().await?;
            }
            (Mode::BlackHole, Some(open)) => {
                let socket = SockRef::from(open);
                socket.listen(0)?;
                let _queue = fill_queue(address).await?;
                mode.changed().await?;
                socket.listen(BACKLOG)?;
            }
        }
    }
}

/// Connects until the kernel answers no more: from then on it drops every SYN.
async fn fill_queue(address: SocketAddr) -> Result<Vec<TcpStream>> {
    let mut queue = Vec::new();
    while let Ok(stream) =
        tokio::time::timeout(Duration::from_millis(100), TcpStream::connect(address)).await
    {
        queue.push(stream?);
    }
    Ok(queue)
}

async fn connection(
    stream: TcpStream,
    mut mode: watch::Receiver<Mode>,
    name: Arc<str>,
    counters: Arc<Counters>,
) -> Result<()> {
    stream.set_nodelay(true)?;
    let control = SockRef::from(&stream).try_clone()?;
    let builder = auto::Builder::new(TokioExecutor::new());
    let service = service_fn(|request| {
        counters.requests.fetch_add(1, Relaxed);
        answer(request, Arc::clone(&name))
    });
    let mut served = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    loop {
        let current = *mode.borrow_and_update();
        match current {
            Mode::Serving => tokio::select! {
                // A connection that its client cuts is no fault of this side.
                _ = &mut served => return Ok(()),
                changed = mode.changed() => changed?,
            },
            Mode::Refusing => {
                control.set_linger(Some(Duration::ZERO))?;
                return Ok(());
            }
            Mode::BlackHole => mode.changed().await?,
        }
    }
}

async fn answer(mut request: Request<Incoming>, name: Arc<str>) -> Result<Answer, anyhow::Error> {
    let mut answer = Response::builder().header("x-backend", &*name);
    let path = request.uri().path().to_owned();
    if path == "/ws" {
        let key = request
            .headers()
            .get(SEC_WEBSOCKET_KEY)
            .map(|key| derive_accept_key(key.as_bytes()));
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move { echo_messages(upgrade.await?).await });
        return Ok(answer
            .status(101)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, key.unwrap_or_default())
            .body(full(""))?);
    }
    let body = if path == "/echo" {
        // Over HTTP/1.1, trailers are sent only if they are announced.
        if let Some(names) = request.headers().get(TRAILER) {
            answer = answer.header(TRAILER, names);
        }
        request.into_body().boxed()
    } else if path == "/sink" {
        full(count(request.into_body()).await?.to_string())
    } else if let Some(length) = path.strip_prefix("/bytes/") {
        bytes(length.parse()?)
    } else if let Some(length) = path.strip_prefix("/sized/") {
        answer = answer.header(CONTENT_LENGTH, length);
        bytes(length.parse()?)
    } else {
        request.into_body().collect().await?;
        full(vec![b'x'; ANSWER_LENGTH])
    };
    Ok(answer.body(body)?)
}

async fn echo_messages(upgraded: Upgraded) -> Result<()> {
    let mut socket =
        WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    while let Some(message) = socket.next().await {
        let message = message?;
        if message.is_binary() || message.is_text() {
            socket.send(message).await?;
        }
    }
    Ok(())
}

async fn count(mut body: Incoming) -> Result<u64> {
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        total += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(total)
}

fn full(content: impl Into<Bytes>) -> BoxBody<Bytes, hyper::Error> {
    Full::new(content.into())
        .map_err(|never: Infallible| match never {})
        .boxed()
}

/// `length` bytes, of which byte `i` is [`pattern`] of `i`.
fn bytes(length: u64) -> BoxBody<Bytes, hyper::Error> {
    let piece = Bytes::from(pattern());
    let pieces = stream::unfold(length, move |left| {
        let size = left.min(PIECE as u64);
        let data = piece.slice(..usize::try_from(size).unwrap_or(PIECE));
        async move { (left > 0).then(|| (Ok(Frame::data(data)), left - size)) }
    });
    BodyExt::boxed(StreamBody::new(pieces))
}

/// What long bodies repeat: a length that is a multiple of 251 would hide a shift by whole pieces, this one does not.
pub(crate) fn pattern() -> Vec<u8> {
    (0..PIECE)
        .map(|index| u8::try_from(index % 251).unwrap_or(0))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{io::ErrorKind, time::Duration};

    use tokio::{net::TcpStream, time::timeout};

    use super::{ANSWER_LENGTH, Backend, Mode};
    use crate::support::client::{Client, Target};

    #[tokio::test]
    async fn a_backend_dies_in_two_ways_and_comes_back() {
        let backend = Backend::start("backend").unwrap();
        let target = Target::clear(backend.address, "a.example");
        let mut client = Client::connect(&target).await.unwrap();
        assert_eq!(client.get("/").await.unwrap().body().len(), ANSWER_LENGTH);

        backend.set(Mode::Refusing);
        assert!(client.get("/").await.is_err());
        loop {
            let connected = TcpStream::connect(backend.address).await;
            if connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
                break;
            }
            tokio::task::yield_now().await;
        }

        backend.set(Mode::Serving);
        while TcpStream::connect(backend.address).await.is_err() {
            tokio::task::yield_now().await;
        }
        let mut client = Client::connect(&target).await.unwrap();
        assert_eq!(
            client.get("/").await.unwrap().headers()["x-backend"],
            "backend"
        );

        backend.set(Mode::BlackHole);
        let silence = Duration::from_millis(300);
        assert!(
            timeout(silence, client.get("/")).await.is_err(),
            "an open connection stays silent"
        );
        assert!(
            timeout(silence, TcpStream::connect(backend.address))
                .await
                .is_err(),
            "a new connection hangs"
        );

        backend.set(Mode::Serving);
        let mut client = Client::connect(&target).await.unwrap();
        assert_eq!(client.get("/").await.unwrap().status(), 200);
        assert!(backend.connections() >= 3 && backend.requests() >= 3);
    }
}
