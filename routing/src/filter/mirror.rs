//! RequestMirror.

use serde::{Deserialize, Serialize};

use crate::key::ClusterKey;

/// Sends a copy of the request to `cluster` and ignores the answer. It never delays or fails the request itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// Where the copy goes.
    pub cluster: ClusterKey,
    /// Share of requests copied: `numerator / denominator`.
    pub numerator: u32,
    /// At least 1.
    pub denominator: u32,
}
