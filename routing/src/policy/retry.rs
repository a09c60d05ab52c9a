//! HTTPRoute `retry` (GEP-1731).

use serde::{Deserialize, Serialize};

use crate::{exact, time::Millis};

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
    /// Repeats after the first attempt. The API's default is 1; 0 switches retries off.
    pub attempts: u32,
    /// Pause before the first repeat; it doubles each time, with jitter. Default 25 ms.
    pub backoff: Millis,
}
