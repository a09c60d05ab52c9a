//! Frames that wait for clients that are slow to take them: how many bytes they are, and who makes room for others.
//!
//! A frame is held once, however many take it, and a connection takes one at a time. But slow clients may have stopped at
//! many different ones, so that what is held for them is bounded: for each Gateway, and for all together. When there is no room
//! for one more, those who have taken nothing for a while are let go, if that makes room enough. Otherwise nobody is.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use portcullis_routing::GatewayKey;
use tokio::{sync::Notify, time::Instant};

use super::limits::{CHUNK, FRAME_TIMEOUT, Limits};
use crate::run::Tables;

/// What waits for all clients, and who these are.
#[derive(Debug)]
pub(super) struct Waiting {
    limits: Limits,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    held: Vec<Weak<Held>>,
    readers: Vec<Weak<Reader>>,
}

/// Room for a frame, taken until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    gateway: GatewayKey,
    bytes: usize,
}

/// An encoded frame.
#[derive(Debug)]
pub(super) struct Line {
    bytes: Vec<u8>,
    held: Arc<Held>,
}

/// A connection that takes frames, one at a time, for the newest of its streams.
#[derive(Debug, Default)]
pub(super) struct Reader {
    state: Mutex<State>,
    /// It has a newer stream, or is let go.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Number of the newest stream, from 1.
    stream: u64,
    frame: Option<Taking>,
    is_let_go: bool,
}

/// A frame on its way to a client.
#[derive(Debug)]
struct Taking {
    line: Arc<Line>,
    taken: usize,
    begun: Instant,
    /// When something of it was taken last.
    taken_at: Instant,
}

/// What there is for a stream.
#[derive(Debug)]
pub(super) enum Next {
    /// A part of its frame.
    Chunk(Bytes),
    /// It has everything of its frame, or has none.
    Nothing,
    /// It took too long to take its frame.
    Late,
    /// The connection has a newer stream, or is to be closed, or the Gateway is gone.
    Over,
}

/// What is held, or would be if some were let go.
#[derive(Default)]
struct Tally<'a> {
    bytes: usize,
    gateways: BTreeMap<&'a GatewayKey, Part>,
}

/// What is held for one Gateway.
#[derive(Clone, Copy, Default)]
struct Part {
    bytes: usize,
    frames: usize,
}

/// Whose bound leaves no room.
enum Full {
    Gateway,
    All,
}

/// A frame that somebody takes.
struct Taken<'a> {
    line: &'a Arc<Line>,
    readers: usize,
    /// When any of them took something last.
    at: Instant,
}

impl Waiting {
    /// Nothing waits, and nobody is there.
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            books: Mutex::default(),
        })
    }

    /// One more connection.
    pub(super) fn reader(&self) -> Arc<Reader> {
        let reader = Arc::new(Reader::default());
        let mut books = self.lock();
        books.readers.retain(|reader| reader.strong_count() > 0);
        books.readers.push(Arc::downgrade(&reader));
        reader
    }

    /// A frame for one more reader, if it still waits for others. Nobody gets one while it is decided who makes room.
    pub(super) fn find(&self, line: &Weak<Line>) -> Option<Arc<Line>> {
        let _books = self.lock();
        line.upgrade()
    }

    /// Room for a frame of a Gateway; `None` if there is none, and those who take nothing cannot make enough.
    pub(super) fn hold(&self, gateway: &GatewayKey, bytes: usize) -> Option<Arc<Held>> {
        let mut books = self.lock();
        books.held.retain(|held| held.strong_count() > 0);
        let held: Vec<_> = books.held.iter().filter_map(Weak::upgrade).collect();
        self.make_room(&books, Tally::of(&held), gateway, bytes)?;
        let held = Arc::new(Held {
            gateway: gateway.clone(),
            bytes,
        });
        books.held.push(Arc::downgrade(&held));
        Some(held)
    }

    /// Lets go of those who have to, or of nobody if that is not enough.
    fn make_room(
        &self,
        books: &Books,
        tally: Tally<'_>,
        gateway: &GatewayKey,
        bytes: usize,
    ) -> Option<()> {
        if tally.full(&self.limits, gateway, bytes).is_none() {
            return Some(());
        }
        let readers: Vec<_> = books.readers.iter().filter_map(Weak::upgrade).collect();
        // All at once: who goes on meanwhile would be let go in vain.
        let mut states: Vec<_> = readers.iter().map(|reader| reader.lock()).collect();
        let lines = self.enough(&states, tally, gateway, bytes)?;
        for (reader, state) in readers.iter().zip(&mut states) {
            let frame = state.frame.as_ref();
            if frame.is_some_and(|frame| lines.contains(&Arc::as_ptr(&frame.line))) {
                state.frame = None;
                state.is_let_go = true;
                reader.changed.notify_waiters();
            }
        }
        Some(())
    }

    /// Frames without which there is room; `None` if there are not enough that may go.
    fn enough(
        &self,
        states: &[MutexGuard<'_, State>],
        mut tally: Tally<'_>,
        gateway: &GatewayKey,
        bytes: usize,
    ) -> Option<BTreeSet<*const Line>> {
        let mut stuck = self.stuck(states);
        let mut lines = BTreeSet::new();
        while let Some(full) = tally.full(&self.limits, gateway, bytes) {
            let may_go = |line: &&Arc<Line>| tally.may_go(&full, &line.held.gateway, gateway);
            let at = stuck.iter().position(may_go)?;
            let line = stuck.remove(at);
            tally.remove(&line.held);
            lines.insert(Arc::as_ptr(line));
        }
        Some(lines)
    }

    /// Frames of which nobody has taken anything for a while, the longest first.
    fn stuck<'a>(&self, states: &'a [MutexGuard<'_, State>]) -> Vec<&'a Arc<Line>> {
        let mut taken = BTreeMap::new();
        for frame in states.iter().filter_map(|state| state.frame.as_ref()) {
            let line = taken.entry(Arc::as_ptr(&frame.line)).or_insert(Taken {
                line: &frame.line,
                readers: 0,
                at: frame.taken_at,
            });
            line.readers += 1;
            line.at = line.at.max(frame.taken_at);
        }
        let mut stuck: Vec<_> = taken.into_values().collect();
        // What has more owners than readers is about to be given to one.
        stuck.retain(|taken| {
            taken.readers == Arc::strong_count(taken.line)
                && taken.at.elapsed() >= self.limits.grace
        });
        stuck.sort_by_key(|taken| taken.at);
        stuck.into_iter().map(|taken| taken.line).collect()
    }

    /// Ends the streams that take a frame of a Gateway that is no more. Nobody could take their room.
    pub(super) fn keep(&self, tables: &Tables) {
        let books = self.lock();
        for reader in books.readers.iter().filter_map(Weak::upgrade) {
            let is_kept = |frame: &Taking| tables.contains_key(&frame.line.held.gateway);
            if !reader.lock().frame.as_ref().is_none_or(is_kept) {
                reader.begin();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Tally<'a> {
    fn of(all: &'a [Arc<Held>]) -> Self {
        let mut tally = Self::default();
        for held in all {
            tally.bytes += held.bytes;
            let part = tally.gateways.entry(&held.gateway).or_default();
            part.bytes += held.bytes;
            part.frames += 1;
        }
        tally
    }

    fn remove(&mut self, held: &Held) {
        self.bytes -= held.bytes;
        if let Some(part) = self.gateways.get_mut(&held.gateway) {
            part.bytes -= held.bytes;
            part.frames -= 1;
        }
    }

    fn part(&self, gateway: &GatewayKey) -> Part {
        self.gateways.get(gateway).copied().unwrap_or_default()
    }

    /// What keeps a frame out. A Gateway for which nothing waits may always have one, whatever the others do.
    fn full(&self, limits: &Limits, gateway: &GatewayKey, bytes: usize) -> Option<Full> {
        let own = self.part(gateway);
        if own.frames == 0 {
            None
        } else if own.bytes + bytes > limits.waiting_per_gateway {
            Some(Full::Gateway)
        } else if self.bytes + bytes > limits.waiting {
            Some(Full::All)
        } else {
            None
        }
    }

    /// Whether a frame of `theirs` may make room for one of `own`. That others all have too much is no reason to take the only
    /// frame of another Gateway.
    fn may_go(&self, full: &Full, theirs: &GatewayKey, own: &GatewayKey) -> bool {
        theirs == own || matches!(full, Full::All) && self.part(theirs).frames > 1
    }
}

impl Line {
    pub(super) fn new(bytes: Vec<u8>, held: Arc<Held>) -> Arc<Self> {
        Arc::new(Self { bytes, held })
    }
}

impl Reader {
    /// Begins a stream. It takes the place of the one before, with what waits for that.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.lock();
        state.frame = None;
        state.stream += 1;
        self.changed.notify_waiters();
        state.stream
    }

    /// Gives a stream a frame.
    pub(super) fn give(&self, stream: u64, line: Arc<Line>) {
        let mut state = self.lock();
        if state.is_at(stream) {
            let now = Instant::now();
            state.frame = Some(Taking {
                line,
                taken: 0,
                begun: now,
                taken_at: now,
            });
        }
    }

    /// The next part of a stream's frame. A copy: what the connection has not sent yet keeps no frame alive.
    pub(super) fn next(&self, stream: u64) -> Next {
        let mut state = self.lock();
        if !state.is_at(stream) {
            return Next::Over;
        }
        let Some(frame) = &mut state.frame else {
            return Next::Nothing;
        };
        if frame.begun.elapsed() > FRAME_TIMEOUT {
            return Next::Late;
        }
        let rest = frame.line.bytes.get(frame.taken..).unwrap_or_default();
        let chunk = Bytes::copy_from_slice(rest.get(..CHUNK).unwrap_or(rest));
        frame.taken += chunk.len();
        frame.taken_at = Instant::now();
        if chunk.len() == rest.len() {
            state.frame = None;
        }
        Next::Chunk(chunk)
    }

    /// A stream is over.
    pub(super) fn end(&self, stream: u64) {
        let mut state = self.lock();
        if state.stream == stream {
            state.frame = None;
        }
    }

    /// Whether a stream is still served.
    pub(super) fn is_at(&self, stream: u64) -> bool {
        self.lock().is_at(stream)
    }

    /// Waits until a stream is not served any longer.
    pub(super) async fn is_past(&self, stream: u64) {
        self.until(|state| !state.is_at(stream)).await;
    }

    /// Waits until it has made room for others; the connection is to be closed.
    pub(super) async fn is_let_go(&self) {
        self.until(|state| state.is_let_go).await;
    }

    async fn until(&self, is_so: impl Fn(&State) -> bool) {
        loop {
            // Whatever changes from here on is noticed.
            let changed = self.changed.notified();
            if is_so(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this stream is still served.
    fn is_at(&self, stream: u64) -> bool {
        self.stream == stream && !self.is_let_go
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    const PART: usize = 100_000;
    const GRACE: Duration = Duration::from_secs(1);

    /// Room for four parts of a Gateway, and sixteen of all.
    fn waiting() -> Arc<Waiting> {
        Waiting::new(Limits {
            waiting_per_gateway: 4 * PART,
            waiting: 16 * PART,
            grace: GRACE,
            ..Limits::default()
        })
    }

    fn gateway(name: &str) -> GatewayKey {
        GatewayKey::of("infra", name)
    }

    fn held(all: &Waiting) -> usize {
        let books = all.lock();
        let held = books.held.iter().filter_map(Weak::upgrade);
        held.map(|held| held.bytes).sum()
    }

    /// A frame of so many bytes.
    fn line(all: &Waiting, of: &str, bytes: usize) -> Arc<Line> {
        let held = all.hold(&gateway(of), bytes).expect("there is room");
        Line::new(vec![0; bytes], held)
    }

    /// Readers that have begun to take a frame.
    fn begun<const READERS: usize>(all: &Waiting, line: &Arc<Line>) -> [Arc<Reader>; READERS] {
        std::array::from_fn(|_| {
            let reader = all.reader();
            let stream = reader.begin();
            reader.give(stream, Arc::clone(line));
            goes_on(&reader);
            reader
        })
    }

    /// A reader that has begun to take a frame that nobody else takes.
    fn alone(all: &Waiting, of: &str) -> Arc<Reader> {
        let [reader] = begun(all, &line(all, of, PART));
        reader
    }

    fn goes_on(reader: &Reader) {
        assert!(matches!(reader.next(1), Next::Chunk(_)));
    }

    fn is_taking(reader: &Arc<Reader>) -> bool {
        reader.lock().frame.is_some()
    }

    #[test]
    fn what_waits_is_bounded_for_a_gateway_and_for_all() {
        let all = waiting();
        let hold = |of: &str, bytes| all.hold(&gateway(of), bytes);
        let greedy: Vec<_> = (0..4).map(|_| hold("greedy", PART).unwrap()).collect();
        assert!(hold("greedy", 1).is_none());
        let of_other = hold("other", PART).unwrap();
        drop(greedy);
        assert_eq!(held(&all), PART);
        assert!(hold("greedy", PART).is_some());

        let many = (0..16).map(|number| hold(&number.to_string(), PART).unwrap());
        let many: Vec<_> = many.collect();
        assert!(hold("other", PART).is_none(), "all together hold too much");
        drop(of_other);
        let last = hold("other", PART);
        assert!(last.is_some(), "nothing waits for it yet");
        drop((many, last));
        assert_eq!(held(&all), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_taken_nothing_for_longest_makes_room() {
        let all = waiting();
        let readers: Vec<_> = (0..4).map(|_| alone(&all, "edge")).collect();
        // However much it took before it stopped.
        (0..3).for_each(|_| goes_on(&readers[2]));
        for slow in [0, 1, 3] {
            advance(GRACE / 4).await;
            goes_on(&readers[slow]);
        }
        assert!(all.hold(&gateway("edge"), PART).is_none());
        assert!(readers.iter().all(is_taking), "nobody has stopped for long");
        advance(GRACE / 4).await;
        let more = alone(&all, "edge");
        let taking: Vec<_> = readers.iter().map(is_taking).collect();
        assert_eq!(taking, [true, true, false, true]);
        assert!(matches!(readers[2].next(1), Next::Over));
        assert!(is_taking(&more));
        readers[2].is_let_go().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_frame_of_another_gateway_is_not_taken() {
        let all = waiting();
        let modest = (0..12).map(|number| alone(&all, &number.to_string()));
        let modest: Vec<_> = modest.collect();
        let several: Vec<_> = (0..3).map(|_| alone(&all, "greedy")).collect();
        advance(GRACE).await;
        let first = alone(&all, "own");
        let second = alone(&all, "own");
        assert!(modest.iter().all(is_taking));
        let taking = several.iter().filter(|reader| is_taking(reader));
        assert_eq!(taking.count(), 2);
        assert!(is_taking(&first) && is_taking(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_several_take_goes_with_all_of_them() {
        let all = waiting();
        let [one, other] = begun(&all, &line(&all, "edge", 4 * PART));
        advance(GRACE).await;
        assert!(all.hold(&gateway("edge"), 1).is_some());
        assert!(!is_taking(&one) && !is_taking(&other));
        assert_eq!(held(&all), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_somebody_takes_is_taken_from_nobody() {
        let all = waiting();
        let frame = line(&all, "edge", 4 * PART);
        let readers: [_; 3] = begun(&all, &frame);
        advance(GRACE).await;
        assert!(all.hold(&gateway("edge"), 1).is_none(), "it is being given");
        drop(frame);
        goes_on(&readers[1]);
        assert!(all.hold(&gateway("edge"), 1).is_none());
        assert!(readers.iter().all(is_taking));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_of_a_gateway_with_many_goes_in_vain() {
        let all = waiting();
        let shared = (0..4).map(|_| begun::<2>(&all, &line(&all, "greedy", PART)));
        let shared: Vec<_> = shared.collect();
        let rest = line(&all, "rest", 11 * PART);
        let own = alone(&all, "own");
        advance(GRACE).await;
        for reader in shared.iter().map(|[reader, _]| reader).chain([&own]) {
            goes_on(reader);
        }
        assert!(all.hold(&gateway("own"), PART).is_none());
        assert!(shared.iter().flatten().all(is_taking));
        advance(GRACE).await;
        goes_on(&own);
        assert!(all.hold(&gateway("own"), PART).is_some());
        let taking = shared.iter().flatten().filter(|reader| is_taking(reader));
        assert_eq!(taking.count(), 6, "one frame was enough");
        drop(rest);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_goes_if_that_is_not_enough() {
        let all = waiting();
        let stuck: Vec<_> = (0..2).map(|_| alone(&all, "edge")).collect();
        advance(GRACE).await;
        let slow: Vec<_> = (0..2).map(|_| alone(&all, "edge")).collect();
        assert!(all.hold(&gateway("edge"), 3 * PART).is_none());
        assert!(stuck.iter().chain(&slow).all(is_taking));
        assert!(all.hold(&gateway("edge"), 2 * PART).is_some());
        assert!(!stuck.iter().any(is_taking) && slow.iter().all(is_taking));
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_a_gateway_that_is_no_more_is_dropped() {
        let all = waiting();
        let [gone, kept] = ["gone", "kept"].map(|name| alone(&all, name));
        let table = Arc::new(portcullis_routing::RoutingTable::new(gateway("kept")));
        all.keep(&Arc::new(BTreeMap::from([(gateway("kept"), table)])));
        assert!(matches!(gone.next(1), Next::Over));
        assert!(is_taking(&kept));
        assert_eq!(held(&all), PART);
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_stream_takes_the_place_of_the_one_before() {
        let all = waiting();
        let reader = alone(&all, "edge");
        let past = reader.is_past(1);
        let newer = reader.begin();
        past.await;
        assert_eq!(held(&all), 0);
        assert!(matches!(reader.next(1), Next::Over));
        reader.give(1, line(&all, "edge", 1));
        assert!(matches!(reader.next(newer), Next::Nothing));
        reader.give(newer, line(&all, "edge", CHUNK + 1));
        reader.end(1);
        for expected in [CHUNK, 1] {
            assert!(matches!(reader.next(newer), Next::Chunk(chunk) if chunk.len() == expected));
        }
        assert_eq!(held(&all), 0);
        assert!(matches!(reader.next(newer), Next::Nothing));
    }
}
