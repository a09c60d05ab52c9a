//! Whether an attempt is repeated: policy, idempotency, a body that can be sent again, and a budget.

use std::{cell::Cell, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};

use crate::plan::PreparedRetry;

/// Bytes of a request body kept for a repeat. A longer body is sent once.
const REPLAY_LIMIT: usize = 64 * 1024;

/// Longest pause between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

/// Retries that may always be under way at once per worker, so that a quiet proxy can retry at all. A retry is until its answer
/// begins: a backend that answers does not fail because of load, and may take as long as it likes.
const BUDGET_FLOOR: u32 = 10;

/// Retries under way may be this share (1/n) of the requests under way.
const BUDGET_SHARE: u32 = 5;

/// What an attempt that failed permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The backend cannot have acted on the request: safe for every method.
    Unprocessed,
    /// The same, and the backend said so (a stream above its GOAWAY, or refused): no failure of the backend.
    Refused,
    /// A pooled connection was closed while the request was on its way: no failure of the backend.
    Stale,
    /// The backend may have acted: for idempotent methods only.
    MayHaveActed,
    /// Never: an answer has begun, or the client is gone.
    Never,
}

/// RFC 9110 9.2.2.
pub fn is_idempotent(method: &Method) -> bool {
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    )
}

/// The attempts of one request.
#[derive(Debug)]
pub struct Attempts<'a> {
    policy: Option<&'a PreparedRetry>,
    idempotent: bool,
    made: u32,
    free_repeat_used: bool,
}

/// Leave to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Without a pause, on a new connection; it counts against no policy.
    AtOnce,
    /// After this pause.
    After(Duration),
}

impl<'a> Attempts<'a> {
    /// None made yet.
    pub fn new(policy: Option<&'a PreparedRetry>, method: &Method) -> Self {
        Self {
            policy,
            idempotent: is_idempotent(method),
            made: 0,
            free_repeat_used: false,
        }
    }

    /// Attempts begun so far.
    pub fn made(&self) -> u32 {
        self.made
    }

    /// Counts one more attempt.
    pub fn begin(&mut self) {
        self.made += 1;
    }

    /// Whether a body should be kept whatever the backend speaks: only where it may be needed.
    pub fn keep_body(&self) -> bool {
        self.policy.is_some() || self.idempotent
    }

    /// Whether an answer with this status is to be thrown away for another attempt.
    pub fn retries_status(&self, status: u16) -> bool {
        self.idempotent
            && self.policy.is_some_and(|policy| {
                policy.codes.binary_search(&status).is_ok() && self.left(policy)
            })
    }

    fn left(&self, policy: &PreparedRetry) -> bool {
        self.made <= policy.attempts
    }

    /// Whether, and after which pause, the request may be repeated.
    pub fn again(&mut self, repeat: Repeat, body: &Replay) -> Option<Again> {
        let safe = match repeat {
            Repeat::Unprocessed | Repeat::Refused => true,
            Repeat::Stale | Repeat::MayHaveActed => self.idempotent,
            Repeat::Never => false,
        };
        if !safe || !body.can_replay() {
            return None;
        }
        // The race with a backend that ends a connection is ours, not the route's: one repeat is always right (RFC 9112
        // 9.3.1, RFC 9113 6.8).
        if matches!(repeat, Repeat::Stale | Repeat::Refused) && !self.free_repeat_used {
            self.free_repeat_used = true;
            return Some(Again::AtOnce);
        }
        let policy = self.policy.filter(|policy| self.left(policy))?;
        Some(Again::After(backoff(policy.backoff, self.made)))
    }
}

/// `base` doubled for each attempt after the first, with up to half of it taken away by chance.
fn backoff(base: Duration, made: u32) -> Duration {
    let full = base
        .saturating_mul(1 << made.saturating_sub(1).min(10))
        .min(MAX_BACKOFF);
    full.mul_f64(1.0 - fastrand::f64() / 2.0)
}

/// The end of a request's body.
#[derive(Clone, Debug)]
pub struct BodyEnd {
    /// Trailers, if there were any.
    pub trailers: Option<HeaderMap>,
}

/// The request's body as far as it was read: kept for a repeat until an answer has begun, where there can be one.
#[derive(Debug)]
pub struct Replay {
    keep: bool,
    lost: bool,
    /// A copy: a piece shares the memory of a whole read, and a body may come in pieces of a byte.
    kept: BytesMut,
    bytes: usize,
    end: Option<BodyEnd>,
}

impl Replay {
    /// Nothing read yet; `keep` says whether what is read will be kept.
    pub fn new(keep: bool) -> Self {
        Self {
            keep,
            lost: false,
            kept: BytesMut::new(),
            bytes: 0,
            end: None,
        }
    }

    /// What is read from now on will be kept.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Remembers a piece that was read from the client.
    pub fn push(&mut self, chunk: &Bytes) {
        self.bytes += chunk.len();
        if self.keep && !self.lost && self.bytes <= REPLAY_LIMIT {
            self.kept.extend_from_slice(chunk);
        } else {
            self.lost = true;
            self.kept = BytesMut::new();
        }
    }

    /// There will be no repeat: what was kept is let go, and nothing more is kept.
    pub fn release(&mut self) {
        self.keep = false;
        self.lost |= !self.kept.is_empty();
        self.kept = BytesMut::new();
    }

    /// Remembers that the body is complete.
    pub fn end(&mut self, trailers: Option<HeaderMap>) {
        self.end = Some(BodyEnd { trailers });
    }

    /// The body's end, once it was read.
    pub fn ended(&self) -> Option<&BodyEnd> {
        self.end.as_ref()
    }

    /// What was read and kept so far.
    pub fn kept(&self) -> &[u8] {
        &self.kept
    }

    /// Whether everything read so far can be sent again.
    pub fn can_replay(&self) -> bool {
        !self.lost
    }
}

/// Keeps retries from multiplying the load of a backend that is failing because of load. One per worker.
#[derive(Debug, Default)]
pub struct RetryBudget {
    requests: Cell<u32>,
    retries: Cell<u32>,
}

/// One request or retry that counts in the budget until dropped.
#[derive(Debug)]
pub struct Counted<'a>(&'a Cell<u32>);

impl RetryBudget {
    /// Counts a request under way.
    pub fn request(&self) -> Counted<'_> {
        Counted::new(&self.requests)
    }

    /// Whether one more retry may begin.
    pub fn has_room(&self) -> bool {
        self.retries.get() < BUDGET_FLOOR.max(self.requests.get() / BUDGET_SHARE)
    }

    /// Leave for one retry, or `None` if too many are under way.
    pub fn retry(&self) -> Option<Counted<'_>> {
        self.has_room().then(|| Counted::new(&self.retries))
    }
}

impl<'a> Counted<'a> {
    fn new(count: &'a Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(attempts: u32) -> PreparedRetry {
        PreparedRetry {
            codes: [500, 503].into(),
            attempts,
            backoff: Duration::from_millis(10),
        }
    }

    fn empty() -> Replay {
        Replay::new(true)
    }

    #[test]
    fn makes_as_many_attempts_as_the_route_says() {
        let policy = policy(2);
        let mut attempts = Attempts::new(Some(&policy), &Method::GET);
        attempts.begin();
        assert!(attempts.retries_status(503) && !attempts.retries_status(502));
        assert!(attempts.again(Repeat::MayHaveActed, &empty()).is_some());
        attempts.begin();
        assert!(attempts.again(Repeat::MayHaveActed, &empty()).is_some());
        attempts.begin();
        assert!(!attempts.retries_status(503));
        assert_eq!(attempts.again(Repeat::MayHaveActed, &empty()), None);
    }

    #[test]
    fn a_post_is_repeated_only_if_it_was_not_processed() {
        let policy = policy(2);
        let mut attempts = Attempts::new(Some(&policy), &Method::POST);
        attempts.begin();
        assert!(!attempts.retries_status(503));
        assert_eq!(attempts.again(Repeat::MayHaveActed, &empty()), None);
        assert_eq!(attempts.again(Repeat::Stale, &empty()), None);
        assert!(attempts.again(Repeat::Unprocessed, &empty()).is_some());
        assert_eq!(attempts.again(Repeat::Never, &empty()), None);
    }

    #[test]
    fn a_stale_connection_is_forgiven_once_without_a_policy() {
        let mut attempts = Attempts::new(None, &Method::GET);
        attempts.begin();
        assert_eq!(
            attempts.again(Repeat::Stale, &Replay::new(false)),
            Some(Again::AtOnce)
        );
        attempts.begin();
        assert_eq!(attempts.again(Repeat::Stale, &Replay::new(false)), None);
    }

    #[test]
    fn a_body_is_kept_up_to_the_limit_and_only_if_asked() {
        let mut replay = Replay::new(true);
        replay.push(&Bytes::from(vec![0; REPLAY_LIMIT]));
        assert!(replay.can_replay());
        replay.push(&Bytes::from_static(b"x"));
        assert!(!replay.can_replay() && replay.kept().is_empty());
        let mut unkept = Replay::new(false);
        unkept.push(&Bytes::from_static(b"x"));
        unkept.keep();
        unkept.push(&Bytes::from_static(b"y"));
        assert!(!unkept.can_replay() && unkept.kept().is_empty());
        let mut released = Replay::new(true);
        released.push(&Bytes::from_static(b"x"));
        released.release();
        assert!(!released.can_replay() && released.kept().is_empty());
    }

    #[test]
    fn backoff_doubles_within_bounds() {
        for (made, full) in [(1, 100), (2, 200), (3, 400), (30, 10_000)] {
            let pause = backoff(Duration::from_millis(100), made).as_millis();
            assert!(pause * 2 >= full && pause <= full, "{made}: {pause}");
        }
    }

    #[test]
    fn the_budget_is_a_share_of_the_requests() {
        let budget = RetryBudget::default();
        let requests: Vec<_> = (0..100).map(|_| budget.request()).collect();
        let retries: Vec<_> = (0..20).map(|_| budget.retry().unwrap()).collect();
        assert!(budget.retry().is_none());
        drop(retries);
        drop(requests);
        let few: Vec<_> = (0..BUDGET_FLOOR).map(|_| budget.retry().unwrap()).collect();
        assert!(budget.retry().is_none());
        drop(few);
        assert!(budget.retry().is_some());
    }
}
