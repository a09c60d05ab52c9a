//! Routes: one rule each.

use super::{Check, credential, ensure, filter, matches, policy, syntax};
use crate::{
    filter::{Filter, credential::MAX_CREDENTIALS},
    listener::ListenerProtocol,
    matches::PathMatch,
    route::{Route, RouteAction, WeightedCluster},
    table::RoutingTable,
};

/// Largest weight the API allows.
const MAX_WEIGHT: u32 = 1_000_000;

/// Everything but the compilation of the matches, which is a check of its own.
pub(crate) fn check(table: &RoutingTable, route: &Route) -> Check {
    ensure(!route.listeners.is_empty(), || {
        "it is attached to no listener".to_owned()
    })?;
    route
        .hostnames
        .iter()
        .try_for_each(|hostname| syntax::hostname_or_wildcard(hostname))?;
    if route.takes_connections() {
        check_connections(route)?;
    }
    route.matches.iter().try_for_each(matches::check)?;
    let by_prefix = route
        .matches
        .iter()
        .all(|m| matches!(m.path, PathMatch::Prefix(_)));
    route
        .filters
        .iter()
        .try_for_each(|f| filter::check(f, by_prefix))?;
    check_action(&route.action, by_prefix)?;
    policy::check(&route.policy)?;
    check_credentials(table, route)?;
    check_references(table, route)
}

/// Nothing of a connection is seen but a name, so nothing else can be asked of it or done to it.
fn check_connections(route: &Route) -> Check {
    let RouteAction::Forward(backends) = &route.action else {
        return Err("it has no match, and does not forward".to_owned());
    };
    let has_filters = !route.filters.is_empty() || backends.iter().any(|it| !it.filters.is_empty());
    ensure(!has_filters && route.policy.is_default(), || {
        "it has no match, but filters or a policy for requests".to_owned()
    })
}

/// A rule without one of its credentials must not be served. Which of them have changed is known to the compiler.
fn check_credentials(table: &RoutingTable, route: &Route) -> Check {
    let named = route.credentials().count();
    ensure(named <= MAX_CREDENTIALS, || {
        format!("it names {named} credentials, and {MAX_CREDENTIALS} are the most of a rule")
    })?;
    route.credentials().try_for_each(|key| {
        let credential = table.credentials.get(key);
        let credential = credential.ok_or_else(|| format!("{key} is not in the table"))?;
        credential::check(credential)
    })
}

/// The listeners and clusters that a route names must be in the table, and the listeners must serve what it takes.
pub(crate) fn check_references(table: &RoutingTable, route: &Route) -> Check {
    let listener = route
        .listeners
        .iter()
        .find(|key| !table.listeners.contains_key(*key));
    listener.map_or(Ok(()), |key| {
        Err(format!("listener {key} is not in the table"))
    })?;
    let listeners = route.listeners.iter();
    let listeners = listeners.filter_map(|key| Some((key, table.listeners.get(key)?)));
    let mut listeners = listeners.map(|(key, it)| (key, it.protocol == ListenerProtocol::Tls));
    match listeners.find(|(_, passes)| *passes != route.takes_connections()) {
        Some((key, true)) => Err(format!(
            "TLS passes through listener {key}, where nobody sees what it matches"
        ))?,
        Some((_, false)) => Err("it has no match".to_owned())?,
        None => {}
    }
    let cluster = route
        .clusters()
        .find(|key| !table.clusters.contains_key(*key));
    cluster.map_or(Ok(()), |key| {
        Err(format!("cluster {key} is not in the table"))
    })
}

fn check_action(action: &RouteAction, by_prefix: bool) -> Check {
    match action {
        RouteAction::Forward(backends) => backends
            .iter()
            .try_for_each(|backend| check_backend(backend, by_prefix)),
        RouteAction::Redirect(redirect) => filter::check_redirect(redirect, by_prefix),
        RouteAction::Respond { status, .. } => ensure((200..=599).contains(status), || {
            format!("{status} is not the status of a final response")
        }),
    }
}

fn check_backend(backend: &WeightedCluster, by_prefix: bool) -> Check {
    ensure(backend.weight <= MAX_WEIGHT, || {
        format!("weight {} is above {MAX_WEIGHT}", backend.weight)
    })?;
    backend.filters.iter().try_for_each(|backend_filter| {
        let per_rule = matches!(backend_filter, Filter::Mirror(_) | Filter::Cors(_));
        ensure(!per_rule, || {
            "a backend has a mirror or CORS filter; these belong to rules".to_owned()
        })?;
        filter::check(backend_filter, by_prefix)
    })
}
