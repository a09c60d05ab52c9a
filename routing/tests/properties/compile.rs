//! Incremental compilation against compilation from scratch.

use std::{cell::Cell, sync::Arc};

use portcullis_routing::{
    CompiledTable, Route, RouteKey, RoutingTable, apply, compile, diff, explain,
};
use proptest::{collection::vec, prelude::*};

use crate::{
    arbitrary::{PORTS, history, request},
    egress::decisions,
    lookup::answer,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn incremental_equals_from_scratch(tables in history(), requests in vec(request(), 12)) {
        let mut previous = None;
        for table in tables.into_iter().map(Arc::new) {
            let (scratch, expected) = compile(None, table.clone(), |key, _| Ok(key.clone()));
            // As a data plane brings it in: what did not change is shared.
            let table = match &previous {
                None => table,
                Some(previous) => {
                    let old: &RoutingTable = CompiledTable::table(previous);
                    Arc::new(apply(old, &diff(old, &table)).unwrap())
                }
            };
            let (compiled, rejections) = compile(previous.as_ref(), table, |key, _| Ok(key.clone()));
            prop_assert_eq!(rejections, expected);
            prop_assert_eq!(decisions(&compiled), decisions(&scratch));
            for (port, request) in PORTS.iter().flat_map(|port| requests.iter().map(move |request| (*port, request))) {
                let head = request.head();
                prop_assert_eq!(answer(&compiled, port, &head), answer(&scratch, port, &head));
                prop_assert_eq!(explain(&compiled, port, &head), explain(&scratch, port, &head));
            }
            previous = Some(compiled);
        }
    }

    #[test]
    fn only_changed_routes_are_prepared(tables in history()) {
        let [old, new, ..] = &tables[..] else { unreachable!("a history has two tables") };
        let (compiled, _) = compile(None, Arc::new(old.clone()), |key, _| Ok(key.clone()));
        let unchanged = |key: &RouteKey, route: &Arc<Route>| compiled.route(key).is_some_and(|before| before.route() == route);
        let repeated = Cell::new(false);
        let (next, _) = compile(Some(&compiled), Arc::new(new.clone()), |key, route| {
            repeated.set(repeated.get() || unchanged(key, route));
            Ok(key.clone())
        });
        prop_assert!(!repeated.get());
        for (key, route) in new.routes.iter().filter(|(key, route)| unchanged(key, route)) {
            let (before, after) = (compiled.route(key), next.route(key));
            let kept = before.zip(after).is_none_or(|(before, after)| Arc::ptr_eq(before, after));
            prop_assert!(kept, "{} was compiled again: {:?}", key, route);
        }
    }
}
