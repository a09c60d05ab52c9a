//! The controller's admin port: health and metrics, for probes and scrapers.
//!
//! It says nothing secret and takes nothing but GET, so it needs no authentication; it is meant for the pod's network.

use std::{
    convert::Infallible,
    future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet, time::timeout};

use crate::{metrics::Metrics, publish::PublisherTls, run::Progress};

/// Connections served at once. Others wait in the socket's queue.
const MAX_CONNECTIONS: usize = 32;
/// Time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for everything on one connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// What the admin port shows.
#[derive(Clone, Debug)]
pub struct Admin {
    /// How far the controller has come.
    pub progress: Progress,
    /// The certificate that data planes are shown.
    pub tls: Arc<PublisherTls>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Set once the process is to end.
    pub stopping: Arc<AtomicBool>,
}

impl Admin {
    /// Serves `listener` for ever.
    pub async fn serve(self, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            while connections.try_join_next().is_some() {}
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let admin = self.clone();
                    connections.spawn(async move {
                        let service = service_fn(move |request| {
                            future::ready(Ok::<_, Infallible>(admin.answer(&request)))
                        });
                        let connection = http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEAD_TIMEOUT)
                            .serve_connection(TokioIo::new(stream), service);
                        let ended = timeout(CONNECTION_TIMEOUT, connection).await;
                        tracing::debug!(%peer, ?ended, "admin connection ended");
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

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = text(
                StatusCode::METHOD_NOT_ALLOWED,
                "only GET and HEAD are served here\n",
            );
            let allowed = HeaderValue::from_static("GET, HEAD");
            refusal.headers_mut().insert(header::ALLOW, allowed);
            return refusal;
        }
        match request.uri().path() {
            "/" => text(StatusCode::OK, INDEX),
            "/livez" => text(StatusCode::OK, "ok\n"),
            "/readyz" => self.ready(),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let why = if self.stopping.load(Ordering::Relaxed) {
            "shutting down".into()
        } else if !self.progress.translated() {
            let unknown = self.progress.unknown_kinds();
            if unknown.is_empty() {
                "objects that are referred to are being read".into()
            } else {
                format!("not listed yet: {}", unknown.join(", "))
            }
        } else if !self.tls.is_ready() {
            "there is no certificate authority yet; the log says what its Secret lacks".into()
        } else {
            return text(StatusCode::OK, "ok\n");
        };
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {why}\n"),
        )
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.metrics.encode() {
            Ok(metrics) => response(StatusCode::OK, prometheus::TEXT_FORMAT, metrics),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

const INDEX: &str = "\
Portcullis controller, admin port

/livez    200 while the process runs
/readyz   200 once everything in the cluster is known and translated; says what is missing until then
/metrics  Prometheus metrics
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
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
