//! URLRewrite.

use serde::{Deserialize, Serialize};

/// Changes of the forwarded request's URL.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UrlRewrite {
    /// New `Host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// New path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathModifier>,
}

/// How a path is changed. The query stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathModifier {
    /// Replaces the whole path.
    ReplaceFull(String),
    /// Replaces the prefix that the winning match names; `/` and the empty text both remove it.
    ReplacePrefix(String),
}
