//! Nothing that arrives from outside makes the library panic.

use std::sync::Arc;

use http::{HeaderMap, Method};
use portcullis_routing::{
    Delta, PathMatch, Pattern, RequestHead, RoutingTable, apply, compile, diff, explain,
    validate::syntax,
};
use proptest::prelude::*;

use crate::{arbitrary::table, lookup::answer};

/// A table whose only route has this path, and everything else as arbitrary as a table may be on the wire.
fn with_path(mut table: RoutingTable, path: &PathMatch, hostname: &str) -> RoutingTable {
    for route in table.routes.values_mut() {
        let route = Arc::make_mut(route);
        route
            .matches
            .iter_mut()
            .for_each(|route_match| route_match.path = path.clone());
        route.hostnames = vec![hostname.to_owned()];
    }
    for listener in table.listeners.values_mut() {
        Arc::make_mut(listener).hostname = None;
    }
    table
}

fn any_path() -> impl Strategy<Value = PathMatch> {
    prop_oneof![
        "\\PC*".prop_map(PathMatch::Exact),
        "/[/a%é]*".prop_map(PathMatch::Prefix),
        "\\PC*".prop_map(PathMatch::Prefix),
        "[a(|)*+?.^$\\[\\]{}0-9é\\\\-]{0,12}".prop_map(PathMatch::Regex),
    ]
}

/// Replaces one value somewhere in a JSON document.
fn mutate(
    document: &mut serde_json::Value,
    place: &[prop::sample::Index],
    with: serde_json::Value,
) {
    let Some((step, rest)) = place.split_first() else {
        *document = with;
        return;
    };
    let child = match document {
        serde_json::Value::Object(map) if !map.is_empty() => {
            let index = step.index(map.len());
            map.values_mut().nth(index)
        }
        serde_json::Value::Array(list) if !list.is_empty() => {
            let index = step.index(list.len());
            list.get_mut(index)
        }
        _ => None,
    };
    match child {
        Some(child) => mutate(child, rest, with),
        None => *document = with,
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    prop_oneof![
        Just(serde_json::Value::Null),
        any::<i64>().prop_map(Into::into),
        any::<u16>().prop_map(Into::into),
        "\\PC{0,8}".prop_map(Into::into),
        Just(serde_json::json!([])),
        Just(serde_json::json!({})),
    ]
}

proptest! {
    #[test]
    fn lookups_of_anything(
        table in table(), path_match in any_path(), hostname in "[*.a-cé]{0,8}",
        host in "[.a-cé]{0,12}", path in "[/a%é]*|\\PC*", query in "[a=&%+0-9é]*",
    ) {
        let table = with_path(table, &path_match, &hostname);
        let (compiled, _) = compile(None, Arc::new(table), |key, _| Ok(key.clone()));
        let (method, headers) = (Method::GET, HeaderMap::new());
        let head = RequestHead { host: &host, path: &path, query: Some(&query), method: &method, headers: &headers };
        for port in compiled.ports() {
            let explanation = explain(&compiled, port.port(), &head);
            let winner = explanation.winner().map(|winner| (winner.route.clone(), winner.match_index));
            prop_assert_eq!(winner, answer(&compiled, port.port(), &head));
            prop_assert!(!explanation.to_string().is_empty());
        }
    }

    #[test]
    fn patterns_of_anything(pattern in "\\PC{0,24}", value in any::<Vec<u8>>()) {
        if let Ok(pattern) = Pattern::new(&pattern) {
            pattern.matches(value);
        }
    }

    #[test]
    fn syntax_of_anything(text in "\\PC*") {
        let checks = [syntax::hostname_or_wildcard, syntax::path, syntax::header_name, syntax::header_value, syntax::method];
        for message in checks.iter().filter_map(|check| check(&text).err()) {
            prop_assert!(!message.is_empty());
        }
    }

    #[test]
    fn tables_of_anything(table in table(), place in prop::collection::vec(any::<prop::sample::Index>(), 0..8), with in any_json()) {
        let mut document = serde_json::to_value(&table).unwrap();
        mutate(&mut document, &place, with);
        if let Ok(mut strange) = serde_json::from_value::<RoutingTable>(document) {
            // A table stays with its Gateway and schema; deltas do not cross these.
            (strange.gateway, strange.schema) = (table.gateway.clone(), table.schema);
            strange.seal();
            let (compiled, rejections) = compile(None, Arc::new(strange.clone()), |_, _| Ok(()));
            prop_assert_eq!(compiled.rejections(), rejections);
            prop_assert_eq!(apply(&table, &diff(&table, &strange)).map(|t| t.routes), Ok(strange.routes));
        }
    }

    #[test]
    fn deltas_of_anything(
        old in table(), new in table(),
        place in prop::collection::vec(any::<prop::sample::Index>(), 0..8), with in any_json(),
    ) {
        let mut document = serde_json::to_value(diff(&old, &new)).unwrap();
        mutate(&mut document, &place, with);
        if let Ok(strange) = serde_json::from_value::<Delta>(document)
            && let Ok(applied) = apply(&old, &strange)
        {
            prop_assert_eq!(applied.computed_version(), new.version);
        }
    }

    #[test]
    fn bytes_of_anything(bytes in any::<Vec<u8>>()) {
        prop_assert!(serde_json::from_slice::<RoutingTable>(&bytes).is_err());
        prop_assert!(serde_json::from_slice::<Delta>(&bytes).is_err());
    }
}
