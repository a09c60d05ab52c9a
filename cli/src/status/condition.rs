//! Conditions as they stand in statuses, and which of them are findings.

use kube::api::DynamicObject;
use portcullis_controller::status::condition::kind as condition;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What should be True.
const WANTED: [&str; 4] = [
    condition::ACCEPTED,
    condition::PROGRAMMED,
    condition::RESOLVED_REFS,
    condition::SUPPORTED_VERSION,
];
/// What should not. `InsecureFrontendValidationMode` is not among them: somebody has chosen it.
const UNWANTED: [&str; 3] = [
    condition::CONFLICTED,
    condition::OVERLAPPING_TLS_CONFIG,
    condition::PARTIALLY_INVALID,
];

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
}

impl Condition {
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
}

/// An object that is judged, or a part of it.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    object: String,
    part: Option<String>,
    generation: Option<i64>,
}

impl Subject {
    /// An object.
    pub(super) fn new(kind: &str, object: &DynamicObject) -> Self {
        Self {
            object: format!("{kind} {}", key(object)),
            part: None,
            generation: object.metadata.generation,
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
            object: self.object.clone(),
            part: self.part.clone(),
            condition: condition.into(),
            status: "Unknown".into(),
            reason: reason.into(),
            message,
        }
    }

    /// What is wrong with its conditions. That there are none is wrong too.
    pub(super) fn judge(&self, conditions: &[Condition]) -> Vec<Finding> {
        if conditions.is_empty() {
            let message = "the controller has not answered: does it run? `kubectl get pods -A -l \
                           app.kubernetes.io/name=portcullis` says so";
            return vec![self.finding(condition::ACCEPTED, "NoAnswer", message.into())];
        }
        let faults = conditions.iter().filter(|condition| condition.is_fault());
        let mut findings: Vec<_> = faults.map(|fault| self.fault(fault)).collect();
        findings.extend(self.stale(conditions));
        findings
    }

    fn fault(&self, fault: &Condition) -> Finding {
        Finding {
            object: self.object.clone(),
            part: self.part.clone(),
            condition: fault.kind.clone(),
            status: fault.status.clone(),
            reason: fault.reason.clone(),
            message: fault.message.clone(),
        }
    }

    /// The conditions tell of the object as it was before.
    fn stale(&self, conditions: &[Condition]) -> Option<Finding> {
        let ours = conditions
            .iter()
            .filter(|condition| WANTED.contains(&condition.kind.as_str()));
        let (observed, condition) = ours
            .filter_map(|condition| Some((condition.observed_generation?, condition)))
            .min_by_key(|(observed, _)| *observed)?;
        let now = self.generation.filter(|now| observed < *now)?;
        let message = format!(
            "the controller has not looked at the last change yet: the object is at generation {now}, the condition tells \
             of {observed}"
        );
        Some(self.finding(&condition.kind, "Stale", message))
    }
}

/// The status of a condition: `True`, `False`, `Unknown`; `-` if there is none.
pub(super) fn status(conditions: &[Condition], kind: &str) -> String {
    let condition = conditions.iter().find(|condition| condition.kind == kind);
    condition.map_or_else(|| "-".into(), |condition| condition.status.clone())
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
