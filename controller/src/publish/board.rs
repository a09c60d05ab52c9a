//! The tables as they are published, with a few predecessors of each, and the frames that lead from one to another.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;
use portcullis_routing::{
    Frame, FrameError, GatewayKey, RoutingTable, TableVersion, delta, frame::MAX_FRAME,
};

use crate::run::Tables;

/// Tables of one Gateway that are kept: a data plane that has one of them gets a delta, and its report is understood.
/// They share what did not change.
const KEPT: usize = 8;

/// Every Gateway's tables. Immutable; a change makes a new one.
#[derive(Debug, Default)]
pub(super) struct Board(BTreeMap<GatewayKey, Arc<Editions>>);

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
}

#[derive(Debug)]
struct Line(Vec<u8>);

impl AsRef<[u8]> for Line {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// A [`Line`] that several [`Bytes`] share.
struct SharedLine(Arc<Line>);

impl AsRef<[u8]> for SharedLine {
    fn as_ref(&self) -> &[u8] {
        &self.0.0
    }
}

impl Board {
    /// The next board. Tables with a version that is published already stay as they are.
    pub(super) fn successor(&self, tables: &Tables) -> Self {
        let editions = tables.iter().map(|(gateway, table)| {
            let editions = match self.0.get(gateway) {
                Some(known) if known.current().table.version == table.version => Arc::clone(known),
                Some(known) => Arc::new(known.with(table)),
                None => Arc::new(Editions(vec![Edition::new(0, Arc::clone(table))])),
            };
            (gateway.clone(), editions)
        });
        Self(editions.collect())
    }

    pub(super) fn editions(&self, gateway: &GatewayKey) -> Option<&Arc<Editions>> {
        self.0.get(gateway)
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
        let mut editions = vec![Edition::new(before.serial + 1, table)];
        editions.extend(self.0.iter().take(KEPT - 1).cloned());
        Self(editions)
    }
}

impl Edition {
    fn new(serial: u64, table: Arc<RoutingTable>) -> Arc<Self> {
        Arc::new(Self {
            serial,
            table,
            lines: Mutex::default(),
        })
    }

    /// The frame that leads from `base` to this table, as a line: a delta, or a snapshot if there is no base.
    pub(super) fn line_from(&self, base: Option<&RoutingTable>) -> Result<Bytes, FrameError> {
        let version = base.map(|base| base.version.clone());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(&version).and_then(Weak::upgrade) {
            return Ok(Bytes::from_owner(SharedLine(line)));
        }
        let frame = match base {
            Some(base) => Frame::Delta(Arc::new(delta::diff(base, &self.table))),
            None => Frame::Snapshot(Arc::clone(&self.table)),
        };
        let line = frame.to_line()?;
        if line.len() > MAX_FRAME {
            return Err(FrameError::TooLong { limit: MAX_FRAME });
        }
        let line = Arc::new(Line(line));
        lines.retain(|_, line| line.strong_count() > 0);
        lines.insert(version, Arc::downgrade(&line));
        Ok(Bytes::from_owner(SharedLine(line)))
    }
}
