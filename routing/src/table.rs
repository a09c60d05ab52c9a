//! The table itself: everything one Gateway's data plane needs.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    certificate::Certificate,
    cluster::Cluster,
    egress::{Entry, Policy, Workload},
    endpoint::ClusterEndpoints,
    filter::Credential,
    key::{
        CertificateKey, ClusterKey, CredentialKey, EntryKey, GatewayKey, ListenerKey, PolicyKey,
        RouteKey, WorkloadKey,
    },
    listener::Listener,
    route::Route,
    settings::ProxySettings,
};

/// The schema number this code writes. Fields may be added under the same number.
pub const SCHEMA: u32 = 1;

/// Everything one Gateway's data plane needs. Every collection is ordered, so equal objects serialise equally.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoutingTable {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The Gateway it belongs to.
    pub gateway: GatewayKey,
    /// Content hash; not part of what it hashes.
    #[serde(default)]
    pub version: TableVersion,
    /// Settings of the proxy as a whole.
    #[serde(default)]
    pub settings: Arc<ProxySettings>,
    /// Listeners.
    #[serde(default)]
    pub listeners: BTreeMap<ListenerKey, Arc<Listener>>,
    /// Rules.
    #[serde(default)]
    pub routes: BTreeMap<RouteKey, Arc<Route>>,
    /// Backends.
    #[serde(default)]
    pub clusters: BTreeMap<ClusterKey, Arc<Cluster>>,
    /// Addresses of the backends.
    #[serde(default)]
    pub endpoints: BTreeMap<ClusterKey, Arc<ClusterEndpoints>>,
    /// Certificates.
    #[serde(default)]
    pub certificates: BTreeMap<CertificateKey, Arc<Certificate>>,
    /// What rules add to requests, each once however many of them do.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<CredentialKey, Arc<Credential>>,
    /// Entries of the allow-list. These and what follows is of egress only ([`ProxySettings::egress`]).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entries: BTreeMap<EntryKey, Arc<Entry>>,
    /// Who may use them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub policies: BTreeMap<PolicyKey, Arc<Policy>>,
    /// Who calls from which address.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub workloads: BTreeMap<WorkloadKey, Arc<Workload>>,
}

impl RoutingTable {
    /// An empty table of a Gateway.
    pub fn new(gateway: GatewayKey) -> Self {
        Self {
            schema: SCHEMA,
            gateway,
            version: TableVersion::default(),
            settings: Arc::default(),
            listeners: BTreeMap::new(),
            routes: BTreeMap::new(),
            clusters: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            certificates: BTreeMap::new(),
            credentials: BTreeMap::new(),
            entries: BTreeMap::new(),
            policies: BTreeMap::new(),
            workloads: BTreeMap::new(),
        }
    }

    /// Whether the table holds a certificate for `listener`, if it needs one. Without, only a data plane that has an earlier
    /// one can serve it.
    pub fn has_certificate(&self, listener: &Listener) -> bool {
        let needed = listener.tls.as_ref().map(|tls| &tls.certificates);
        needed.is_none_or(|needed| needed.iter().any(|key| self.certificates.contains_key(key)))
    }
}

/// Content hash of a table's canonical form (SHA-256, first 16 bytes, hexadecimal): the same objects give the same
/// version after a restart. Empty before it was computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableVersion(pub Box<str>);

impl fmt::Display for TableVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
