//! What a rule asks of a request: path, method, headers and query parameters.

use serde::{Deserialize, Serialize};

use crate::exact;

/// One match of a rule. All its parts must hold; a rule applies when any of its matches does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    /// The method, in upper case; `None` takes every method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Headers that must all match. Names are lower case and unique.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub headers: Vec<HeaderMatch>,
    /// Query parameters that must all match. Names are unique and case-sensitive.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub query: Vec<QueryMatch>,
}

/// A condition on the path. The path is normalised before (RFC 3986 6.2.2), and has no query.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PathMatch {
    /// The whole path, case-sensitive.
    Exact(String),
    /// Element-wise prefix: `/a` matches `/a` and `/a/b`, not `/ab`. No trailing slash, but for `/` itself.
    Prefix(String),
    /// A regular expression that must match the whole path. See [`crate::Pattern`] for syntax and bounds.
    Regex(String),
}

impl PathMatch {
    /// The path or expression.
    pub fn text(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) | Self::Regex(text) => text,
        }
    }
}

/// A condition on one header. Several field lines are joined with `, ` first (RFC 9110 5.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderMatch {
    /// Lower-case field name.
    pub name: String,
    /// Condition on the value.
    pub value: ValueMatch,
}

/// A condition on one query parameter. If it occurs several times, the first one counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueryMatch {
    /// Parameter name, percent-decoded.
    pub name: String,
    /// Condition on the percent-decoded value.
    pub value: ValueMatch,
}

/// A condition on a text value.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ValueMatch {
    /// Equal, case-sensitive.
    Exact(String),
    /// A regular expression that must match the whole value. See [`crate::Pattern`] for syntax and bounds.
    Regex(String),
}
