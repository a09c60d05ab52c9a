//! The two things that a data plane can ask for: its table, and to be heard.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use portcullis_routing::{GatewayKey, Report, TableVersion};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::server::TlsStream;

use super::{
    Shared,
    data_planes::Acknowledgement,
    limits::{Limits, MAX_HEADERS, MAX_REPORT, MAX_SEND_BUFFER, MAX_STREAMS},
    stream::{Body, TableStream},
    tls::Peer,
};
use crate::{ca::SpiffeId, resources::ObjectKey};

/// A data plane at the other end of a connection.
pub(super) struct Client {
    shared: Arc<Shared>,
    address: SocketAddr,
    id: Result<SpiffeId, String>,
    /// Its number in the roster, from its first request on.
    entry: OnceLock<u64>,
    /// When it last took or asked for something.
    alive_at: Mutex<Instant>,
}

/// Serves a connection to its end.
pub(super) async fn serve(
    shared: &Arc<Shared>,
    stream: TlsStream<TcpStream>,
    address: SocketAddr,
    peer: Peer,
) {
    let limits = shared.limits;
    let client = Arc::new(Client {
        shared: Arc::clone(shared),
        address,
        id: peer.id,
        entry: OnceLock::new(),
        alive_at: Mutex::new(Instant::now()),
    });
    let service = service_fn(|request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(client.answer(request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(limits.heartbeat)
        .keep_alive_timeout(limits.silence())
        .serve_connection(TokioIo::new(stream), service);
    let left = peer.not_after.duration_since(SystemTime::now());
    tokio::select! {
        ended = connection => {
            if let Err(error) = ended {
                tracing::debug!(%address, %error, "a data plane's connection broke");
            }
        }
        () = sleep(left.unwrap_or_default()) => {
            tracing::info!(%address, "a data plane's certificate has expired; it has to connect with a new one");
        }
        () = client.silent(&limits) => {
            tracing::warn!(%address, "a data plane takes nothing; its connection is closed");
        }
    }
}

impl Client {
    pub(super) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// It took or asked for something.
    pub(super) fn is_alive(&self) {
        *self.alive_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until it has taken nothing and asked for nothing for too long.
    async fn silent(&self, limits: &Limits) {
        loop {
            let alive_at = *self.alive_at.lock().unwrap_or_else(PoisonError::into_inner);
            let end = alive_at + limits.silence();
            if end <= Instant::now() {
                return;
            }
            sleep_until(end).await;
        }
    }

    /// Its number in the roster.
    fn entry(&self, gateway: &ObjectKey) -> u64 {
        *self
            .entry
            .get_or_init(|| self.shared.roster.enter(gateway, self.address))
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        self.is_alive();
        let Some((gateway, resource)) = target(request.uri().path()) else {
            return refusal(
                StatusCode::NOT_FOUND,
                "there is /v1/gateways/{namespace}/{name}/table and /v1/gateways/{namespace}/{name}/reports",
            );
        };
        if let Err(why) = self.may_serve(&gateway) {
            tracing::warn!(address = %self.address, %gateway, why, "a client was refused");
            return refusal(StatusCode::FORBIDDEN, &why);
        }
        match (resource, request.method()) {
            (Resource::Table, &Method::GET) => self.table(&gateway, request.uri().query()).await,
            (Resource::Reports, &Method::POST) => self.report(&gateway, request.into_body()).await,
            (resource, _) => {
                let allowed = match resource {
                    Resource::Table => "GET",
                    Resource::Reports => "POST",
                };
                let mut refusal = refusal(
                    StatusCode::METHOD_NOT_ALLOWED,
                    &format!("only {allowed} is served here"),
                );
                refusal
                    .headers_mut()
                    .insert(header::ALLOW, HeaderValue::from_static(allowed));
                refusal
            }
        }
    }

    /// Whether its certificate is that of `gateway`, and if not, why.
    fn may_serve(&self, gateway: &ObjectKey) -> Result<(), String> {
        let id = self.id.as_ref().map_err(Clone::clone)?;
        let trust_domain = self.shared.tls.trust_domain();
        if id.trust_domain != trust_domain {
            return Err(format!(
                "the certificate is of trust domain {}, not of {trust_domain}",
                id.trust_domain
            ));
        }
        if id.gateway != *gateway {
            return Err(format!(
                "the certificate is for Gateway {}, not for {gateway}",
                id.gateway
            ));
        }
        Ok(())
    }

    /// The stream of its table. Waits until there are tables.
    async fn table(self: &Arc<Self>, gateway: &ObjectKey, query: Option<&str>) -> Response<Body> {
        let key = GatewayKey::of(&gateway.namespace, &gateway.name);
        let mut board = self.shared.board.subscribe();
        let editions = loop {
            // Waiting for tables is no silence of the client.
            self.is_alive();
            match timeout(self.limits().heartbeat, board.wait_for(Option::is_some)).await {
                Ok(Ok(board)) => {
                    break board
                        .as_ref()
                        .and_then(|board| board.editions(&key).cloned());
                }
                Ok(Err(_)) => {
                    return refusal(StatusCode::SERVICE_UNAVAILABLE, "the controller is ending");
                }
                Err(_) => {}
            }
        };
        let Some(editions) = editions else {
            return refusal(
                StatusCode::NOT_FOUND,
                &format!(
                    "the controller has no table for Gateway {gateway}: there is no such Gateway, or its class is not this controller's"
                ),
            );
        };
        self.entry(gateway);
        let have = parameter(query, "have").map(|version| TableVersion(version.into()));
        let known = have.and_then(|version| editions.find(&version).cloned());
        let stream = TableStream {
            board,
            gateway: key,
            client: Arc::clone(self),
            cursor: known.map(|edition| Arc::clone(&edition.table)),
            watch: parameter(query, "watch") == Some("true"),
            line: Bytes::new(),
            unsendable: None,
        };
        let mut answer = Response::new(stream.into_body());
        answer.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        );
        answer
    }

    async fn report(&self, gateway: &ObjectKey, body: Incoming) -> Response<Body> {
        let body = match Limited::new(body, MAX_REPORT).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                return refusal(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    &format!("a report may have {MAX_REPORT} bytes"),
                );
            }
            Err(error) => {
                return refusal(
                    StatusCode::BAD_REQUEST,
                    &format!("the report cannot be read: {error}"),
                );
            }
        };
        let report: Report = match serde_json::from_slice(&body) {
            Ok(report) => report,
            Err(error) => {
                return refusal(
                    StatusCode::BAD_REQUEST,
                    &format!("the report cannot be read: {error}"),
                );
            }
        };
        for rejection in &report.rejected {
            tracing::warn!(address = %self.address, %gateway, version = %report.version, %rejection, "a data plane does not serve a resource");
        }
        let key = GatewayKey::of(&gateway.namespace, &gateway.name);
        let board = self.shared.board.borrow().clone();
        let editions = board.as_ref().and_then(|board| board.editions(&key));
        // An unknown version is that of another controller, or of long ago: the present one is on its way.
        if let Some(edition) = editions.and_then(|editions| editions.find(&report.version)) {
            let acknowledged =
                Acknowledgement::new(&edition.table, edition.serial, report.rejected);
            self.shared
                .roster
                .acknowledge(gateway, self.entry(gateway), acknowledged);
        }
        let mut answer = Response::new(Full::default().boxed_unsync());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        answer
    }
}

impl Drop for Client {
    /// The connection and every request on it are over.
    fn drop(&mut self) {
        if let (Some(entry), Ok(id)) = (self.entry.get(), &self.id) {
            self.shared.roster.leave(&id.gateway, *entry);
        }
    }
}

/// What a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Table,
    Reports,
}

/// Names of Kubernetes objects need no percent-encoding.
fn target(path: &str) -> Option<(ObjectKey, Resource)> {
    let mut parts = path.strip_prefix("/v1/gateways/")?.split('/');
    let gateway = ObjectKey::new(parts.next()?, parts.next()?);
    let resource = match parts.next()? {
        "table" => Resource::Table,
        "reports" => Resource::Reports,
        _ => return None,
    };
    parts.next().is_none().then_some((gateway, resource))
}

/// The value of a parameter. Versions and `true` need no percent-encoding.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn refusal(status: StatusCode, why: &str) -> Response<Body> {
    let mut refusal = Response::new(Full::from(format!("{why}\n")).boxed_unsync());
    *refusal.status_mut() = status;
    refusal.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    refusal
}
