//! Durations of the Gateway API (GEP-2257), such as `1m30s`.

use portcullis_routing::Millis;

use crate::translate::{field::Field, problem::Problem};

/// Reads a duration: one to four numbers with a unit each (`h`, `m`, `s`, `ms`), no fractions.
pub(super) fn parse(text: &str, field: &Field<'_>) -> Result<Millis, Problem> {
    text.parse::<gateway_api::Duration>()
        .ok()
        .and_then(|duration| u64::try_from(duration.as_millis()).ok())
        .map(Millis)
        .ok_or_else(|| {
            Problem::unsupported(
                field,
                format!("{text:?} is not a duration of the Gateway API"),
                "write whole numbers with the units h, m, s or ms, such as `1m30s` or `500ms`",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gep_2257() {
        let field = Field::root("request");
        for (text, expected) in [
            ("0s", 0),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1h1h", 7_200_000),
            ("99999h", 359_996_400_000),
        ] {
            assert_eq!(parse(text, &field), Ok(Millis(expected)), "{text}");
        }
        for text in [
            "",
            "1",
            "1.5s",
            "-1s",
            "1d",
            "100us",
            "1s1s1s1s1s",
            "100000s",
            " 1s",
            "s",
        ] {
            assert!(parse(text, &field).is_err(), "{text}");
        }
    }
}
