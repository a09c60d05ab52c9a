//! Versions and deltas.

use std::sync::Arc;

use portcullis_routing::{ApplyError, Delta, RoutingTable, TableVersion, apply, diff};
use proptest::prelude::*;

use crate::arbitrary::{parts, table};

proptest! {
    #[test]
    fn applying_a_difference_gives_the_new_table(old in table(), new in table()) {
        let delta = diff(&old, &new);
        prop_assert_eq!(delta.is_empty(), old.version == new.version);
        prop_assert_eq!(apply(&old, &delta), Ok(new.clone()));
        let wire: Delta = serde_json::from_str(&serde_json::to_string(&delta).unwrap()).unwrap();
        prop_assert_eq!(apply(&old, &wire), Ok(new));
    }

    #[test]
    fn unchanged_resources_are_shared(old in table(), new in table()) {
        let applied = apply(&old, &diff(&old, &new)).unwrap();
        for (key, route) in &applied.routes {
            let before = old.routes.get(key).filter(|before| *before == route);
            prop_assert!(before.is_none_or(|before| Arc::ptr_eq(before, route)));
        }
    }

    #[test]
    fn the_version_does_not_depend_on_the_order_of_insertion(parts in parts(), seed in any::<prop::sample::Index>()) {
        let first = parts.table();
        let mut turned = parts;
        // What comes first counts if a key stands twice, so keys are made unique before the order changes.
        turned.listeners = first.listeners.iter().map(|(k, v)| (k.clone(), v.as_ref().clone())).collect();
        turned.routes = first.routes.iter().map(|(k, v)| (k.clone(), v.as_ref().clone())).collect();
        turned.endpoints = first.endpoints.iter().map(|(k, v)| (k.clone(), v.as_ref().clone())).collect();
        turned.clusters.reverse();
        turned.listeners.reverse();
        turned.endpoints.reverse();
        let middle = if turned.routes.is_empty() { 0 } else { seed.index(turned.routes.len()) };
        turned.routes.rotate_left(middle);
        prop_assert_eq!(turned.table().version, first.version);
    }

    #[test]
    fn the_version_does_not_depend_on_the_way_there(a in table(), b in table(), c in table()) {
        let way = |through: &RoutingTable| {
            let between = apply(&a, &diff(&a, through)).unwrap();
            apply(&between, &diff(&between, &c)).unwrap().version
        };
        prop_assert_eq!(way(&b), c.version.clone());
        prop_assert_eq!(way(&a), c.computed_version());
    }

    #[test]
    fn the_version_tells_tables_apart(a in table(), b in table()) {
        prop_assert_eq!(a.version == b.version, a == b);
    }

    #[test]
    fn a_table_survives_the_wire(table in table()) {
        let wire: RoutingTable = serde_json::from_str(&serde_json::to_string(&table).unwrap()).unwrap();
        prop_assert_eq!(wire.computed_version(), table.version.clone());
        prop_assert_eq!(wire, table);
    }

    #[test]
    fn a_delta_that_does_not_fit_is_refused(old in table(), new in table(), other in table()) {
        prop_assume!(old.version != other.version && old.version != new.version);
        let delta = diff(&old, &new);
        let refused = matches!(apply(&other, &delta), Err(ApplyError::Base { .. }));
        prop_assert!(refused);
        let wrong = Delta { version: TableVersion("0".repeat(32).into()), ..delta.clone() };
        let refused = matches!(apply(&old, &wrong), Err(ApplyError::Version { .. }));
        prop_assert!(refused);
        let newer = Delta { schema: delta.schema + 1, ..delta.clone() };
        let refused = matches!(apply(&old, &newer), Err(ApplyError::Schema { .. }));
        prop_assert!(refused);
        let mut strange = delta;
        strange.removes.routes.insert(portcullis_routing::RouteKey::new("httproute/no/such/0"));
        let refused = matches!(apply(&old, &strange), Err(ApplyError::Unknown { .. }));
        prop_assert!(refused);
    }
}
