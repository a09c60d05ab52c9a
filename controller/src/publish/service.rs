//! What a data plane can ask for: its table, and to be heard. Another replica can ask to be heard.

use std::{
    collections::BTreeMap,
    convert::{Infallible, identity},
    net::SocketAddr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::SystemTime,
};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use portcullis_routing::{GatewayKey, Report, TableVersion};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::server::TlsStream;

use super::{
    Shared,
    board::{Board, Editions},
    limits::{
        Limits, MAX_HEADERS, MAX_RECEIVE_BUFFER, MAX_RELAY, MAX_REPORT, MAX_SEND_BUFFER,
        MAX_STREAMS,
    },
    relay,
    stream::{Body, TableStream},
    tls::{Peer, PeerName},
    waiting::Reader,
};
use crate::{ca::SpiffeId, metrics::Turned, resources::ObjectKey};

/// Rejected resources of one report that are logged.
const MAX_TOLD: usize = 20;

/// The tables as they are published.
type Boards = watch::Receiver<Option<Arc<Board>>>;

/// A data plane, or a replica, at the other end of a connection.
pub(super) struct Client {
    shared: Arc<Shared>,
    address: SocketAddr,
    name: Result<PeerName, String>,
    /// Its number in the roster, from its first request on.
    entry: OnceLock<u64>,
    /// One body at a time is read into memory; the others wait at the client.
    reading: Semaphore,
    /// When it last took or asked for something.
    alive_at: Mutex<Instant>,
    /// The frame that it is taking.
    pub(super) reader: Arc<Reader>,
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
        name: peer.name,
        entry: OnceLock::new(),
        reading: Semaphore::new(1),
        alive_at: Mutex::new(Instant::now()),
        reader: shared.waiting.reader(),
    });
    let service = service_fn(|request| {
        let client = Arc::clone(&client);
        async move { Ok::<_, Infallible>(client.answer(request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(MAX_RECEIVE_BUFFER)
        .initial_connection_window_size(MAX_RECEIVE_BUFFER)
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
        () = client.reader.is_let_go() => client.turn_away(Turned::Slow),
    }
}

impl Client {
    pub(super) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// It is not served any longer.
    pub(super) fn turn_away(&self, why: Turned) {
        self.shared.turn_away(self.address, why);
    }

    /// It took or asked for something.
    pub(super) fn is_alive(&self) {
        *self.alive_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Waits until a data plane has taken nothing and asked for nothing for too long.
    async fn silent(&self, limits: &Limits) {
        if matches!(self.name, Ok(PeerName::Replica)) {
            // It has nothing to take, and may have nothing to say.
            return std::future::pending().await;
        }
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
        *self.entry.get_or_init(|| {
            let connection = self.shared.roster.connection();
            self.shared.roster.enter(gateway, connection, self.address);
            connection
        })
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        self.is_alive();
        let Some(resource) = Resource::of(request.uri().path()) else {
            return refusal(
                StatusCode::NOT_FOUND,
                &format!(
                    "there is /v1/gateways/{{namespace}}/{{name}}/table and /v1/gateways/{{namespace}}/{{name}}/reports, and for replicas {}",
                    relay::PATH
                ),
            );
        };
        if let Err(why) = self.may_have(&resource) {
            tracing::warn!(address = %self.address, path = request.uri().path(), why, "a client was refused");
            return refusal(StatusCode::FORBIDDEN, &why);
        }
        if request.method() != resource.method() {
            let allowed = resource.method();
            let words = format!("only {allowed} is served here");
            let mut refusal = refusal(StatusCode::METHOD_NOT_ALLOWED, &words);
            if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
                refusal.headers_mut().insert(header::ALLOW, allowed);
            }
            return refusal;
        }
        let _reading = match resource {
            Resource::Table(_) => None,
            // It is never closed.
            Resource::Reports(_) | Resource::DataPlanes => self.reading.acquire().await.ok(),
        };
        match resource {
            Resource::Table(gateway) => self.table(&gateway, request.uri().query()).await,
            Resource::Reports(gateway) => {
                let report = read(request.into_body(), MAX_REPORT, |body| {
                    serde_json::from_slice(body).map_err(|error| error.to_string())
                });
                report
                    .await
                    .map_or_else(identity, |report| self.report(&gateway, report))
            }
            Resource::DataPlanes => {
                let told = read(request.into_body(), MAX_RELAY, relay::decode);
                told.await.map_or_else(identity, |told| self.relay(told))
            }
        }
    }

    /// Whether its certificate is of somebody who may have this, and if not, why.
    fn may_have(&self, resource: &Resource) -> Result<(), String> {
        let name = self.name.as_ref().map_err(Clone::clone)?;
        match (resource, name) {
            (Resource::DataPlanes, PeerName::Replica) => Ok(()),
            (Resource::DataPlanes, PeerName::DataPlane(id)) => Err(format!(
                "the certificate is for Gateway {}, not the controller's",
                id.gateway
            )),
            (Resource::Table(_) | Resource::Reports(_), PeerName::Replica) => {
                Err("the certificate is the controller's, not a Gateway's".to_owned())
            }
            (Resource::Table(gateway) | Resource::Reports(gateway), PeerName::DataPlane(id)) => {
                self.is_of(gateway, id)
            }
        }
    }

    /// Whether the certificate of a data plane is for `gateway`, and if not, why.
    fn is_of(&self, gateway: &ObjectKey, id: &SpiffeId) -> Result<(), String> {
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
        loop {
            // Waiting for tables is no silence of the client.
            self.is_alive();
            match timeout(self.limits().heartbeat, board.wait_for(Option::is_some)).await {
                Ok(Ok(_)) => break,
                Ok(Err(_)) => {
                    return refusal(StatusCode::SERVICE_UNAVAILABLE, "the controller is ending");
                }
                Err(_) => {}
            }
        }
        if editions(&board, &key).is_none() {
            return no_table(gateway);
        }
        self.entry(gateway);
        let have = parameter(query, "have").map(|version| TableVersion(version.into()));
        if let Some(have) = &have {
            let Limits {
                catch_up,
                heartbeat,
                ..
            } = *self.limits();
            _ = timeout(catch_up.min(heartbeat), caught_up(&mut board, &key, have)).await;
        }
        let Some(editions) = editions(&board, &key) else {
            return no_table(gateway);
        };
        let known = have.and_then(|version| editions.find(&version).cloned());
        let stream = TableStream {
            board,
            gateway: key,
            number: self.reader.begin(),
            client: Arc::clone(self),
            cursor: known.map(|edition| Arc::clone(&edition.table)),
            watch: parameter(query, "watch") == Some("true"),
            unsendable: None,
        };
        let mut answer = Response::new(stream.into_body());
        answer.headers_mut().insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-ndjson"),
        );
        answer
    }

    fn report(&self, gateway: &ObjectKey, report: Report) -> Response<Body> {
        let (told, untold) = report
            .rejected
            .split_at(report.rejected.len().min(MAX_TOLD));
        for rejection in told {
            tracing::warn!(address = %self.address, %gateway, version = %report.version, %rejection, "a data plane does not serve a resource");
        }
        if !untold.is_empty() {
            tracing::warn!(address = %self.address, %gateway, version = %report.version, more = untold.len(), "a data plane does not serve more resources");
        }
        let entry = self.entry(gateway);
        self.shared.roster.report(gateway, entry, report);
        heard()
    }

    fn relay(&self, told: BTreeMap<ObjectKey, Vec<Report>>) -> Response<Body> {
        let roster = &self.shared.roster;
        let entry = *self.entry.get_or_init(|| roster.connection());
        roster.relay(entry, told);
        heard()
    }
}

impl Drop for Client {
    /// The connection and every request on it are over.
    fn drop(&mut self) {
        match (self.entry.get(), &self.name) {
            (Some(entry), Ok(PeerName::DataPlane(id))) => {
                self.shared.roster.leave(&id.gateway, *entry);
            }
            (Some(entry), Ok(PeerName::Replica)) => self.shared.roster.forget(*entry),
            _ => {}
        }
    }
}

/// Waits until this replica knows the table that a data plane has, or that the Gateway is gone. The data plane may have it
/// from another replica, whose watches were faster; sent the present one at once, it would go back for a moment.
async fn caught_up(board: &mut Boards, gateway: &GatewayKey, have: &TableVersion) {
    let knows = |board: &Option<Arc<Board>>| {
        let editions = board.as_ref().and_then(|board| board.editions(gateway));
        editions.is_none_or(|editions| editions.find(have).is_some())
    };
    _ = board.wait_for(knows).await;
}

fn editions(board: &Boards, gateway: &GatewayKey) -> Option<Arc<Editions>> {
    let board = board.borrow();
    board.as_ref()?.editions(gateway).cloned()
}

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Resource {
    /// The table of a Gateway.
    Table(ObjectKey),
    /// Where a Gateway's data planes say what they serve.
    Reports(ObjectKey),
    /// Where a replica says what its data planes serve.
    DataPlanes,
}

impl Resource {
    /// Names of Kubernetes objects need no percent-encoding.
    fn of(path: &str) -> Option<Self> {
        if path == relay::PATH {
            return Some(Self::DataPlanes);
        }
        let mut parts = path.strip_prefix("/v1/gateways/")?.split('/');
        let gateway = ObjectKey::new(parts.next()?, parts.next()?);
        let resource = match parts.next()? {
            "table" => Self::Table(gateway),
            "reports" => Self::Reports(gateway),
            _ => return None,
        };
        parts.next().is_none().then_some(resource)
    }

    fn method(&self) -> Method {
        match self {
            Self::Table(_) => Method::GET,
            Self::Reports(_) => Method::POST,
            Self::DataPlanes => Method::PUT,
        }
    }
}

/// Reads the body of a request, or says what is wrong with it.
async fn read<T>(
    body: Incoming,
    limit: usize,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<T, Response<Body>> {
    let bad = |error: String| {
        refusal(
            StatusCode::BAD_REQUEST,
            &format!("the report cannot be read: {error}"),
        )
    };
    match Limited::new(body, limit).collect().await {
        Ok(body) => parse(&body.to_bytes()).map_err(bad),
        Err(error) if error.is::<LengthLimitError>() => Err(refusal(
            StatusCode::PAYLOAD_TOO_LARGE,
            &format!("a report may have {limit} bytes"),
        )),
        Err(error) => Err(bad(error.to_string())),
    }
}

/// It was heard, and there is nothing to say.
fn heard() -> Response<Body> {
    let mut answer = Response::new(Full::default().boxed_unsync());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

/// The value of a parameter. Versions and `true` need no percent-encoding.
fn parameter<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn no_table(gateway: &ObjectKey) -> Response<Body> {
    refusal(
        StatusCode::NOT_FOUND,
        &format!(
            "the controller has no table for Gateway {gateway}: there is no such Gateway, its class is not this controller's, or it is not \
             accepted: see its status"
        ),
    )
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
