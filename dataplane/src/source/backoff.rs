//! Delays between attempts: longer and longer, and never the same for two proxies.

use std::time::Duration;

/// The delays of one client.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// An attempt succeeded.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// The delay before the next attempt: between a half and the whole of what is due.
    pub(super) fn next(&mut self) -> Duration {
        let due = self.next;
        self.next = (due * 2).min(self.most);
        due.mul_f64(0.5 + fastrand::f64() / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_limit_and_start_again() {
        let second = Duration::from_secs(1);
        let mut backoff = Backoff::new(second, second * 5);
        for due in [1, 2, 4, 5, 5] {
            let delay = backoff.next();
            assert!(
                delay >= second * due / 2 && delay <= second * due,
                "{delay:?} of {due}"
            );
        }
        backoff.reset();
        assert!(backoff.next() <= second);
    }

    #[test]
    fn two_proxies_do_not_come_at_once() {
        let delay = || Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).next();
        let first = delay();
        assert!((0..100).any(|_| delay() != first));
    }
}
