//! `Programmed` of ServiceEntries and EgressPolicies: whether the data planes of every egress Gateway have them. A Gateway that
//! has no data plane yet takes nothing from those that serve them already.

use std::{borrow::Borrow, collections::BTreeMap, sync::Arc};

use portcullis_routing::{EntryKey, GatewayKey, PolicyKey, RoutingTable};

use super::{Heard, Observation, Observed, Verdict};
use crate::{
    resources::ObjectKey,
    status::{ConditionSet, ConditionStatus, Statuses, condition::kind, reason},
};

/// States it, wherever it is accepted or not.
pub(super) fn observe(
    statuses: &mut Statuses,
    tables: &BTreeMap<GatewayKey, impl Borrow<RoutingTable>>,
    observed: &Observed,
) {
    let tables = tables.values().map(Borrow::borrow);
    let gateways: Vec<_> = tables
        .filter(|table: &&RoutingTable| table.settings.egress.is_some())
        .map(|table| Gateway {
            table,
            observation: observation(table, observed),
        })
        .collect();
    for (key, conditions) in &mut statuses.service_entries {
        let key = EntryKey::of(&key.namespace, &key.name);
        let views = gateways.iter().map(|gateway| View {
            gateway: &gateway.table.gateway,
            wanted: gateway.table.entries.get(&key),
            heard: gateway.observation.map(|it| &it.entries),
            is_silent: gateway.observation.is_none_or(Observation::is_silent),
        });
        let types = (kind::SERVICE_ENTRY_ACCEPTED, kind::SERVICE_ENTRY_PROGRAMMED);
        state(conditions, types, &key, views, observed);
    }
    for (key, conditions) in &mut statuses.egress_policies {
        let key = PolicyKey::of(&key.namespace, &key.name);
        let views = gateways.iter().map(|gateway| View {
            gateway: &gateway.table.gateway,
            wanted: gateway.table.policies.get(&key),
            heard: gateway.observation.map(|it| &it.policies),
            is_silent: gateway.observation.is_none_or(Observation::is_silent),
        });
        state(
            conditions,
            (kind::ACCEPTED, kind::PROGRAMMED),
            &key,
            views,
            observed,
        );
    }
}

/// The table of an egress Gateway beside what is known of its data planes.
struct Gateway<'a> {
    table: &'a RoutingTable,
    observation: Option<&'a Observation>,
}

fn observation<'a>(table: &RoutingTable, observed: &'a Observed) -> Option<&'a Observation> {
    let Observed::Cluster(gateways) = observed else {
        return None;
    };
    let (namespace, name) = table.gateway.as_str().split_once('/')?;
    gateways.get(&ObjectKey::new(namespace, name))
}

/// One resource at one Gateway.
struct View<'a, K, V> {
    gateway: &'a GatewayKey,
    /// As its table has it.
    wanted: Option<&'a Arc<V>>,
    heard: Option<&'a Heard<K, V>>,
    is_silent: bool,
}

impl<K: Ord, V: Eq> View<'_, K, V> {
    fn rejection(&self, key: &K) -> Option<&String> {
        self.heard.and_then(|heard| heard.rejected.get(key))
    }

    fn is_acknowledged(&self, key: &K) -> bool {
        self.heard.and_then(|heard| heard.acknowledged.get(key)) == self.wanted
    }
}

/// States the condition for the resource `key`. An object that is not looked at has none.
fn state<'a, K: Ord + 'a, V: Eq + 'a>(
    conditions: &mut ConditionSet,
    (accepted, programmed): (&str, &'static str),
    key: &K,
    views: impl Iterator<Item = View<'a, K, V>>,
    observed: &Observed,
) {
    if conditions.get(accepted).is_none() {
        return;
    }
    let views: Vec<_> = views.filter(|view| view.wanted.is_some()).collect();
    let everything_is_served = matches!(observed, Observed::Standalone { .. });
    let somebody_speaks = views.iter().any(|view| !view.is_silent);
    let is_new = |view: &View<'_, K, V>| somebody_speaks && view.is_silent;
    let waiting = |view: &&View<'_, K, V>| {
        !everything_is_served && !view.is_acknowledged(key) && !is_new(view)
    };
    let (status, reason, message): Verdict = if !conditions.is_true(accepted) {
        (
            ConditionStatus::False,
            reason::INVALID,
            "Not accepted".into(),
        )
    } else if views.is_empty() {
        let message = "No egress Gateway serves it";
        (
            ConditionStatus::False,
            reason::PARENT_NOT_PROGRAMMED,
            message.into(),
        )
    } else if let Some((view, why)) = views
        .iter()
        .find_map(|view| Some((view, view.rejection(key)?)))
    {
        let message = format!(
            "The data plane of Gateway {} cannot serve it: {why}",
            view.gateway
        );
        (ConditionStatus::False, reason::INVALID, message)
    } else if let Some(view) = views.iter().find(waiting) {
        let message = format!("Waiting for the data plane of Gateway {}", view.gateway);
        (ConditionStatus::Unknown, reason::PENDING, message)
    } else {
        let served = "Served by the data planes of every egress Gateway that it is for";
        let new = views.iter().find(|view| is_new(view));
        let message = match new.filter(|_| !everything_is_served) {
            None => served.to_owned(),
            Some(new) => format!("{served}; Gateway {} has none yet", new.gateway),
        };
        (ConditionStatus::True, reason::PROGRAMMED, message)
    };
    conditions.set(programmed, status, reason, message);
    let is_unheard = match status {
        ConditionStatus::Unknown => views.iter().filter(waiting).all(|view| view.is_silent),
        // A leader that has just begun hears of one Gateway after another.
        ConditionStatus::True => !everything_is_served && views.iter().any(is_new),
        ConditionStatus::False => false,
    };
    if is_unheard {
        conditions.make_provisional(programmed);
    }
}
