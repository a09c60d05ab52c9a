//! Conditions, and sets of them with one condition per type.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::finding::Finding;

/// Condition types (Gateway API, `apis/v1`), and our own where others write conditions too.
pub mod kind {
    /// The object is valid and in use.
    pub const ACCEPTED: &str = "Accepted";
    /// A listener cannot be told from another one. True is bad.
    pub const CONFLICTED: &str = "Conflicted";
    /// Some listeners of a Gateway let in clients whatever certificate they show. True is a warning.
    pub const INSECURE_FRONTEND_VALIDATION_MODE: &str = "InsecureFrontendValidationMode";
    /// HTTPS listeners of a port cover the same hostname. True is a warning.
    pub const OVERLAPPING_TLS_CONFIG: &str = "OverlappingTLSConfig";
    /// Some rules of a route are not served. True is bad.
    pub const PARTIALLY_INVALID: &str = "PartiallyInvalid";
    /// A data plane serves it.
    pub const PROGRAMMED: &str = "Programmed";
    /// Every reference leads somewhere and is permitted.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// [`ACCEPTED`] of a ServiceEntry, whose status is Istio's.
    pub const SERVICE_ENTRY_ACCEPTED: &str = "portcullis.dev/Accepted";
    /// [`PROGRAMMED`] of a ServiceEntry.
    pub const SERVICE_ENTRY_PROGRAMMED: &str = "portcullis.dev/Programmed";
    /// Everything that a Gateway goes by can be read. False, or not there.
    pub const SOURCES_READABLE: &str = "portcullis.dev/SourcesReadable";
    /// The installed CRDs are of a supported version.
    pub const SUPPORTED_VERSION: &str = "SupportedVersion";
}

/// Longest message that the API server takes, in characters; bytes are never fewer.
const MAX_MESSAGE: usize = 32_768;
const ELLIPSIS: &str = " ...";

/// One condition, without its transition time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Type, one of [`kind`].
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Status.
    pub status: ConditionStatus,
    /// Reason, one of [`super::reason`].
    pub reason: &'static str,
    /// Explanation for people.
    pub message: String,
    /// `metadata.generation` of the object that was looked at; absent where the object has none (files).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// It is not True for want of any word, and nothing speaks against what the object says of itself at this generation.
    #[serde(skip)]
    pub is_provisional: bool,
}

/// Status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known yet.
    Unknown,
}

/// The conditions of one object: one per type, ordered by type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConditionSet {
    generation: Option<i64>,
    conditions: BTreeMap<&'static str, Condition>,
}

impl ConditionSet {
    /// No conditions yet, of an object at this generation.
    pub fn new(generation: Option<i64>) -> Self {
        Self {
            generation,
            conditions: BTreeMap::new(),
        }
    }

    /// Sets a condition, in place of one of the same type. A message that the API server would refuse is cut.
    pub fn set(
        &mut self,
        kind: &'static str,
        status: ConditionStatus,
        reason: &'static str,
        message: impl Into<String>,
    ) {
        let observed_generation = self.generation;
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            message.truncate(message.floor_char_boundary(MAX_MESSAGE - ELLIPSIS.len()));
            message.push_str(ELLIPSIS);
        }
        self.conditions.insert(
            kind,
            Condition {
                kind,
                status,
                reason,
                message,
                observed_generation,
                is_provisional: false,
            },
        );
    }

    /// Nothing was heard that would refute the condition of this type at the object.
    pub fn make_provisional(&mut self, kind: &str) {
        if let Some(condition) = self.conditions.get_mut(kind) {
            condition.is_provisional = true;
        }
    }

    /// Sets a condition with the finding's code as reason and its text as message.
    pub fn set_finding(&mut self, kind: &'static str, status: ConditionStatus, finding: &Finding) {
        self.set(kind, status, finding.code, finding.text());
    }

    /// Whether the condition of this type says that it is not known.
    pub fn is_unknown(&self, kind: &str) -> bool {
        let condition = self.get(kind);
        condition.is_some_and(|it| it.status == ConditionStatus::Unknown)
    }

    /// The condition of this type.
    pub fn get(&self, kind: &str) -> Option<&Condition> {
        self.conditions.get(kind)
    }

    /// Whether the condition of this type is True.
    pub fn is_true(&self, kind: &str) -> bool {
        self.get(kind)
            .is_some_and(|condition| condition.status == ConditionStatus::True)
    }

    /// All conditions, ordered by type.
    pub fn iter(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.values()
    }
}

impl Serialize for ConditionSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        let mut conditions = ConditionSet::new(None);
        conditions.set(
            kind::ACCEPTED,
            ConditionStatus::False,
            "Invalid",
            "é".repeat(20_000),
        );
        let message = conditions
            .get(kind::ACCEPTED)
            .map(|condition| condition.message.as_str());
        assert!(message.is_some_and(|text| text.len() <= MAX_MESSAGE && text.ends_with("é ...")));
    }
}
