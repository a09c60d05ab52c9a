//! What every test needs: a proxy with a table, backends that say what they saw, plain clients.

pub(crate) mod backend;
pub(crate) mod client;
#[path = "../../../src/upstream/testing/dns.rs"]
#[allow(dead_code, reason = "the library's tests use all of it")]
pub(crate) mod fake_dns;
mod log;
#[path = "../../../src/upstream/testing/nobody.rs"]
mod nobody;
pub(crate) mod outside;
pub(crate) mod table;
#[path = "../../../src/egress/token/testing.rs"]
#[allow(dead_code, reason = "the library's tests use all of it")]
pub(crate) mod tokens;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZero,
    sync::Arc,
    time::Duration,
};

use portcullis_dataplane::{
    bind::BindAddresses,
    config::Config,
    server::{Dataplane, DataplaneHandle},
    state::Overrides,
    telemetry::MetricsOptions,
};
use portcullis_routing::{Report, RoutingTable};

pub(crate) use self::{
    backend::Backend, client::Answer, log::Log, nobody::nobody, table::TableBuilder,
};

/// A running proxy; it stops when dropped.
pub(crate) struct Proxy {
    handle: DataplaneHandle,
}

impl Proxy {
    /// Starts with `table`, which must be taken whole.
    pub(crate) fn start(table: TableBuilder) -> Self {
        Self::start_with_log(table, Box::new(io::sink()))
    }

    /// The same, with an access log.
    pub(crate) fn start_with_log(
        table: TableBuilder,
        access_log: Box<dyn io::Write + Send>,
    ) -> Self {
        let config = Config {
            addresses: BindAddresses::new(vec![Ipv4Addr::LOCALHOST.into()]),
            ports: [(80, 0), (443, 0), (8443, 0)].into_iter().collect(),
            workers: NonZero::<usize>::MIN,
            admin: Some((Ipv4Addr::LOCALHOST, 0).into()),
            overrides: Overrides::default(),
            metrics: MetricsOptions::default(),
            source: None,
            controller: None,
            drain_delay: Duration::ZERO,
            access_log,
        };
        let handle = Dataplane::start(config).expect("the proxy starts");
        let proxy = Self { handle };
        let report = proxy.apply(table.build());
        assert!(report.rejected.is_empty(), "{:?}", report.rejected);
        proxy
    }

    /// Gives the proxy another table.
    pub(crate) fn apply(&self, table: RoutingTable) -> Report {
        self.handle
            .apply(Arc::new(table))
            .expect("the table is taken")
    }

    /// Drains and ends; blocks until it is over.
    pub(crate) fn shutdown(self) {
        self.handle.shutdown();
    }

    /// The value of a metric without labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.handle.metrics().encode().unwrap();
        let mut values = text.lines().filter_map(|line| line.strip_prefix(name));
        let value = values.find_map(|rest| rest.trim().parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    /// Waits until a metric is at least `least`.
    pub(crate) async fn reaches(&self, metric: &str, least: f64) {
        self.until(metric, |value| value >= least).await;
    }

    /// Waits until a metric is at most `most`.
    pub(crate) async fn falls_to(&self, metric: &str, most: f64) {
        self.until(metric, |value| value <= most).await;
    }

    async fn until(&self, metric: &str, is_enough: impl Fn(f64) -> bool) {
        let waiting = async {
            while !is_enough(self.metric(metric)) {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        waited.unwrap_or_else(|_| panic!("{metric} stays {}", self.metric(metric)));
    }

    /// Where the listener port `port` of the table is bound.
    pub(crate) fn address(&self, port: u16) -> SocketAddr {
        self.handle.addresses()[&port][0]
    }

    /// Where the admin port is.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.handle.admin_address().unwrap()
    }

    /// A GET of `path` at `host` on port 80.
    pub(crate) async fn get(&self, host: &str, path: &str) -> Answer {
        self.send(client::get(host, path)).await
    }

    /// A request on port 80, on a connection of its own.
    pub(crate) async fn send(&self, request: http::Request<bytes::Bytes>) -> Answer {
        client::http1(self.address(80), request).await
    }
}
