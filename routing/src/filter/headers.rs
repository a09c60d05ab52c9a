//! RequestHeaderModifier and ResponseHeaderModifier.

use serde::{Deserialize, Serialize};

use crate::exact;

/// Header changes: first `set`, then `add`, then `remove`. A name stands in one list only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderModifier {
    /// Replaces every value of the name.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub set: Vec<HeaderField>,
    /// Appends a value, keeping those that are there.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub add: Vec<HeaderField>,
    /// Removes every value of the name (lower case).
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub remove: Vec<String>,
}

/// A header line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderField {
    /// Field name, spelled as in the spec of the route.
    pub name: String,
    /// Field value.
    pub value: String,
}
