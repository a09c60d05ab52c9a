//! Endpoints: the addresses behind a cluster. A separate resource, so that a pod change recompiles no route.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::exact;

/// The endpoints of one cluster, sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterEndpoints {
    /// All known endpoints. `Ready` ones get traffic; only if there is none do `Draining` ones.
    #[serde(deserialize_with = "exact::list")]
    pub endpoints: Vec<Endpoint>,
}

/// One address of a backend.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// IP address or DNS name.
    pub host: EndpointHost,
    /// Port to connect to.
    pub port: u16,
    /// Whether it takes new requests.
    #[serde(default)]
    pub state: EndpointState,
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EndpointHost {
    /// An address of an EndpointSlice.
    Ip(IpAddr),
    /// A DNS name (ExternalName), resolved by the data plane.
    Name(String),
}

impl EndpointHost {
    /// The address, unless it is a name.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            Self::Name(_) => None,
        }
    }

    /// The name, unless it is an address.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Ip(_) => None,
            Self::Name(name) => Some(name),
        }
    }
}

/// State of an endpoint (EndpointSlice conditions `ready`, `serving`, `terminating`).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum EndpointState {
    /// Takes traffic.
    #[default]
    Ready,
    /// Terminating but still serving: used only while no endpoint is ready.
    Draining,
}
