//! A backend that answers with what it saw, and does what the path asks for.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

/// A request as the backend saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A running backend; it stops when dropped.
///
/// `/status/N` answers N. `/offers/SCHEMES` answers 401, and asks for credentials of one of them. `/flaky/K/N` answers N to the first K requests, then 200. `/hang` never answers. `/echo`
/// streams the body back while it arrives. Everything else answers 200 with the backend's name, after the whole body.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    name: String,
    seen: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    cancelled: AtomicUsize,
    changed: Notify,
}

impl Backend {
    /// Starts on a free port of the loopback.
    pub(crate) async fn start(name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            name: name.into(),
            seen: Mutex::default(),
            connections: AtomicUsize::new(0),
            cancelled: AtomicUsize::new(0),
            changed: Notify::new(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            task,
        }
    }

    /// All requests seen so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The only request seen.
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().unwrap()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits until `count` requests were seen.
    pub(crate) async fn wait_seen(&self, count: usize) {
        self.wait(|shared| shared.seen.lock().unwrap().len() >= count)
            .await;
    }

    /// Waits until a request that hangs was given up by its sender.
    pub(crate) async fn wait_cancelled(&self) {
        self.wait(|shared| shared.cancelled.load(Ordering::SeqCst) > 0)
            .await;
    }

    async fn wait(&self, ready: impl Fn(&Shared) -> bool) {
        loop {
            let changed = self.shared.changed.notified();
            if ready(&self.shared) {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&shared), request));
            // Connections that break are what some tests are about.
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn answer(
    shared: Arc<Shared>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let target = parts
        .uri
        .path_and_query()
        .map(ToString::to_string)
        .unwrap_or_default();
    let segments: Vec<_> = parts
        .uri
        .path()
        .split('/')
        .skip(1)
        .map(str::to_owned)
        .collect();
    let mut seen = Seen {
        method: parts.method.to_string(),
        target,
        headers: parts.headers.clone(),
        body: Bytes::new(),
    };
    if segments[0] == "echo" {
        record(&shared, seen);
        return Ok(Response::new(body.boxed()));
    }
    seen.body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    record(&shared, seen);
    let number = |index: usize| {
        segments
            .get(index)
            .and_then(|text| text.parse::<u16>().ok())
    };
    let status = match segments[0].as_str() {
        "status" => number(1).unwrap_or(400),
        "offers" => 401,
        "flaky" => {
            let before = shared.seen.lock().unwrap().len();
            if before <= usize::from(number(1).unwrap_or(0)) {
                number(2).unwrap_or(400)
            } else {
                200
            }
        }
        "hang" => {
            let _cancelled = Cancelled(&shared);
            std::future::pending::<u16>().await
        }
        _ => 200,
    };
    let body = Full::new(Bytes::from(shared.name.clone()))
        .map_err(|never| match never {})
        .boxed();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    if status == 401 {
        let schemes = segments[1].replace("%20", " ").parse().unwrap();
        response.headers_mut().insert("www-authenticate", schemes);
    }
    response
        .headers_mut()
        .insert("x-backend", shared.name.parse().unwrap());
    Ok(response)
}

fn record(shared: &Shared, seen: Seen) {
    shared.seen.lock().unwrap().push(seen);
    shared.changed.notify_waiters();
}

/// Notices when the request it belongs to is dropped.
struct Cancelled<'a>(&'a Shared);

impl Drop for Cancelled<'_> {
    fn drop(&mut self) {
        self.0.cancelled.fetch_add(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}
