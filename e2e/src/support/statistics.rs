//! Medians and spreads of a few samples.

use serde::Serialize;

/// What a row of samples comes down to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Distance between the quartiles, as a share of the median.
    pub(crate) spread: f64,
}

impl Summary {
    /// `None` if there are no samples.
    pub(crate) fn of(samples: &[f64]) -> Option<Self> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = quantile(&sorted, 0.5)?;
        Some(Self {
            median,
            min: *sorted.first()?,
            max: *sorted.last()?,
            spread: (quantile(&sorted, 0.75)? - quantile(&sorted, 0.25)?) / median,
        })
    }
}

/// The value below which the share `at` (0 to 1) of `sorted` lies, with linear interpolation.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the position lies inside the slice"
)]
pub(crate) fn quantile(sorted: &[f64], at: f64) -> Option<f64> {
    let last = super::process::to_f64(sorted.len().checked_sub(1)? as u64);
    let position = last * at;
    let low = sorted.get(position.floor() as usize)?;
    let high = sorted.get(position.ceil() as usize)?;
    Some(low + (high - low) * position.fract())
}

#[cfg(test)]
mod tests {
    use super::{Summary, quantile};

    #[test]
    fn a_summary_takes_samples_in_any_order() {
        let summary = Summary::of(&[30.0, 10.0, 20.0, 40.0, 50.0]).unwrap();
        assert_eq!(
            summary,
            Summary {
                median: 30.0,
                min: 10.0,
                max: 50.0,
                spread: 20.0 / 30.0
            }
        );
    }

    #[test]
    fn quantiles_lie_between_samples() {
        assert_eq!(quantile(&[1.0, 2.0], 0.5), Some(1.5));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
