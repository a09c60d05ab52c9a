//! Counts by key, of which the most frequent are kept: memory is bounded, whatever callers ask for.

use std::{collections::HashMap, hash::Hash};

use jiff::Timestamp;

/// Keys that are kept at least. Twice as many may be, until the rarer half is given up.
const KEPT: usize = 10_000;

/// Counts.
#[derive(Debug)]
pub(super) struct Tally<K> {
    counts: HashMap<K, Count>,
    kept: usize,
    /// Of keys that are not kept.
    others: u64,
}

/// How often something was seen, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) times: u64,
    pub(super) first: Timestamp,
    pub(super) last: Timestamp,
}

impl Count {
    /// Seen once.
    pub(super) fn once(time: Timestamp) -> Self {
        Self {
            times: 1,
            first: time,
            last: time,
        }
    }

    /// With what was seen beside it.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            times: self.times + other.times,
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

impl<K> Default for Tally<K> {
    fn default() -> Self {
        Self {
            counts: HashMap::new(),
            kept: KEPT,
            others: 0,
        }
    }
}

impl<K: Hash + Ord> Tally<K> {
    /// Counts one.
    pub(super) fn add(&mut self, key: K, time: Timestamp) {
        let once = Count::once(time);
        let counted = self.counts.entry(key);
        counted
            .and_modify(|count| *count = count.and(once))
            .or_insert(once);
        if self.counts.len() > 2 * self.kept {
            let mut all: Vec<_> = self.counts.drain().collect();
            sort(&mut all);
            let rare = all.split_off(self.kept);
            self.others += rare.iter().map(|(_, count)| count.times).sum::<u64>();
            self.counts.extend(all);
        }
    }

    /// Most frequent first, and how many were counted besides.
    pub(super) fn sorted(self) -> (Vec<(K, Count)>, u64) {
        let mut all: Vec<_> = self.counts.into_iter().collect();
        sort(&mut all);
        (all, self.others)
    }
}

/// Of those that are as frequent, by their keys.
fn sort<K: Ord>(all: &mut [(K, Count)]) {
    all.sort_by(|(a, counted), (b, other)| (other.times, a).cmp(&(counted.times, b)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_most_frequent_come_first_with_their_times() {
        let mut tally = Tally::default();
        for (key, second) in [("b", 5), ("c", 1), ("a", 3), ("c", 9), ("c", 4)] {
            tally.add(key, at(second));
        }
        let (sorted, others) = tally.sorted();
        let keys: Vec<_> = sorted
            .iter()
            .map(|(key, count)| (*key, count.times))
            .collect();
        assert_eq!((keys, others), (vec![("c", 3), ("a", 1), ("b", 1)], 0));
        assert_eq!((sorted[0].1.first, sorted[0].1.last), (at(1), at(9)));
    }

    #[test]
    fn memory_is_bounded_and_nothing_goes_uncounted() {
        let mut tally = Tally {
            kept: 3,
            ..Tally::default()
        };
        for round in 0..100 {
            tally.add(u32::MAX, at(0));
            tally.add(round, at(0));
            assert!(tally.counts.len() <= 6);
        }
        let (sorted, others) = tally.sorted();
        assert_eq!(sorted[0].0, u32::MAX);
        assert_eq!(sorted[0].1.times, 100);
        let kept: u64 = sorted.iter().map(|(_, count)| count.times).sum();
        assert_eq!(kept + others, 200);
    }
}
