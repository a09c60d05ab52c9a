//! Clients on kept connections that ask an echo backend all the time and remember which pods have answered.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    time::Duration,
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use futures::future::{join, join_all};
use hyper::Response;
use serde_json::Value;

use crate::support::{
    client::Target,
    load::{Caller, Counts},
};

/// Clients at once, each with a connection of its own.
pub(super) const CLIENTS: u64 = 4;
/// Pause between two requests of a client: 200 a second together.
const PACE: Duration = Duration::from_millis(20);

/// What the clients have seen so far.
pub(super) struct Load {
    target: Target,
    counts: Counts,
    answers: Cell<u64>,
    pods: RefCell<BTreeSet<String>>,
}

impl Load {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            counts: Counts::default(),
            answers: Cell::default(),
            pods: RefCell::default(),
        }
    }

    /// Does `work` while the clients ask. Fails if a single request does.
    pub(super) async fn during<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        let over = Cell::new(false);
        let work = async {
            let result = work.await;
            over.set(true);
            result
        };
        let caller = Caller {
            target: self.target.clone(),
            pace: PACE,
            requests_per_connection: None,
            check: |answer: &Response<Bytes>| self.note(answer),
        };
        let callers = (0..CLIENTS).map(|_| caller.call(&self.counts, &over));
        let (result, _) = join(work, join_all(callers)).await;
        let result = result?;
        ensure!(
            self.counts.failed() == 0,
            "of {} requests failed {}",
            self.counts.requests.get(),
            self.counts.failures()
        );
        Ok(result)
    }

    fn note(&self, answer: &Response<Bytes>) -> Result<()> {
        ensure!(answer.status() == 200, "status {}", answer.status());
        let echo: Value = serde_json::from_slice(answer.body())?;
        let pod = echo["pod"].as_str().unwrap_or_default();
        self.pods.borrow_mut().insert(pod.to_owned());
        self.answers.set(self.answers.get() + 1);
        Ok(())
    }

    /// Requests that have been answered well.
    pub(super) fn answers(&self) -> u64 {
        self.answers.get()
    }

    /// Connections that have been made.
    pub(super) fn connections(&self) -> u64 {
        self.counts.connections.get()
    }

    /// The pods that have answered since this was asked last.
    pub(super) fn take_pods(&self) -> BTreeSet<String> {
        self.pods.take()
    }
}
