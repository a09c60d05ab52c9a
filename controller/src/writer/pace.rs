//! How often one object is written: at once after a pause, else ever more slowly, so that a thousand routes that arrive
//! one after the other do not mean a thousand statuses of their Gateway.

use std::time::Duration;

use tokio::time::Instant;

use crate::watch::Backoff;

/// Between the first two writes of a series.
const FIRST: Duration = Duration::from_millis(100);
/// Between any two writes.
const LONGEST: Duration = Duration::from_secs(1);
/// A series is over after a pause of this length.
const PAUSE: Duration = Duration::from_secs(3);

/// When one object may be written again.
#[derive(Debug)]
pub(crate) struct Pace {
    due: Instant,
    interval: Duration,
    backoff: Backoff,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            due: Instant::now(),
            interval: FIRST,
            backoff: Backoff::default(),
        }
    }
}

impl Pace {
    /// It may be written from then on.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// It has been written just now.
    pub(crate) fn written(&mut self) {
        if self.forgotten() {
            self.interval = FIRST;
        }
        self.due = Instant::now() + self.interval;
        self.interval = (2 * self.interval).min(LONGEST);
        self.backoff.reset();
    }

    /// It could not be written.
    pub(crate) fn failed(&mut self) {
        self.due = Instant::now() + self.backoff.wait();
    }

    /// Whether the next write counts as the first.
    pub(crate) fn forgotten(&self) -> bool {
        self.due.elapsed() > PAUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_changes_is_few_writes_and_a_single_one_does_not_wait() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert!(pace.due() <= start);
        let mut writes = 0;
        while start.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep_until(pace.due()).await;
            pace.written();
            writes += 1;
        }
        assert!((10..=14).contains(&writes), "{writes}");
        assert!(!pace.forgotten());
        tokio::time::advance(LONGEST + PAUSE + FIRST).await;
        assert!(pace.forgotten());
    }
}
