//! Which answers a client has yet to take, although their exchange is over.
//!
//! The h2 crate keeps what the client's windows hold back and says nothing about it. But it drops each piece once it is
//! sent, so the last piece of such an answer is one that can be counted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use bytes::Bytes;

/// The last pieces of a connection's answers that wait for the client.
#[derive(Clone, Debug, Default)]
pub(super) struct Tails(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    held_back: AtomicUsize,
    released: AtomicU64,
}

/// One of them, counted until it is sent or thrown away.
struct Tail {
    data: Bytes,
    tails: Tails,
}

impl Tails {
    /// `data`, counted.
    pub(super) fn count(&self, data: Bytes) -> Bytes {
        self.0.held_back.fetch_add(1, Ordering::Relaxed);
        let tails = self.clone();
        Bytes::from_owner(Tail { data, tails })
    }

    /// How many there were that are gone.
    pub(super) fn released(&self) -> u64 {
        self.0.released.load(Ordering::Relaxed)
    }

    /// Whether there is any.
    pub(super) fn are_held_back(&self) -> bool {
        self.0.held_back.load(Ordering::Relaxed) > 0
    }
}

impl AsRef<[u8]> for Tail {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let counts = &self.tails.0;
        counts.held_back.fetch_sub(1, Ordering::Relaxed);
        counts.released.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Buf;

    use super::*;

    #[test]
    fn a_tail_counts_until_the_last_of_it_is_gone() {
        let tails = Tails::default();
        for text in ["", "abc"] {
            let mut tail = tails.count(Bytes::from_static(text.as_bytes()));
            assert_eq!(tail, text);
            let part = tail.copy_to_bytes(text.len().min(1));
            assert!(tails.are_held_back());
            drop((tail, part));
            assert!(!tails.are_held_back());
        }
        assert_eq!(tails.released(), 2);
    }
}
