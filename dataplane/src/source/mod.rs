//! Tables from a controller: one stream over HTTP/2 with mTLS, and a file for when there is no controller.
//!
//! `docs/transport.md` has the protocol. All of this runs on the control thread. What goes wrong here never takes a table
//! away that is being served: the stream is tried again, for ever.

mod backoff;
mod cache;
mod identity;
mod session;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use portcullis_routing::{Frame, FrameError, GatewayKey, Report, RoutingTable, delta};
use rustls::pki_types::ServerName;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, timeout},
};

use self::{backoff::Backoff, session::SessionError};
use crate::{
    state::TableState,
    telemetry::{
        Metrics,
        metrics::{ControllerMetrics, TableOutcome},
    },
};

/// A controller that is away for less than this time is one that starts or gives way to another replica.
const USUAL: Duration = Duration::from_secs(10);

/// Where a controller is: `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    host: String,
    port: u16,
    /// What the controller's certificate must be for.
    name: ServerName<'static>,
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" is no address of a controller; write https://HOST:PORT, such as https://portcullis.portcullis-system.svc:9443"
            )
        };
        let uri: http::Uri = text.parse().map_err(|_| wrong())?;
        let is_bare = uri.path() == "/" && uri.query().is_none();
        let host = uri.host().filter(|_| is_bare).ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match (uri.scheme_str(), uri.port_u16()) {
            (Some("https"), Some(port)) => Ok(Self {
                host: host.to_owned(),
                port,
                name: ServerName::try_from(host.to_owned()).map_err(|_| wrong())?,
            }),
            _ => Err(wrong()),
        }
    }
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Without a frame for so long, the connection is given up. Default 30 s: three heartbeats.
    pub silence: Duration,
    /// Without a table from the controller for so long after the start, the last known good one is served. Default 5 s.
    pub first_table: Duration,
    /// First delay before another attempt to connect; it doubles up to `retry_at_most`, and a random part of up to a half
    /// is taken off. Default 200 ms.
    pub retry: Duration,
    /// Longest such delay. Default 15 s.
    pub retry_at_most: Duration,
    /// Least time between two writes of the last known good table. Default 1 s.
    pub cache: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(30),
            first_table: Duration::from_secs(5),
            retry: Duration::from_millis(200),
            retry_at_most: Duration::from_secs(15),
            cache: Duration::from_secs(1),
        }
    }
}

/// A controller to take tables from.
#[derive(Clone, Debug)]
pub struct Controller {
    /// Where it is.
    pub endpoint: Endpoint,
    /// The Gateway to serve.
    pub gateway: GatewayKey,
    /// A directory with `tls.crt`, `tls.key` and `ca.crt`, read anew for each connection.
    pub identity: PathBuf,
    /// The last known good table; `None` to keep none.
    pub cache: Option<PathBuf>,
    /// How long things may take.
    pub timing: Timing,
}

impl Controller {
    /// Sends the tables of the controller to `tables` and what is served of them (`reports`) back, for ever.
    pub(crate) async fn follow(
        &self,
        tables: &watch::Sender<Option<Arc<RoutingTable>>>,
        reports: watch::Receiver<Option<Report>>,
        metrics: &Metrics,
    ) {
        metrics.update_table(|table| table.controller = Some(ControllerMetrics::default()));
        let client = Client::new(self, tables, reports, metrics);
        tokio::join!(client.stay_connected(), client.fall_back());
    }

    /// Keeps the table that `state` serves in the file, so that a restart can do without a controller. Never ends.
    pub(crate) async fn keep_last_known_good(&self, state: &TableState) {
        if let Some(path) = &self.cache {
            cache::keep(path, state, self.timing.cache).await;
        }
    }
}

/// A controller's client while it runs. The newest table received is in `tables`.
struct Client<'a> {
    controller: &'a Controller,
    tables: &'a watch::Sender<Option<Arc<RoutingTable>>>,
    reports: watch::Receiver<Option<Report>>,
    metrics: &'a Metrics,
    /// Told when a connection failed or ended.
    failed: Notify,
    /// Whether the present connection has brought a frame.
    heard: Cell<bool>,
    /// Whether the last table cannot be built upon.
    wants_snapshot: Cell<bool>,
}

/// Why a frame was not taken.
#[derive(Debug, thiserror::Error)]
enum BadFrame {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Apply(#[from] delta::ApplyError),
    #[error("a delta came before any table")]
    NoBase,
    #[error("the table belongs to Gateway {found}")]
    OtherGateway { found: GatewayKey },
}

impl<'a> Client<'a> {
    fn new(
        controller: &'a Controller,
        tables: &'a watch::Sender<Option<Arc<RoutingTable>>>,
        reports: watch::Receiver<Option<Report>>,
        metrics: &'a Metrics,
    ) -> Self {
        Self {
            controller,
            tables,
            reports,
            metrics,
            failed: Notify::new(),
            heard: Cell::new(false),
            wants_snapshot: Cell::new(false),
        }
    }

    /// One connection after the other.
    async fn stay_connected(&self) {
        let timing = &self.controller.timing;
        let mut backoff = Backoff::new(timing.retry, timing.retry_at_most);
        let mut heard = Instant::now();
        loop {
            self.heard.set(false);
            let Err(error) = self.session().await;
            if self.heard.get() {
                heard = Instant::now();
            }
            self.link(|link| {
                link.connected = false;
                link.failures += 1;
            });
            if matches!(error, SessionError::BadFrame(_)) {
                self.wants_snapshot.set(true);
                self.metrics.update_table(|table| {
                    table.offered(TableOutcome::Refused);
                });
            } else if self.heard.get() {
                backoff.reset();
            }
            let delay = backoff.next();
            if error.is_usual() && heard.elapsed() < USUAL {
                tracing::info!(%error, ?delay, "not connected to the controller; trying again");
            } else {
                tracing::warn!(%error, ?delay, "no tables from the controller; what is served, if anything, is served on");
            }
            self.failed.notify_one();
            tokio::time::sleep(delay).await;
        }
    }

    /// Serves the last known good table if the controller gives none in time, and tells if there is none at all.
    async fn fall_back(&self) {
        // Either way it is time to look.
        _ = timeout(self.controller.timing.first_table, self.failed.notified()).await;
        if self.tables.borrow().is_some() {
            return;
        }
        if let Some(path) = &self.controller.cache {
            self.serve_last_known_good(path);
        }
        // A connection that is well says nothing in the log, whether or not it brings a table.
        let mut tables = self.tables.subscribe();
        let table = tables.wait_for(Option::is_some);
        if timeout(USUAL, table).await.is_err() {
            tracing::warn!(gateway = %self.controller.gateway, "there is still no table from the controller, so nothing is served; the status of the Gateway may say why");
        }
    }

    fn serve_last_known_good(&self, path: &Path) {
        match cache::load(path, &self.controller.gateway) {
            Ok(table) => {
                tracing::warn!(version = %table.version, path = %path.display(), "no table from the controller yet: the last known good one is served");
                self.link(|link| link.stale = true);
                self.tables.send_replace(Some(table));
            }
            Err(error) if error.is_absent() => {
                tracing::info!(path = %path.display(), "no table from the controller yet, and no last known good one: waiting for the first");
            }
            Err(error) => {
                tracing::error!(%error, "no table from the controller yet, and the last known good one cannot be used: nothing is served");
            }
        }
    }

    /// Takes in a frame.
    fn take(&self, frame: Frame) -> Result<(), BadFrame> {
        let kind = Frame::KINDS.iter().position(|kind| *kind == frame.kind());
        let table = match frame {
            Frame::Snapshot(table) => Some(table),
            Frame::Delta(delta) => {
                let base = self.tables.borrow().clone().ok_or(BadFrame::NoBase)?;
                Some(Arc::new(delta::apply(&base, &delta)?))
            }
            Frame::Heartbeat { .. } => None,
        };
        if let Some(table) = table {
            if table.gateway != self.controller.gateway {
                return Err(BadFrame::OtherGateway {
                    found: table.gateway.clone(),
                });
            }
            self.wants_snapshot.set(false);
            self.tables.send_replace(Some(table));
        }
        self.heard.set(true);
        self.link(|link| {
            link.stale = false;
            if let Some(count) = kind.and_then(|kind| link.frames.get_mut(kind)) {
                *count += 1;
            }
        });
        Ok(())
    }

    /// Changes what the metrics say about the controller.
    fn link(&self, change: impl FnOnce(&mut ControllerMetrics)) {
        self.metrics
            .update_table(|table| change(table.controller.get_or_insert_default()));
    }

    fn identity(&self) -> &Path {
        &self.controller.identity
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::Mutex,
    };

    use tracing::Level;

    use super::*;
    use crate::{state::fixtures, telemetry::MetricsOptions};

    /// What is logged.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is warned of while a proxy that has no table kept waits for one, and how long that takes. `first` comes after
    /// 7 s.
    async fn warnings(first: Option<RoutingTable>) -> (String, Duration) {
        let log = Log::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::WARN)
            .with_writer(move || writer.clone());
        let guard = tracing::subscriber::set_default(subscriber.finish());
        let controller = Controller {
            endpoint: "https://controller:9443".parse().unwrap(),
            gateway: fixtures::gateway(),
            identity: PathBuf::new(),
            cache: None,
            timing: Timing::default(),
        };
        let (tables, _) = watch::channel(None);
        let (_reported, reports) = watch::channel(None);
        let metrics = Metrics::new(MetricsOptions::default());
        let client = Client::new(&controller, &tables, reports, &metrics);
        let start = Instant::now();
        let come = async {
            tokio::time::sleep(Duration::from_secs(7)).await;
            if let Some(table) = first {
                tables.send_replace(Some(Arc::new(table)));
            }
        };
        tokio::join!(client.fall_back(), come);
        drop(guard);
        let log = log.0.lock().unwrap().clone();
        (String::from_utf8(log).unwrap(), start.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_brings_no_table_is_told_once() {
        let (told, waited) = warnings(None).await;
        assert_eq!(told.matches("nothing is served").count(), 1, "{told}");
        assert!(waited > USUAL, "{waited:?}");
        let (told, _) = warnings(Some(fixtures::table(1, 1))).await;
        assert_eq!(told, "");
    }

    #[test]
    fn an_endpoint_is_a_scheme_a_host_and_a_port() {
        let endpoint: Endpoint = "https://portcullis.system.svc:9443".parse().unwrap();
        assert_eq!(
            (endpoint.host.as_str(), endpoint.port),
            ("portcullis.system.svc", 9443)
        );
        let endpoint: Endpoint = "https://[::1]:1".parse().unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("::1", 1));
        for wrong in [
            "",
            "controller:9443",
            "http://controller:9443",
            "https://controller",
            "https://controller:9443/v1",
            "https://controller:9443?x=1",
            "https://_:9443 ",
        ] {
            let error = wrong.parse::<Endpoint>().unwrap_err();
            assert!(error.contains("https://HOST:PORT"), "{wrong}: {error}");
        }
    }
}
