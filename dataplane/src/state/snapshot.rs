//! What workers serve from: one immutable value, swapped as a whole.

use std::sync::Arc;

use portcullis_routing::{ProxySettings, compile::CompiledTable};

use super::certificates::Certificates;
use crate::{plan::PreparedRoute, telemetry::Labels};

/// A table in the form that requests need it. A request keeps the snapshot that it began with.
#[derive(Debug)]
pub struct Snapshot {
    /// Listeners and routes. Its table holds clusters and endpoints too.
    pub compiled: CompiledTable<PreparedRoute>,
    /// Certificates with their keys, decoded.
    pub certificates: Certificates,
    /// Which resources have metrics of their own.
    pub labels: Arc<Labels>,
    pub(super) settings: Arc<ProxySettings>,
}

impl Snapshot {
    /// The table's settings, with what the command line overrides.
    pub fn settings(&self) -> &ProxySettings {
        &self.settings
    }
}
