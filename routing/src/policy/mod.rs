//! Policies of a route: each a small struct of its own.

pub mod retry;
pub mod timeouts;

use serde::{Deserialize, Serialize};

pub use self::{
    retry::{MAX_RETRIES, Retry},
    timeouts::Timeouts,
};

/// How a request is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutePolicy {
    /// Deadlines.
    #[serde(default, skip_serializing_if = "Timeouts::is_default")]
    pub timeouts: Timeouts,
    /// Retries; `None` is no retry at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

impl RoutePolicy {
    /// Whether nothing is configured.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
