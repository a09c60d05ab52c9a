//! Rules that never get a request, because an older rule with the same match always wins.

use std::collections::{HashMap, hash_map::Entry};

use portcullis_controller::{Finding, ObjectKey, ObjectRef};
use portcullis_routing::{ListenerKey, Route, RouteMatch, RoutingTable};

/// Where a match competes: a listener and a hostname (empty for any).
type Place<'a> = (&'a ListenerKey, &'a str);

/// One finding per rule that loses somewhere with every one of its matches.
pub(crate) fn hints(table: &RoutingTable) -> Vec<Finding> {
    let mut by_order: Vec<&Route> = table.routes.values().map(AsRef::as_ref).collect();
    by_order.sort_by_cached_key(|route| {
        let order = &route.order;
        (
            order.created_at,
            format!("{}/{}", order.namespace, order.name),
            order.rule,
        )
    });

    let mut winners: HashMap<(Place, String), &Route> = HashMap::new();
    let mut findings = Vec::new();
    for route in by_order {
        let mut lost_to = Vec::new();
        let mut wins_somewhere = false;
        let conditions = conditions(route);
        for place in places(route) {
            for condition in &conditions {
                match winners.entry((place, condition.clone())) {
                    Entry::Occupied(winner) => lost_to.push(*winner.get()),
                    Entry::Vacant(place) => {
                        wins_somewhere = true;
                        place.insert(route);
                    }
                }
            }
        }
        if let (false, Some(winner)) = (wins_somewhere, lost_to.first()) {
            findings.push(shadowed(route, winner));
        }
    }
    findings
}

fn places(route: &Route) -> impl Iterator<Item = Place<'_>> {
    let hostnames: Vec<&str> = if route.hostnames.is_empty() {
        vec![""]
    } else {
        route.hostnames.iter().map(String::as_str).collect()
    };
    route.listeners.iter().flat_map(move |listener| {
        hostnames
            .clone()
            .into_iter()
            .map(move |host| (listener, host))
    })
}

fn conditions(route: &Route) -> Vec<String> {
    if route.takes_connections() {
        // It asks for nothing but a host.
        return vec![String::new()];
    }
    route.matches.iter().map(canonical).collect()
}

/// The same text for the same conditions, in whatever order they were written.
fn canonical(one: &RouteMatch) -> String {
    let mut one = one.clone();
    one.headers.sort_by(|a, b| a.name.cmp(&b.name));
    one.query.sort_by(|a, b| a.name.cmp(&b.name));
    format!("{one:?}")
}

fn shadowed(route: &Route, winner: &Route) -> Finding {
    let source = &route.source;
    let why = if (&route.order.namespace, &route.order.name)
        == (&winner.order.namespace, &winner.order.name)
    {
        "comes first in the same route"
    } else if route.order.created_at == winner.order.created_at {
        "comes first by namespace and name"
    } else {
        "is older"
    };
    let (part, what, remedy) = if route.takes_connections() {
        (
            "spec.hostnames".to_owned(),
            "connection",
            "remove one of the two, or give this one other hostnames",
        )
    } else {
        (
            format!("spec.rules[{}].matches", source.rule),
            "request",
            "remove one of the two, or make this one more specific (path, method, header or query parameter)",
        )
    };
    let key = ObjectKey::new(source.namespace.clone(), source.name.clone());
    ObjectRef::new(source.kind.clone(), key).warning(
        "RuleShadowed",
        part,
        format!(
            "this rule never gets a {what}: rule {} of {} {}/{} asks for the same and {why}",
            winner.source.rule, winner.source.kind, winner.source.namespace, winner.source.name
        ),
        remedy,
    )
}
