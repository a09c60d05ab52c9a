//! What the callers of each namespace have of a thing of which a worker has only so much.

use std::{cell::Cell, collections::HashMap, rc::Rc};

use foldhash::fast::RandomState;

/// What they have. Callers of whom nothing is known are as one namespace, `""`; who has nothing takes no room.
#[derive(Debug, Default)]
pub(super) struct Shares {
    of: HashMap<Rc<str>, Rc<Share>, RandomState>,
    all: u32,
}

/// What one namespace has.
#[derive(Debug)]
pub(super) struct Share {
    namespace: Rc<str>,
    held: Cell<u32>,
}

impl Share {
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(super) fn held(&self) -> u32 {
        self.held.get()
    }
}

impl Shares {
    /// What all have together.
    pub(super) fn all(&self) -> u32 {
        self.all
    }

    /// What a namespace has.
    pub(super) fn held_by(&self, namespace: &str) -> u32 {
        self.of.get(namespace).map_or(0, |share| share.held())
    }

    /// What that namespace has that has the most.
    pub(super) fn largest(&self) -> Option<&Rc<Share>> {
        self.of.values().max_by_key(|share| share.held())
    }

    /// One more for a namespace, which goes [back](Self::give_back) to the share that is returned.
    pub(super) fn take(&mut self, namespace: &str) -> Rc<Share> {
        let share = match self.of.get(namespace) {
            Some(share) => Rc::clone(share),
            None => self.begin(namespace),
        };
        share.held.set(share.held() + 1);
        self.all += 1;
        share
    }

    pub(super) fn give_back(&mut self, share: &Share) {
        share.held.set(share.held().saturating_sub(1));
        self.all = self.all.saturating_sub(1);
        if share.held() == 0 {
            self.of.remove(&share.namespace);
        }
    }

    fn begin(&mut self, namespace: &str) -> Rc<Share> {
        let namespace: Rc<str> = namespace.into();
        let share = Rc::new(Share {
            namespace: Rc::clone(&namespace),
            held: Cell::new(0),
        });
        self.of.insert(namespace, Rc::clone(&share));
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_counts_until_it_is_given_back_and_who_has_nothing_is_forgotten() {
        let mut shares = Shares::default();
        let [one, two, other] = ["a", "a", ""].map(|namespace| shares.take(namespace));
        assert!(Rc::ptr_eq(&one, &two));
        assert_eq!((shares.held_by("a"), shares.held_by("")), (2, 1));
        assert_eq!((shares.held_by("b"), shares.all()), (0, 3));
        assert!(Rc::ptr_eq(shares.largest().unwrap(), &one));
        for share in [one, other, two] {
            shares.give_back(&share);
        }
        assert_eq!((shares.all(), shares.of.len()), (0, 0));
    }
}
