//! A worker: one thread with everything that its requests need, shared with nobody.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
};

use arc_swap::{ArcSwapOption, Cache};

use crate::{
    deadline::Deadlines,
    exchange::retry::RetryBudget,
    state::Snapshot,
    telemetry::{AccessLog, WorkerMetrics},
    upstream::Upstreams,
};

/// Where the control thread leaves snapshots.
type SnapshotCell = Arc<ArcSwapOption<Snapshot>>;

/// The state of one worker thread.
pub struct Worker {
    /// Number of the worker, from 0.
    pub id: usize,
    /// The way out.
    pub upstreams: Upstreams,
    /// This worker's counters.
    pub metrics: Arc<WorkerMetrics>,
    /// This worker's side of the access log.
    pub access_log: AccessLog,
    pub(crate) deadlines: Rc<Deadlines>,
    pub(crate) retry_budget: RetryBudget,
    /// Mirrored requests under way.
    pub(crate) mirrors: Rc<Cell<u32>>,
    /// Connections that are open.
    pub(crate) connections: Cell<u32>,
    published: RefCell<Cache<SnapshotCell, Option<Arc<Snapshot>>>>,
    /// The same, in a form that can be handed to requests without touching a count that other workers touch too.
    current: RefCell<Option<Rc<Arc<Snapshot>>>>,
}

impl Worker {
    /// A worker that serves what is in `published`. To be made on the worker's own runtime.
    pub fn new(
        id: usize,
        published: &SnapshotCell,
        metrics: Arc<WorkerMetrics>,
        access_log: AccessLog,
    ) -> Self {
        Self {
            id,
            upstreams: Upstreams::new(Arc::clone(&metrics)),
            metrics,
            access_log,
            deadlines: Deadlines::new(),
            retry_budget: RetryBudget::default(),
            mirrors: Rc::default(),
            connections: Cell::new(0),
            published: RefCell::new(Cache::new(Arc::clone(published))),
            current: RefCell::new(None),
        }
    }

    /// The present snapshot; `None` before the first table. A request takes it once and keeps it. One atomic load, unless
    /// there is a new one, which the upstreams then learn of first.
    pub fn snapshot(&self) -> Option<Rc<Arc<Snapshot>>> {
        let mut published = self.published.borrow_mut();
        let published = published.load().as_ref()?;
        let mut current = self.current.borrow_mut();
        match &*current {
            Some(current) if Arc::ptr_eq(current, published) => Some(Rc::clone(current)),
            _ => {
                self.upstreams
                    .sync(published.compiled.table(), &published.labels);
                let fresh = Rc::new(Arc::clone(published));
                *current = Some(Rc::clone(&fresh));
                Some(fresh)
            }
        }
    }
}
