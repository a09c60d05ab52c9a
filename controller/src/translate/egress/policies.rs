//! All EgressPolicies, and which Gateways go by them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use ipnet::IpNet;
use portcullis_routing::{
    PolicyKey,
    egress::{LabelRequirement, Policy},
};

use super::{
    entries::is_ours,
    faults::Faults,
    policy::{self, Translated},
    select,
};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
    status::{ConditionSet, condition::kind},
    translate::{Context, age::created_at},
};

pub(super) const KIND: &str = "EgressPolicy";

/// The egress Gateways, served or not.
#[derive(Debug)]
pub(super) struct EgressGateways<'g>(pub(super) BTreeSet<&'g ObjectKey>);

impl EgressGateways<'_> {
    /// The names of those in a namespace.
    pub(super) fn inside(&self, namespace: &str) -> impl Iterator<Item = &str> {
        let inside = self.0.iter().filter(move |key| key.namespace == namespace);
        inside.map(|key| key.name.as_str())
    }

    /// Whether there are any in other namespaces.
    pub(super) fn are_outside(&self, namespace: &str) -> bool {
        self.0.iter().any(|key| key.namespace != namespace)
    }
}

/// All policies.
#[derive(Debug)]
pub(super) struct Policies(BTreeMap<ObjectKey, PolicyState>);

/// What becomes of a policy.
#[derive(Debug)]
pub(super) struct PolicyState {
    generation: Option<i64>,
    pub(super) created_at: i64,
    pub(super) translated: Translated,
    pub(super) faults: Faults,
}

impl Policies {
    /// Translates all policies.
    pub(super) fn collect(ctx: &Context<'_>, gateways: &EgressGateways<'_>) -> Self {
        let mut all = BTreeMap::new();
        let places = select::Places::collect(ctx);
        let policies = ctx.resources.egress_policies.iter();
        for (key, object) in policies.filter(|_| is_ours(ctx)) {
            let mut faults = Faults::new(ObjectRef::new(KIND, key.clone()));
            let translated = policy::translate(
                ctx,
                &object.spec,
                &key.namespace,
                (gateways, &places),
                &mut faults,
            );
            let state = PolicyState {
                generation: object.metadata.generation,
                created_at: created_at(&object.metadata),
                translated,
                faults,
            };
            all.insert(key.clone(), state);
        }
        Self(all)
    }

    /// What becomes of each.
    pub(super) fn states(&mut self) -> impl Iterator<Item = (&ObjectKey, &mut PolicyState)> {
        self.0.iter_mut()
    }

    /// Those that are not refused, each in one of the forms in which it is in force.
    pub(super) fn good(&self) -> impl Iterator<Item = (&ObjectKey, &Translated, &Policy)> {
        let good = self
            .0
            .iter()
            .filter(|(_, state)| !state.faults.is_refused());
        good.filter_map(|(key, state)| {
            let translated = &state.translated;
            Some((key, translated, &**translated.form()?))
        })
    }

    /// Adds what was found out about them elsewhere.
    pub(super) fn tell(&mut self, findings: Vec<(ObjectKey, Finding)>) {
        for (key, finding) in findings {
            if let Some(state) = self.0.get_mut(&key) {
                state.faults.tell(finding);
            }
        }
    }

    /// Reports what is wrong with them.
    pub(super) fn report(&self, ctx: &Context<'_>) {
        for state in self.0.values() {
            state.faults.report(ctx);
        }
    }

    /// What the table of a Gateway has of them.
    pub(super) fn table(&self, gateway: &ObjectKey) -> BTreeMap<PolicyKey, Arc<Policy>> {
        let policies = self.0.iter().filter_map(|(key, state)| {
            let policy = state.translated.at(key, gateway)?;
            Some((PolicyKey::of(&key.namespace, &key.name), Arc::clone(policy)))
        });
        policies.collect()
    }

    /// The ranges that any policy opens.
    pub(super) fn opened(&self) -> Vec<IpNet> {
        let policies = self.0.values();
        let policies = policies.filter_map(|state| state.translated.of_gateway.as_ref());
        let ranges = policies.flat_map(|policy| &policy.allow_private);
        ranges.copied().collect()
    }

    /// The labels that they ask for.
    pub(super) fn label_keys(&self) -> LabelKeys<'_> {
        let mut keys = LabelKeys::default();
        for (key, state) in &self.0 {
            let translated = &state.translated;
            let of_all = translated.of_gateway.iter();
            keys.of_all.extend(of_all.flat_map(asked));
            let own = keys.of_namespaces.entry(&key.namespace).or_default();
            own.extend(translated.of_namespace.iter().flat_map(asked));
        }
        keys
    }

    /// Their conditions, but for what is for the data planes to say.
    pub(super) fn conditions(&self) -> BTreeMap<ObjectKey, ConditionSet> {
        let conditions =
            |state: &PolicyState| state.faults.conditions(kind::ACCEPTED, state.generation);
        let all = self.0.iter();
        all.map(|(key, state)| (key.clone(), conditions(state)))
            .collect()
    }
}

/// The keys of labels that policies ask for. What tenants ask for is nothing to the pods of others.
#[derive(Debug, Default)]
pub(super) struct LabelKeys<'p> {
    /// Of every pod.
    of_all: BTreeSet<&'p str>,
    /// Of those of a namespace.
    of_namespaces: BTreeMap<&'p str, BTreeSet<&'p str>>,
}

impl LabelKeys<'_> {
    /// Whether a policy that may speak of pods of a namespace asks for this label.
    pub(super) fn ask(&self, namespace: &str, label: &str) -> bool {
        let own = self.of_namespaces.get(namespace);
        self.of_all.contains(label) || own.is_some_and(|own| own.contains(label))
    }
}

/// The keys of the labels that a policy asks for.
fn asked(policy: &Arc<Policy>) -> impl Iterator<Item = &str> {
    let callers = policy.from.iter().flatten();
    let selectors = callers.filter_map(|from| from.labels.as_ref());
    let requirements = selectors.flat_map(|selector| &selector.0);
    requirements.map(LabelRequirement::key)
}

impl Translated {
    /// The policy `key` as it is in force at an egress Gateway.
    pub(super) fn at(&self, key: &ObjectKey, gateway: &ObjectKey) -> Option<&Arc<Policy>> {
        if key.namespace == gateway.namespace {
            self.of_gateway
                .as_ref()
                .filter(|_| self.own_gateways.contains(&gateway.name))
        } else {
            self.of_namespace.as_ref()
        }
    }
}
