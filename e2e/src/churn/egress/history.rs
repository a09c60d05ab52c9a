//! Which worlds may be in force at a moment: not before the one that the proxy has acknowledged, and not after the one that was
//! published last.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::world::World;

/// Worlds that are remembered: more than are published while a tunnel lasts.
const REMEMBERED: usize = 256;
/// Destinations and callers that are remembered as those that something has happened to.
const RECENT: usize = 32;

/// See the module. Shared by who publishes and who calls.
pub(super) struct History(Mutex<Inner>);

struct Inner {
    /// The last worlds that were published, and the number of the first of them.
    worlds: VecDeque<World>,
    first: u64,
    acknowledged: u64,
    recent: VecDeque<Recent>,
}

/// What something has happened to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Recent {
    /// A site, by its number.
    Site(usize),
    /// A caller, by the number of its address.
    Caller(usize),
}

impl History {
    /// Begins with a world that is in force.
    pub(super) fn new(world: World) -> Self {
        Self(Mutex::new(Inner {
            worlds: VecDeque::from([world]),
            first: 0,
            acknowledged: 0,
            recent: VecDeque::new(),
        }))
    }

    /// A world is about to be published. Returns its number.
    pub(super) fn publish(&self, world: World, recent: Vec<Recent>) -> u64 {
        let mut inner = self.lock();
        inner.worlds.push_back(world);
        if inner.worlds.len() > REMEMBERED {
            inner.worlds.pop_front();
            inner.first += 1;
        }
        inner.recent.extend(recent);
        let surplus = inner.recent.len().saturating_sub(RECENT);
        inner.recent.drain(..surplus);
        inner.published()
    }

    /// The proxy serves the world with that number, or a later one.
    pub(super) fn acknowledge(&self, number: u64) {
        let mut inner = self.lock();
        inner.acknowledged = inner.acknowledged.max(number);
    }

    /// The number of the oldest world that may be in force.
    pub(super) fn in_force(&self) -> u64 {
        self.lock().acknowledged
    }

    /// The newest world.
    pub(super) fn latest(&self) -> Option<World> {
        self.lock().worlds.back().cloned()
    }

    /// One of those that something has happened to lately.
    pub(super) fn recent(&self, draw: usize) -> Option<Recent> {
        let inner = self.lock();
        let count = inner.recent.len().max(1);
        inner.recent.get(draw % count).copied()
    }

    /// The worlds from the one with that number up to the newest. `None` if it is forgotten.
    pub(super) fn since(&self, number: u64) -> Option<Vec<World>> {
        let inner = self.lock();
        let skipped = usize::try_from(number.checked_sub(inner.first)?).ok()?;
        Some(inner.worlds.iter().skip(skipped).cloned().collect())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn published(&self) -> u64 {
        self.first + self.worlds.len() as u64 - 1
    }
}
