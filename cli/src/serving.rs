//! Listeners and routes of a table in columns.

use portcullis_routing::{Listener, ListenerKey, Route, RoutingTable};

use crate::{output::Columns, words};

/// One row per listener. `place` says where it is reached.
pub(crate) fn listeners(table: &RoutingTable, place: &dyn Fn(&Listener) -> String) -> Columns {
    let mut columns = Columns::new(["LISTENER", "ADDRESS", "HOSTNAME", "RULES"]);
    for (key, listener) in &table.listeners {
        columns.row([
            key.to_string(),
            place(listener),
            words::hostname(listener).to_owned(),
            attached(table, key).to_string(),
        ]);
    }
    columns
}

fn attached(table: &RoutingTable, listener: &ListenerKey) -> usize {
    table
        .routes
        .values()
        .filter(|route| route.listeners.contains(listener))
        .count()
}

/// One row per rule and match.
pub(crate) fn routes(table: &RoutingTable) -> Columns {
    let mut columns = Columns::new(["ROUTE", "HOST", "REQUEST", "DOES"]);
    let mut routes: Vec<_> = table.routes.values().collect();
    // By number: the keys of the table sort rule 10 before rule 2.
    routes.sort_by(|one, other| {
        let place = |route: &'_ Route| {
            (
                route.source.namespace.clone(),
                route.source.name.clone(),
                route.source.rule,
            )
        };
        place(one).cmp(&place(other))
    });
    for route in routes {
        for one in &route.matches {
            columns.row([
                format!(
                    "{}/{} rule {}",
                    route.source.namespace, route.source.name, route.source.rule
                ),
                words::hostnames(route),
                words::matching(one),
                words::deeds(route),
            ]);
        }
    }
    columns
}
