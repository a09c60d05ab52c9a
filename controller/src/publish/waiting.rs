//! How many bytes of frames wait for clients that are slow to take them.
//!
//! A frame is held once, however many send it. But slow clients may have stopped at many different ones, so that what is
//! held for them is bounded: for each Gateway, and for all together.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::limits::{MAX_WAITING, MAX_WAITING_IN_ALL};

/// The bytes that wait for the clients of one Gateway.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    own: AtomicUsize,
    all: Arc<AtomicUsize>,
}

impl Waiting {
    /// Of a Gateway, whose frames count together with those of all others who share `all`.
    pub(super) fn new(all: Arc<AtomicUsize>) -> Arc<Self> {
        Arc::new(Self {
            own: AtomicUsize::new(0),
            all,
        })
    }

    /// Counts a frame of so many bytes until what is returned is dropped; `None` if it is too much. A Gateway for which
    /// nothing waits may always have one, whatever the others do.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let own = self.own.fetch_add(bytes, Relaxed);
        let all = self.all.fetch_add(bytes, Relaxed);
        let held = Held {
            waiting: Arc::clone(self),
            bytes,
        };
        let fits = own + bytes <= MAX_WAITING && all + bytes <= MAX_WAITING_IN_ALL;
        (own == 0 || fits).then_some(held)
    }
}

/// Bytes that wait, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    waiting: Arc<Waiting>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.waiting.own.fetch_sub(self.bytes, Relaxed);
        self.waiting.all.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: usize = MAX_WAITING / 4;

    #[test]
    fn what_waits_is_bounded_for_a_gateway_and_for_all() {
        let all = Arc::new(AtomicUsize::new(0));
        let greedy = Waiting::new(Arc::clone(&all));
        let held: Vec<_> = (0..4).map(|_| greedy.hold(PART).unwrap()).collect();
        assert!(greedy.hold(1).is_none());
        let other = Waiting::new(Arc::clone(&all));
        let of_other = other.hold(PART).unwrap();
        drop(held);
        assert_eq!(all.load(Relaxed), PART);
        assert!(greedy.hold(PART).is_some());

        let many: Vec<_> = (0..MAX_WAITING_IN_ALL / PART)
            .map(|_| Waiting::new(Arc::clone(&all)).hold(PART).unwrap())
            .collect();
        assert!(other.hold(PART).is_none(), "all together hold too much");
        drop(of_other);
        let last = other.hold(PART);
        assert!(last.is_some(), "nothing waits for it yet");
        drop((many, last));
        assert_eq!(all.load(Relaxed), 0);
    }
}
