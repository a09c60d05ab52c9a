//! What the compiler prepares of a route so that a request only has to follow it.

use std::sync::Arc;

use portcullis_routing::{Route, RouteKey};

/// A route's prepared form: the payload of the compiled table.
#[derive(Debug)]
pub struct PreparedRoute {}

impl PreparedRoute {
    /// Prepares `route`; an error rejects this one route.
    pub fn prepare(_key: &RouteKey, _route: &Arc<Route>) -> Result<Self, String> {
        Ok(Self {})
    }
}
