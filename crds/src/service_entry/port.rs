//! A port of the hosts of a ServiceEntry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A port of the hosts, and what is spoken there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// The port that callers name, 1 to 65535. Older CRDs of Istio let any number through.
    #[schemars(range(min = 1, max = 65_535))]
    pub number: u32,
    /// HTTP, HTTPS, HTTP2, GRPC, TLS, TCP or MONGO, in any case. Default TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub protocol: Option<String>,
    /// The port's name, by which endpoints refer to it.
    #[schemars(length(max = 256))]
    pub name: String,
    /// The port that is connected to, 1 to 65535. Default: `number`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub target_port: Option<u32>,
}
