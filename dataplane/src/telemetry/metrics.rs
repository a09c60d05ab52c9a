//! All metrics of the process: every worker's counters, who owns which series, and the state of the table.
//!
//! The number of series is bounded and depends on the table, never on the traffic: every series of a slot is there from
//! the moment the slot is given away.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use portcullis_routing::{Frame, GatewayKey, ListenerProtocol, RoutingTable, TableVersion};
use prometheus::{TextEncoder, proto::MetricFamily};

use super::{
    exposition,
    families::{self, Families},
    labels::{LabelAllocator, Labels, Owner},
    process,
    worker::{SlotSum, WorkerMetrics},
};

/// Bounds of the metrics.
#[derive(Clone, Copy, Debug)]
pub struct MetricsOptions {
    /// Most series to expose. Default 500. Listeners, routes and clusters beyond it are counted together.
    pub max_series: usize,
}

impl Default for MetricsOptions {
    fn default() -> Self {
        Self { max_series: 500 }
    }
}

/// What became of a table that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableOutcome {
    /// It is being served, but for rejected resources.
    Applied,
    /// It was being served already.
    Unchanged,
    /// It was refused as a whole; the one before is served on.
    Refused,
}

impl TableOutcome {
    /// Values of the label `result`.
    pub const NAMES: [&str; 3] = ["applied", "unchanged", "refused"];
}

/// What the metrics say about the routing table.
#[derive(Clone, Debug, Default)]
pub struct TableMetrics {
    /// Version being served; `None` before the first table.
    pub version: Option<TableVersion>,
    /// When it was applied.
    pub applied_at: Option<SystemTime>,
    /// Tables offered so far, by [`TableOutcome`].
    pub outcomes: [u64; TableOutcome::NAMES.len()],
    /// Resources in the table being served, by [`TableMetrics::KINDS`].
    pub resources: [u64; TableMetrics::KINDS.len()],
    /// Resources of the last table that were rejected on their own.
    pub rejected: u64,
    /// Seconds it took to validate and compile the last table.
    pub apply_seconds: f64,
    /// Whether the table being served is one of egress.
    pub is_egress: bool,
    /// Whether TLS passes through it to backends of the cluster.
    pub passes_tls: bool,
    /// The controller that tables come from; `None` if they come from elsewhere.
    pub controller: Option<ControllerMetrics>,
}

/// What the metrics say about the controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ControllerMetrics {
    /// Whether there is a stream of tables.
    pub connected: bool,
    /// Whether the table being served is the last known good one, without a word from the controller since the start.
    pub stale: bool,
    /// Attempts to connect that failed, and streams that ended.
    pub failures: u64,
    /// Frames received, by [`Frame::KINDS`].
    pub frames: [u64; Frame::KINDS.len()],
}

impl TableMetrics {
    /// Values of the label `kind`.
    pub const KINDS: [&str; 5] = ["listener", "route", "cluster", "endpoint", "certificate"];

    /// Counts a table that was offered.
    pub fn offered(&mut self, outcome: TableOutcome) {
        if let Some(count) = self.outcomes.get_mut(outcome as usize) {
            *count += 1;
        }
    }

    /// `table` is being served from now on.
    pub fn serving(&mut self, table: &RoutingTable) {
        self.version = Some(table.version.clone());
        self.is_egress = table.settings.egress.is_some();
        self.passes_tls = table.listeners.values().any(|listener| {
            listener.protocol == ListenerProtocol::Tls && listener.direction.is_ingress()
        });
        self.applied_at = Some(SystemTime::now());
        let endpoints = table
            .endpoints
            .values()
            .map(|cluster| cluster.endpoints.len())
            .sum();
        let [listeners, routes, clusters] = [
            table.listeners.len(),
            table.routes.len(),
            table.clusters.len(),
        ];
        self.resources = [
            listeners,
            routes,
            clusters,
            endpoints,
            table.certificates.len(),
        ]
        .map(families::count);
    }
}

/// All metrics of the process. Its locks are taken on the control thread only.
#[derive(Debug)]
pub struct Metrics {
    workers: Mutex<Vec<Arc<WorkerMetrics>>>,
    slots: Mutex<Slots>,
    table: Mutex<TableMetrics>,
}

/// Who owns which slot, and what the slot's counters showed when its owner got it.
#[derive(Debug)]
struct Slots {
    allocator: LabelAllocator,
    baselines: Vec<SlotSum>,
}

impl Slots {
    fn new(slots: usize) -> Self {
        let allocator = LabelAllocator::new(slots);
        let baselines = vec![SlotSum::default(); allocator.slots()];
        Self {
            allocator,
            baselines,
        }
    }
}

impl Metrics {
    /// Without workers and without a table.
    pub fn new(options: MetricsOptions) -> Self {
        let metrics = Self {
            workers: Mutex::default(),
            slots: Mutex::new(Slots::new(0)),
            table: Mutex::default(),
        };
        metrics.update_table(|table| {
            table.serving(&RoutingTable::new(GatewayKey::new("")));
            table.is_egress = true;
            table.passes_tls = true;
            table.controller = Some(ControllerMetrics::default());
        });
        let fixed = families::series(&metrics.gather());
        let slots = options.max_series.saturating_sub(fixed) / SlotSum::SERIES;
        Self {
            slots: Mutex::new(Slots::new(slots)),
            table: Mutex::default(),
            ..metrics
        }
    }

    /// Counters for one more worker.
    pub fn worker(&self) -> Arc<WorkerMetrics> {
        let worker = Arc::new(WorkerMetrics::new(lock(&self.slots).allocator.slots()));
        lock(&self.workers).push(Arc::clone(&worker));
        worker
    }

    /// Gives the resources of a new table their series.
    pub fn assign_labels(&self, table: &RoutingTable) -> Arc<Labels> {
        let workers = lock(&self.workers);
        let mut slots = lock(&self.slots);
        let (labels, fresh) = slots.allocator.assign(table);
        for slot in fresh {
            if let Some(baseline) = slots.baselines.get_mut(slot) {
                *baseline = slot_sum(&workers, slot);
            }
        }
        labels
    }

    /// Changes what is said about the table.
    pub fn update_table(&self, change: impl FnOnce(&mut TableMetrics)) {
        change(&mut lock(&self.table));
    }

    /// What is known of the controller; `None` if tables do not come from one.
    pub fn controller(&self) -> Option<ControllerMetrics> {
        lock(&self.table).controller
    }

    /// Everything in the Prometheus text format.
    pub fn encode(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.gather())
    }

    fn gather(&self) -> Vec<MetricFamily> {
        let workers = lock(&self.workers);
        let slots = lock(&self.slots);
        let owned: Vec<(&Owner, SlotSum)> = slots
            .allocator
            .owners()
            .map(|(slot, owner)| {
                let baseline = slots.baselines.get(slot).copied().unwrap_or_default();
                (owner, slot_sum(&workers, slot).since(&baseline))
            })
            .collect();
        let mut families = Families::default();
        exposition::process(&mut families, workers.len());
        let table = lock(&self.table);
        exposition::table(&mut families, &table);
        exposition::downstream(&mut families, &workers);
        exposition::upstream(&mut families, &workers);
        if table.passes_tls {
            exposition::passthrough(&mut families, &workers);
        }
        exposition::resources(&mut families, &owned);
        if table.is_egress {
            exposition::egress(&mut families, &workers, &owned);
        }
        process::collect(&mut families);
        families.into_vec()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn slot_sum(workers: &[Arc<WorkerMetrics>], slot: usize) -> SlotSum {
    let mut sum = SlotSum::default();
    for slot in workers.iter().filter_map(|worker| worker.slots.get(slot)) {
        sum.add(slot);
    }
    sum
}
