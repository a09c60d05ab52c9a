//! The DNS names of one cluster: followed in the background while the cluster is in use, so that only its very first
//! request waits for an answer. An answer holds until a better one comes: a resolver that fails changes nothing. Addresses that
//! are never connected to are an answer as well: that there is no endpoint.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    future::Future,
    net::IpAddr,
    time::Duration,
};

use tokio::{sync::Notify, task::AbortHandle};

use super::dns::{Answer, NoAnswer};

/// Pause after the first failure; it doubles with each further one.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// What is known of one name.
struct Name {
    addresses: Vec<IpAddr>,
    /// Why the last question had no good answer.
    error: Option<NoAnswer>,
    failures: u32,
    follower: AbortHandle,
}

impl Drop for Name {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Name {
    fn new(follower: impl Future<Output = ()> + 'static) -> Self {
        let follower = tokio::task::spawn_local(follower).abort_handle();
        Self {
            addresses: Vec::new(),
            error: None,
            failures: 0,
            follower,
        }
    }

    fn is_known(&self) -> bool {
        self.error.is_some() || !self.addresses.is_empty()
    }

    fn retry(&mut self) -> Duration {
        let pause = FIRST_RETRY
            .saturating_mul(1 << self.failures.min(6))
            .min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

/// The names of one cluster.
#[derive(Default)]
pub(super) struct Names {
    known: RefCell<BTreeMap<Box<str>, Name>>,
    /// Names without any answer so far.
    unknown: Cell<usize>,
    changed: Notify,
}

impl Names {
    /// Follows these names and no others. `follow` makes the task that asks for one.
    pub(super) fn set<F>(
        &self,
        names: impl IntoIterator<Item = Box<str>>,
        follow: impl Fn(Box<str>) -> F,
    ) where
        F: Future<Output = ()> + 'static,
    {
        let mut before = std::mem::take(&mut *self.known.borrow_mut());
        let mut wanted = BTreeMap::new();
        for name in names {
            let entry = before
                .remove(&name)
                .unwrap_or_else(|| Name::new(follow(name.clone())));
            wanted.insert(name, entry);
        }
        self.known.replace(wanted);
        self.count_unknown();
    }

    /// Takes an answer in; tells when to ask again.
    pub(super) fn answered(&self, name: &str, answer: Result<Answer, NoAnswer>) -> Duration {
        let mut names = self.known.borrow_mut();
        let Some(entry) = names.get_mut(name) else {
            return LAST_RETRY;
        };
        let pause = match answer {
            Ok(answer) => {
                entry.addresses = answer.addresses;
                entry.error = None;
                entry.failures = 0;
                answer.ttl
            }
            Err(error) => {
                if matches!(error, NoAnswer::Refused(_)) {
                    entry.addresses.clear();
                }
                // Once, however often it is asked again.
                if entry.error.as_ref() != Some(&error) {
                    tracing::warn!(name, error = error.text(), kept = ?entry.addresses, "a backend's name leads nowhere");
                }
                entry.error = Some(error);
                entry.retry()
            }
        };
        drop(names);
        self.count_unknown();
        pause
    }

    /// The addresses of a name, as far as they are known.
    pub(super) fn addresses(&self, name: &str) -> Vec<IpAddr> {
        self.known
            .borrow()
            .get(name)
            .map(|name| name.addresses.clone())
            .unwrap_or_default()
    }

    /// Why there are no addresses, where a name is the reason.
    pub(super) fn error(&self) -> Option<NoAnswer> {
        self.known
            .borrow()
            .values()
            .find_map(|name| name.error.clone())
    }

    /// Whether a name has had no answer at all yet.
    pub(super) fn is_pending(&self) -> bool {
        self.unknown.get() > 0
    }

    /// Waits for the next answer. Cancel-safe.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn count_unknown(&self) {
        self.unknown.set(
            self.known
                .borrow()
                .values()
                .filter(|name| !name.is_known())
                .count(),
        );
        self.changed.notify_waiters();
    }
}
