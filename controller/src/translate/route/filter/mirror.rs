//! RequestMirror: which share of the requests is copied.

use super::spec::{FractionSpec, MirrorSpec};
use crate::translate::{field::Field, problem::Problem};

/// Numerator and denominator of the share. Without `percent` and `fraction` it is everything.
pub(super) fn share(spec: &MirrorSpec, field: &Field<'_>) -> Result<(u32, u32), Problem> {
    match (spec.percent, &spec.fraction) {
        (None, None) => Ok((1, 1)),
        (Some(percent), None) => match u32::try_from(percent) {
            Ok(percent @ 0..=100) => Ok((percent, 100)),
            _ => Err(Problem::unsupported(
                &field.child("percent"),
                format!("{percent} is not a percentage"),
                "write 0 to 100",
            )),
        },
        (None, Some(fraction)) => fraction_of(fraction, &field.child("fraction")),
        (Some(_), Some(_)) => Err(Problem::unsupported(
            &field.child("fraction"),
            "`percent` and `fraction` are both set",
            "keep one of them",
        )),
    }
}

/// The API's default denominator is 100.
fn fraction_of(fraction: &FractionSpec, field: &Field<'_>) -> Result<(u32, u32), Problem> {
    let denominator = fraction.denominator.unwrap_or(100);
    match (
        u32::try_from(fraction.numerator),
        u32::try_from(denominator),
    ) {
        (Ok(numerator), Ok(denominator)) if denominator > 0 && numerator <= denominator => {
            Ok((numerator, denominator))
        }
        _ => Err(Problem::unsupported(
            field,
            format!(
                "{}/{denominator} is not a share between 0 and 1",
                fraction.numerator
            ),
            "write a `numerator` of at least 0 that is not larger than the `denominator`",
        )),
    }
}
