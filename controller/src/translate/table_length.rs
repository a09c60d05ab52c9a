//! A table that no frame holds: proxies that run go on and get what changes, and those that start get nothing.

use std::{cmp::Reverse, collections::BTreeMap};

use portcullis_routing::{
    RoutingTable,
    frame::{MAX_FRAME, length_of},
};

use crate::finding::{Finding, ObjectRef};

/// More namespaces than this are not named.
const NAMED: usize = 3;
const ENTRIES: &str = "ServiceEntries";
const POLICIES: &str = "EgressPolicies";

/// What whoever runs the Gateway is told.
pub(super) fn too_long(object: &ObjectRef, length: usize, table: &RoutingTable) -> Finding {
    let mut parts = [
        ("routes", length_of(&table.routes)),
        (
            "backends",
            length_of(&table.clusters) + length_of(&table.endpoints),
        ),
        ("certificates", length_of(&table.certificates)),
        ("credentials", length_of(&table.credentials)),
        (ENTRIES, length_of(&table.entries)),
        (POLICIES, length_of(&table.policies)),
        ("pods", length_of(&table.workloads)),
    ];
    parts.sort_by_key(|(_, length)| Reverse(*length));
    let [(most, _), (then, _), ..] = parts;
    let (whose, remedy) = if [ENTRIES, POLICIES].contains(&most) {
        let namespaces = namespaces(table).join(", ");
        (
            format!(", above all of the namespaces {namespaces}"),
            "ask whoever writes them there to list less: other egress Gateways have the same ones",
        )
    } else {
        let remedy = "spread routes over several Gateways, or let fewer namespaces attach theirs";
        (String::new(), remedy)
    };
    object.error(
        "TableTooLong",
        "spec.listeners",
        format!(
            "what the proxies of the Gateway are to know takes {length} bytes, and {MAX_FRAME} are the most that they are sent at once: proxies that start get nothing, and those that run only what changes. Most of it are {most}{whose}, then {then}"
        ),
        remedy,
    )
}

/// The namespaces whose entries and policies take most.
fn namespaces(table: &RoutingTable) -> Vec<&str> {
    let entries = table.entries.iter();
    let entries = entries.map(|(key, entry)| (key.object(), length_of(entry)));
    let policies = table.policies.iter();
    let policies = policies.map(|(key, policy)| (key.object(), length_of(policy)));
    let mut lengths: BTreeMap<&str, usize> = BTreeMap::new();
    for (object, length) in entries.chain(policies) {
        if let Some((namespace, _)) = object {
            *lengths.entry(namespace).or_default() += length;
        }
    }
    let mut lengths: Vec<_> = lengths.into_iter().collect();
    lengths.sort_by_key(|(_, length)| Reverse(*length));
    let named = lengths.into_iter().take(NAMED);
    named.map(|(namespace, _)| namespace).collect()
}
