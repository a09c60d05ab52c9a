//! Destinations that a policy speaks of.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A host, or `*.suffix`.
const HOST: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// A method (RFC 9110, 9.1).
pub const METHOD: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";

/// Destinations. All that is given must hold; nothing given is everything.
///
/// Methods and paths cannot be seen in a tunnel (CONNECT, or TLS that is passed through): an Allow policy with them does not
/// cover tunnels, and a Deny policy with them covers the whole tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DestinationSelector {
    /// One of these hosts: a name, or `*.suffix` for every name that ends so, with one or more labels in place of the `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), inner(length(max = 253), regex(pattern = HOST)))]
    pub hosts: Option<Vec<String>>,
    /// One of these ports, as the caller names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(range(min = 1, max = 65_535)))]
    pub ports: Option<Vec<u16>>,
    /// One of these methods, such as `GET`. An Allow tells upper and lower case apart, a Deny does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), inner(length(max = 64), regex(pattern = METHOD)))]
    pub methods: Option<Vec<String>>,
    /// One of these paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub paths: Option<Vec<PathMatch>>,
}

/// Paths of requests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.value.startsWith('/') && !self.value.matches('//|/[.][.]?(/|$)|%2[fF]|[?#]')",
    "message": "a path begins with / and has no //, /./, /../, %2F, ? or #: no request is matched as such"
}]))]
pub struct PathMatch {
    /// How `value` is compared. Default `PathPrefix`.
    #[serde(default, rename = "type")]
    pub kind: PathMatchType,
    /// The path, from its `/` on. What is percent-encoded in it, or in a request, is what it stands for.
    #[schemars(length(min = 1, max = 1024))]
    pub value: String,
}

/// How paths are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// The whole path.
    Exact,
    /// Its first elements: `/a` matches `/a` and `/a/b`, not `/ab`.
    #[default]
    PathPrefix,
}
