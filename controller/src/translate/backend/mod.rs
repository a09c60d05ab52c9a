//! Backends: from a backendRef to a cluster and its endpoints, each made once however many rules use it.

use portcullis_routing::RoutingTable;

/// The clusters and endpoints that routes use.
#[derive(Debug, Default)]
pub(crate) struct Backends {}

impl Backends {
    /// Adds to a table the clusters and endpoints that its routes use (actions and mirrors), and nothing else.
    pub(crate) fn fill(&self, _table: &mut RoutingTable) {}
}
