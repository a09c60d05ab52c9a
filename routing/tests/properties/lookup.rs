//! Lookup and explanation against the reference.

use std::sync::Arc;

use portcullis_routing::{CompiledTable, RequestHead, RouteKey, compile, explain};
use proptest::{collection::vec, prelude::*};

use crate::{
    arbitrary::{PORTS, request, table},
    reference,
};

/// What the compiled table answers.
pub(crate) fn answer(
    compiled: &CompiledTable<RouteKey>,
    port: u16,
    head: &RequestHead<'_>,
) -> reference::Answer {
    let found = compiled.port(port)?.listener_for(head.host)?.lookup(head)?;
    assert_eq!(found.route.payload(), found.route.key());
    Some((found.route.key().clone(), found.match_index))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn lookup_equals_the_reference(table in table(), requests in vec(request(), 16)) {
        let (compiled, rejections) = compile(None, Arc::new(table.clone()), |key, _| Ok(key.clone()));
        for (port, request) in PORTS.iter().flat_map(|port| requests.iter().map(move |request| (*port, request))) {
            let listener = compiled.port(port).and_then(|p| p.listener_for(request.host)).map(|l| l.key());
            prop_assert_eq!(listener, reference::listener(&table, &rejections, port, request.host));
            let expected = reference::lookup(&table, &rejections, port, request);
            prop_assert_eq!(answer(&compiled, port, &request.head()), expected, "{} {:?}", port, request);
        }
    }

    #[test]
    fn the_explanation_agrees_with_the_lookup(table in table(), requests in vec(request(), 8)) {
        let (compiled, _) = compile(None, Arc::new(table), |key, _| Ok(key.clone()));
        for (port, request) in PORTS.iter().flat_map(|port| requests.iter().map(move |request| (*port, request))) {
            let explanation = explain(&compiled, port, &request.head());
            let listener = compiled.port(port).and_then(|p| p.listener_for(request.host)).map(|l| l.key());
            prop_assert_eq!(explanation.listener().map(|listener| &listener.key), listener);
            let winner = explanation.winner().map(|winner| (winner.route.clone(), winner.match_index));
            prop_assert_eq!(winner, answer(&compiled, port, &request.head()));
        }
    }
}
