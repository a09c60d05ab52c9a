//! `rules[].retry` (GEP-1731).

use std::collections::BTreeSet;

use gateway_api::apis::experimental::httproutes::HttpRouteRulesRetry;
use portcullis_routing::{
    Millis,
    policy::{MAX_RETRIES, Retry},
};

use super::duration;
use crate::translate::{
    field::Field,
    problem::{Problem, Problems},
};

/// `attempts` if it is not given (API v1.7).
const DEFAULT_ATTEMPTS: i64 = 1;
/// `backoff` if it is not given.
const DEFAULT_BACKOFF: Millis = Millis(25);

/// The retries of a rule; nothing if they are switched off by `attempts: 0`.
pub(super) fn translate(
    spec: &HttpRouteRulesRetry,
    field: &Field<'_>,
    problems: &mut Problems,
) -> Option<Retry> {
    let attempts = problems.keep(attempts(spec.attempts, &field.child("attempts")));
    if attempts.is_some_and(|attempts| attempts > MAX_RETRIES) {
        problems.tell(Problem::warning(
            "TooManyRetries",
            &field.child("attempts"),
            format!("no request is repeated more than {MAX_RETRIES} times"),
            format!("write {MAX_RETRIES} or less"),
        ));
    }
    let codes = codes(
        spec.codes.as_deref().unwrap_or_default(),
        &field.child("codes"),
        problems,
    );
    let backoff = match spec.backoff.as_deref() {
        Some(text) => problems.keep(duration::parse(text, &field.child("backoff"))),
        None => Some(DEFAULT_BACKOFF),
    };
    let retry = Retry {
        codes,
        attempts: attempts?.min(MAX_RETRIES),
        backoff: backoff?,
    };
    (retry.attempts > 0).then_some(retry)
}

fn attempts(attempts: Option<i64>, field: &Field<'_>) -> Result<u32, Problem> {
    let attempts = attempts.unwrap_or(DEFAULT_ATTEMPTS);
    u32::try_from(attempts).map_err(|_| {
        Problem::unsupported(
            field,
            format!("{attempts} is not a number of retries"),
            "write how often a failed attempt may be repeated, such as 2; 0 switches retries off",
        )
    })
}

/// The codes, sorted and once each.
fn codes(codes: &[i64], field: &Field<'_>, problems: &mut Problems) -> Vec<u16> {
    let mut good = BTreeSet::new();
    for (index, &code) in codes.iter().enumerate() {
        match u16::try_from(code) {
            Ok(code @ 400..=599) => {
                good.insert(code);
            }
            _ => problems.tell(Problem::unsupported(
                &field.at(index),
                format!("{code} is not a status code that can be retried"),
                "write a code of an error, 400 to 599",
            )),
        }
    }
    good.into_iter().collect()
}
