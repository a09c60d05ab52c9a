//! What the callers of each namespace have of a thing of which a worker has only so much.

use std::{cell::Cell, collections::HashMap, rc::Rc};

use foldhash::fast::RandomState;

/// As many times what is still free a namespace may have.
const PER_FREE: u32 = 3;

/// What they have. Callers of whom nothing is known are as one namespace, `""`. Who has nothing is forgotten when others need the room,
/// and not before: most of them come again.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    of: HashMap<Rc<str>, Rc<Share>, RandomState>,
    all: u32,
}

/// What one namespace has.
#[derive(Debug)]
pub(crate) struct Share {
    namespace: Rc<str>,
    held: Cell<u32>,
}

impl Share {
    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) fn held(&self) -> u32 {
        self.held.get()
    }
}

impl Shares {
    /// What all have together.
    pub(crate) fn all(&self) -> u32 {
        self.all
    }

    /// What a namespace has.
    pub(crate) fn held_by(&self, namespace: &str) -> u32 {
        self.of.get(namespace).map_or(0, |share| share.held())
    }

    /// Whether a namespace may have one more where so many are `free`: in proportion to these, so that whoever has few gets one
    /// however many others take.
    pub(crate) fn may_take(&self, namespace: &str, free: u32) -> bool {
        self.held_by(namespace) < free.saturating_mul(PER_FREE)
    }

    /// What that namespace has that has the most.
    pub(crate) fn largest(&self) -> Option<&Rc<Share>> {
        self.of.values().max_by_key(|share| share.held())
    }

    /// One more for a namespace, which goes [back](Self::give_back) to the share that is returned.
    pub(crate) fn take(&mut self, namespace: &str) -> Rc<Share> {
        let share = match self.of.get(namespace) {
            Some(share) => Rc::clone(share),
            None => self.begin(namespace),
        };
        share.held.set(share.held() + 1);
        self.all += 1;
        share
    }

    pub(crate) fn give_back(&mut self, share: &Share) {
        share.held.set(share.held().saturating_sub(1));
        self.all = self.all.saturating_sub(1);
    }

    fn begin(&mut self, namespace: &str) -> Rc<Share> {
        if self.of.len() == self.of.capacity() {
            self.of.retain(|_, share| share.held() > 0);
        }
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
    fn what_is_taken_counts_until_it_is_given_back() {
        let mut shares = Shares::default();
        let [one, two, other] = ["a", "a", ""].map(|namespace| shares.take(namespace));
        assert!(Rc::ptr_eq(&one, &two));
        assert_eq!((shares.held_by("a"), shares.held_by("")), (2, 1));
        assert_eq!((shares.held_by("b"), shares.all()), (0, 3));
        assert!(Rc::ptr_eq(shares.largest().unwrap(), &one));
        for share in [one, other, two] {
            shares.give_back(&share);
        }
        assert_eq!((shares.all(), shares.held_by("a")), (0, 0));
    }

    #[test]
    fn whoever_has_few_gets_one_however_many_others_take() {
        let mut shares = Shares::default();
        let mut fill = |namespace| {
            let mut taken = 0;
            while shares.may_take(namespace, 1024 - shares.all()) {
                shares.take(namespace);
                taken += 1;
            }
            taken
        };
        assert_eq!(["a", "b", "", "a"].map(&mut fill), [768, 192, 48, 0]);
    }

    #[test]
    fn who_has_nothing_is_forgotten_in_the_end() {
        let mut shares = Shares::default();
        let stays = shares.take("stays");
        for number in 0..10_000 {
            let share = shares.take(&number.to_string());
            shares.give_back(&share);
        }
        assert!(shares.of.len() < 100, "{}", shares.of.len());
        assert!(Rc::ptr_eq(&stays, &shares.take("stays")));
    }
}
