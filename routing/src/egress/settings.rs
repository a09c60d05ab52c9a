//! Settings of an egress Gateway as a whole. A table that has them is one of egress: nothing leaves that is not allowed.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::PolicyMode;
use crate::{key::GatewayKey, time::Millis};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EgressSettings {
    /// The Gateway's namespace, where the table's key does not tell it because several Gateways share the table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Whether hosts that no entry lists are refused, or told and let through. The ranges that are refused by default are in
    /// both.
    pub mode: PolicyMode,
    /// The cluster's own ranges (pods, Services, nodes, API server): refused whatever name leads there, even if they are public.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub protected: Vec<IpNet>,
    /// Addresses by which Services are reached from beyond the cluster: those of load balancers, and `externalIPs`. They are refused as
    /// those in `protected` are, but no endpoint of a Service has one: whoever writes a Service may name any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub external: Vec<IpNet>,
    /// Addresses of the Services in front of the Gateway's proxies. They lead to the proxy itself, and nothing opens them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub own: Vec<IpAddr>,
    /// DNS servers to ask; empty means those of the pod's `resolv.conf`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns_servers: Vec<SocketAddr>,
    /// Time without a byte either way after which a tunnel ends. Default 15 min.
    pub tunnel_idle_timeout: Millis,
    /// Time after which a tunnel ends in any case. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel_max_duration: Option<Millis>,
    /// How service-account tokens in `Proxy-Authorization` are checked; `None` takes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenSettings>,
    /// Trust domain of SPIFFE IDs in client certificates. Default `cluster.local`.
    pub trust_domain: String,
    /// Which decisions are logged.
    pub decision_log: DecisionLog,
}

impl Default for EgressSettings {
    fn default() -> Self {
        Self {
            namespace: None,
            mode: PolicyMode::default(),
            protected: Vec::new(),
            external: Vec::new(),
            own: Vec::new(),
            dns_servers: Vec::new(),
            tunnel_idle_timeout: Millis::from_secs(15 * 60),
            tunnel_max_duration: None,
            tokens: None,
            trust_domain: "cluster.local".to_owned(),
            decision_log: DecisionLog::default(),
        }
    }
}

impl EgressSettings {
    /// The namespace of the Gateway that the settings are of. `table` is the Gateway of their table.
    pub(super) fn namespace_of<'s>(&'s self, table: &'s GatewayKey) -> &'s str {
        let own = self.namespace.as_deref();
        own.unwrap_or_else(|| table.namespace())
    }
}

/// How service-account tokens are checked: by the keys that the API server publishes (OpenID Connect Discovery 1.0).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenSettings {
    /// The `iss` that tokens must have.
    pub issuer: String,
    /// An `aud` that tokens must have.
    pub audience: String,
    /// Public keys, a JSON Web Key Set (RFC 7517).
    pub jwks: String,
}

/// Which decisions are logged, each as one line of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DecisionLog {
    /// None.
    Off,
    /// Those that refuse, or would.
    Refused,
    /// All.
    #[default]
    On,
}
