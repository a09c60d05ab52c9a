//! What commands ask of an API server: no more than they need, and in pieces.

use crate::{
    common::stdout,
    explain::EDGE,
    fake::{Contents, FakeCluster},
};

const EXPLAIN: [&str; 5] = [
    "explain",
    "--gateway",
    "shop/edge",
    "GET",
    "https://shop.example/",
];

/// Two Gateways, a Secret of each, and three routes.
fn contents() -> Contents {
    let other = EDGE
        .replace("name: edge", "name: other")
        .replace("name: cert", "name: others-cert");
    let (_, other) = other.split_once("---").expect("two documents");
    let mut manifests = format!("{EDGE}---{other}");
    for name in ["a", "b", "c"] {
        let route = format!(
            "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: shop}}
spec:
  parentRefs: [{{name: edge}}]
  hostnames: [{name}.example]
  rules: [{{filters: [{{type: RequestRedirect, requestRedirect: {{hostname: shop.example}}}}]}}]
"
        );
        manifests += &route;
    }
    Contents::of(&manifests)
}

#[test]
fn secrets_of_other_gateways_are_not_read() {
    let cluster = FakeCluster::start(contents());
    cluster.run(&EXPLAIN);
    let asked = cluster.asked();
    let mut secrets = asked.iter().filter(|target| target.contains("/secrets/"));
    assert!(
        secrets
            .next()
            .is_some_and(|target| target.ends_with("/cert"))
    );
    assert_eq!(secrets.next(), None);
}

#[test]
fn lists_are_read_in_pieces_whole_even_if_they_change_meanwhile() {
    for is_forgetful in [false, true] {
        let cluster = FakeCluster::start(Contents {
            page: Some(1),
            is_forgetful,
            ..contents()
        });
        let output = cluster.run(&[
            "explain",
            "--gateway",
            "shop/edge",
            "GET",
            "http://c.example/",
        ]);
        let told = stdout(&output);
        assert!(told.contains("rule 0 of HTTPRoute shop/c"), "{told}");
        let asked = cluster.asked();
        let routes: Vec<_> = asked
            .iter()
            .filter(|it| it.contains("/httproutes?"))
            .collect();
        assert!(routes[0].contains("limit=500"), "{routes:?}");
        assert_eq!(routes.len(), 3, "{routes:?}");
    }
}

#[test]
fn an_object_that_is_elsewhere_is_looked_for_by_its_name() {
    let cluster = FakeCluster::start(contents());
    let output = cluster.run(&["status", "route", "a", "-n", "team"]);
    let told = stdout(&output);
    assert!(told.contains("there is one in shop"), "{told}");
    let asked = cluster.asked();
    let is_everywhere = |target: &&String| target.contains("/v1/httproutes?");
    let everywhere: Vec<_> = asked.iter().filter(is_everywhere).collect();
    assert!(
        !everywhere.is_empty()
            && everywhere
                .iter()
                .all(|it| it.contains("fieldSelector=metadata.name%3Da")),
        "{everywhere:?}"
    );
}
