//! Lookup and explanation against the reference.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_routing::{
    Clause, CompiledTable, Direction, ListenerProtocol, RequestHead, RouteKey, RoutingTable,
    compile, explain, explain::Verdict,
};
use proptest::{collection::vec, prelude::*, strategy::ValueTree, test_runner::TestRunner};

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
    let listener = compiled.port(port)?.listener_for(head.host)?;
    let (route, match_index) = if listener.listener().protocol == ListenerProtocol::Tls {
        (listener.lookup_connection(head.host)?, 0)
    } else {
        let found = listener.lookup(head)?;
        (found.route, found.match_index)
    };
    assert_eq!(route.payload(), route.key());
    Some((route.key().clone(), match_index))
}

/// What it answers a caller of this namespace.
fn answer_to(
    compiled: &CompiledTable<RouteKey>,
    caller: Option<&str>,
    port: u16,
    head: &RequestHead<'_>,
) -> reference::Answer {
    let listener = compiled.port(port)?.listener_for(head.host)?;
    if listener.listener().protocol == ListenerProtocol::Tls {
        let route = listener.lookup_connection_of(caller, head.host)?;
        return Some((route.key().clone(), 0));
    }
    let found = listener.lookup_of(caller, head)?;
    Some((found.route.key().clone(), found.match_index))
}

/// The same, with all its listeners for traffic on its way out.
fn of_egress(mut table: RoutingTable) -> RoutingTable {
    let settings = Arc::make_mut(&mut table.settings);
    settings.egress.get_or_insert_default();
    for listener in table.listeners.values_mut() {
        Arc::make_mut(listener).direction = Direction::Egress;
    }
    table
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

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

    /// What a route of another namespace than the caller's and the Gateway's would take goes on as if that route were not there.
    #[test]
    fn routes_that_do_not_take_a_callers_requests_are_as_good_as_none(table in table(), requests in vec(request(), 16)) {
        let table = of_egress(table);
        let (compiled, _) = compile(None, Arc::new(table.clone()), |key, _| Ok(key.clone()));
        let gateway = table.gateway.namespace();
        for caller in [None, Some(gateway), Some("n"), Some("n-m"), Some("nowhere")] {
            let mut left = table.clone();
            left.routes.retain(|_, route| {
                let namespace = route.source.namespace.as_str();
                namespace == gateway || caller == Some(namespace)
            });
            let (left, _) = compile(None, Arc::new(left), |key, _| Ok(key.clone()));
            for (port, request) in PORTS.iter().flat_map(|port| requests.iter().map(move |request| (*port, request))) {
                let head = request.head();
                let found = answer_to(&compiled, caller, port, &head);
                prop_assert_eq!(found, answer(&left, port, &head), "{:?} {} {:?}", caller, port, request);
            }
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
            let winners = explanation.candidates.iter().filter(|candidate| candidate.verdict == Verdict::Won);
            prop_assert!(winners.count() <= 1);
            prop_assert_eq!(winner, answer(&compiled, port, &request.head()));
        }
    }
}

/// The properties above say something only if random requests reach what they are about.
#[test]
fn random_requests_reach_every_kind_of_answer() {
    let mut runner = TestRunner::deterministic();
    let strategy = (table(), vec(request(), 32));
    let mut reached = BTreeMap::<String, usize>::new();
    for _ in 0..128 {
        let (table, requests) = strategy.new_tree(&mut runner).unwrap().current();
        let (compiled, rejections) = compile(None, Arc::new(table), |key, _| Ok(key.clone()));
        let mut count = |what: String| *reached.entry(what).or_default() += 1;
        for rejection in &rejections {
            count(format!("rejected {}", rejection.kind));
        }
        for request in &requests {
            let connection = answer(&compiled, PORTS[2], &request.head());
            count(format!("connection answered {}", connection.is_some()));
            let explanation = explain(&compiled, PORTS[0], &request.head());
            count(format!("answered {}", explanation.winner().is_some()));
            explanation
                .candidates
                .iter()
                .for_each(|candidate| match &candidate.verdict {
                    Verdict::Lost(clause) => count(format!("lost by {clause:?}")),
                    verdict => count(
                        format!("{verdict:?}")
                            .split('(')
                            .next()
                            .unwrap_or_default()
                            .to_owned(),
                    ),
                });
        }
    }
    let rejected =
        ["settings", "listener", "route", "endpoints"].map(|kind| format!("rejected {kind}"));
    // The last clause, the key, takes too many coincidences; it has its test beside the ranks.
    let lost = Clause::ALL[..Clause::ALL.len() - 1]
        .iter()
        .map(|clause| format!("lost by {clause:?}"));
    let verdicts = [
        "Won",
        "HostDiffers",
        "PathDiffers",
        "MethodDiffers",
        "HeaderMissing",
        "HeaderDiffers",
    ];
    let rest = [
        "QueryMissing",
        "QueryDiffers",
        "answered true",
        "answered false",
        "connection answered true",
        "connection answered false",
    ];
    for what in rejected
        .into_iter()
        .chain(lost)
        .chain(verdicts.into_iter().chain(rest).map(str::to_owned))
    {
        assert!(
            reached.get(&what).is_some_and(|count| *count >= 3),
            "{what}: {reached:#?}"
        );
    }
    assert!(reached["answered true"] > 1000, "{reached:#?}");
}
