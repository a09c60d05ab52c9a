//! What a data plane is started with.

use std::{
    fmt,
    io::{self, Write},
    net::SocketAddr,
    num::NonZero,
    time::Duration,
};

use crate::{
    bind::BindAddresses,
    options::ProxyOptions,
    ports::PortMap,
    source::Controller,
    state::{Overrides, TableSource},
    telemetry::MetricsOptions,
};

/// Everything that is fixed for the life of the process. The rest is in the tables.
pub struct Config {
    /// Addresses to bind.
    pub addresses: BindAddresses,
    /// Ports to bind instead of those of the Gateway; 0 lets the system choose.
    pub ports: PortMap,
    /// Worker threads.
    pub workers: NonZero<usize>,
    /// Where the admin port is; `None` for no admin port.
    pub admin: Option<SocketAddr>,
    /// What is said against the tables' settings.
    pub overrides: Overrides,
    /// Bounds of the metrics.
    pub metrics: MetricsOptions,
    /// Where tables come from, besides [`super::server::DataplaneHandle::apply`].
    pub source: Option<TableSource>,
    /// The controller that tables come from, instead of `source`.
    pub controller: Option<Controller>,
    /// How long everybody is still served after the wish to end, each connection with one last answer.
    pub drain_delay: Duration,
    /// Where the access log goes.
    pub access_log: Box<dyn Write + Send>,
}

impl Config {
    /// What the command line says, and the access log on standard output.
    pub fn new(options: &ProxyOptions) -> Self {
        Self {
            addresses: BindAddresses::new(options.address.clone()),
            ports: options.map_port.clone(),
            workers: options.workers(),
            admin: Some(options.admin),
            overrides: options.overrides(),
            metrics: options.metrics(),
            source: None,
            controller: None,
            drain_delay: Duration::from_secs(options.drain_delay.into()),
            access_log: Box::new(io::stdout()),
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("addresses", &self.addresses)
            .field("ports", &self.ports)
            .field("workers", &self.workers)
            .field("admin", &self.admin)
            .finish_non_exhaustive()
    }
}
