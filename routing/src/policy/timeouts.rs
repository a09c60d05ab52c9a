//! HTTPRoute `timeouts` (GEP-1742).

use serde::{Deserialize, Serialize};

use crate::time::Millis;

/// Deadlines; `None` means no deadline (the spec's `0s` becomes `None` too).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// For the whole exchange, retries included, from the request's head until the response is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Millis>,
    /// For each attempt at a backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_request: Option<Millis>,
}

impl Timeouts {
    /// Whether nothing is configured.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
