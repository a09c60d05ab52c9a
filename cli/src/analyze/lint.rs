//! Hints beyond the conditions of the Gateway API: what is valid, yet hardly what was meant.

use portcullis_controller::{Finding, ObjectKey, ObjectRef, Resources, Translation};
use portcullis_routing::{GatewayKey, Route, RouteAction, RoutingTable};

/// Hints about one Gateway's table.
pub(crate) fn table(table: &RoutingTable) -> Vec<Finding> {
    table
        .routes
        .values()
        .filter_map(|route| no_weight(route))
        .collect()
}

/// Hints about objects that lead nowhere, so that no table shows them.
pub(crate) fn unserved(resources: &Resources, translation: &Translation) -> Vec<Finding> {
    orphans(resources)
        .chain(listeners_without_routes(translation))
        .collect()
}

fn no_weight(route: &Route) -> Option<Finding> {
    let RouteAction::Forward(backends) = &route.action else {
        return None;
    };
    if backends.is_empty() || backends.iter().any(|backend| backend.weight > 0) {
        return None;
    }
    Some(source(route).error(
        "WeightsAllZero",
        format!("spec.rules[{}].backendRefs", route.source.rule),
        "every backend has weight 0, so all requests of this rule are answered with 500",
        "give at least one backendRef a weight above 0 (without `weight` it is 1)",
    ))
}

/// Routes without any parent. (A parent that does not exist is a finding of the translation.)
fn orphans(resources: &Resources) -> impl Iterator<Item = Finding> {
    let is_orphan = |parents: Option<usize>| parents.is_none_or(|count| count == 0);
    resources
        .http_routes
        .iter()
        .filter(move |(_, route)| is_orphan(route.spec.parent_refs.as_ref().map(Vec::len)))
        .map(|(key, _)| {
            ObjectRef::new("HTTPRoute", key.clone()).error(
                "NoParent",
                "spec.parentRefs",
                "the route names no Gateway, so nobody serves it",
                "add a parentRef with the name (and the namespace, if it is another one) of a Gateway",
            )
        })
}

fn listeners_without_routes(translation: &Translation) -> impl Iterator<Item = Finding> {
    translation.statuses.gateways.iter().flat_map(|(key, status)| {
        let gateway = ObjectRef::new("Gateway", key.clone());
        let table = translation.tables.get(&GatewayKey::of(&key.namespace, &key.name));
        status
            .listeners
            .iter()
            .enumerate()
            .filter(move |(_, listener)| {
                listener.attached_routes == 0
                    && table.is_some_and(|table| {
                        let suffix = format!("/{}", listener.name);
                        table.listeners.keys().any(|served| served.as_str().ends_with(&suffix))
                    })
            })
            .map(move |(index, listener)| {
                gateway.warning(
                    "ListenerWithoutRoutes",
                    format!("spec.listeners[{index}]"),
                    format!("no route is attached to listener {}, so it answers 404 to everything", listener.name),
                    "add an HTTPRoute whose parentRef names this Gateway and whose hostnames fit the listener's",
                )
            })
    })
}

fn source(route: &Route) -> ObjectRef {
    let source = &route.source;
    ObjectRef::new(
        source.kind.clone(),
        ObjectKey::new(source.namespace.clone(), source.name.clone()),
    )
}
