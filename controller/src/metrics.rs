//! What the controller counts, for `/metrics`.

use std::{fmt, time::Duration};

use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::{provision::Kind, resources::Resources, writer::KINDS};

/// Bounds of the buckets for the time of a translation, in seconds.
const TRANSLATION_BUCKETS: [f64; 8] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// The outcome of writing a status or a Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// It was written.
    Written,
    /// Somebody else was faster; it is tried again on what they wrote.
    Conflict,
    /// The API server refused it or could not be reached.
    Failed,
}

impl Write {
    const ALL: [Self; 3] = [Self::Written, Self::Conflict, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

/// The outcome of making an object for a Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Provision {
    /// It was made, or brought up to date.
    Applied,
    /// It was deleted, since it is not wanted any more.
    Deleted,
    /// Something that was not made for the Gateway has its name.
    Foreign,
    /// The API server refused it or could not be reached.
    Failed,
}

impl Provision {
    const ALL: [Self; 4] = [Self::Applied, Self::Deleted, Self::Foreign, Self::Failed];

    fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Deleted => "deleted",
            Self::Foreign => "foreign",
            Self::Failed => "failed",
        }
    }
}

/// Why a client of the publisher is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turned {
    /// Too many handshakes from its address.
    Address,
    /// Its handshake failed, or took too long.
    Handshake,
    /// Its Gateway has too many connections.
    Gateway,
    /// All Gateways together have.
    Total,
    /// Replicas, or clients whose certificate is good for nothing, have.
    Others,
    /// It is too slow to take a frame.
    Slow,
    /// Too much waits for slow clients.
    Waiting,
}

impl Turned {
    const ALL: [Self; 7] = [
        Self::Address,
        Self::Handshake,
        Self::Gateway,
        Self::Total,
        Self::Others,
        Self::Slow,
        Self::Waiting,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Handshake => "handshake",
            Self::Gateway => "gateway",
            Self::Total => "total",
            Self::Others => "others",
            Self::Slow => "slow",
            Self::Waiting => "waiting",
        }
    }
}

impl fmt::Display for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "too many TLS handshakes from one address",
            Self::Handshake => "no TLS handshake",
            Self::Gateway => "too many connections of one Gateway",
            Self::Total => "too many connections of all Gateways",
            Self::Others => "too many connections of replicas, or with certificates that are good for nothing here",
            Self::Slow => "too slow to take a frame",
            Self::Waiting => "too many bytes wait for slow clients",
        })
    }
}

/// The controller's metrics. Their number does not depend on the number of objects.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    watch_failures: IntCounterVec,
    objects: IntGaugeVec,
    unreadable: IntGaugeVec,
    translation: Histogram,
    tables: IntGauge,
    status_writes: IntCounterVec,
    identity_writes: IntCounterVec,
    data_planes: IntGauge,
    data_planes_refused: IntCounterVec,
    infrastructure: IntCounterVec,
    leader: IntGauge,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> prometheus::Result<Self> {
        let registry = Registry::new_custom(Some("portcullis_controller".into()), None)?;
        let metrics = Self {
            watch_failures: IntCounterVec::new(
                Opts::new("watch_failures_total", "Failed lists, watches and reads"),
                &["kind"],
            )?,
            objects: IntGaugeVec::new(Opts::new("objects", "Objects known"), &["kind"])?,
            unreadable: IntGaugeVec::new(
                Opts::new(
                    "kind_unreadable",
                    "Whether a kind cannot be read, so that what goes by it is as it was or stands still",
                ),
                &["kind"],
            )?,
            translation: Histogram::with_opts(
                HistogramOpts::new("translation_seconds", "Time of a translation")
                    .buckets(TRANSLATION_BUCKETS.to_vec()),
            )?,
            tables: IntGauge::new("tables", "Routing tables published")?,
            status_writes: IntCounterVec::new(
                Opts::new("status_writes_total", "Statuses written"),
                &["kind", "result"],
            )?,
            identity_writes: IntCounterVec::new(
                Opts::new(
                    "identity_writes_total",
                    "Certificates of data planes written",
                ),
                &["result"],
            )?,
            data_planes: IntGauge::new("data_planes", "Data planes connected to this replica")?,
            data_planes_refused: IntCounterVec::new(
                Opts::new(
                    "data_planes_refused_total",
                    "Connections of data planes that were refused or ended",
                ),
                &["reason"],
            )?,
            infrastructure: IntCounterVec::new(
                Opts::new(
                    "infrastructure_writes_total",
                    "Objects applied or deleted for Gateways",
                ),
                &["kind", "result"],
            )?,
            leader: IntGauge::new("leader", "Whether this replica writes")?,
            registry,
        };
        let registry = &metrics.registry;
        registry.register(Box::new(metrics.watch_failures.clone()))?;
        registry.register(Box::new(metrics.objects.clone()))?;
        registry.register(Box::new(metrics.unreadable.clone()))?;
        registry.register(Box::new(metrics.translation.clone()))?;
        registry.register(Box::new(metrics.tables.clone()))?;
        registry.register(Box::new(metrics.status_writes.clone()))?;
        registry.register(Box::new(metrics.identity_writes.clone()))?;
        registry.register(Box::new(metrics.data_planes.clone()))?;
        registry.register(Box::new(metrics.data_planes_refused.clone()))?;
        registry.register(Box::new(metrics.infrastructure.clone()))?;
        registry.register(Box::new(metrics.leader.clone()))?;
        // There from the start, so that a first failure is an increase.
        for (kind, _) in Resources::default().counts() {
            metrics.unreadable(kind, false);
        }
        for kind in KINDS {
            for write in Write::ALL {
                metrics
                    .status_writes
                    .with_label_values(&[kind, write.label()]);
            }
        }
        for write in Write::ALL {
            metrics.identity_writes.with_label_values(&[write.label()]);
        }
        for why in Turned::ALL {
            metrics
                .data_planes_refused
                .with_label_values(&[why.label()]);
        }
        for kind in Kind::ALL {
            for provision in Provision::ALL {
                metrics
                    .infrastructure
                    .with_label_values(&[kind.name(), provision.label()]);
            }
        }
        Ok(metrics)
    }

    /// In the Prometheus text format.
    pub fn encode(&self) -> prometheus::Result<Vec<u8>> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    pub(crate) fn watch_failed(&self, kind: &str) {
        self.watch_failures.with_label_values(&[kind]).inc();
    }

    /// Whether a kind cannot be read.
    pub(crate) fn unreadable(&self, kind: &str, is_unreadable: bool) {
        self.unreadable
            .with_label_values(&[kind])
            .set(i64::from(is_unreadable));
    }

    /// A translation of these objects has taken so long.
    pub(crate) fn translated(&self, resources: &Resources, tables: usize, time: Duration) {
        for (kind, number) in resources.counts() {
            self.objects
                .with_label_values(&[kind])
                .set(i64::try_from(number).unwrap_or(i64::MAX));
        }
        self.tables.set(i64::try_from(tables).unwrap_or(i64::MAX));
        self.translation.observe(time.as_secs_f64());
    }

    pub(crate) fn wrote_status(&self, kind: &str, write: Write) {
        self.status_writes
            .with_label_values(&[kind, write.label()])
            .inc();
    }

    pub(crate) fn wrote_identity(&self, write: Write) {
        self.identity_writes
            .with_label_values(&[write.label()])
            .inc();
    }

    pub(crate) fn data_planes(&self, connected: usize) {
        self.data_planes
            .set(i64::try_from(connected).unwrap_or(i64::MAX));
    }

    pub(crate) fn turned_away(&self, why: Turned) {
        self.data_planes_refused
            .with_label_values(&[why.label()])
            .inc();
    }

    pub(crate) fn provisioned(&self, kind: Kind, outcome: Provision) {
        self.infrastructure
            .with_label_values(&[kind.name(), outcome.label()])
            .inc();
    }

    pub(crate) fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}
