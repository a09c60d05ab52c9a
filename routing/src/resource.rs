//! The kinds of resources in a table, and how a bad one is reported.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A kind of resource. Each resource is sent, compared and rejected on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResourceKind {
    /// [`crate::ProxySettings`]; one per table, keyed by the Gateway.
    Settings,
    /// [`crate::Listener`]
    Listener,
    /// [`crate::Route`]
    Route,
    /// [`crate::Cluster`]
    Cluster,
    /// [`crate::ClusterEndpoints`]
    Endpoints,
    /// [`crate::Certificate`]
    Certificate,
    /// [`crate::egress::Entry`]
    Entry,
    /// [`crate::egress::Policy`]
    Policy,
    /// [`crate::egress::Workload`]
    Workload,
    /// [`crate::filter::Credential`]
    Credential,
}

impl ResourceKind {
    /// The name in lower case, as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Listener => "listener",
            Self::Route => "route",
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Certificate => "certificate",
            Self::Entry => "entry",
            Self::Policy => "policy",
            Self::Workload => "workload",
            Self::Credential => "credential",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A resource that a table holds but that is not served, and why. The others are served all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// What it is.
    pub kind: ResourceKind,
    /// Its key.
    pub key: String,
    /// What is wrong, for people.
    pub message: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.kind, self.key, self.message)
    }
}
