//! How the proxy lets traffic out of the cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proxy::DURATION;
use crate::egress_policy::CIDR;

/// The address and port of a server: `192.0.2.53:53` or `[2001:db8::53]:53`.
pub const SOCKET: &str =
    r"^([0-9]{1,3}(\.[0-9]{1,3}){3}|\[[0-9a-fA-F.:]*:[0-9a-fA-F.:]*\]):[1-9][0-9]{0,4}$";

/// A trust domain of SPIFFE.
pub const TRUST_DOMAIN: &str = "^[a-z0-9._-]+$";

/// How the proxy lets traffic out of the cluster. Of no effect for Gateways that are none of egress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EgressParameters {
    /// Whether hosts that no ServiceEntry opens are refused, or told and let through. Private and special addresses are
    /// refused in both. Default Enforce. If the parameters of a class say Enforce, no Gateway of it can say Report.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<EgressMode>,
    /// DNS servers to ask, such as `10.96.0.10:53`. Default: those of the pod's resolv.conf. Those of a class go before those of a
    /// Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8), inner(length(max = 64), regex(pattern = SOCKET)))]
    pub dns_servers: Option<Vec<String>>,
    /// Audience that tokens of service accounts in `Proxy-Authorization` must be for. Default `portcullis-egress`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub token_audience: Option<String>,
    /// Trust domain of the SPIFFE IDs in client certificates, as the mesh that issues them has it. Default `cluster.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = TRUST_DOMAIN))]
    pub trust_domain: Option<String>,
    /// Time without a byte either way after which a tunnel ends, such as `1h`. Default 15m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub tunnel_idle_timeout: Option<String>,
    /// Time after which a tunnel ends in any case. Default: no limit. Of a class's and a Gateway's the shorter counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub tunnel_max_duration: Option<String>,
    /// Which decisions are logged, one JSON line each on standard output. Default Always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision_log: Option<DecisionLogMode>,
    /// Ranges of addresses, such as `198.51.100.0/24`, that are refused whatever name leads there, besides the ranges of the
    /// cluster that the controller finds out. Those of a class and of a Gateway count together.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        rename = "protectedCIDRs"
    )]
    #[schemars(length(max = 64), inner(length(max = 64), regex(pattern = CIDR)))]
    pub protected_cidrs: Option<Vec<String>>,
}

/// What becomes of hosts that no ServiceEntry opens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EgressMode {
    /// They are refused.
    #[default]
    Enforce,
    /// They are told, and the traffic passes.
    Report,
}

/// Which decisions are logged, the fewest first. No Gateway has fewer logged than the parameters of its class say.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum DecisionLogMode {
    /// None.
    Never,
    /// Those that refuse, or would refuse.
    Refused,
    /// Every one.
    #[default]
    Always,
}
