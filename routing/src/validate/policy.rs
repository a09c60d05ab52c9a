//! Policies of a route.

use super::{Check, ensure};
use crate::policy::{Retry, RoutePolicy, Timeouts};

pub(crate) fn check(policy: &RoutePolicy) -> Check {
    check_timeouts(&policy.timeouts)?;
    policy.retry.as_ref().map_or(Ok(()), check_retry)
}

fn check_timeouts(timeouts: &Timeouts) -> Check {
    let set = [timeouts.request, timeouts.backend_request];
    ensure(!set.iter().flatten().any(|timeout| timeout.0 == 0), || {
        "a timeout is 0; none is meant by null".to_owned()
    })?;
    let [Some(request), Some(backend)] = set else {
        return Ok(());
    };
    ensure(backend <= request, || {
        "the backend timeout is longer than the request timeout".to_owned()
    })
}

fn check_retry(retry: &Retry) -> Check {
    let bad = retry.codes.iter().find(|code| !(400..=599).contains(*code));
    bad.map_or(Ok(()), |code| {
        Err(format!("status {code} cannot be retried, only 400 to 599"))
    })
}
