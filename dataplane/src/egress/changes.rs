//! Tells whatever is under way in one worker that there is a new table. It is asked at every wake of a tunnel, so it costs a
//! comparison, and no lock, while there is none.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    task::{Context, Poll, Waker},
};

use slab::Slab;

/// The tables of one worker, as far as somebody may have to end for them.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: Cell<u64>,
    waiting: RefCell<Slab<Waker>>,
}

impl Changes {
    /// There is a new one.
    pub(super) fn tell(&self) {
        self.count.set(self.count.get().wrapping_add(1));
        for (_, waker) in self.waiting.borrow().iter() {
            waker.wake_by_ref();
        }
    }

    /// Changes with every new one.
    pub(crate) fn count(&self) -> u64 {
        self.count.get()
    }

    /// Waits for the next one.
    pub(crate) fn listen(&self) -> Listener<'_> {
        Listener {
            changes: self,
            heard: self.count(),
            place: None,
        }
    }
}

/// Somebody who waits for new tables.
#[derive(Debug)]
pub(crate) struct Listener<'a> {
    changes: &'a Changes,
    heard: u64,
    place: Option<usize>,
}

impl Listener<'_> {
    /// Resolves at once if there was a new table since the last time, or since this was made.
    pub(crate) async fn changed(&mut self) {
        poll_fn(|cx| self.poll_changed(cx)).await;
    }

    fn poll_changed(&mut self, cx: &Context<'_>) -> Poll<()> {
        let count = self.changes.count();
        if self.heard != count {
            self.heard = count;
            return Poll::Ready(());
        }
        let mut waiting = self.changes.waiting.borrow_mut();
        match self.place.and_then(|place| waiting.get_mut(place)) {
            Some(known) => known.clone_from(cx.waker()),
            None => self.place = Some(waiting.insert(cx.waker().clone())),
        }
        Poll::Pending
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.changes.waiting.borrow_mut().try_remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_heard_once_and_none_is_missed() {
        let changes = Changes::default();
        let cx = Context::from_waker(Waker::noop());
        let (mut early, mut late) = (changes.listen(), changes.listen());
        assert!(early.poll_changed(&cx).is_pending());
        changes.tell();
        changes.tell();
        for listener in [&mut early, &mut late] {
            assert!(listener.poll_changed(&cx).is_ready());
            assert!(listener.poll_changed(&cx).is_pending());
        }
        drop(early);
        assert_eq!(changes.waiting.borrow().len(), 1);
        assert!(changes.listen().poll_changed(&cx).is_pending());
    }
}
