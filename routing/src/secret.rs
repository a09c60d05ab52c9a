//! Text that must not be printed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What stands in place of a secret wherever a person could read it.
pub const REDACTED: &str = "[redacted]";

/// A private key or password. `Debug` and `Display` print `[redacted]`; serde carries the text, because the table is
/// also the wire form. Anything meant for people goes through [`crate::RoutingTable::redacted`] first.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself: only for the code that uses it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A stand-in that is safe to print.
    pub fn redacted() -> Self {
        Self::new(REDACTED)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}
