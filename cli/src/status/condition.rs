//! Conditions as they stand in statuses, and which of them are findings.

use jiff::Timestamp;
use kube::api::DynamicObject;
use portcullis_controller::status::{condition::kind as condition, reason};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::grant;

/// The reason of what the controller has not said anything of.
pub(super) const NO_ANSWER: &str = "NoAnswer";
/// Its message, for what is the controller's to answer.
pub(super) const SILENT: &str = "the controller has not answered: does it run? `kubectl get pods -A -l \
    app.kubernetes.io/name=portcullis` says so";

/// What should be True.
const WANTED: [&str; 7] = [
    condition::ACCEPTED,
    condition::PROGRAMMED,
    condition::RESOLVED_REFS,
    condition::SERVICE_ENTRY_ACCEPTED,
    condition::SERVICE_ENTRY_PROGRAMMED,
    condition::SOURCES_READABLE,
    condition::SUPPORTED_VERSION,
];
/// What should not. `InsecureFrontendValidationMode` is not among them: somebody has chosen it.
const UNWANTED: [&str; 3] = [
    condition::CONFLICTED,
    condition::OVERLAPPING_TLS_CONFIG,
    condition::PARTIALLY_INVALID,
];

/// Reasons that say no more than that something else is not as it should be.
const CONSEQUENCES: [&str; 4] = [
    reason::LISTENERS_NOT_RESOLVED,
    reason::LISTENERS_NOT_VALID,
    reason::PARENT_NOT_ACCEPTED,
    reason::PARENT_NOT_PROGRAMMED,
];

/// Reasons of what is not there yet.
const BEGINNINGS: [&str; 3] = [reason::PENDING, reason::ADDRESS_NOT_ASSIGNED, NO_ANSWER];
/// Seconds that it may take until all of a Gateway is there.
const BEGINNING: i64 = 60;

/// The reason of what the controller has not looked at since it was changed.
const STALE: &str = "Stale";

/// One condition.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    message: String,
    observed_generation: Option<i64>,
    last_transition_time: Option<Timestamp>,
}

impl Condition {
    /// Whether it is of this type.
    pub(super) fn is_of(&self, kind: &str) -> bool {
        self.kind == kind
    }

    /// Whether it is True, and for one of these reasons.
    pub(super) fn is_true_for(&self, reasons: &[&str]) -> bool {
        self.status == "True" && reasons.contains(&self.reason.as_str())
    }

    fn is_fault(&self) -> bool {
        let (kind, is_true) = (self.kind.as_str(), self.status == "True");
        (WANTED.contains(&kind) && !is_true) || (UNWANTED.contains(&kind) && is_true)
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Finding {
    /// Kind, namespace and name.
    pub(crate) object: String,
    /// The listener or the parent that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) part: Option<String>,
    /// Type of the condition.
    pub(crate) condition: String,
    pub(crate) status: String,
    pub(crate) reason: String,
    /// With the remedy, if the controller is ours.
    pub(crate) message: String,
    /// A manifest that mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) apply: Option<String>,
    /// Since when, as far as is known.
    #[serde(skip)]
    pub(super) since: Option<Timestamp>,
}

impl Finding {
    /// Whether it says only that something new is not there yet, or that a change has not been looked at. (That nobody looks
    /// at any is told of the Lease.)
    pub(crate) fn is_beginning(&self, now: Timestamp) -> bool {
        let seconds = self.since.map(|since| now.duration_since(since).as_secs());
        let is_new = seconds.is_some_and(|it| it < BEGINNING);
        self.reason == STALE || (BEGINNINGS.contains(&self.reason.as_str()) && is_new)
    }

    /// Whether it only says that something else is wrong, of the same object or another one.
    pub(super) fn is_consequence(&self) -> bool {
        let reason = self.reason.as_str();
        CONSEQUENCES.contains(&reason)
            || ([condition::PROGRAMMED, condition::SERVICE_ENTRY_PROGRAMMED]
                .contains(&self.condition.as_str())
                && reason == reason::INVALID)
    }

    /// Whether others of its object may follow from it.
    pub(super) fn is_cause(&self) -> bool {
        !self.is_consequence() && self.reason != STALE
    }
}

/// An object that is judged, or a part of it.
#[derive(Clone, Debug)]
pub(super) struct Subject<'a> {
    kind: &'a str,
    object: &'a DynamicObject,
    part: Option<String>,
}

impl<'a> Subject<'a> {
    /// An object.
    pub(super) fn new(kind: &'a str, object: &'a DynamicObject) -> Self {
        Self {
            kind,
            object,
            part: None,
        }
    }

    /// A part of it.
    pub(super) fn part(&self, part: impl Into<String>) -> Self {
        Self {
            part: Some(part.into()),
            ..self.clone()
        }
    }

    /// Something that no condition says.
    pub(super) fn finding(&self, condition: &str, reason: &str, message: String) -> Finding {
        Finding {
            object: format!("{} {}", self.kind, key(self.object)),
            part: self.part.clone(),
            condition: condition.into(),
            status: "Unknown".into(),
            reason: reason.into(),
            message,
            apply: None,
            since: self
                .object
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|it| it.0),
        }
    }

    /// What is wrong with its conditions. That there are none is wrong too.
    pub(super) fn judge(&self, conditions: &[Condition]) -> Vec<Finding> {
        if conditions.is_empty() {
            return vec![self.finding(condition::ACCEPTED, NO_ANSWER, SILENT.into())];
        }
        let faults = conditions.iter().filter(|condition| condition.is_fault());
        let mut findings: Vec<_> = faults.map(|fault| self.fault(fault)).collect();
        findings.extend(self.stale(conditions));
        findings
    }

    /// The finding that a condition is.
    pub(super) fn fault(&self, fault: &Condition) -> Finding {
        let subject = grant::Subject {
            kind: self.kind,
            namespace: self
                .object
                .metadata
                .namespace
                .as_deref()
                .unwrap_or_default(),
            object: &self.object.data,
        };
        let changed = fault.observed_generation.and_then(|it| self.changed(it));
        let finding = self.finding(&fault.kind, &fault.reason, fault.message.clone());
        Finding {
            // The first conditions of an object are older than itself.
            since: finding.since.max(fault.last_transition_time),
            status: fault.status.clone(),
            // Of an object that has been changed since the field may be another reference.
            apply: subject
                .for_condition(&fault.message)
                .filter(|_| changed.is_none()),
            ..finding
        }
    }

    /// The generation of the object, if that is later than this one.
    fn changed(&self, observed: i64) -> Option<i64> {
        let generation = self.object.metadata.generation;
        generation.filter(|now| observed < *now)
    }

    /// The conditions tell of the object as it was before.
    fn stale(&self, conditions: &[Condition]) -> Option<Finding> {
        let ours = conditions
            .iter()
            .filter(|condition| WANTED.contains(&condition.kind.as_str()));
        let (observed, condition) = ours
            .filter_map(|condition| Some((condition.observed_generation?, condition)))
            .min_by_key(|(observed, _)| *observed)?;
        let now = self.changed(observed)?;
        let message = format!(
            "the controller has not looked at the last change yet: the object is at generation {now}, the condition tells \
             of {observed}"
        );
        Some(self.finding(&condition.kind, STALE, message))
    }
}

/// The status of a condition: `True`, `False`, `Unknown`; `-` if there is none.
pub(super) fn status(conditions: &[Condition], kind: &str) -> String {
    let condition = conditions.iter().find(|condition| condition.kind == kind);
    condition.map_or_else(|| "-".into(), |condition| condition.status.clone())
}

/// The condition of this type, as it stands in an object.
pub(crate) fn condition_of<'a>(conditions: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut conditions = conditions.as_array()?.iter();
    conditions.find(|condition| condition["type"] == *kind)
}

/// Whether nothing is wrong.
pub(super) fn all_good(conditions: &[Condition]) -> bool {
    !conditions.is_empty() && !conditions.iter().any(Condition::is_fault)
}

/// `namespace/name`, or the name alone.
pub(super) fn key(object: &DynamicObject) -> String {
    let name = object.metadata.name.as_deref().unwrap_or_default();
    match object.metadata.namespace.as_deref() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

/// What of an object is looked at.
pub(super) fn view<V: DeserializeOwned>(object: &DynamicObject) -> anyhow::Result<V> {
    use anyhow::Context;
    V::deserialize(&object.data).with_context(|| format!("cannot read {}", key(object)))
}
