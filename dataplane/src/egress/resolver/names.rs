//! The names that a worker knows: within a bound, and nobody who fills it takes anything from others.
//!
//! A name counts as that of one namespace: of those whose callers want it, one that has few. When there are too many names, the
//! namespace that has the most forgets those of its own that were not wanted for longest.

use std::{collections::HashMap, mem, rc::Rc};

use foldhash::fast::RandomState;

use super::Name;
use crate::shares::{Share, Shares};

/// Names that are known at once.
pub(super) const MAX_NAMES: usize = 10_000;
/// As many are forgotten at once, or more, so that it is seldom looked for some.
const BATCH: u32 = 128;

#[derive(Default)]
pub(super) struct Names {
    known: HashMap<Box<str>, Known, RandomState>,
    shares: Shares,
    /// How often a name was wanted.
    wanted: u64,
}

struct Known {
    name: Rc<Name>,
    share: Rc<Share>,
    /// The last time that it was wanted, by that count.
    wanted: u64,
}

impl Names {
    /// What is known of a name that somebody in `namespace` wants.
    pub(super) fn entry(&mut self, name: &str, namespace: &str) -> Rc<Name> {
        self.wanted += 1;
        if let Some(known) = self.known.get_mut(name) {
            known.wanted = self.wanted;
            let is_others = known.share.namespace() != namespace;
            if is_others && self.shares.held_by(namespace) + 1 < known.share.held() {
                let share = self.shares.take(namespace);
                let before = mem::replace(&mut known.share, share);
                self.shares.give_back(&before);
            }
            return Rc::clone(&known.name);
        }
        if self.known.len() >= MAX_NAMES {
            self.make_room();
        }
        let known = Known {
            name: Rc::default(),
            share: self.shares.take(namespace),
            wanted: self.wanted,
        };
        let entry = Rc::clone(&known.name);
        self.known.insert(name.into(), known);
        entry
    }

    fn make_room(&mut self) {
        // Where nobody has many, nobody is in the way of others.
        let largest = self.shares.largest().cloned();
        let largest = largest.filter(|share| share.held() / 2 >= BATCH);
        let batch = largest.as_ref().map_or(BATCH, |share| share.held() / 2);
        let is_in_turn = |known: &Known| {
            let mut largest = largest.iter();
            largest.all(|share| Rc::ptr_eq(share, &known.share))
        };
        let in_turn = self.known.values().filter(|known| is_in_turn(known));
        let mut wanted: Vec<_> = in_turn.map(|known| known.wanted).collect();
        let Some(last) = wanted.len().min(batch as usize).checked_sub(1) else {
            return;
        };
        let (_, &mut last, _) = wanted.select_nth_unstable(last);
        self.known.retain(|_, known| {
            let stays = known.wanted > last || !is_in_turn(known);
            if !stays {
                self.shares.give_back(&known.share);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_known(names: &Names, name: &str) -> bool {
        names.known.contains_key(name)
    }

    #[test]
    fn the_names_wanted_last_are_kept_within_the_bound() {
        let mut names = Names::default();
        let first = names.entry("n0", "ns");
        for number in 0..2 * MAX_NAMES {
            names.entry(&format!("n{number}"), "ns");
            assert!(Rc::ptr_eq(&first, &names.entry("n0", "ns")), "{number}");
            assert!(names.known.len() <= MAX_NAMES);
            assert_eq!(names.known.len(), names.shares.all() as usize);
        }
        assert!(is_known(&names, &format!("n{}", 2 * MAX_NAMES - 1)));
        assert!(!is_known(&names, "n1"));
    }

    #[test]
    fn a_namespace_that_wants_very_many_names_forgets_its_own() {
        let mut names = Names::default();
        let modest: Vec<_> = (0..1000).map(|n| format!("{n}.modest.example")).collect();
        for name in &modest {
            names.entry(name, "modest");
        }
        for number in 0..3 * MAX_NAMES {
            names.entry(&format!("{number}.greedy.example"), "greedy");
            assert!(names.known.len() <= MAX_NAMES);
            if number == MAX_NAMES / 2 {
                // What both want stays with the one that has few, whoever wanted it first.
                names.entry("0.modest.example", "greedy");
                names.entry("5000.greedy.example", "modest");
            }
        }
        assert!(modest.iter().all(|name| is_known(&names, name)));
        assert!(is_known(&names, "5000.greedy.example"));
        assert!(!is_known(&names, "5001.greedy.example"));
        assert_eq!(names.shares.held_by("modest"), 1001);
        assert_eq!(names.known.len(), names.shares.all() as usize);
    }

    #[test]
    fn where_everybody_wants_few_names_the_oldest_are_forgotten() {
        let mut names = Names::default();
        for number in 0..3 * MAX_NAMES {
            names.entry(&format!("{number}.example"), &(number / 2).to_string());
            assert!(names.known.len() <= MAX_NAMES);
        }
        assert_eq!(names.known.len(), names.shares.all() as usize);
        let oldest = 3 * MAX_NAMES - (MAX_NAMES - BATCH as usize);
        assert!((oldest..3 * MAX_NAMES).all(|n| is_known(&names, &format!("{n}.example"))));
    }
}
