//! Which endpoint gets a request: the less loaded of two drawn at random (power of two choices, least requests in
//! flight). No allocation, no shared state.

/// Chooses among `count` candidates. `eligible` gives the candidate at an index if it may be chosen, `load` the number
/// of requests it works on. `None` if none may be chosen.
pub(super) fn choose<C>(
    count: usize,
    eligible: impl Fn(usize) -> Option<C>,
    load: impl Fn(&C) -> u32,
) -> Option<C> {
    if count <= 1 {
        return eligible(0);
    }
    let first = fastrand::usize(..count);
    // Always another one: a step of 1 to count - 1 round the ring.
    let second = (first + fastrand::usize(1..count)) % count;
    match (eligible(first), eligible(second)) {
        (Some(a), Some(b)) => Some(if load(&b) < load(&a) { b } else { a }),
        (Some(only), None) | (None, Some(only)) => Some(only),
        // All of them in turn, beginning at random, so that equals share the load.
        (None, None) => (1..=count)
            .filter_map(|step| eligible((first + step) % count))
            .min_by_key(load),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pick(eligible: &[bool], loads: &[u32]) -> Option<usize> {
        choose(
            eligible.len(),
            |index| eligible.get(index)?.then_some(index),
            |&index| loads[index],
        )
    }

    #[test]
    fn load_is_spread_evenly() {
        let mut loads = [0; 10];
        for _ in 0..10_000 {
            loads[pick(&[true; 10], &loads).expect("one is chosen")] += 1;
        }
        assert!(
            loads.iter().all(|load| load.abs_diff(1000) < 20),
            "{loads:?}"
        );
    }

    #[test]
    fn of_two_the_less_loaded_is_chosen() {
        assert!((0..100).all(|_| pick(&[true, true], &[1, 0]) == Some(1)));
    }

    #[test]
    fn only_eligible_ones_are_chosen() {
        let mut eligible = [false; 20];
        eligible[13] = true;
        assert!((0..100).all(|_| pick(&eligible, &[0; 20]) == Some(13)));
        assert_eq!(pick(&[false; 3], &[0; 3]), None);
        assert_eq!(pick(&[false], &[0]), None);
        assert_eq!(pick(&[], &[]), None);
    }

    #[test]
    fn idle_equals_share_the_load() {
        let mut counts = [0; 5];
        for _ in 0..9_000 {
            counts[pick(&[true, false, true, false, true], &[0; 5]).expect("one is chosen")] += 1;
        }
        assert!(
            [0, 2, 4].iter().all(|&index| counts[index] > 2_000),
            "{counts:?}"
        );
    }
}
