//! The connections of one cluster: how many may be open, who waits for one.

use std::{cell::Cell, rc::Rc, sync::Arc};

use tokio::sync::Notify;

use super::error::{UpstreamError, UpstreamErrorKind};
use crate::telemetry::WorkerMetrics;

/// Counts the open connections of a cluster, idle ones included.
#[derive(Debug)]
pub(crate) struct ConnectionLimit {
    metrics: Arc<WorkerMetrics>,
    max: Cell<u32>,
    open: Cell<u32>,
    waiting: Cell<u32>,
    freed: Notify,
}

/// The right to one open connection; dropped with it.
#[derive(Debug)]
pub(crate) struct Slot {
    limit: Rc<ConnectionLimit>,
    opened: Cell<bool>,
}

impl ConnectionLimit {
    /// With no connection open, and none allowed yet.
    pub(super) fn new(metrics: Arc<WorkerMetrics>) -> Self {
        Self {
            metrics,
            max: Cell::new(0),
            open: Cell::new(0),
            waiting: Cell::new(0),
            freed: Notify::new(),
        }
    }

    /// Sets the limit. What is open already stays open.
    pub(super) fn set_max(&self, max: u32) {
        self.max.set(max);
        self.notify_all();
    }

    /// A slot, if one is free.
    pub(super) fn take(self: &Rc<Self>) -> Option<Slot> {
        (self.open.get() < self.max.get()).then(|| {
            self.open.set(self.open.get() + 1);
            Slot {
                limit: Rc::clone(self),
                opened: Cell::new(false),
            }
        })
    }

    /// Waits until a slot, a pooled connection or a stream may be free. As many requests may wait as connections may be
    /// open. Cancel-safe.
    pub(super) async fn wait(&self) -> Result<(), UpstreamError> {
        if self.waiting.get() >= self.max.get() {
            let max = self.max.get();
            return Err(UpstreamError::new(
                UpstreamErrorKind::Overloaded,
                format_args!("{max} connections are open and as many requests wait"),
            ));
        }
        let _waiting = Waiting::new(&self.waiting);
        self.freed.notified().await;
        Ok(())
    }

    /// Lets all waiting requests look again: there is room for many.
    pub(crate) fn notify_all(&self) {
        self.freed.notify_waiters();
    }

    /// Lets one waiting request look again: a connection or a stream of the cluster has become free.
    pub(super) fn notify(&self) {
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }
}

impl Slot {
    /// The connection is established and counted: its end will be, too.
    pub(crate) fn opened(&self) {
        self.opened.set(true);
    }

    /// The connection is free for the next request.
    pub(super) fn notify(&self) {
        self.limit.notify();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.opened.get() {
            self.limit.metrics.upstream_closed();
        }
        self.limit.open.set(self.limit.open.get().saturating_sub(1));
        self.limit.notify();
    }
}

/// Counts a waiting request for as long as it waits.
struct Waiting<'a>(&'a Cell<u32>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::telemetry::{Metrics, MetricsOptions};

    fn limit(max: u32) -> Rc<ConnectionLimit> {
        let limit = ConnectionLimit::new(Metrics::new(MetricsOptions::default()).worker());
        limit.set_max(max);
        Rc::new(limit)
    }

    #[tokio::test]
    async fn the_longest_waiting_is_served_first_and_the_queue_is_bounded() {
        let limit = limit(2);
        let (first, _second) = (limit.take().expect("free"), limit.take().expect("free"));
        assert!(limit.take().is_none());

        let (mut one, mut two) = (Box::pin(limit.wait()), Box::pin(limit.wait()));
        assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none());
        let error = limit.wait().await.expect_err("the queue is full");
        assert_eq!(error.kind, UpstreamErrorKind::Overloaded);

        drop(first);
        assert!((&mut two).now_or_never().is_none());
        one.await.expect("woken");
        drop(limit.take().expect("free"));
        two.await.expect("woken");
    }

    #[tokio::test]
    async fn one_that_gives_up_passes_its_turn_on() {
        let limit = limit(2);
        let (first, _second) = (limit.take().expect("free"), limit.take().expect("free"));
        let (mut one, mut two) = (Box::pin(limit.wait()), Box::pin(limit.wait()));
        assert!((&mut one).now_or_never().is_none() && (&mut two).now_or_never().is_none());
        drop(first);
        drop(one);
        two.await.expect("woken");
    }
}
