//! Workloads: who calls from which address.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::key::GatewayKey;

/// The pod that has an address at present. Keyed by the address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Namespace.
    pub namespace: String,
    /// Service account.
    pub service_account: String,
    /// Name of the pod.
    pub pod: String,
    /// Labels of the pod, as far as a policy asks for them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The Gateway that it is a proxy of. Then it calls for others, and who these are cannot be told by its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_of: Option<GatewayKey>,
}
