//! The status writer: makes the statuses at the API server what the translation wants, on the one replica that leads.
//!
//! What is there is compared first, so that nothing is written without need. A write names the version that it was made
//! of: if somebody else was faster it is refused, the object is read again, and what they wrote is kept. This matters
//! where entries of several controllers share a list that the API server only knows as a whole (`status.parents`).

mod merge;
mod pace;
mod queue;
mod target;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, future, stream::FuturesUnordered};
use kube::{
    Client,
    api::{GetParams, Patch, PatchParams},
    core::Request,
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use self::merge::Merge;
use self::pace::Pace;
pub(crate) use self::{queue::Queue, target::KINDS};
use crate::{
    metrics::{Metrics, Write},
    status::Statuses,
    watch::{ResourceStore, SeenStatus, StatusTarget, Watched},
};

/// Writes under way at once.
const MAX_WRITES: usize = 16;

/// Time for one request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long after it began to lead a replica lets stand what nothing is known against yet: two minutes. Data planes look
/// for a controller every 15 s at least, and say at once what they serve.
pub const LET_STAND: Duration = Duration::from_mins(2);

/// Who the API server notes as the writer.
pub(crate) const FIELD_MANAGER: &str = "portcullis-controller";

/// Writes statuses.
pub(crate) struct StatusWriter {
    pub(crate) client: Client,
    pub(crate) controller_name: String,
    pub(crate) store: Arc<ResourceStore>,
    /// What should be written; `None` before the first translation.
    pub(crate) desired: watch::Receiver<Option<Arc<Statuses>>>,
    /// Whether it is for us to write.
    pub(crate) leads: watch::Receiver<bool>,
    /// How long after that began what is True stays so, where nothing is known against it.
    pub(crate) let_stand: Duration,
    pub(crate) metrics: Arc<Metrics>,
}

/// What is to be done.
#[derive(Default)]
struct Work {
    leads: bool,
    /// Until when what is True stands; `None` if that is over, or it is not for us to write.
    lets_stand_until: Option<Instant>,
    desired: Option<Arc<Statuses>>,
    queue: Queue<StatusTarget>,
}

/// How a write went.
#[derive(Debug)]
enum Outcome {
    Written,
    /// Somebody else was faster; the object has been read again.
    Conflict,
    /// The object is gone.
    Gone,
    /// The API server will not have it, however often it is tried.
    Refused(kube::Error),
    /// Something is in the way.
    Failed(String),
}

impl StatusWriter {
    /// Writes for ever.
    pub(crate) async fn run(mut self) {
        let mut work = Work::default();
        let mut writes = FuturesUnordered::new();
        loop {
            let leads = *self.leads.borrow_and_update();
            if leads != work.leads {
                self.metrics.leads(leads);
                // Whoever led before may have left anything.
                work.queue.add(self.store.status_targets());
                work.leads = leads;
                work.lets_stand_until = leads.then(|| Instant::now() + self.let_stand);
            }
            if leads {
                while writes.len() < MAX_WRITES
                    && let Some((target, body)) = self.next(&mut work)
                {
                    writes.push(write(&self.client, &self.store, target, body));
                }
            }
            let due = work
                .queue
                .due()
                .filter(|_| leads && writes.len() < MAX_WRITES);
            let (desired, leading) = (&mut self.desired, &mut self.leads);
            tokio::select! {
                Some((target, outcome)) = writes.next() => {
                    work.done(&target, outcome, &self.metrics);
                }
                changed = desired.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    work.want(desired.borrow_and_update().clone(), &self.store);
                }
                () = self.store.statuses_changed() => {
                    work.queue.add(self.store.take_touched());
                }
                changed = leading.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                () = wait_until(work.lets_stand_until) => {
                    work.lets_stand_until = None;
                    work.queue.add(self.store.status_targets());
                }
                () = wait_until(due) => {}
            }
        }
    }

    /// The next object that has to be written, with the body of the request.
    fn next(&self, work: &mut Work) -> Option<(StatusTarget, Value)> {
        let desired = work.desired.clone()?;
        while let Some(target) = work.queue.take_due() {
            if let Some(body) = self.body(&target, &desired, work.lets_stand_until.is_some()) {
                work.queue.begin(target.clone());
                return Some((target, body));
            }
        }
        None
    }

    /// The merge patch that makes an object's status what it should be; `None` if it is.
    fn body(&self, target: &StatusTarget, desired: &Statuses, lets_stand: bool) -> Option<Value> {
        let desired = target::desired(target, desired)?;
        let seen = self.store.status(target)?;
        let current = serde_json::from_str(&seen.status).unwrap_or_default();
        let merge = Merge {
            controller_name: &self.controller_name,
            key: &target.key,
            now: &now(),
            lets_stand,
        };
        let status = merge.changes(&current, desired)?;
        let version = seen.version.to_string();
        Some(json!({ "metadata": { "resourceVersion": version }, "status": status }))
    }
}

impl Work {
    /// Something else is desired now.
    fn want(&mut self, desired: Option<Arc<Statuses>>, store: &ResourceStore) {
        match (&self.desired, &desired) {
            (Some(before), Some(now)) => self.queue.add(target::differences(before, now)),
            _ => self.queue.add(store.status_targets()),
        }
        self.desired = desired;
    }

    fn done(&mut self, target: &StatusTarget, outcome: Outcome, metrics: &Metrics) {
        let StatusTarget { kind, key } = target;
        match outcome {
            Outcome::Written => {
                tracing::debug!(kind, object = %key, "status written");
                metrics.wrote_status(kind, Write::Written);
                self.queue.written(target);
            }
            Outcome::Conflict => {
                metrics.wrote_status(kind, Write::Conflict);
                self.queue.failed(target);
            }
            Outcome::Failed(error) => {
                tracing::warn!(kind, object = %key, error, "cannot write a status; trying again");
                metrics.wrote_status(kind, Write::Failed);
                self.queue.failed(target);
            }
            Outcome::Refused(error) => {
                tracing::error!(kind, object = %key, %error, "the API server refuses a status");
                metrics.wrote_status(kind, Write::Failed);
                self.queue.written(target);
            }
            Outcome::Gone => self.queue.gone(target),
        }
    }
}

/// Waits until an instant, or for ever.
pub(crate) async fn wait_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => future::pending().await,
    }
}

/// Writes one status, and records what became of it.
async fn write(
    client: &Client,
    store: &ResourceStore,
    target: StatusTarget,
    body: Value,
) -> (StatusTarget, Outcome) {
    let outcome = timeout(TIMEOUT, try_write(client, store, &target, &body))
        .await
        .unwrap_or_else(|_| Outcome::Failed("the API server does not answer".into()));
    (target, outcome)
}

async fn try_write(
    client: &Client,
    store: &ResourceStore,
    target: &StatusTarget,
    body: &Value,
) -> Outcome {
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    let request = Request::new(target::path(target, store.version(target.kind)));
    let patch = Patch::Merge(body);
    let name = &target.key.name;
    let written = request.patch_subresource("status", name, &parameters, &patch);
    match send(client, store, target, written).await {
        Ok(()) => Outcome::Written,
        Err(kube::Error::Api(status)) if status.code == 409 => {
            match send(
                client,
                store,
                target,
                request.get(name, &GetParams::default()),
            )
            .await
            {
                Ok(()) => Outcome::Conflict,
                Err(error) => outcome(error),
            }
        }
        Err(error) => outcome(error),
    }
}

fn outcome(error: kube::Error) -> Outcome {
    match &error {
        kube::Error::Api(status) => match status.code {
            404 => Outcome::Gone,
            400 | 413 | 422 => Outcome::Refused(error),
            _ => Outcome::Failed(error.to_string()),
        },
        _ => Outcome::Failed(error.to_string()),
    }
}

/// Sends a request for an object, and records the status that the answer holds.
async fn send(
    client: &Client,
    store: &ResourceStore,
    target: &StatusTarget,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> kube::Result<()> {
    let request = request.map_err(kube::Error::BuildRequest)?;
    let object: Watched<Value> = client.request(request).await?;
    let seen = SeenStatus {
        version: object.version(),
        status: object.status,
    };
    store.record_status(target, seen);
    Ok(())
}

/// The present time, RFC 3339, whole seconds.
fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::fmt::temporal::DateTimePrinter::new()
        .precision(Some(0))
        .timestamp_to_string(&now)
}

#[cfg(test)]
mod tests;
