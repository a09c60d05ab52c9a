//! The tables as they are published, with a few predecessors of each, and the frames that lead from one to another.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use portcullis_routing::{Frame, FrameError, GatewayKey, RoutingTable, TableVersion, delta};

use super::waiting::{Line, Waiting};
use crate::run::Tables;

/// Tables of one Gateway that are kept: a data plane that has one of them gets a delta, and its report is understood.
/// They share what did not change.
const KEPT: usize = 8;

/// Every Gateway's tables. Immutable; a change makes a new one.
#[derive(Debug)]
pub(super) struct Board {
    gateways: BTreeMap<GatewayKey, Arc<Editions>>,
    /// Frames that wait for slow clients.
    waiting: Arc<Waiting>,
}

/// The tables of one Gateway, newest first. There is always one.
#[derive(Debug)]
pub(super) struct Editions(Vec<Arc<Edition>>);

/// A table as it was published once.
#[derive(Debug)]
pub(super) struct Edition {
    /// Counts up within a Gateway.
    pub(super) serial: u64,
    pub(super) table: Arc<RoutingTable>,
    /// Frames that lead here, by what they start from (`None`: from nothing). They live as long as somebody sends them,
    /// so any number of slow readers holds one.
    lines: Mutex<BTreeMap<Option<TableVersion>, Weak<Line>>>,
    waiting: Arc<Waiting>,
}

/// Why a table cannot be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// It cannot be sent to anybody.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Too much waits for slow clients to take one more frame. It can be tried again.
    #[error("too many bytes wait for clients that are slow to take them")]
    Waiting,
}

impl Board {
    /// No tables.
    pub(super) fn new(waiting: Arc<Waiting>) -> Self {
        Self {
            gateways: BTreeMap::new(),
            waiting,
        }
    }

    /// The next board. Tables with a version that is published already stay as they are.
    pub(super) fn successor(&self, tables: &Tables) -> Self {
        let editions = tables.iter().map(|(gateway, table)| {
            let editions = match self.gateways.get(gateway) {
                Some(known) if known.current().table.version == table.version => Arc::clone(known),
                Some(known) => Arc::new(known.with(table)),
                None => {
                    let first = Edition::new(0, Arc::clone(table), Arc::clone(&self.waiting));
                    Arc::new(Editions(vec![first]))
                }
            };
            (gateway.clone(), editions)
        });
        Self {
            gateways: editions.collect(),
            waiting: Arc::clone(&self.waiting),
        }
    }

    pub(super) fn editions(&self, gateway: &GatewayKey) -> Option<&Arc<Editions>> {
        self.gateways.get(gateway)
    }
}

impl Editions {
    pub(super) fn current(&self) -> &Arc<Edition> {
        &self.0[0]
    }

    /// The newest table of this version.
    pub(super) fn find(&self, version: &TableVersion) -> Option<&Arc<Edition>> {
        self.0
            .iter()
            .find(|edition| edition.table.version == *version)
    }

    fn with(&self, table: &Arc<RoutingTable>) -> Self {
        let before = self.current();
        // Every translation makes its resources anew. Sharing those that are equal saves memory and makes differences
        // cheap to find.
        let shared = delta::apply(&before.table, &delta::diff(&before.table, table));
        let table = shared.map_or_else(|_| Arc::clone(table), Arc::new);
        let mut editions = vec![Edition::new(
            before.serial + 1,
            table,
            Arc::clone(&before.waiting),
        )];
        editions.extend(self.0.iter().take(KEPT - 1).cloned());
        Self(editions)
    }
}

impl Edition {
    fn new(serial: u64, table: Arc<RoutingTable>, waiting: Arc<Waiting>) -> Arc<Self> {
        Arc::new(Self {
            serial,
            table,
            lines: Mutex::default(),
            waiting,
        })
    }

    /// The frame that leads from `base` to this table, as a line: a delta, or a snapshot if there is no base. It is not written
    /// before there is room for it.
    pub(super) fn line_from(&self, base: Option<&RoutingTable>) -> Result<Arc<Line>, LineError> {
        let version = base.map(|base| base.version.clone());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lines.get(&version);
        if let Some(line) = known.and_then(|line| self.waiting.find(line)) {
            return Ok(line);
        }
        let frame = match base {
            Some(base) => Frame::Delta(Arc::new(delta::diff(base, &self.table))),
            None => Frame::Snapshot(Arc::clone(&self.table)),
        };
        let length = frame.line_length()?;
        let held = self.waiting.hold(&self.table.gateway, length);
        let held = held.ok_or(LineError::Waiting)?;
        let mut line = Vec::with_capacity(length);
        frame.write_line(&mut line)?;
        let line = Line::new(line, held);
        lines.retain(|_, line| line.strong_count() > 0);
        lines.insert(version, Arc::downgrade(&line));
        Ok(line)
    }
}
