//! HTTPRoute `retry` (GEP-1731).

use serde::{Deserialize, Serialize};

use crate::{exact, time::Millis};

/// The most repeats of one request that are made, whatever a route asks for: what has failed so often goes on failing.
pub const MAX_RETRIES: u32 = 10;

/// When and how often an attempt is repeated. Connection errors and attempt timeouts are retried as well as `codes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// Response codes that are retried, 400 to 599.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub codes: Vec<u16>,
    /// Repeats after the first attempt. The API's default is 1; 0 switches retries off, and more than [`MAX_RETRIES`]
    /// are as many as that.
    pub attempts: u32,
    /// Pause before the first repeat; it doubles each time, with jitter. Default 25 ms.
    pub backoff: Millis,
}
