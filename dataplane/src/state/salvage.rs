//! A rejected resource does not take the service away that its predecessor gave: the predecessor is served on.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_routing::{
    Backend, ClusterKey, Filter, Rejection, ResourceKind, Route, RouteAction, RoutingTable,
};

/// `table` with each rejected resource replaced by the one that `serving` has under its key, together with what that one
/// needs; `None` if no rejected resource has a predecessor.
pub(super) fn with_predecessors(
    table: &RoutingTable,
    serving: &RoutingTable,
    rejected: &[Rejection],
) -> Option<RoutingTable> {
    let mut salvaged = table.clone();
    for rejection in rejected {
        restore(&mut salvaged, serving, rejection);
    }
    (salvaged != *table).then_some(salvaged)
}

fn restore(table: &mut RoutingTable, serving: &RoutingTable, rejection: &Rejection) {
    let key = rejection.key.as_str();
    match rejection.kind {
        ResourceKind::Settings => table.settings = Arc::clone(&serving.settings),
        ResourceKind::Cluster => restore_entry(&mut table.clusters, &serving.clusters, key),
        ResourceKind::Endpoints => restore_entry(&mut table.endpoints, &serving.endpoints, key),
        ResourceKind::Certificate => {
            restore_entry(&mut table.certificates, &serving.certificates, key);
        }
        ResourceKind::Listener => {
            restore_entry(&mut table.listeners, &serving.listeners, key);
            let tls = serving
                .listeners
                .get(key)
                .and_then(|listener| listener.tls.as_ref());
            for certificate in tls.into_iter().flat_map(|tls| &tls.certificates) {
                keep_entry(&mut table.certificates, &serving.certificates, certificate);
            }
        }
        ResourceKind::Route => {
            restore_entry(&mut table.routes, &serving.routes, key);
            for cluster in serving
                .routes
                .get(key)
                .into_iter()
                .flat_map(|route| clusters_of(route))
            {
                keep_entry(&mut table.clusters, &serving.clusters, cluster);
                keep_entry(&mut table.endpoints, &serving.endpoints, cluster);
            }
        }
    }
}

/// Puts the entry that is being served back in place of the new one.
fn restore_entry<K, V>(table: &mut BTreeMap<K, Arc<V>>, serving: &BTreeMap<K, Arc<V>>, key: &str)
where
    K: Ord + Clone + std::borrow::Borrow<str>,
{
    if let Some((key, value)) = serving.get_key_value(key) {
        table.insert(key.clone(), Arc::clone(value));
    }
}

/// Keeps an entry that is being served if the new table has none under its key.
fn keep_entry<K: Ord + Clone, V>(
    table: &mut BTreeMap<K, Arc<V>>,
    serving: &BTreeMap<K, Arc<V>>,
    key: &K,
) {
    if let Some(value) = serving.get(key) {
        table
            .entry(key.clone())
            .or_insert_with(|| Arc::clone(value));
    }
}

/// Every cluster that a route may send requests to.
fn clusters_of(route: &Route) -> Vec<&ClusterKey> {
    let forwards = match &route.action {
        RouteAction::Forward(forwards) => forwards.as_slice(),
        RouteAction::Redirect(_) | RouteAction::Respond { .. } => &[],
    };
    let backends = forwards
        .iter()
        .filter_map(|forward| match &forward.backend {
            Backend::Cluster(key) => Some(key),
            Backend::Invalid { .. } => None,
        });
    let mirrors = route.filters.iter().filter_map(|filter| match filter {
        Filter::Mirror(mirror) => Some(&mirror.cluster),
        _ => None,
    });
    backends.chain(mirrors).collect()
}
