//! What an object's status becomes: our own entries and conditions as they should be, everybody else's as they are.

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    resources::ObjectKey,
    status::{
        Condition, ConditionSet, GatewayClassStatus, GatewayStatus, ListenerSetStatus,
        ListenerStatus, ParentReference, PolicyStatus, RouteStatus, condition::kind,
    },
    translate::GATEWAY_GROUP,
};

/// Entries of ours in the status of something that others have entries in too.
struct Shared {
    /// Name of the list.
    list: &'static str,
    /// What each entry is about.
    reference: &'static str,
    /// The most entries that the list may have (`maxItems` of the CRDs).
    max: usize,
}

const PARENTS: Shared = Shared {
    list: "parents",
    reference: "parentRef",
    max: 32,
};
const ANCESTORS: Shared = Shared {
    list: "ancestors",
    reference: "ancestorRef",
    max: 16,
};

/// Conditions of ours that go when they are not stated any more, where the kind has none but those of the Gateway API.
const OURS: &[&str] = &[
    kind::ACCEPTED,
    kind::CONFLICTED,
    kind::INSECURE_FRONTEND_VALIDATION_MODE,
    kind::OVERLAPPING_TLS_CONFIG,
    kind::PARTIALLY_INVALID,
    kind::PROGRAMMED,
    kind::RESOLVED_REFS,
    kind::SOURCES_READABLE,
    kind::SUPPORTED_VERSION,
];

/// Those of a ServiceEntry, where any other may be somebody else's.
const OURS_OF_SERVICE_ENTRIES: &[&str] =
    &[kind::SERVICE_ENTRY_ACCEPTED, kind::SERVICE_ENTRY_PROGRAMMED];

/// What an object's status should say.
#[derive(Clone, Copy, Debug)]
pub(super) enum Desired<'a> {
    /// Of a GatewayClass of ours.
    GatewayClass(&'a GatewayClassStatus),
    /// Of a Gateway of ours.
    Gateway(&'a GatewayStatus),
    /// Of a ListenerSet of such a Gateway.
    ListenerSet(&'a ListenerSetStatus),
    /// Of a route; `None` if it has no parent of ours.
    Route(Option<&'a RouteStatus>),
    /// Of a policy; `None` if it says nothing to a Gateway of ours.
    Policy(Option<&'a PolicyStatus>),
    /// Of a ServiceEntry, which Istio may write to as well.
    ServiceEntry(&'a ConditionSet),
    /// Of a kind of ours, which nobody else writes to.
    Own(&'a ConditionSet),
}

/// Who writes, what, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Merge<'a> {
    /// The name that our entries in the status of a route carry.
    pub(super) controller_name: &'a str,
    /// The object.
    pub(super) key: &'a ObjectKey,
    /// RFC 3339.
    pub(super) now: &'a str,
    /// Whether a condition that is True stays so where we know nothing yet, but nothing against it either.
    pub(super) lets_stand: bool,
}

impl Merge<'_> {
    /// The fields of the status that have to change, each with its new value; `None` if there are none.
    pub(super) fn changes(&self, current: &Value, desired: Desired<'_>) -> Option<Value> {
        let mut fields = Map::new();
        match desired {
            Desired::GatewayClass(status) => {
                let names = status.supported_features.iter();
                let features: Vec<_> = names.map(|name| json!({ "name": name })).collect();
                fields.insert(
                    "conditions".into(),
                    self.conditions(current, &status.conditions),
                );
                fields.insert("supportedFeatures".into(), features.into());
            }
            Desired::Gateway(status) => {
                fields.insert("addresses".into(), to_json(&status.addresses));
                fields.insert(
                    "conditions".into(),
                    self.conditions(current, &status.conditions),
                );
                let listeners = self.listeners(current, &status.listeners, status.is_partial);
                fields.insert("listeners".into(), listeners);
                if !status.is_partial {
                    let attached = status.attached_listener_sets;
                    fields.insert("attachedListenerSets".into(), attached.into());
                }
            }
            Desired::ListenerSet(status) => {
                let conditions = self.conditions(current, &status.conditions);
                fields.insert("conditions".into(), conditions);
                let listeners = self.listeners(current, &status.listeners, status.is_partial);
                fields.insert("listeners".into(), listeners);
            }
            Desired::Route(status) => {
                let keeps = status.is_some_and(|status| status.is_partial);
                let parents = status.iter().flat_map(|status| &status.parents);
                let parents = parents.map(|entry| (&entry.parent_ref, &entry.conditions));
                let parents = self.entries(current, &PARENTS, parents.collect(), keeps);
                fields.insert(PARENTS.list.into(), parents);
            }
            Desired::Policy(status) => {
                let keeps = status.is_some_and(|status| status.is_partial);
                let ancestors = status.iter().flat_map(|status| &status.ancestors);
                let ancestors = ancestors.map(|entry| (&entry.ancestor_ref, &entry.conditions));
                let ancestors = self.entries(current, &ANCESTORS, ancestors.collect(), keeps);
                fields.insert(ANCESTORS.list.into(), ancestors);
            }
            Desired::ServiceEntry(desired) => {
                let conditions = self.merged(current, desired, OURS_OF_SERVICE_ENTRIES);
                fields.insert("conditions".into(), conditions);
            }
            Desired::Own(desired) => {
                let conditions = self.conditions(current, desired);
                fields.insert("conditions".into(), conditions);
            }
        }
        fields.retain(|name, value| match current.get(name) {
            Some(current) => current != value,
            // What is not there yet need not be made to hold nothing.
            None => *value != json!([]) && *value != json!(0),
        });
        (!fields.is_empty()).then_some(Value::Object(fields))
    }

    /// The `conditions` of `entry`.
    fn conditions(&self, entry: &Value, desired: &ConditionSet) -> Value {
        self.merged(entry, desired, OURS)
    }

    /// The `conditions` of `entry`, of which those of the types `ours` go if they are not desired.
    fn merged(&self, entry: &Value, desired: &ConditionSet, ours: &[&str]) -> Value {
        let mut missing: Vec<_> = desired.iter().collect();
        let mut conditions = Vec::new();
        for current in list(entry, "conditions") {
            let kind = text(current, "type");
            if let Some(index) = missing.iter().position(|it| it.kind == kind) {
                conditions.push(self.condition(Some(current), missing.remove(index)));
            } else if !ours.contains(&kind) {
                conditions.push(current.clone());
            }
        }
        let added = missing.into_iter().map(|it| self.condition(None, it));
        conditions.extend(added);
        conditions.into()
    }

    fn condition(&self, current: Option<&Value>, desired: &Condition) -> Value {
        let generation = |current: &&Value| current.get("observedGeneration")?.as_i64();
        let newer = current.filter(|current| generation(current) > desired.observed_generation);
        if let Some(newer) = newer {
            // It was stated by somebody who knows a newer spec than we do.
            return newer.clone();
        }
        if self.lets_stand
            && desired.is_provisional
            && let Some(standing) = current.filter(|current| {
                text(current, "status") == "True"
                    && generation(current) == desired.observed_generation
            })
        {
            return standing.clone();
        }
        let mut condition = to_json(desired);
        let since = current
            .filter(|current| current.get("status") == condition.get("status"))
            .and_then(|current| current.get("lastTransitionTime"))
            .cloned();
        condition["lastTransitionTime"] = since.unwrap_or_else(|| self.now.into());
        condition
    }

    /// The `listeners` of an object; the number of routes stays as it is if what is desired `is_partial`.
    fn listeners(&self, current: &Value, desired: &[ListenerStatus], is_partial: bool) -> Value {
        let listener = |desired: &ListenerStatus| {
            let current = list(current, "listeners")
                .find(|current| text(current, "name") == desired.name)
                .cloned();
            let mut listener = current.unwrap_or_else(|| json!({}));
            listener["conditions"] = self.conditions(&listener, &desired.conditions);
            listener["name"] = to_json(&desired.name);
            if !is_partial || listener.get("attachedRoutes").is_none() {
                listener["attachedRoutes"] = to_json(&desired.attached_routes);
            }
            listener["supportedKinds"] = to_json(&desired.supported_kinds);
            listener
        };
        desired.iter().map(listener).collect()
    }

    /// A list in which only those entries change that carry our name. Those of ours that are not desired stay if it `keeps` them, else
    /// they go.
    fn entries(
        &self,
        current: &Value,
        shared: &Shared,
        mut missing: Vec<(&ParentReference, &ConditionSet)>,
        keeps: bool,
    ) -> Value {
        let mut entries = Vec::new();
        for current in list(current, shared.list) {
            if text(current, "controllerName") != self.controller_name {
                entries.push(current.clone());
                continue;
            }
            let reference = self.parent(current.get(shared.reference).unwrap_or(&Value::Null));
            let wanted = missing
                .iter()
                .position(|(wanted, _)| self.parent(&to_json(wanted)) == reference);
            if let Some(index) = wanted {
                let (reference, conditions) = missing.remove(index);
                let mut entry = current.clone();
                entry[shared.reference] = to_json(reference);
                entry["conditions"] = self.conditions(current, conditions);
                entries.push(entry);
            } else if keeps {
                entries.push(current.clone());
            }
        }
        let room = shared.max.saturating_sub(entries.len());
        if missing.len() > room {
            tracing::warn!(object = %self.key, "the status has no room for all {}", shared.list);
        }
        entries.extend(
            missing
                .into_iter()
                .take(room)
                .map(|(reference, conditions)| {
                    json!({
                        shared.reference: reference,
                        "controllerName": self.controller_name,
                        "conditions": self.conditions(&Value::Null, conditions),
                    })
                }),
        );
        entries.into()
    }

    /// What a reference to a parent or ancestor refers to, with the defaults that it leaves out.
    fn parent<'a>(&'a self, reference: &'a Value) -> (Vec<String>, Option<i64>) {
        let text = |name: &str, default: &str| {
            let value = reference.get(name).and_then(Value::as_str);
            value.unwrap_or(default).to_owned()
        };
        let names = vec![
            text("group", GATEWAY_GROUP),
            text("kind", "Gateway"),
            text("namespace", &self.key.namespace),
            text("name", ""),
            text("sectionName", ""),
        ];
        (names, reference.get("port").and_then(Value::as_i64))
    }
}

fn list<'a>(object: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    object
        .get(name)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn to_json(value: &impl Serialize) -> Value {
    // These are plain structs with text for keys.
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{ConditionStatus, PolicyAncestorStatus, RouteParentStatus};

    const NOW: &str = "2026-01-01T00:00:00Z";
    const BEFORE: &str = "2020-01-01T00:00:00Z";

    fn merge(key: &ObjectKey, lets_stand: bool) -> Merge<'_> {
        Merge {
            controller_name: "ours",
            key,
            now: NOW,
            lets_stand,
        }
    }

    fn changes(current: &Value, desired: Desired<'_>) -> Option<Value> {
        let key = ObjectKey::new("apps", "shop");
        merge(&key, true).changes(current, desired)
    }

    fn accepted(status: ConditionStatus, generation: i64) -> ConditionSet {
        let mut conditions = ConditionSet::new(Some(generation));
        conditions.set(kind::ACCEPTED, status, "Accepted", "");
        conditions
    }

    fn condition(kind: &str, status: &str, generation: i64, since: &str) -> Value {
        json!({
            "type": kind, "status": status, "reason": "Accepted", "message": "",
            "observedGeneration": generation, "lastTransitionTime": since,
        })
    }

    fn route(parents: &[(&str, Option<&str>)]) -> RouteStatus {
        let parent = |(name, section): &(&str, Option<&str>)| RouteParentStatus {
            parent_ref: ParentReference {
                group: GATEWAY_GROUP.into(),
                kind: "Gateway".into(),
                namespace: None,
                name: (*name).into(),
                section_name: section.map(Into::into),
                port: None,
            },
            controller_name: "ours".into(),
            conditions: accepted(ConditionStatus::True, 2),
        };
        RouteStatus {
            parents: parents.iter().map(parent).collect(),
            is_partial: false,
        }
    }

    /// What becomes of one list of conditions, `None` if it stays.
    fn merged(current: &[Value], desired: ConditionSet) -> Option<Value> {
        let status = GatewayClassStatus {
            conditions: desired,
            supported_features: Vec::new(),
        };
        let current = json!({ "conditions": current });
        Some(changes(&current, Desired::GatewayClass(&status))?["conditions"].take())
    }

    #[test]
    fn a_condition_moves_its_time_only_with_its_status() {
        let before = [condition("Accepted", "True", 1, BEFORE)];
        let same = merged(&before, accepted(ConditionStatus::True, 1));
        assert_eq!(same, None);
        let newer = merged(&before, accepted(ConditionStatus::True, 2));
        assert_eq!(
            newer,
            Some(json!([condition("Accepted", "True", 2, BEFORE)]))
        );
        let flipped = merged(&before, accepted(ConditionStatus::False, 2));
        assert_eq!(
            flipped,
            Some(json!([condition("Accepted", "False", 2, NOW)]))
        );
    }

    #[test]
    fn who_knows_a_newer_generation_is_believed() {
        let before = [condition("Accepted", "True", 3, BEFORE)];
        assert_eq!(merged(&before, accepted(ConditionStatus::False, 2)), None);
    }

    #[test]
    fn what_is_true_stands_while_nothing_is_known_against_it() {
        let pending = |provisional: bool| {
            let mut desired = accepted(ConditionStatus::Unknown, 2);
            if provisional {
                desired.make_provisional(kind::ACCEPTED);
            }
            desired
        };
        let flipped = Some(json!([condition("Accepted", "Unknown", 2, NOW)]));
        let standing = [condition("Accepted", "True", 2, BEFORE)];
        assert_eq!(merged(&standing, pending(true)), None);
        assert_eq!(merged(&standing, pending(false)), flipped);
        let of_an_older_spec = [condition("Accepted", "True", 1, BEFORE)];
        assert_eq!(merged(&of_an_older_spec, pending(true)), flipped);
        let refuted = [condition("Accepted", "False", 2, BEFORE)];
        assert_eq!(merged(&refuted, pending(true)), flipped);

        let status = GatewayClassStatus {
            conditions: pending(true),
            supported_features: Vec::new(),
        };
        let current = json!({ "conditions": standing });
        let key = ObjectKey::new("apps", "shop");
        let after = merge(&key, false).changes(&current, Desired::GatewayClass(&status));
        assert_eq!(after, Some(json!({ "conditions": flipped })));
    }

    #[test]
    fn what_was_said_of_parents_that_cannot_be_known_stays() {
        let before = |route: RouteStatus| {
            let whole = changes(&json!({}), Desired::Route(Some(&route)));
            whole.unwrap_or_default()
        };
        let standing = before(route(&[("edge", None), ("unknown", None)]));
        let known = route(&[("edge", None)]);
        let partial = |known: &RouteStatus| RouteStatus {
            is_partial: true,
            ..known.clone()
        };
        let after = |known: &RouteStatus| changes(&standing, Desired::Route(Some(known)));
        assert_eq!(after(&partial(&known)), None);
        assert_eq!(after(&partial(&RouteStatus::default())), None);
        assert_eq!(after(&known), Some(before(known.clone())));
    }

    #[test]
    fn only_our_own_conditions_go() {
        let foreign = condition("example.com/Audited", "True", 1, BEFORE);
        let before = [
            condition("Programmed", "True", 1, BEFORE),
            foreign.clone(),
            condition("Accepted", "True", 2, BEFORE),
        ];
        let after = merged(&before, accepted(ConditionStatus::True, 2));
        assert_eq!(
            after,
            Some(json!([foreign, condition("Accepted", "True", 2, BEFORE)]))
        );
    }

    /// Istio, or whoever else, has conditions of the same names without our prefix.
    #[test]
    fn of_a_service_entry_only_our_own_conditions_change() {
        let foreign = json!({ "type": "Accepted", "status": "False", "observedGeneration": "9", "future": [1.50, null] });
        let own =
            |status: &str, since: &str| condition(kind::SERVICE_ENTRY_ACCEPTED, status, 2, since);
        let old = condition(kind::SERVICE_ENTRY_PROGRAMMED, "True", 1, BEFORE);
        let current = json!({
            "conditions": [foreign, old, own("True", BEFORE), foreign],
            "addresses": [{ "value": "240.240.0.1" }], "observedGeneration": "9",
        });
        let mut desired = ConditionSet::new(Some(2));
        desired.set(
            kind::SERVICE_ENTRY_ACCEPTED,
            ConditionStatus::False,
            "Accepted",
            "",
        );
        let after = changes(&current, Desired::ServiceEntry(&desired));
        let conditions = json!([foreign, own("False", NOW), foreign]);
        assert_eq!(after, Some(json!({ "conditions": conditions })));
        let none = ConditionSet::new(Some(2));
        let after = changes(&current, Desired::ServiceEntry(&none));
        assert_eq!(after, Some(json!({ "conditions": [foreign, foreign] })));
        assert_eq!(changes(&json!({}), Desired::ServiceEntry(&none)), None);
    }

    #[test]
    fn parents_are_told_apart_by_everything_that_they_name() {
        let written = changes(
            &json!({}),
            Desired::Route(Some(&route(&[("edge", None), ("edge", Some("http"))]))),
        );
        let before = written.unwrap();
        assert_eq!(before["parents"].as_array().unwrap().len(), 2);
        let one = changes(
            &before,
            Desired::Route(Some(&route(&[("edge", Some("http"))]))),
        )
        .unwrap();
        assert_eq!(one["parents"], json!([before["parents"][1]]));
        // Defaults may be left out, or not.
        let mut spelt = before.clone();
        spelt["parents"][0]["parentRef"] = json!({ "name": "edge", "namespace": "apps" });
        let after = changes(
            &spelt,
            Desired::Route(Some(&route(&[("edge", None), ("edge", Some("http"))]))),
        )
        .unwrap();
        assert_eq!(after, before);
        assert_eq!(
            changes(&before, Desired::Route(None)),
            Some(json!({ "parents": [] }))
        );
        assert_eq!(changes(&json!({}), Desired::Route(None)), None);
    }

    #[test]
    fn foreign_parents_are_never_pushed_out() {
        let foreign: Vec<_> = (0..32)
            .map(|number| json!({ "controllerName": "other", "n": number }))
            .collect();
        let current = json!({ "parents": foreign });
        assert_eq!(
            changes(&current, Desired::Route(Some(&route(&[("edge", None)])))),
            None
        );
    }

    #[test]
    fn of_the_ancestors_of_a_policy_only_ours_change() {
        let foreign = json!({
            "controllerName": "other", "ancestorRef": { "name": "edge" }, "future": [null, 1.50],
            "conditions": [condition("Accepted", "False", 9, BEFORE)],
        });
        let ancestor = |name: &str| PolicyAncestorStatus {
            ancestor_ref: ParentReference {
                group: GATEWAY_GROUP.into(),
                kind: "Gateway".into(),
                namespace: Some("infra".into()),
                name: name.into(),
                section_name: None,
                port: None,
            },
            controller_name: "ours".into(),
            conditions: accepted(ConditionStatus::True, 2),
        };
        let of = |names: &[String]| PolicyStatus {
            ancestors: names.iter().map(|name| ancestor(name)).collect(),
            is_partial: false,
        };
        let current = json!({ "ancestors": [foreign] });
        let two = of(&["a".into(), "b".into()]);
        let after = changes(&current, Desired::Policy(Some(&two))).unwrap();
        assert_eq!(after["ancestors"][0], foreign);
        assert_eq!(after["ancestors"][2]["ancestorRef"]["name"], "b");
        assert_eq!(changes(&after, Desired::Policy(Some(&two))), None);
        let one = changes(&after, Desired::Policy(Some(&of(&["b".into()])))).unwrap();
        assert_eq!(one["ancestors"], json!([foreign, after["ancestors"][2]]));
        assert_eq!(changes(&after, Desired::Policy(None)), Some(current));
        let partial = PolicyStatus {
            is_partial: true,
            ..PolicyStatus::default()
        };
        assert_eq!(changes(&after, Desired::Policy(Some(&partial))), None);

        // There is room for 16 in all.
        let names: Vec<_> = (0..20).map(|number| format!("g{number}")).collect();
        let full = changes(&after, Desired::Policy(Some(&of(&names)))).unwrap();
        let full = full["ancestors"].as_array().unwrap().clone();
        assert_eq!((full.len(), &full[0]), (16, &foreign));
    }

    #[test]
    fn what_a_listener_says_besides_stays() {
        let current = json!({ "listeners": [
            { "name": "gone", "attachedRoutes": 1, "supportedKinds": [], "conditions": [] },
            { "name": "http", "attachedRoutes": 1, "supportedKinds": [], "future": 1,
              "conditions": [condition("example.com/Audited", "True", 1, BEFORE)] },
        ] });
        let status = GatewayStatus {
            listeners: vec![ListenerStatus {
                name: "http".into(),
                attached_routes: 2,
                supported_kinds: Vec::new(),
                conditions: accepted(ConditionStatus::True, 1),
            }],
            ..GatewayStatus::default()
        };
        let after = changes(&current, Desired::Gateway(&status));
        let listener = json!({
            "name": "http", "attachedRoutes": 2, "supportedKinds": [], "future": 1,
            "conditions": [
                condition("example.com/Audited", "True", 1, BEFORE),
                condition("Accepted", "True", 1, NOW),
            ],
        });
        assert_eq!(after, Some(json!({ "listeners": [listener] })));

        let partial = GatewayStatus {
            is_partial: true,
            ..status
        };
        let counted = json!({ "attachedListenerSets": 1, "listeners": current["listeners"] });
        let mut after = changes(&counted, Desired::Gateway(&partial)).unwrap();
        assert_eq!(after["listeners"][0]["attachedRoutes"].take(), 1);
        assert_eq!(after["attachedListenerSets"], Value::Null);
    }
}
