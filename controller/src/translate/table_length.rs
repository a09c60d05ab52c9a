//! A table that no frame holds: proxies that run go on and get what changes, and those that start get nothing.

use std::{cmp::Reverse, collections::BTreeMap};

use portcullis_routing::{
    ClusterKey, RoutingTable,
    frame::{MAX_FRAME, length_of},
};

use crate::finding::{Finding, ObjectRef};

/// More namespaces than this are not named.
const NAMED: usize = 3;
const ROUTES: &str = "routes";
const BACKENDS: &str = "backends";
const ENTRIES: &str = "ServiceEntries";
const POLICIES: &str = "EgressPolicies";
const PODS: &str = "pods";

/// What whoever runs the Gateway is told.
pub(super) fn too_long(object: &ObjectRef, length: usize, table: &RoutingTable) -> Finding {
    let mut parts = [
        (ROUTES, length_of(&table.routes)),
        (
            BACKENDS,
            length_of(&table.clusters) + length_of(&table.endpoints),
        ),
        ("certificates", length_of(&table.certificates)),
        ("credentials", length_of(&table.credentials)),
        (ENTRIES, length_of(&table.entries)),
        (POLICIES, length_of(&table.policies)),
        (PODS, length_of(&table.workloads)),
    ];
    parts.sort_by_key(|(_, length)| Reverse(*length));
    let [(most, _), (then, _), ..] = parts;
    let whose = match namespaces(table, most).join(", ") {
        names if names.is_empty() => names,
        names => format!(", above all of the namespaces {names}"),
    };
    let remedy = match most {
        ENTRIES | POLICIES => {
            "ask whoever writes them there to list less: other egress Gateways have the same ones"
        }
        PODS => {
            "have fewer pods there, or let EgressPolicies ask for fewer labels: other egress Gateways have the same ones"
        }
        _ => "spread routes over several Gateways, or let fewer namespaces attach theirs",
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

/// The namespaces that take most of a part; entries and policies count together.
fn namespaces<'t>(table: &'t RoutingTable, part: &str) -> Vec<&'t str> {
    let mut lengths: BTreeMap<&str, usize> = BTreeMap::new();
    let mut add = |namespace: Option<&'t str>, length: usize| {
        if let Some(namespace) = namespace {
            *lengths.entry(namespace).or_default() += length;
        }
    };
    match part {
        ROUTES => {
            for (key, route) in &table.routes {
                add(Some(key.namespace()), length_of(route));
            }
        }
        BACKENDS => {
            for (key, cluster) in &table.clusters {
                add(of_service(key), length_of(cluster));
            }
            for (key, endpoints) in &table.endpoints {
                add(of_service(key), length_of(endpoints));
            }
        }
        ENTRIES | POLICIES => {
            for (key, entry) in &table.entries {
                add(key.object().map(|(it, _)| it), length_of(entry));
            }
            for (key, policy) in &table.policies {
                add(key.object().map(|(it, _)| it), length_of(policy));
            }
        }
        PODS => {
            for workload in table.workloads.values() {
                add(Some(&workload.namespace), length_of(workload));
            }
        }
        _ => {}
    }
    let mut lengths: Vec<_> = lengths.into_iter().collect();
    lengths.sort_by_key(|(_, length)| Reverse(*length));
    let named = lengths.into_iter().take(NAMED);
    named.map(|(namespace, _)| namespace).collect()
}

/// The namespace of a backend, unless it is a host outside the cluster.
fn of_service(key: &ClusterKey) -> Option<&str> {
    key.as_str().strip_prefix("service/")?.split('/').next()
}
