//! The admin port: health, metrics and the table being served, for people and probes.
//!
//! It runs on the control thread, so that nobody who asks can slow a request down. There is no authentication, and every pod
//! can reach it: it says nothing secret, shows the table to its own host only, and its [places](places) cannot be held.

mod places;

use std::{
    convert::Infallible,
    fmt::Write as _,
    future,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use portcullis_routing::{Rejection, ResourceKind};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};

use self::places::Places;
use crate::{state::TableState, telemetry::Metrics};

/// Time for a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Time for the one request of a connection and its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(1);

/// Answer to whoever asks whether traffic can be taken, while it cannot.
const NOT_READY: StatusCode = StatusCode::SERVICE_UNAVAILABLE;

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

/// The phase and the ports, shared with whoever changes them.
#[derive(Debug, Default)]
pub struct Health {
    phase: AtomicU8,
    ports: Mutex<Ports>,
}

/// What came of the ports of the present table.
#[derive(Clone, Debug, Default)]
struct Ports {
    any_open: bool,
    /// Listeners whose port could not be bound, and why.
    unbound: Vec<Rejection>,
}

impl Health {
    /// A new phase. Draining is final.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
    }

    /// Takes note of the present table's ports. The first time that all of them are open the proxy is ready. It stays so if
    /// a port of a later table cannot be bound, for that must not take the others out of service, as long as any is open.
    /// Until all are open see also [`settle`](Self::settle).
    pub fn set_ports(&self, any_open: bool, unbound: &[Rejection]) {
        *self.ports() = Ports {
            any_open,
            unbound: unbound.to_vec(),
        };
        if any_open && unbound.is_empty() {
            self.enter(Phase::Serving);
        }
    }

    /// The ports have been tried once more. A port that still cannot be bound does not keep those that are open waiting any
    /// longer: it may be taken for good.
    pub fn settle(&self) {
        if self.ports().any_open {
            self.enter(Phase::Serving);
        }
    }

    /// The present phase.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            _ => Phase::Draining,
        }
    }

    fn ports(&self) -> MutexGuard<'_, Ports> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.serve_with(listener, HEAD_TIMEOUT).await;
    }

    async fn serve_with(self, listener: TcpListener, head_timeout: Duration) {
        let admin = Arc::new(self);
        let mut places = Places::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let admin = Arc::clone(&admin);
                    places.serve(peer.ip(), async move {
                        admin.connection(stream, peer, head_timeout).await;
                    });
                    // It gets its turn before the next one can take its place.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    tracing::warn!(%error, "the admin port cannot accept");
                    // Out of file descriptors, most likely: trying again at once would only burn CPU.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Answers one request. An idle connection would only hold a place.
    async fn connection(&self, stream: TcpStream, peer: SocketAddr, head_timeout: Duration) {
        let service =
            service_fn(|request| future::ready(Ok::<_, Infallible>(self.answer(&request, peer))));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(MAX_HEAD)
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, %peer, "admin connection failed"),
            Err(_) => tracing::debug!(%peer, "admin connection took too long"),
        }
    }

    fn answer<B>(&self, request: &Request<B>, peer: SocketAddr) -> Response<Full<Bytes>> {
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
            // `[::]` takes connections of IPv4 too.
            "/table" if peer.ip().to_canonical().is_loopback() => self.table(),
            "/table" => text(StatusCode::FORBIDDEN, NOT_FROM_HERE),
            _ => text(StatusCode::NOT_FOUND, INDEX),
        }
    }

    fn ready(&self) -> Response<Full<Bytes>> {
        let ports = self.health.ports().clone();
        let (status, mut body) = match self.health.phase() {
            Phase::Draining => (NOT_READY, "not ready: shutting down\n".to_owned()),
            Phase::Serving if ports.any_open => (StatusCode::OK, "ok\n".to_owned()),
            Phase::Starting | Phase::Serving => {
                (NOT_READY, format!("not ready: {}\n", self.obstacle()))
            }
        };
        let snapshot = self.tables.current();
        let rejected = snapshot
            .as_ref()
            .map_or(&[][..], |snapshot| snapshot.rejected());
        let listeners = rejected
            .iter()
            .filter(|rejection| rejection.kind == ResourceKind::Listener);
        for rejection in listeners.chain(&ports.unbound) {
            // Writing to a String cannot fail.
            _ = writeln!(body, "{rejection}");
        }
        text(status, body)
    }

    /// Why no traffic can be taken.
    fn obstacle(&self) -> String {
        let status = self.tables.status();
        match (status.report, status.last_error) {
            (Some(_), _) if self.health.phase() == Phase::Starting => {
                "not every port of the table is bound".to_owned()
            }
            (Some(_), _) => "no port of the table is bound".to_owned(),
            (None, Some(error)) => error,
            (None, None) => "no routing table yet".to_owned(),
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
            controller: self.metrics.controller().map(|controller| ControllerPage {
                connected: controller.connected,
                stale: controller.stale,
            }),
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
    /// Where tables come from a controller.
    #[serde(skip_serializing_if = "Option::is_none")]
    controller: Option<ControllerPage>,
    /// What is being served. Private keys and credentials are replaced.
    table: portcullis_routing::RoutingTable,
}

/// What `/table` shows of the controller.
#[derive(Serialize)]
struct ControllerPage {
    /// Whether there is a stream of tables.
    connected: bool,
    /// Whether the table is the last known good one, and the controller has not been heard of since the start.
    stale: bool,
}

const INDEX: &str = "\
Portcullis proxy, admin port

/livez    200 while the process runs
/readyz   200 while it takes traffic: all ports of its first table were bound, it is not shutting down; and what is wrong
          with single listeners
/metrics  Prometheus metrics
/table    the routing table being served, and what was rejected of it (JSON; private keys and credentials in header
          values are replaced). From 127.0.0.1 and ::1 only
";

const NOT_FROM_HERE: &str = "\
the table is shown to the proxy's own host only: kubectl port-forward --namespace NAMESPACE POD PORT, with the port asked
here, and then curl http://127.0.0.1:PORT/table
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
    };

    use super::{places::MAX_CONNECTIONS, *};
    use crate::{
        state::{Overrides, fixtures},
        telemetry::MetricsOptions,
    };

    /// A request that would leave the connection open.
    const GET_LIVEZ: &[u8] = b"GET /livez HTTP/1.1\r\nHost: admin\r\n\r\n";

    /// An admin port on a free port of its own.
    async fn admin() -> (Admin, SocketAddr) {
        admin_with(HEAD_TIMEOUT).await
    }

    async fn admin_with(head_timeout: Duration) -> (Admin, SocketAddr) {
        let metrics = Arc::new(Metrics::new(MetricsOptions::default()));
        let tables = Arc::new(TableState::new(Arc::clone(&metrics), Overrides::default()));
        let admin = Admin {
            tables,
            metrics,
            health: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(admin.clone().serve_with(listener, head_timeout));
        (admin, address)
    }

    /// Status and body of one request.
    async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (
            head.split(' ').nth(1).unwrap().parse().unwrap(),
            body.to_owned(),
        )
    }

    async fn get(address: SocketAddr, path: &str) -> (u16, String) {
        ask(address, "GET", path).await
    }

    #[tokio::test]
    async fn ready_from_the_first_table_that_is_served_until_the_end() {
        let (admin, address) = admin().await;
        let empty = fixtures::table(0, 0);
        assert_eq!(get(address, "/livez").await.0, 200);
        assert_eq!(
            get(address, "/readyz").await,
            (503, "not ready: no routing table yet\n".into())
        );
        assert_eq!(get(address, "/table").await.0, 404);

        admin.tables.apply(Arc::new(empty)).unwrap_err();
        let (status, why) = get(address, "/readyz").await;
        assert!(
            status == 503 && why.contains("no listener"),
            "{status} {why}"
        );

        admin.tables.apply(Arc::new(fixtures::table(1, 1))).unwrap();
        let (status, why) = get(address, "/readyz").await;
        assert!(
            status == 503 && why.contains("not every port"),
            "{status} {why}"
        );
        let unbound = [Rejection {
            kind: ResourceKind::Listener,
            key: "infra/edge/l0".into(),
            message: "the port is taken".into(),
        }];
        let said = "listener infra/edge/l0: the port is taken\n";
        admin.health.set_ports(true, &unbound);
        let (status, why) = get(address, "/readyz").await;
        assert!(status == 503 && why.ends_with(said), "{status} {why}");
        // One port that is taken for good does not keep the others waiting for ever.
        let other = Health::default();
        other.set_ports(false, &unbound);
        other.settle();
        assert_eq!(other.phase(), Phase::Starting, "nothing is open");
        other.set_ports(true, &unbound);
        other.settle();
        assert_eq!(other.phase(), Phase::Serving);
        admin.health.set_ports(true, &[]);
        assert_eq!(get(address, "/readyz").await, (200, "ok\n".into()));
        // One listener that comes later and fails takes no other out of service.
        admin.health.set_ports(true, &unbound);
        assert_eq!(get(address, "/readyz").await, (200, format!("ok\n{said}")));
        admin.health.set_ports(false, &[]);
        let (status, why) = get(address, "/readyz").await;
        assert!(status == 503 && why.contains("no port"), "{status} {why}");

        admin.health.enter(Phase::Draining);
        admin.health.enter(Phase::Serving);
        let (status, why) = get(address, "/readyz").await;
        assert!(
            status == 503 && why.contains("shutting down"),
            "{status} {why}"
        );
        assert_eq!(get(address, "/livez").await.0, 200);
    }

    #[tokio::test]
    async fn the_table_is_shown_without_its_secrets() {
        let (admin, address) = admin().await;
        let certificate = fixtures::certificate();
        let key = certificate.key_pem.expose().to_owned();
        let table = fixtures::changed(&fixtures::table(1, 1), |table| {
            table
                .certificates
                .insert(fixtures::certificate_key(), Arc::new(certificate));
        });
        admin.tables.apply(Arc::clone(&table)).unwrap();
        let (status, body) = get(address, "/table").await;
        assert_eq!(status, 200);
        let page: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(page["report"]["version"], table.version.to_string());
        assert_eq!(
            page["table"]["certificates"]["secret/infra/tls"]["key_pem"],
            "[redacted]"
        );
        let line_of_key = key.lines().nth(1).unwrap();
        assert!(!body.contains(line_of_key) && !body.contains("PRIVATE KEY"));
    }

    #[tokio::test]
    async fn rejections_are_named() {
        let (admin, address) = admin().await;
        let table = fixtures::changed(&fixtures::table(1, 1), |table| {
            let broken = fixtures::path_route(1, portcullis_routing::PathMatch::Regex("(".into()));
            table.routes.insert(fixtures::route(1), broken);
        });
        admin.tables.apply(table).unwrap();
        let page: serde_json::Value =
            serde_json::from_str(&get(address, "/table").await.1).unwrap();
        assert_eq!(
            page["report"]["rejected"][0]["key"],
            fixtures::route(1).as_str()
        );
        let metrics = get(address, "/metrics").await.1;
        assert!(metrics.contains("\nportcullis_table_rejected_resources 1\n"));
        assert!(metrics.contains("\nportcullis_table_applies_total{result=\"applied\"} 1\n"));
    }

    #[tokio::test]
    async fn tells_what_there_is() {
        let (_admin, address) = admin().await;
        let (status, index) = get(address, "/").await;
        assert_eq!(status, 200);
        for page in ["/livez", "/readyz", "/metrics", "/table"] {
            assert!(index.contains(page));
            assert_eq!(ask(address, "POST", page).await.0, 405);
        }
        assert_eq!(get(address, "/nothing").await, (404, index));
    }

    /// A connection from `127.0.0.host`.
    async fn connect_from(host: u8, address: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, host], 0).into()).unwrap();
        socket.connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn a_newcomer_gets_the_oldest_place() {
        let (_admin, address) = admin_with(Duration::from_hours(1)).await;
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            idle.push(connect_from(2, address).await);
        }
        assert_eq!(get(address, "/livez").await.0, 200);
        assert_eq!(idle[0].read(&mut [0]).await.unwrap(), 0);
        // The others have their places still.
        for mut stream in idle.into_iter().skip(1) {
            stream.write_all(GET_LIVEZ).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
    }

    /// However many connections others make, a probe that takes its time is not the one to go.
    #[tokio::test]
    async fn the_place_is_that_of_who_holds_most() {
        let (_admin, address) = admin_with(Duration::from_hours(1)).await;
        let mut probe = connect_from(1, address).await;
        let mut flood = Vec::new();
        for host in 0..4 * MAX_CONNECTIONS {
            flood.push(connect_from(if host % 3 == 0 { 2 } else { 3 }, address).await);
        }
        // All of them have arrived.
        assert_eq!(get(address, "/livez").await.0, 200);
        probe.write_all(GET_LIVEZ).await.unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }

    #[tokio::test]
    async fn who_says_nothing_is_not_waited_for() {
        let (_admin, address) = admin_with(Duration::from_millis(50)).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        // With or without a word about it.
        assert!(
            silent
                .read(&mut [0; 256])
                .await
                .is_ok_and(|read| read < 256)
        );
    }

    #[tokio::test]
    async fn the_table_is_for_its_own_host() {
        let (admin, _) = admin().await;
        admin.tables.apply(Arc::new(fixtures::table(1, 1))).unwrap();
        for (peer, status) in [
            ("127.0.0.1:1", 200),
            ("[::1]:1", 200),
            ("[::ffff:127.0.0.1]:1", 200),
            ("10.0.0.7:1", 403),
            ("[::ffff:10.0.0.7]:1", 403),
            ("[fd00::7]:1", 403),
        ] {
            let request = Request::get("/table").body(()).unwrap();
            let answer = admin.answer(&request, peer.parse().unwrap());
            assert_eq!(answer.status(), status, "{peer}");
        }
    }
}
