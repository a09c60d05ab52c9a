//! Counters with one writer: the owning worker loads and stores without a locked instruction, others only read.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// A number that only its owning worker changes. A second writer would lose counts, never corrupt anything.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Sets the value, for gauges.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The present value; any thread may ask.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Upper bounds of the buckets of every latency histogram, in microseconds. The last bucket has no bound.
pub const BUCKET_BOUNDS_MICROS: [u64; 14] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 10_000_000, 60_000_000,
];

const BUCKETS: usize = BUCKET_BOUNDS_MICROS.len() + 1;

/// A latency histogram with one writer and the fixed buckets of [`BUCKET_BOUNDS_MICROS`].
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [Counter; BUCKETS],
    sum_micros: Counter,
}

impl Histogram {
    /// Counts one observation.
    pub fn observe(&self, duration: Duration) {
        let micros = micros(duration);
        let bucket = BUCKET_BOUNDS_MICROS
            .iter()
            .take_while(|&&bound| micros > bound)
            .count();
        if let Some(count) = self.counts.get(bucket) {
            count.add(1);
        }
        self.sum_micros.add(micros);
    }

    /// Adds the present values to `sum`.
    pub fn add_to(&self, sum: &mut HistogramSum) {
        for (total, count) in sum.counts.iter_mut().zip(&self.counts) {
            *total += count.get();
        }
        sum.sum_micros += self.sum_micros.get();
    }
}

/// Histograms of several workers, added up.
#[derive(Clone, Debug, Default)]
pub struct HistogramSum {
    /// Observations per bucket, not cumulative.
    pub counts: [u64; BUCKETS],
    /// Sum of all observations, microseconds.
    pub sum_micros: u64,
}

/// Whole microseconds, for sums.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_on_a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(500));
        histogram.observe(Duration::from_micros(501));
        histogram.observe(Duration::from_secs(61));
        let mut sum = HistogramSum::default();
        histogram.add_to(&mut sum);
        assert_eq!(sum.counts[..2], [1, 1]);
        assert_eq!(sum.counts[BUCKETS - 1], 1);
        assert_eq!(sum.counts.iter().sum::<u64>(), 3);
        assert_eq!(sum.sum_micros, 500 + 501 + 61_000_000);
    }
}
