//! Settings of the proxy as a whole.

use super::{Check, egress, ensure};
use crate::settings::{AccessLog, ProxySettings};

/// Bounds of the HTTP/1 parser.
const MAX_HEADERS: u32 = 256;

pub(crate) fn check(settings: &ProxySettings) -> Check {
    let limits = &settings.limits;
    let positive = [
        ("maxHeaderBytes", u64::from(limits.max_header_bytes)),
        ("maxHeaders", u64::from(limits.max_headers)),
        ("maxTargetBytes", u64::from(limits.max_target_bytes)),
        ("headerTimeout", limits.header_timeout.0),
        ("idleTimeout", limits.idle_timeout.0),
        ("streamIdleTimeout", limits.stream_idle_timeout.0),
        (
            "maxConcurrentStreams",
            u64::from(limits.max_concurrent_streams),
        ),
        ("maxConnections", u64::from(limits.max_connections)),
        (
            "maxRequestsPerConnection",
            u64::from(limits.max_requests_per_connection.unwrap_or(1)),
        ),
    ];
    let zero = positive.iter().find(|(_, value)| *value == 0);
    zero.map_or(Ok(()), |(name, _)| Err(format!("the limit {name} is 0")))?;
    ensure(limits.max_headers <= MAX_HEADERS, || {
        format!("maxHeaders is above {MAX_HEADERS}")
    })?;
    settings.egress.as_ref().map_or(Ok(()), egress::settings)?;
    ensure(settings.access_log != AccessLog::Sampled(0), || {
        "one in 0 requests cannot be logged".to_owned()
    })
}
