//! How long to wait after a failure: longer each time, and never in step with other replicas.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::Instant;

/// How long failures are borne. The default, unless a test is in a hurry.
#[derive(Clone, Copy, Debug)]
pub struct BackoffTimes {
    /// The first wait is between this and twice as long. Default 100 ms.
    pub first: Duration,
    /// No wait is longer than about this. Default 30 s.
    pub longest: Duration,
    /// Failures of less than this time in a row belong to every start and rollout: the other side is about to come. Default 10 s.
    pub usual: Duration,
    /// After so long without a failure the next one counts as the first. Default 2 min.
    pub forgiven: Duration,
}

impl Default for BackoffTimes {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(30),
            usual: Duration::from_secs(10),
            forgiven: Duration::from_mins(2),
        }
    }
}

/// Waits after failures in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    times: BackoffTimes,
    waits: ExponentialBackoff,
    failed: Option<Row>,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug)]
struct Row {
    first: Instant,
    last: Instant,
    /// When it was tried again after the last one.
    tried: Instant,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(BackoffTimes::default())
    }
}

impl Backoff {
    /// Nothing has failed yet.
    pub(crate) fn new(times: BackoffTimes) -> Self {
        let waits = ExponentialBuilder::default()
            .with_min_delay(times.first)
            .with_max_delay(times.longest)
            .without_max_times()
            .with_jitter();
        Self {
            times,
            waits: waits.build(),
            failed: None,
        }
    }

    /// How long to wait after a failure now.
    pub(crate) fn wait(&mut self) -> Duration {
        let forgiven = self.times.forgiven;
        if self.failed.is_some_and(|it| it.last.elapsed() > forgiven) {
            self.reset();
        }
        let wait = self.waits.next().unwrap_or(self.times.longest);
        let now = Instant::now();
        self.failed = Some(Row {
            first: self.failed.map_or(now, |it| it.first),
            last: now,
            tried: now + wait,
        });
        wait
    }

    /// Whether it has failed for longer than it does at a start or a rollout, if it fails now.
    pub(crate) fn is_lasting(&self) -> bool {
        let BackoffTimes {
            usual, forgiven, ..
        } = self.times;
        let failed = self.failed;
        failed.is_some_and(|it| it.first.elapsed() > usual && it.last.elapsed() <= forgiven)
    }

    /// What was tried last had begun, and has ended now: after long enough its end is no failure in a row with those before.
    pub(crate) fn ended(&mut self) {
        let usual = self.times.usual;
        if self.failed.is_some_and(|it| it.tried.elapsed() > usual) {
            self.reset();
        }
    }

    /// It works again.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.times);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_a_bound_and_begin_anew_once_it_works() {
        let times = BackoffTimes::default();
        let mut backoff = Backoff::new(times);
        let first = backoff.wait();
        assert!(first >= times.first && first < 3 * times.first, "{first:?}");
        let later = (0..20).map(|_| backoff.wait()).last().unwrap();
        assert!(
            later >= times.longest && later < 3 * times.longest,
            "{later:?}"
        );
        backoff.reset();
        assert!(backoff.wait() < 3 * times.first);
        for _ in 0..5 {
            backoff.wait();
        }
        tokio::time::advance(times.forgiven + Duration::from_secs(1)).await;
        assert!(backoff.wait() < 3 * times.first);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_for_a_while_between_failures_does_not_last_in_failing() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.ended();
            assert!(!backoff.is_lasting());
            let stood = BackoffTimes::default().usual + Duration::from_secs(1);
            tokio::time::advance(backoff.wait() + stood).await;
        }
        let step = Duration::from_secs(6);
        for is_lasting in [false, false, true] {
            backoff.ended();
            assert_eq!(backoff.is_lasting(), is_lasting);
            tokio::time::advance(backoff.wait() + step).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_lasting_only_after_a_while_in_a_row() {
        let mut backoff = Backoff::default();
        for seconds in [1, 8, 2] {
            assert!(!backoff.is_lasting());
            backoff.wait();
            tokio::time::advance(Duration::from_secs(seconds)).await;
        }
        backoff.wait();
        assert!(backoff.is_lasting());
        backoff.reset();
        backoff.wait();
        assert!(!backoff.is_lasting());
    }
}
