//! Coarse deadlines and the signal to drain, kept per worker: setting one is a store, one sweep a quarter of a second
//! looks at all of them.
//!
//! Connections set deadlines several times per request and almost none ever passes, so a timer of the runtime for each
//! would be pure cost. A deadline is never early, and late by two ticks at most.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use slab::Slab;
use tokio::{sync::Notify, time::sleep};

/// Time between two sweeps.
const TICK: Duration = Duration::from_millis(250);

/// What a client has left that has connected, but not asked for anything, when the proxy ends.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Deadlines that are kept for the next exchanges.
const MAX_SPARES: usize = 1024;

/// No deadline.
const NEVER: u64 = u64::MAX;

/// All deadlines of a worker.
#[derive(Debug)]
pub struct Deadlines {
    started: Instant,
    /// Milliseconds since `started`, as of the last sweep.
    now: Cell<u64>,
    /// How many there are; without any nobody sweeps.
    live: Cell<usize>,
    /// Tells that there is one again.
    begun: Notify,
    /// Of everybody, whoever comes included.
    drain: Cell<Drain>,
    watches: RefCell<Slab<Rc<Watch>>>,
    /// Those of exchanges that are over: each exchange needs one, so they are not made anew.
    spares: RefCell<Vec<Place>>,
}

/// A watch, and its key among all of them.
#[derive(Debug)]
struct Place {
    watch: Rc<Watch>,
    key: usize,
}

/// How far a connection is in its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Drain {
    /// Not at all.
    Not,
    /// The next answer is the last one. Without a request nothing happens, so that none is lost that is on its way.
    Announced,
    /// Whatever is idle closes.
    Now,
}

/// What one connection (or stream) waits for besides its bytes.
#[derive(Debug)]
struct Watch {
    at: Cell<u64>,
    drain: Cell<Drain>,
    /// The port whose removal drains it.
    port: Option<u16>,
    waker: RefCell<Option<Waker>>,
}

/// A deadline, and the signal to drain. Gone when dropped.
#[derive(Debug)]
pub(crate) struct Deadline {
    watch: Rc<Watch>,
    key: usize,
    all: Rc<Deadlines>,
}

impl Deadlines {
    /// Without any deadline.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            started: Instant::now(),
            now: Cell::new(0),
            live: Cell::new(0),
            begun: Notify::new(),
            drain: Cell::new(Drain::Not),
            watches: RefCell::default(),
            spares: RefCell::default(),
        })
    }

    /// A new, unset deadline. One with a `port` is drained together with it.
    pub(crate) fn register(self: &Rc<Self>, port: Option<u16>) -> Deadline {
        let live = self.live.get();
        self.live.set(live + 1);
        if live == 0 {
            // The last sweep may be long ago.
            self.now.set(millis(self.started.elapsed()));
            self.begun.notify_one();
        }
        let spare = port
            .is_none()
            .then(|| self.spares.borrow_mut().pop())
            .flatten();
        if let Some(Place { watch, key }) = spare {
            let all = Rc::clone(self);
            return Deadline { watch, key, all };
        }
        let watch = Rc::new(Watch {
            at: Cell::new(NEVER),
            drain: Cell::new(match port {
                Some(_) => self.drain.get(),
                None => Drain::Not,
            }),
            port,
            waker: RefCell::new(None),
        });
        let key = self.watches.borrow_mut().insert(Rc::clone(&watch));
        Deadline {
            watch,
            key,
            all: Rc::clone(self),
        }
    }

    /// Sweeps for as long as there is any deadline, again and again. A worker without connections is not woken for it.
    pub(crate) async fn keep_sweeping(&self) {
        loop {
            while self.live.get() == 0 {
                self.begun.notified().await;
            }
            sleep(TICK).await;
            self.sweep();
        }
    }

    /// Wakes everybody whose deadline has passed.
    fn sweep(&self) {
        self.sweep_at(self.started.elapsed());
    }

    /// The same as of a given time since the start.
    pub(crate) fn sweep_at(&self, elapsed: Duration) {
        self.now.set(millis(elapsed));
        for (_, watch) in self.watches.borrow().iter() {
            if watch.at.get() <= self.now.get() {
                watch.wake();
            }
        }
    }

    /// Tells all connections, and those that are still to come, that they answer once more.
    pub(crate) fn announce_drain(&self) {
        self.drain_to(Drain::Announced, None);
    }

    /// Tells the connections of `port`, or all of them, to drain; with all of them those that are still to come.
    pub(crate) fn drain(&self, port: Option<u16>) {
        self.drain_to(Drain::Now, port);
    }

    fn drain_to(&self, drain: Drain, port: Option<u16>) {
        if port.is_none() {
            self.drain.set(self.drain.get().max(drain));
        }
        for (_, watch) in self.watches.borrow().iter() {
            if watch.port.is_some() && (port.is_none() || watch.port == port) {
                watch.drain.set(watch.drain.get().max(drain));
                watch.wake();
            }
        }
    }
}

impl Watch {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Deadline {
    /// Another one of the same worker, unset, which drains with no port.
    pub(crate) fn another(&self) -> Self {
        self.all.register(None)
    }

    /// Passes `duration` from now.
    pub(crate) fn set(&self, duration: Duration) {
        self.watch.at.set(self.after(duration));
    }

    /// Passes after the last call, if it would not pass before.
    pub(crate) fn hurry(&self) {
        let at = self.watch.at.get().min(self.after(LAST_CALL));
        self.watch.at.set(at);
    }

    fn after(&self, duration: Duration) -> u64 {
        // The present may be one tick ahead of the last sweep.
        let now = self.all.now.get().saturating_add(millis(TICK));
        now.saturating_add(millis(duration))
    }

    /// Does not pass any more.
    pub(crate) fn clear(&self) {
        self.watch.at.set(NEVER);
    }

    /// Whether the next answer is to be the connection's last one.
    pub(crate) fn is_draining(&self) -> bool {
        self.watch.drain.get() >= Drain::Announced
    }

    /// Whether the connection is to close unless a request is under way.
    pub(crate) fn closes_when_idle(&self) -> bool {
        self.watch.drain.get() == Drain::Now
    }

    /// Waits for the deadline.
    pub(crate) fn poll_passed(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.watch.at.get() <= self.all.now.get() {
            return Poll::Ready(());
        }
        let mut waker = self.watch.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Does something that comes before a request; gives up when the deadline passes.
    pub(crate) async fn before_request<T>(
        &self,
        work: impl Future<Output = io::Result<T>>,
    ) -> io::Result<T> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => self
                .poll_passed_before_request(cx)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
        })
        .await
    }

    /// The same for a connection on which nothing has been asked yet: it does not hold the end of the proxy up.
    pub(crate) fn poll_passed_before_request(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.closes_when_idle() {
            self.hurry();
        }
        self.poll_passed(cx)
    }

    /// Waits until nothing has moved for `span`, as told by a number that changes when something does. `seen` is the last
    /// one that was looked at. The deadline must be set: it is looked at only when it passes.
    pub(crate) fn poll_stalled(
        &self,
        cx: &mut Context<'_>,
        span: Duration,
        seen: &mut u64,
        progress: impl Fn() -> u64,
    ) -> Poll<()> {
        loop {
            ready!(self.poll_passed(cx));
            let progress = progress();
            if progress == *seen {
                return Poll::Ready(());
            }
            *seen = progress;
            self.set(span);
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let live = &self.all.live;
        live.set(live.get().saturating_sub(1));
        let mut spares = self.all.spares.borrow_mut();
        if self.watch.port.is_some() || spares.len() >= MAX_SPARES {
            self.all.watches.borrow_mut().try_remove(self.key);
            return;
        }
        self.clear();
        self.watch.waker.take();
        spares.push(Place {
            watch: Rc::clone(&self.watch),
            key: self.key,
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn passed(deadline: &Deadline) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        deadline.poll_passed(&mut cx).is_ready()
    }

    #[test]
    fn a_deadline_is_never_early_and_at_most_two_ticks_late() {
        let all = Deadlines::new();
        let deadline = all.register(None);
        deadline.set(Duration::from_secs(1));
        all.sweep_at(Duration::from_secs(1));
        assert!(!passed(&deadline));
        all.sweep_at(Duration::from_millis(1500));
        assert!(passed(&deadline));
        deadline.set(Duration::from_secs(1));
        assert!(!passed(&deadline));
        deadline.clear();
        all.sweep_at(Duration::from_secs(1_000_000));
        assert!(!passed(&deadline));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_deadline_nobody_sweeps() {
        let all = Deadlines::new();
        let mut sweeps = pin!(all.keep_sweeping());
        let mut cx = Context::from_waker(Waker::noop());
        let mut sweeps_in_time = async || {
            assert!(sweeps.as_mut().poll(&mut cx).is_pending());
            all.now.set(NEVER);
            tokio::time::advance(2 * TICK).await;
            assert!(sweeps.as_mut().poll(&mut cx).is_pending());
            all.now.get() != NEVER
        };
        assert!(!sweeps_in_time().await);
        let deadline = all.register(None);
        assert_ne!(all.now.get(), NEVER, "the present is known at once");
        assert!(sweeps_in_time().await);
        drop(deadline);
        assert!(sweeps_in_time().await, "once more, as was begun");
        assert!(!sweeps_in_time().await);
    }

    #[test]
    fn whoever_makes_progress_is_not_stalled() {
        let all = Deadlines::new();
        let deadline = all.register(None);
        let mut seen = 0;
        let mut stalled = |seconds, progress| {
            all.sweep_at(Duration::from_secs(seconds));
            let mut cx = Context::from_waker(Waker::noop());
            deadline
                .poll_stalled(&mut cx, Duration::from_secs(10), &mut seen, || progress)
                .is_ready()
        };
        deadline.set(Duration::from_secs(10));
        assert!(!stalled(9, 0));
        assert!(!stalled(11, 1));
        assert!(!stalled(20, 1));
        assert!(stalled(22, 1));
    }

    #[test]
    fn a_port_drains_alone() {
        let all = Deadlines::new();
        let [first, second, stream] = [Some(80), Some(443), None].map(|port| all.register(port));
        all.drain(Some(80));
        assert!(first.is_draining() && !second.is_draining());
        all.drain(None);
        assert!(second.is_draining() && !stream.is_draining());
        let late = all.register(Some(80));
        assert!(late.is_draining());
        drop((first, second, late));
        assert_eq!(all.watches.borrow().len(), 1);
        drop(stream);
    }

    #[test]
    fn what_an_exchange_leaves_the_next_one_takes() {
        let all = Deadlines::new();
        for _ in 0..3 {
            let [one, other] = [(); 2].map(|()| all.register(None));
            all.sweep_at(Duration::from_secs(1_000_000));
            assert!(!passed(&one) && !passed(&other), "new ones are unset");
            one.set(Duration::ZERO);
        }
        assert_eq!(all.watches.borrow().len(), 2);
        let many: Vec<_> = (0..MAX_SPARES + 5).map(|_| all.register(None)).collect();
        drop(many);
        assert_eq!(all.watches.borrow().len(), MAX_SPARES);
    }
}
