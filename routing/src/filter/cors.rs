//! CORS (Fetch standard, section "CORS protocol"; GEP-1767).

use serde::{Deserialize, Serialize};

use crate::exact;

/// Which cross-origin requests a browser may make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cors {
    /// Origins: `*`, `scheme://host[:port]`, or with a wildcard as first label: `https://*.example.com` (any depth).
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub allow_origins: Vec<String>,
    /// Methods, or `*`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub allow_methods: Vec<String>,
    /// Request headers, or `*`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub allow_headers: Vec<String>,
    /// Response headers that scripts may read, or `*`.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub expose_headers: Vec<String>,
    /// Whether credentials may be sent.
    #[serde(default)]
    pub allow_credentials: bool,
    /// Seconds a preflight may be cached. Default 5.
    pub max_age: u32,
}
