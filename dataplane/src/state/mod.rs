//! From a routing table to what workers serve: checked, compiled, and swapped in one step.
//!
//! All of this happens on the control thread. A bad table leaves everything as it was; a bad resource in a good table is
//! reported, and what it was before is served on where that fits.

pub mod certificates;
pub mod credentials;
mod salvage;
pub mod snapshot;
pub mod source;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use arc_swap::{ArcSwapOption, Guard};
use portcullis_routing::{
    GatewayKey, ProxySettings, RoutingTable, TableVersion,
    compile::compile,
    delta::{self, Report},
    settings::AccessLog,
    table::SCHEMA,
};
use tokio::sync::watch;

pub use self::{
    certificates::Certificates,
    credentials::Credentials,
    snapshot::Snapshot,
    source::{SourceError, TableSource},
};
use crate::{
    egress::token::TokenKeys,
    plan::PreparedRoute,
    telemetry::{Labels, Metrics, metrics::TableOutcome},
    tls::TlsListeners,
    upstream::TlsPolicies,
};

/// How often it is looked whether an old snapshot can be dropped.
const BURY_EVERY: Duration = Duration::from_secs(1);

/// Why a table was refused as a whole. The one before is served on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Written in a schema of a later release.
    #[error("the table has schema {found}, this proxy reads schema {SCHEMA} and below")]
    Schema {
        /// The table's.
        found: u32,
    },
    /// The version is missing: the table was not finished by its writer.
    #[error("the table has no version, so it was not finished by its writer")]
    Unsealed,
    /// A proxy serves one Gateway for its whole life.
    #[error("the table belongs to Gateway {found}, this proxy serves {serving}")]
    OtherGateway {
        /// The table's.
        found: GatewayKey,
        /// The proxy's.
        serving: GatewayKey,
    },
    /// The first table after a start has no listener: rather a writer that does not know its objects yet than a wish.
    #[error("the first table has no listener; the proxy waits for one that has")]
    EmptyFirst,
}

/// What the command line says against the table.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Access log mode.
    pub access_log: Option<AccessLog>,
    /// DNS servers of egress; empty leaves it to the table.
    pub dns_servers: Vec<SocketAddr>,
}

/// The table being served, and how it came to be. One per process.
#[derive(Debug)]
pub struct TableState {
    current: Arc<ArcSwapOption<Snapshot>>,
    changes: watch::Sender<Option<Report>>,
    metrics: Arc<Metrics>,
    overrides: Overrides,
    control: Mutex<Control>,
}

/// What only the control thread needs.
#[derive(Debug, Default)]
struct Control {
    /// The last good table as it was received, rejected resources included.
    received: Option<Arc<RoutingTable>>,
    /// Snapshots that workers may still hold. They are dropped here, so that no worker spends its time on it.
    retired: Vec<Arc<Snapshot>>,
    last_error: Option<String>,
    applied_at: Option<SystemTime>,
}

/// The state of the table, for people.
#[derive(Clone, Debug, Default)]
pub struct TableStatus {
    /// What is served and what was rejected; `None` before the first table.
    pub report: Option<Report>,
    /// When it was applied.
    pub applied_at: Option<SystemTime>,
    /// Why the last table was refused as a whole; `None` if it was not.
    pub last_error: Option<String>,
}

impl TableState {
    /// Without a table: nothing is served until the first one.
    pub fn new(metrics: Arc<Metrics>, overrides: Overrides) -> Self {
        Self {
            current: Arc::default(),
            changes: watch::Sender::new(None),
            metrics,
            overrides,
            control: Mutex::default(),
        }
    }

    /// Where workers read the present snapshot, best through an [`arc_swap::Cache`]. Empty before the first table.
    pub fn cell(&self) -> &Arc<ArcSwapOption<Snapshot>> {
        &self.current
    }

    /// The present snapshot; `None` before the first table.
    pub fn current(&self) -> Guard<Option<Arc<Snapshot>>> {
        self.current.load()
    }

    /// Tells of each table once it is in [`Self::cell`], and what was rejected of it.
    pub fn changes(&self) -> watch::Receiver<Option<Report>> {
        self.changes.subscribe()
    }

    /// The state of the table, for people.
    pub fn status(&self) -> TableStatus {
        let control = self.control();
        TableStatus {
            report: self.changes.borrow().clone(),
            applied_at: control.applied_at,
            last_error: control.last_error.clone(),
        }
    }

    /// Takes tables from `source` until it ends.
    pub async fn follow(&self, source: TableSource) {
        tokio::select! {
            () = self.take(source) => {}
            () = self.bury() => {}
        }
    }

    async fn take(&self, mut source: TableSource) {
        while let Some(frame) = source.next().await {
            match frame {
                Ok(table) => _ = self.apply(table),
                Err(error) => self.refused(&error),
            }
        }
    }

    /// Drops old snapshots once no worker holds them. Never ends.
    async fn bury(&self) {
        let mut changes = self.changes();
        loop {
            let all_gone = {
                let mut control = self.control();
                control
                    .retired
                    .retain(|snapshot| Arc::strong_count(snapshot) > 1);
                control.retired.is_empty()
            };
            if all_gone {
                // The sender is part of `self`, so there is always a next change to wait for.
                _ = changes.changed().await;
            }
            tokio::time::sleep(BURY_EVERY).await;
        }
    }

    /// Serves `table` from now on, but for the resources that the report names. An error leaves everything as it was.
    pub fn apply(&self, table: Arc<RoutingTable>) -> Result<Report, TableError> {
        let started = Instant::now();
        let mut control = self.control();
        if let Err(error) = check(control.received.as_deref(), &table) {
            drop(control);
            self.refused(&error);
            return Err(error);
        }
        control.last_error = None;
        if let Some(report) = self
            .changes
            .borrow()
            .clone()
            .filter(|report| report.version == table.version)
        {
            self.metrics
                .update_table(|metrics| metrics.offered(TableOutcome::Unchanged));
            return Ok(report);
        }

        let table = shared(control.received.as_ref(), table);
        let previous = self.current.load_full();
        let mut snapshot = build(previous.as_deref(), &table);
        snapshot.settings = self.overrides.settings(&snapshot, previous.as_deref());
        snapshot.labels = self.metrics.assign_labels(snapshot.compiled.table());
        for rejection in &snapshot.rejected {
            tracing::warn!(%rejection, "rejected: its last good version stays in force; without one that fits, a rule answers 500 and a listener is closed");
        }
        let report = Report {
            version: table.version.clone(),
            rejected: snapshot.rejected.clone(),
        };
        self.metrics.update_table(|metrics| {
            metrics.offered(TableOutcome::Applied);
            metrics.serving(snapshot.compiled.table());
            metrics.rejected = u64::try_from(report.rejected.len()).unwrap_or(u64::MAX);
            metrics.apply_seconds = started.elapsed().as_secs_f64();
        });
        tracing::info!(version = %report.version, rejected = report.rejected.len(), "serving a new table");
        control.received = Some(table);
        control.applied_at = Some(SystemTime::now());
        control.retired.extend(previous);
        self.current.store(Some(Arc::new(snapshot)));
        self.changes.send_replace(Some(report.clone()));
        Ok(report)
    }

    fn refused(&self, error: &dyn std::error::Error) {
        let served = if self.current().is_some() {
            "the one before is served on"
        } else {
            "nothing is served yet"
        };
        tracing::error!(%error, "a table was refused; {served}");
        self.control().last_error = Some(error.to_string());
        self.metrics
            .update_table(|metrics| metrics.offered(TableOutcome::Refused));
    }

    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Overrides {
    /// The settings of a snapshot; those of the one before, if the tables have the same.
    fn settings(&self, snapshot: &Snapshot, previous: Option<&Snapshot>) -> Arc<ProxySettings> {
        let of_table = |snapshot: &Snapshot| Arc::clone(&snapshot.compiled.table().settings);
        let mut settings = of_table(snapshot);
        let known = previous.filter(|known| Arc::ptr_eq(&of_table(known), &settings));
        if let Some(known) = known {
            return Arc::clone(&known.settings);
        }
        if let Some(access_log) = self.access_log {
            Arc::make_mut(&mut settings).access_log = access_log;
        }
        if !self.dns_servers.is_empty() && settings.egress.is_some() {
            let egress = &mut Arc::make_mut(&mut settings).egress;
            if let Some(egress) = egress {
                egress.dns_servers.clone_from(&self.dns_servers);
            }
        }
        settings
    }
}

fn check(serving: Option<&RoutingTable>, table: &RoutingTable) -> Result<(), TableError> {
    if table.schema > SCHEMA {
        return Err(TableError::Schema {
            found: table.schema,
        });
    }
    if table.version == TableVersion::default() {
        return Err(TableError::Unsealed);
    }
    match serving {
        None if table.listeners.is_empty() => Err(TableError::EmptyFirst),
        Some(serving) if serving.gateway != table.gateway => Err(TableError::OtherGateway {
            found: table.gateway.clone(),
            serving: serving.gateway.clone(),
        }),
        _ => Ok(()),
    }
}

/// `table`, sharing with `received` whatever is equal: it is held once, and compiling recognises it at once.
fn shared(received: Option<&Arc<RoutingTable>>, table: Arc<RoutingTable>) -> Arc<RoutingTable> {
    let shared = received.map(|received| delta::apply(received, &delta::diff(received, &table)));
    match shared {
        Some(Ok(shared)) => Arc::new(shared),
        Some(Err(_)) | None => table,
    }
}

/// Compiles `table`; where a resource is rejected, with what is known of it from before, or with a refusal.
fn build(previous: Option<&Snapshot>, table: &Arc<RoutingTable>) -> Snapshot {
    let received = compiled(previous, table);
    let rejected = received.rejected.clone();
    let serving = previous.map(|previous| &previous.compiled);
    // Values first: a rule that lacks nothing else needs nobody to stand in for it.
    let mends = [salvage::with_known_values, salvage::mended];
    let served = mends.into_iter().fold(received, |snapshot, mend| {
        let mended = mend(snapshot.compiled.table(), serving, &snapshot.rejected);
        mended.map_or(snapshot, |table| compiled(previous, &Arc::new(table)))
    });
    Snapshot { rejected, ..served }
}

fn compiled(previous: Option<&Snapshot>, table: &Arc<RoutingTable>) -> Snapshot {
    let none = Certificates::default();
    let known = previous.map_or(&none, |previous| &previous.certificates);
    let (certificates, mut rejected) = Certificates::decode(known, table);
    let none = Credentials::default();
    let known = previous.map_or(&none, |previous| &previous.credentials);
    let credentials = Credentials::prepare(known, table);
    let none = TlsListeners::default();
    let known = previous.map_or(&none, |previous| &previous.tls);
    let (tls, unverifiable) = TlsListeners::build(known, table, &certificates);
    rejected.extend(unverifiable);
    let none = TlsPolicies::default();
    let known = previous.map_or(&none, |previous| &*previous.backend_tls);
    let (backend_tls, unusable) = TlsPolicies::build(known, table, &certificates);
    rejected.extend(unusable);
    let tokens = table.settings.egress.as_ref();
    let token_keys = tokens.and_then(|it| it.tokens.as_ref()).map(|settings| {
        let known = previous.and_then(|previous| previous.token_keys.as_ref());
        TokenKeys::new(known, settings)
    });
    let (compiled, others) = compile(
        previous.map(|previous| &previous.compiled),
        Arc::clone(table),
        |_, route| PreparedRoute::prepare(&credentials, route),
    );
    rejected.extend(others);
    rejected.sort_by(|a, b| (a.kind, &a.key).cmp(&(b.kind, &b.key)));
    rejected.dedup_by(|a, b| (a.kind, &a.key) == (b.kind, &b.key));
    Snapshot {
        tls,
        compiled,
        certificates,
        credentials,
        backend_tls: Arc::new(backend_tls),
        token_keys,
        labels: Arc::<Labels>::default(),
        settings: Arc::clone(&table.settings),
        rejected,
    }
}
