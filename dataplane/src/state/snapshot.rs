//! What workers serve from: one immutable value, swapped as a whole.

use std::sync::Arc;

use portcullis_routing::{ProxySettings, Rejection, ResourceKind, compile::CompiledTable};

use super::{certificates::Certificates, credentials::Credentials};
use crate::{
    egress::token::TokenKeys, plan::PreparedRoute, telemetry::Labels, tls::TlsListeners,
    upstream::TlsPolicies,
};

/// A table in the form that requests need it. A request keeps the snapshot that it began with.
#[derive(Debug)]
pub struct Snapshot {
    /// Listeners and routes. Its table holds clusters and endpoints too.
    pub compiled: CompiledTable<PreparedRoute>,
    /// Certificates with their keys, decoded.
    pub certificates: Certificates,
    /// What rules add to requests.
    pub credentials: Credentials,
    /// TLS of the HTTPS listeners.
    pub tls: TlsListeners,
    /// TLS towards the clusters.
    pub backend_tls: Arc<TlsPolicies>,
    /// What verifies the tokens of callers; `None` takes none.
    pub token_keys: Option<Arc<TokenKeys>>,
    /// Which resources have metrics of their own.
    pub labels: Arc<Labels>,
    pub(crate) settings: Arc<ProxySettings>,
    pub(super) rejected: Vec<Rejection>,
}

impl Snapshot {
    /// Resources that are not served as the table that was received has them, and why.
    pub fn rejected(&self) -> &[Rejection] {
        &self.rejected
    }

    /// Whether a resource is among [`Self::rejected`].
    pub fn rejects(&self, kind: ResourceKind, key: &str) -> bool {
        self.rejected
            .iter()
            .any(|rejection| rejection.kind == kind && rejection.key == key)
    }

    /// The table's settings, with what the command line overrides.
    pub fn settings(&self) -> &ProxySettings {
        &self.settings
    }
}
