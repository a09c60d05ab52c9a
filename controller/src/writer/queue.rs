//! Objects that are to be looked at: each when its pace permits, and never two requests for one at the same time.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::Pace;

/// Objects to look at, and those that a request is under way for.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    dirty: BTreeSet<T>,
    busy: BTreeSet<T>,
    /// When an object may be written again.
    paces: BTreeMap<T, Pace>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            dirty: BTreeSet::new(),
            busy: BTreeSet::new(),
            paces: BTreeMap::new(),
        }
    }
}

impl<T: Clone + Ord> Queue<T> {
    /// These are to be looked at.
    pub(crate) fn add(&mut self, targets: impl IntoIterator<Item = T>) {
        self.dirty.extend(targets);
    }

    /// Takes the next object that may be looked at now.
    pub(crate) fn take_due(&mut self) -> Option<T> {
        let now = Instant::now();
        let free = |target: &&T| {
            !self.busy.contains(target)
                && self.paces.get(target).is_none_or(|pace| pace.due() <= now)
        };
        let target = self.dirty.iter().find(free)?.clone();
        self.dirty.remove(&target);
        Some(target)
    }

    /// When the next object may be looked at.
    pub(crate) fn due(&self) -> Option<Instant> {
        let waiting = self.dirty.iter().filter(|it| !self.busy.contains(it));
        waiting
            .filter_map(|it| Some(self.paces.get(it)?.due()))
            .min()
    }

    /// A request is under way for it.
    pub(crate) fn begin(&mut self, target: T) {
        self.busy.insert(target);
    }

    /// It was written, or will not be taken however often it is tried.
    pub(crate) fn written(&mut self, target: &T) {
        self.end(target).written();
    }

    /// It could not be written, and is looked at again later.
    pub(crate) fn failed(&mut self, target: &T) {
        self.end(target).failed();
        self.dirty.insert(target.clone());
    }

    /// It is not there any more.
    pub(crate) fn gone(&mut self, target: &T) {
        self.busy.remove(target);
        self.paces.remove(target);
    }

    /// Its request is over. What is waited for, or has been waited for until now, keeps its pace however long a request
    /// takes: else whoever does not answer would be asked again at once.
    fn end(&mut self, target: &T) -> &mut Pace {
        self.paces.retain(|other, pace| {
            !pace.forgotten() || self.busy.contains(other) || self.dirty.contains(other)
        });
        self.busy.remove(target);
        self.paces.entry(target.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Longer than any pause that lets a pace be forgotten.
    const SLOW: Duration = Duration::from_secs(10);

    /// Something is begun, and fails after a while.
    async fn try_in_vain(queue: &mut Queue<&'static str>, target: &'static str) {
        queue.begin(target);
        tokio::time::advance(SLOW).await;
        queue.failed(&target);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_failures_are_tried_ever_later() {
        for others in [&["a"][..], &["a", "b"]] {
            let mut queue = Queue::default();
            queue.add(others.iter().copied());
            let mut wait = Duration::ZERO;
            for _ in 0..20 {
                if let Some(due) = queue.due() {
                    tokio::time::sleep_until(due).await;
                }
                while let Some(target) = queue.take_due() {
                    try_in_vain(&mut queue, target).await;
                    wait = queue.paces[target].due() - Instant::now();
                }
            }
            assert!(wait >= SLOW, "{wait:?} of {others:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_busy_is_not_taken_twice() {
        let mut queue = Queue::default();
        queue.add(["a", "b"]);
        let first = queue.take_due().unwrap();
        queue.begin(first);
        queue.add([first]);
        assert_eq!(queue.take_due(), Some("b"));
        assert_eq!(queue.take_due(), None);
        queue.written(&first);
        assert_eq!(queue.take_due(), None, "not so soon");
        tokio::time::sleep_until(queue.due().unwrap()).await;
        assert_eq!(queue.take_due(), Some(first));
        queue.begin(first);
        queue.gone(&first);
        assert_eq!((queue.take_due(), queue.paces.len()), (None, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_waits_for_is_forgotten() {
        let mut queue = Queue::default();
        queue.written(&"a");
        tokio::time::advance(SLOW).await;
        queue.written(&"b");
        assert!(queue.paces.keys().eq([&"b"]));
    }
}
