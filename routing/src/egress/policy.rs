//! Policies: who may call what of that which entries open. One EgressPolicy each.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{exact, matches::PathMatch};

/// ONE EgressPolicy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Of whom it may speak.
    pub scope: PolicyScope,
    /// Callers that it selects: any of these; `None` is everybody in its scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<CallerMatch>>,
    /// Destinations that it names: any of these; `None` is all. An empty list is none: an `Allow` with it shuts its callers in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<DestinationMatch>>,
    /// What it says of them.
    pub action: PolicyAction,
    /// Whether that is done, or told only.
    #[serde(default)]
    pub mode: PolicyMode,
    /// Ranges that its callers may reach at its destinations although they are refused by default. Only of an
    /// [`PolicyAction::Allow`] of [`PolicyScope::Gateway`].
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "exact::list"
    )]
    pub allow_private: Vec<IpNet>,
}

impl Policy {
    /// How much of it callers and requests are held against one by one: accounts, requirements of labels, destinations, and their
    /// ports, methods and paths. Namespaces and hosts are searched for.
    pub fn terms(&self) -> usize {
        let from = self.from.iter().flatten().map(CallerMatch::terms);
        let to = self.to.iter().flatten().map(DestinationMatch::terms);
        1 + from.sum::<usize>() + to.sum::<usize>()
    }

    /// The same callers, which may reach nothing.
    #[must_use]
    pub fn shut(self) -> Self {
        Self {
            to: None,
            action: PolicyAction::Deny,
            allow_private: Vec::new(),
            ..self
        }
    }

    /// Whether both say the same of the same callers, be it of other destinations.
    pub fn is_same_but_for_destinations(&self, other: &Self) -> bool {
        let rest = |policy: &Self| Self {
            to: None,
            ..policy.clone()
        };
        rest(self) == rest(other)
    }
}

/// Of whom a policy may speak.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyScope {
    /// It stands in the Gateway's namespace: of every caller.
    Gateway,
    /// It stands in this namespace: of the callers of this namespace.
    Namespace(String),
}

/// What a policy says of what it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyAction {
    /// Its callers may reach what it names. Whoever is selected by such policies of a scope reaches nothing else.
    #[default]
    Allow,
    /// Its callers may not reach what it names, whatever others say.
    Deny,
}

/// Whether a policy's refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyMode {
    /// Yes.
    #[default]
    Enforce,
    /// They are told, and the traffic passes.
    Report,
}

/// Callers. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallerMatch {
    /// One of these namespaces, sorted; `None` is any, known or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,
    /// One of these service accounts (namespace and name); `None` is any, known or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<Vec<(String, String)>>,
    /// What the labels of the caller's pod have to be; `None` is anything, known or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelSelector>,
    /// Whom it means cannot be told, so it may be anybody: it holds against everybody and is in nobody's favour.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub unclear: bool,
}

impl CallerMatch {
    fn terms(&self) -> usize {
        let accounts = self.service_accounts.as_ref().map_or(0, Vec::len);
        let labels = self.labels.iter().flat_map(|selector| &selector.0);
        1 + accounts + labels.map(LabelRequirement::terms).sum::<usize>()
    }
}

/// A label selector (`metav1.LabelSelector`). All requirements must hold; there may be none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LabelSelector(pub Vec<LabelRequirement>);

/// One requirement of a [`LabelSelector`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LabelRequirement {
    /// The label has one of these values.
    In(String, Vec<String>),
    /// The label has none of these values, or is not there.
    NotIn(String, Vec<String>),
    /// The label is there.
    Exists(String),
    /// The label is not there.
    DoesNotExist(String),
}

impl LabelSelector {
    /// Whether `labels` meet every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl LabelRequirement {
    /// The label that it looks at.
    pub fn key(&self) -> &str {
        match self {
            Self::In(key, _)
            | Self::NotIn(key, _)
            | Self::Exists(key)
            | Self::DoesNotExist(key) => key,
        }
    }

    fn terms(&self) -> usize {
        match self {
            Self::In(_, values) | Self::NotIn(_, values) => values.len().max(1),
            Self::Exists(_) | Self::DoesNotExist(_) => 1,
        }
    }

    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(self.key());
        match self {
            Self::In(_, values) => value.is_some_and(|value| values.contains(value)),
            Self::NotIn(_, values) => value.is_none_or(|value| !values.contains(value)),
            Self::Exists(_) => value.is_some(),
            Self::DoesNotExist(_) => value.is_none(),
        }
    }
}

/// Destinations. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DestinationMatch {
    /// One of these hosts in normal form, exact or `*.suffix`; empty is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// One of these ports, as the caller names it; empty is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// One of these methods; empty is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// One of these paths, exact or by prefix; empty is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<PathMatch>,
}

impl DestinationMatch {
    fn terms(&self) -> usize {
        1 + self.ports.len() + self.methods.len() + self.paths.len()
    }

    /// Whether it speaks of single requests, which cannot be seen in a tunnel.
    pub fn is_of_requests(&self) -> bool {
        !self.methods.is_empty() || !self.paths.is_empty()
    }
}
