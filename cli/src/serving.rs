//! Listeners and routes of a table in columns; of one of egress also entries and policies.

use std::fmt::Write as _;

use portcullis_routing::{Listener, ListenerKey, Route, RoutingTable};

use crate::{
    output::Columns,
    words::{self, egress},
};

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
                words::deeds(route, table),
            ]);
        }
    }
    columns
}

/// Entries and policies, as far as there are any.
pub(crate) fn egress(table: &RoutingTable) -> String {
    let mut text = String::new();
    if !table.entries.is_empty() {
        writeln!(text, "{}", entries(table)).ok();
    }
    if !table.policies.is_empty() {
        writeln!(text, "{}", policies(table)).ok();
    }
    text
}

/// One row per entry of the allow-list.
fn entries(table: &RoutingTable) -> Columns {
    let mut columns = Columns::new(["ENTRY", "HOSTS", "PORTS", "LEADS TO", "FOR"]);
    for entry in table.entries.values() {
        columns.row([
            format!("{}/{}", entry.order.namespace, entry.order.name),
            egress::hosts(entry),
            egress::ports(entry),
            egress::leads_to(entry),
            egress::exported_to(entry),
        ]);
    }
    columns
}

/// One row per policy.
fn policies(table: &RoutingTable) -> Columns {
    let mut columns = Columns::new(["POLICY", "SAYS", "OF", "TO"]);
    for (key, policy) in &table.policies {
        let name = key
            .as_str()
            .split_once('/')
            .map(|(_, name)| name.to_owned());
        columns.row([
            name.unwrap_or_default(),
            egress::says(policy),
            egress::callers(policy),
            egress::destinations(policy),
        ]);
    }
    columns
}
