//! HTTPRoutes on an egress listener.

use std::sync::Arc;

use portcullis_routing::{
    Backend as RouteBackend, EntryKey, Filter, GatewayKey, ListenerKey, PathMatch, Route,
    RouteAction, RouteKey, RouteMatch, RouteOrder, RoutePolicy, RouteSource, WeightedCluster,
};
use serde_json::json;

use crate::support::{
    Backend,
    fake_dns::FakeDns,
    outside::{A, Outside, fixed, outcome},
};

/// A route of every host, from the prefix `path` to an entry's host, with a header of its own.
fn route(path: &str, host: Option<&str>, header: &str) -> Route {
    let source = RouteSource {
        kind: "HTTPRoute".into(),
        namespace: "test".into(),
        name: "out".into(),
        rule: 0,
        rule_name: None,
    };
    let set = json!({"RequestHeaders": {"set": [["authorization", header], ["host", "elsewhere.example.com"]]}});
    let filter: Filter = serde_json::from_value(set).unwrap();
    Route {
        listeners: vec![ListenerKey::of(&GatewayKey::of("test", "gateway"), "http")],
        hostnames: vec![],
        matches: vec![RouteMatch {
            path: PathMatch::Prefix(path.into()),
            method: None,
            headers: vec![],
            query: vec![],
        }],
        filters: vec![filter],
        action: RouteAction::Forward(vec![WeightedCluster {
            weight: 1,
            backend: RouteBackend::External {
                entry: EntryKey::of("test", "api"),
                host: host.map(str::to_owned),
                port: 80,
            },
            filters: vec![],
        }]),
        policy: RoutePolicy::default(),
        order: RouteOrder {
            created_at: 0,
            namespace: "test".into(),
            name: "out".into(),
            rule: 0,
        },
        source,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_adds_to_requests_and_leads_to_the_host_that_is_decided_on() {
    let (backend, other) = (Backend::start("up").await, Backend::start("other").await);
    let dns = FakeDns::start(&[], 60).await;
    let mut outside = Outside::new(&dns)
        .entry("api", fixed("api.example.com", backend.address))
        .entry("other", fixed("other.example.com", other.address))
        .policy(
            "no-secrets",
            json!({"scope": "Gateway", "action": "Deny", "to": [{"hosts": ["api.example.com"], "paths": [{"Prefix": "/in/secret"}]}]}),
        );
    for (number, path, host) in [(0, "/in", Some("api.example.com")), (1, "/own", None)] {
        let key = RouteKey::of("HTTPRoute", "test", "out", number);
        let mut route = route(path, host, "Bearer token");
        route.source.rule = number;
        route.order.rule = number;
        outside.0.routes.insert(key, Arc::new(route));
    }
    let (proxy, log) = outside.start();
    // The client knows the host by another name.
    let answer = proxy.fetch(A, "http://alias.internal/in/x").await;
    assert!(answer.ends_with("up"), "{answer}");
    let seen = backend.only();
    assert_eq!(seen.headers["authorization"], "Bearer token");
    assert_eq!(seen.headers["host"], "api.example.com");
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(
        (&line["host"], &line["entry"]),
        (&json!("api.example.com"), &json!("serviceentry/test/api"))
    );

    let answer = proxy.fetch(A, "http://alias.internal/in/secret").await;
    assert_eq!(
        outcome(&answer),
        ("403", Some("denied_by_policy")),
        "{answer}"
    );
    assert!(
        proxy
            .fetch(A, "http://api.example.com/own")
            .await
            .ends_with("up")
    );
    // The route is to hosts of its own entry.
    let answer = proxy.fetch(A, "http://other.example.com/own").await;
    assert_eq!(
        outcome(&answer),
        ("500", Some("invalid_backend")),
        "{answer}"
    );
    // Without a route the host that is named counts.
    assert!(
        proxy
            .fetch(A, "http://other.example.com/")
            .await
            .ends_with("other")
    );
    assert_eq!(other.only().headers.get("authorization"), None);
}
