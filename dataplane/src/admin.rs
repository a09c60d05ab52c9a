//! The admin port: health, metrics and the table being served, for people and probes.
//!
//! It runs on the control thread, so that nobody who asks can slow a request down, and says nothing secret. It is meant
//! for the pod's own network: there is no authentication.

use std::{
    convert::Infallible,
    future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
};

use crate::{state::TableState, telemetry::Metrics};

/// Connections served at once. Others wait in the socket's queue.
const MAX_CONNECTIONS: usize = 32;

/// Time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a request's head; the smallest that hyper allows.
const MAX_HEAD: usize = 8192;

/// Where a proxy is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No table yet, or its ports are not bound yet.
    Starting,
    /// Takes traffic.
    Serving,
    /// Finishes what it has; new traffic should go elsewhere.
    Draining,
}

/// The phase, shared with whoever changes it.
#[derive(Debug, Default)]
pub struct Health(AtomicU8);

impl Health {
    /// A new phase. Draining is final.
    pub fn enter(&self, phase: Phase) {
        self.0.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }
}

/// What the admin port shows.
#[derive(Clone, Debug)]
pub struct Admin {
    /// For `/table`.
    pub tables: Arc<TableState>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/readyz`.
    pub health: Arc<Health>,
}

impl Admin {
    /// Serves `listener` for ever, on the current-thread runtime it is called on.
    pub async fn serve(self, listener: TcpListener) {
        let admin = Arc::new(self);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let admin = Arc::clone(&admin);
                    connections.spawn(async move {
                        admin.connection(stream, peer).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin port cannot accept");
                    // Out of file descriptors, most likely: trying again at once would only burn CPU.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(&self, stream: TcpStream, peer: SocketAddr) {
        let service =
            service_fn(|request| future::ready(Ok::<_, Infallible>(self.answer(&request))));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .keep_alive(true)
            .serve_connection(TokioIo::new(stream), service);
        if let Err(error) = connection.await {
            tracing::debug!(%error, %peer, "admin connection failed");
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are served here\n",
            );
            refusal
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match request.uri().path() {
            "/" => text(StatusCode::OK, INDEX),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            "/table" => self.table(),
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        match self.health.phase() {
            Phase::Serving => text(StatusCode::OK, "ok\n"),
            Phase::Draining => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "not ready: shutting down\n",
            ),
            Phase::Starting => match self.tables.status() {
                status if status.report.is_some() => text(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "not ready: the ports of the table are not bound yet\n",
                ),
                status => match status.last_error {
                    Some(error) => text(
                        StatusCode::SERVICE_UNAVAILABLE,
                        format!("not ready: {error}\n"),
                    ),
                    None => text(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "not ready: no routing table yet\n",
                    ),
                },
            },
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.encode() {
            Ok(metrics) => response(StatusCode::OK, prometheus::TEXT_FORMAT, metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn table(&self) -> Response<Full<Bytes>> {
        let status = self.tables.status();
        let Some(snapshot) = self.tables.current().clone() else {
            return text(StatusCode::NOT_FOUND, "no routing table yet\n");
        };
        let page = TablePage {
            report: status.report,
            applied_at: status
                .applied_at
                .and_then(|time| jiff::Timestamp::try_from(time).ok())
                .map(|t| t.to_string()),
            last_error: status.last_error,
            table: snapshot.compiled.table().redacted(),
        };
        match serde_json::to_vec_pretty(&page) {
            Ok(json) => response(StatusCode::OK, "application/json", json),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// What `/table` shows.
#[derive(Serialize)]
struct TablePage {
    /// The version being served, and resources that were rejected.
    report: Option<portcullis_routing::delta::Report>,
    /// RFC 3339.
    applied_at: Option<String>,
    /// Why the last table was refused as a whole.
    last_error: Option<String>,
    /// What is being served. Private keys are replaced.
    table: portcullis_routing::RoutingTable,
}

const INDEX: &str = "\
Portcullis proxy, admin port

/livez    200 while the process runs
/readyz   200 while it takes traffic: it has a table, its ports are bound, it is not shutting down
/metrics  Prometheus metrics
/table    the routing table being served, and what was rejected of it (JSON, private keys replaced)
";

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", body)
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
