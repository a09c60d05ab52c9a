//! A map of which hundreds of copies are kept that hardly differ: they share the parts that are the same.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// Parts of a map.
const PARTS: usize = 64;

/// See the module.
#[derive(Clone)]
pub(super) struct SharedMap<K, V>(Vec<Arc<BTreeMap<K, V>>>);

impl<K: Ord + Hash + Clone, V: Clone> SharedMap<K, V> {
    pub(super) fn new() -> Self {
        Self((0..PARTS).map(|_| Arc::default()).collect())
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.0[part(key)].get(key)
    }

    /// The part that has, or would have, a key; no longer shared with copies.
    pub(super) fn part_mut(&mut self, key: &K) -> &mut BTreeMap<K, V> {
        Arc::make_mut(&mut self.0[part(key)])
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().flat_map(|part| part.values())
    }
}

fn part(key: &impl Hash) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % PARTS as u64).unwrap_or(0)
}
