//! Frames that wait for clients that are slow to take them: how many bytes they are, and who makes room for others.
//!
//! A frame is held once, however many take it, and a connection takes one at a time. But slow clients may have stopped at
//! many different ones, so that what is held for them is bounded: for each Gateway, and for all together. When there is no room
//! for one more, the slowest of those who have had theirs for a while are let go.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use super::limits::{CHUNK, FRAME_TIMEOUT, Limits};

/// What waits for all clients, and who these are.
#[derive(Debug)]
pub(super) struct Waiting {
    limits: Limits,
    bytes: AtomicUsize,
    readers: Mutex<Vec<Weak<Reader>>>,
}

/// What waits for the clients of one Gateway.
#[derive(Debug)]
pub(super) struct Share {
    all: Arc<Waiting>,
    bytes: AtomicUsize,
    frames: AtomicUsize,
}

/// Bytes that wait, until this is dropped.
#[derive(Debug)]
pub(super) struct Held {
    share: Arc<Share>,
    bytes: usize,
}

/// An encoded frame.
#[derive(Debug)]
pub(super) struct Line {
    bytes: Vec<u8>,
    held: Held,
}

/// A connection that takes frames, one at a time, for the newest of its streams.
#[derive(Debug, Default)]
pub(super) struct Reader {
    state: Mutex<State>,
    let_go: Notify,
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
    /// The connection has a newer stream, or is to be closed.
    Over,
}

/// Whose bound leaves no room.
enum Full {
    Share,
    All,
}

impl Waiting {
    /// Nothing waits, and nobody is there.
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            bytes: AtomicUsize::new(0),
            readers: Mutex::default(),
        })
    }

    /// The part of one more Gateway.
    pub(super) fn share(self: &Arc<Self>) -> Arc<Share> {
        Arc::new(Share {
            all: Arc::clone(self),
            bytes: AtomicUsize::new(0),
            frames: AtomicUsize::new(0),
        })
    }

    /// One more connection.
    pub(super) fn reader(&self) -> Arc<Reader> {
        let reader = Arc::new(Reader::default());
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.retain(|reader| reader.strong_count() > 0);
        readers.push(Arc::downgrade(&reader));
        reader
    }

    /// Who takes fewest bytes per second of those who could make room for a frame of `share`. That others all have too much is no
    /// reason to take the only frame of another Gateway.
    fn slowest(&self, share: &Arc<Share>, full: &Full) -> Option<Arc<Reader>> {
        let may_go = |line: &Line| {
            let theirs = &line.held.share;
            let too_many = matches!(full, Full::All) && theirs.frames.load(Relaxed) > 1;
            too_many || Arc::ptr_eq(theirs, share)
        };
        let pace = |reader: &Arc<Reader>| {
            let state = reader.lock();
            let frame = state.frame.as_ref().filter(|frame| may_go(&frame.line))?;
            let time = frame.begun.elapsed();
            #[expect(
                clippy::cast_precision_loss,
                reason = "frames are shorter than 2^52 bytes"
            )]
            let pace = frame.taken as f64 / time.as_secs_f64();
            (time >= self.limits.grace).then_some(pace)
        };
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let readers = readers.iter().filter_map(Weak::upgrade);
        let slow = readers.filter_map(|reader| Some((pace(&reader)?, reader)));
        let slowest = slow.min_by(|(one, _), (other, _)| one.total_cmp(other));
        slowest.map(|(_, reader)| reader)
    }
}

impl Share {
    /// Counts a frame of so many bytes until what is returned is dropped; `None` if it is too much, and nobody can make room.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        loop {
            match self.try_hold(bytes) {
                Ok(held) => return Some(held),
                Err(full) => self.all.slowest(self, &full)?.let_go(),
            }
        }
    }

    /// A Gateway for which nothing waits may always have a frame, whatever the others do.
    fn try_hold(self: &Arc<Self>, bytes: usize) -> Result<Held, Full> {
        let own = self.bytes.fetch_add(bytes, Relaxed);
        let all = self.all.bytes.fetch_add(bytes, Relaxed);
        self.frames.fetch_add(1, Relaxed);
        let held = Held {
            share: Arc::clone(self),
            bytes,
        };
        let limits = &self.all.limits;
        if own == 0 {
            Ok(held)
        } else if own + bytes > limits.waiting_per_gateway {
            Err(Full::Share)
        } else if all + bytes > limits.waiting {
            Err(Full::All)
        } else {
            Ok(held)
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.frames.fetch_sub(1, Relaxed);
        self.share.bytes.fetch_sub(self.bytes, Relaxed);
        self.share.all.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Line {
    pub(super) fn new(bytes: Vec<u8>, held: Held) -> Arc<Self> {
        Arc::new(Self { bytes, held })
    }
}

impl Reader {
    /// Begins a stream. It takes the place of the one before, with what waits for that.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.lock();
        state.frame = None;
        state.stream += 1;
        state.stream
    }

    /// Gives a stream a frame.
    pub(super) fn give(&self, stream: u64, line: Arc<Line>) {
        let mut state = self.lock();
        if state.is_at(stream) {
            state.frame = Some(Taking {
                line,
                taken: 0,
                begun: Instant::now(),
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

    /// Takes away what waits for it; the connection is to be closed.
    fn let_go(&self) {
        let mut state = self.lock();
        state.frame = None;
        state.is_let_go = true;
        self.let_go.notify_one();
    }

    /// Waits until it has made room for others.
    pub(super) async fn is_let_go(&self) {
        self.let_go.notified().await;
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

    /// Room for four parts of a Gateway, and sixteen of all.
    fn waiting(grace: Duration) -> Arc<Waiting> {
        Waiting::new(Limits {
            waiting_per_gateway: 4 * PART,
            waiting: 16 * PART,
            grace,
            ..Limits::default()
        })
    }

    /// A reader that has begun to take a frame.
    fn begun(share: &Arc<Share>) -> Arc<Reader> {
        let reader = share.all.reader();
        let stream = reader.begin();
        let held = share.hold(PART).expect("there is room");
        reader.give(stream, Line::new(vec![0; PART], held));
        assert!(matches!(reader.next(stream), Next::Chunk(_)));
        reader
    }

    fn is_taking(reader: &Reader) -> bool {
        reader.lock().frame.is_some()
    }

    #[test]
    fn what_waits_is_bounded_for_a_gateway_and_for_all() {
        let all = waiting(Duration::from_hours(1));
        let greedy = all.share();
        let held: Vec<_> = (0..4).map(|_| greedy.hold(PART).unwrap()).collect();
        assert!(greedy.hold(1).is_none());
        let other = all.share();
        let of_other = other.hold(PART).unwrap();
        drop(held);
        assert_eq!(all.bytes.load(Relaxed), PART);
        assert!(greedy.hold(PART).is_some());

        let many: Vec<_> = (0..16).map(|_| all.share().hold(PART).unwrap()).collect();
        assert!(other.hold(PART).is_none(), "all together hold too much");
        drop(of_other);
        let last = other.hold(PART);
        assert!(last.is_some(), "nothing waits for it yet");
        drop((many, last));
        assert_eq!(all.bytes.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_makes_room() {
        let all = waiting(Duration::from_secs(1));
        let share = all.share();
        let readers: Vec<_> = (0..4).map(|_| begun(&share)).collect();
        for quick in [0, 1, 3] {
            assert!(matches!(readers[quick].next(1), Next::Chunk(_)));
        }
        assert!(share.hold(PART).is_none(), "they have just begun");
        advance(Duration::from_secs(1)).await;
        let more = begun(&share);
        let taking: Vec<_> = readers.iter().map(|reader| is_taking(reader)).collect();
        assert_eq!(taking, [true, true, false, true]);
        assert!(matches!(readers[2].next(1), Next::Over));
        assert!(is_taking(&more));
    }

    #[test]
    fn the_only_frame_of_another_gateway_is_not_taken() {
        let all = waiting(Duration::ZERO);
        let modest: Vec<_> = (0..12).map(|_| begun(&all.share())).collect();
        let greedy = all.share();
        let several: Vec<_> = (0..3).map(|_| begun(&greedy)).collect();
        let own = all.share();
        let first = begun(&own);
        // It could give up its own one; the greedy ones have been at it for longer.
        let second = begun(&own);
        assert!(modest.iter().all(|reader| is_taking(reader)));
        assert_eq!(several.iter().filter(|reader| is_taking(reader)).count(), 2);
        assert!(is_taking(&first) && is_taking(&second));
    }

    #[test]
    fn a_frame_that_several_take_goes_with_the_last_of_them() {
        let all = waiting(Duration::ZERO);
        let share = all.share();
        let readers = [all.reader(), all.reader()];
        let line = Line::new(vec![0; 4 * PART], share.hold(4 * PART).unwrap());
        for reader in &readers {
            reader.give(reader.begin(), Arc::clone(&line));
        }
        drop(line);
        assert!(share.hold(1).is_some());
        assert!(!readers.iter().any(|reader| is_taking(reader)));
        assert_eq!(all.bytes.load(Relaxed), 0);
    }

    #[test]
    fn a_newer_stream_takes_the_place_of_the_one_before() {
        let all = waiting(Duration::from_hours(1));
        let share = all.share();
        let reader = begun(&share);
        let newer = reader.begin();
        assert_eq!(all.bytes.load(Relaxed), 0);
        assert!(matches!(reader.next(1), Next::Over));
        reader.give(1, Line::new(vec![0], share.hold(1).unwrap()));
        assert!(matches!(reader.next(newer), Next::Nothing));
        reader.give(
            newer,
            Line::new(vec![0; CHUNK + 1], share.hold(CHUNK + 1).unwrap()),
        );
        reader.end(1);
        for expected in [CHUNK, 1] {
            assert!(matches!(reader.next(newer), Next::Chunk(chunk) if chunk.len() == expected));
        }
        assert_eq!(all.bytes.load(Relaxed), 0);
        assert!(matches!(reader.next(newer), Next::Nothing));
    }
}
