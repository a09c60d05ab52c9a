//! The weight of a backendRef.

use crate::translate::{field::Field, problem::Problem};

/// The API's default weight is 1.
pub(super) fn weight(weight: Option<i32>, field: &Field<'_>) -> Result<u32, Problem> {
    match u32::try_from(weight.unwrap_or(1)) {
        Ok(weight @ 0..=1_000_000) => Ok(weight),
        _ => Err(Problem::unsupported(
            field,
            format!("{} is not a weight", weight.unwrap_or_default()),
            "write 0 (no traffic) to 1000000; shares are relative to the sum of all weights",
        )),
    }
}
