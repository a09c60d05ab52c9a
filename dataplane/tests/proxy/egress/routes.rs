//! HTTPRoutes on an egress listener.

use std::sync::Arc;

use portcullis_routing::{
    Backend as RouteBackend, Cluster, ClusterEndpoints, ClusterKey, Endpoint, EndpointHost,
    EndpointState, EntryKey, Filter, GatewayKey, ListenerKey, PathMatch, Route, RouteAction,
    RouteKey, RouteMatch, RouteOrder, RoutePolicy, RouteSource, WeightedCluster, filter::Mirror,
};
use serde_json::json;

use crate::support::{
    Backend,
    fake_dns::FakeDns,
    outside::{A, B, Outside, STRANGER, fixed, outcome},
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
    let line = log.departures(4).await.pop().unwrap();
    assert_eq!(
        (&line["host"], &line["verdict"], &line["reason"]),
        (
            &json!("other.example.com"),
            &json!("refuse"),
            &json!("invalid_backend")
        )
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

/// A Service of the cluster that is at `backend`.
fn service(outside: &mut Outside, name: &str, backend: &Backend) -> ClusterKey {
    let key = ClusterKey::service("test", name, 80);
    let endpoint = Endpoint {
        host: EndpointHost::Ip(backend.address.ip()),
        port: backend.address.port(),
        state: EndpointState::Ready,
    };
    let endpoints = ClusterEndpoints {
        endpoints: vec![endpoint],
    };
    let table = &mut outside.0;
    table
        .clusters
        .insert(key.clone(), Arc::new(Cluster::default()));
    table.endpoints.insert(key.clone(), Arc::new(endpoints));
    key
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_asked_about_what_a_route_leads_to_a_service_and_its_copies() {
    let (backend, copies) = (Backend::start("up").await, Backend::start("copies").await);
    let dns = FakeDns::start(&[], 60).await;
    let mut outside = Outside::new(&dns)
        .policy(
            "no-secrets",
            json!({"scope": "Gateway", "action": "Deny", "to": [{"hosts": ["inside.example.com"], "ports": [80], "methods": ["GET"], "paths": [{"Prefix": "/secret"}]}]}),
        )
        .policy(
            "a-only",
            json!({"scope": "Gateway", "action": "Deny", "from": [{"namespaces": ["b"]}], "to": [{"hosts": ["inside.example.com"]}]}),
        )
        .policy(
            "told",
            json!({"scope": "Gateway", "action": "Deny", "mode": "Report", "to": [{"paths": [{"Prefix": "/told"}]}]}),
        );
    let cluster = service(&mut outside, "api", &backend);
    let mirror = Mirror {
        cluster: service(&mut outside, "copies", &copies),
        numerator: 1,
        denominator: 1,
    };
    let mut route = route("/", None, "Bearer token");
    // What filters make of the path and the host is nothing to policies.
    let rewrite = json!({"UrlRewrite": {"path": {"ReplaceFull": "/rewritten"}}});
    route.filters.push(serde_json::from_value(rewrite).unwrap());
    route.filters.push(Filter::Mirror(mirror));
    route.action = RouteAction::Forward(vec![WeightedCluster {
        weight: 1,
        backend: RouteBackend::Cluster(cluster),
        filters: vec![],
    }]);
    let key = RouteKey::of("HTTPRoute", "test", "out", 0);
    outside.0.routes.insert(key, Arc::new(route));
    let (proxy, log) = outside.start();
    let url = |path: &str| format!("http://inside.example.com{path}");
    for (caller, path, reason) in [
        (A, "/secret/x", "denied_by_policy"),
        (B, "/", "denied_by_policy"),
        (STRANGER, "/", "unknown_caller"),
    ] {
        let answer = proxy.fetch(caller, &url(path)).await;
        assert_eq!(outcome(&answer), ("403", Some(reason)), "{path}: {answer}");
    }
    assert_eq!(backend.connections(), 0);
    for (number, (path, verdict)) in [("/", "allow"), ("/told", "report")].iter().enumerate() {
        let answer = proxy.fetch(A, &url(path)).await;
        assert!(answer.ends_with("up"), "{answer}");
        let line = log.departures(4 + number).await.pop().unwrap();
        assert_eq!(
            (&line["verdict"], &line["route"]),
            (&json!(verdict), &json!("httproute/test/out/0"))
        );
        assert_eq!(
            (&line["host"], &line["entry"]),
            (&json!("inside.example.com"), &json!(null))
        );
        assert_eq!(line["address"], json!(backend.address));
    }
    let refused = &log.departures(5).await[0];
    assert_eq!(
        (&refused["verdict"], &refused["reason"], &refused["policy"]),
        (
            &json!("refuse"),
            &json!("denied_by_policy"),
            &json!("egresspolicy/test/no-secrets")
        )
    );
    // Nothing that was refused was copied either.
    let sent = r#"portcullis_mirrors_total{result="sent"}"#;
    proxy.reaches(sent, 2.0).await;
    assert_eq!(copies.seen().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_another_namespace_takes_only_requests_of_that() {
    let (backend, other) = (Backend::start("up").await, Backend::start("other").await);
    let dns = FakeDns::start(&[], 60).await;
    let mut outside = Outside::new(&dns)
        .entry("api", fixed("api.example.com", backend.address))
        .entry("other", fixed("other.example.com", other.address));
    for (number, namespace, path) in [(0, "test", "/"), (1, "a", "/team")] {
        let header = format!("Bearer {namespace}");
        let mut route = route(path, Some("api.example.com"), &header);
        route.source.namespace = namespace.into();
        let key = RouteKey::of("HTTPRoute", namespace, "out", number);
        outside.0.routes.insert(key, Arc::new(route));
    }
    let team = RouteKey::of("HTTPRoute", "a", "out", 1);
    let mut alone = Outside(outside.0.clone());
    alone.0.routes.retain(|key, _| *key == team);

    let (proxy, _) = outside.start();
    for caller in [A, B, STRANGER] {
        let answer = proxy.fetch(caller, "http://other.example.com/team/x").await;
        assert!(answer.ends_with("up"), "{answer}");
    }
    let seen = backend.seen();
    let shown: Vec<_> = seen
        .iter()
        .map(|seen| seen.headers["authorization"].to_str().unwrap())
        .collect();
    assert_eq!(shown, ["Bearer a", "Bearer test", "Bearer test"]);

    // Without a route of the Gateway's namespace those of others go straight to where they want.
    let (proxy, log) = alone.start();
    for (caller, wanted) in [(A, "up"), (B, "other"), (STRANGER, "other")] {
        let answer = proxy.fetch(caller, "http://other.example.com/team/x").await;
        assert!(answer.ends_with(wanted), "{answer}");
    }
    let routes: Vec<_> = log
        .departures(3)
        .await
        .iter()
        .map(|line| line["route"].clone())
        .collect();
    assert_eq!(routes, [json!(team.as_str()), json!(null), json!(null)]);
    let other = other.seen();
    assert!(
        other
            .iter()
            .all(|seen| !seen.headers.contains_key("authorization"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_the_gateways_namespace_leads_callers_only_where_its_entry_is_exported_to_them()
{
    let (backend, own) = (Backend::start("up").await, Backend::start("own").await);
    let dns = FakeDns::start(&[], 60).await;
    let mut for_a = fixed("api.example.com", backend.address);
    for_a["exported_to"] = json!({"Namespaces": ["a"]});
    // A caller has an entry of its own for the host, which goes first without a route.
    let mut of_a = fixed("api.example.com", own.address);
    of_a["order"] = json!({"namespace": "a", "name": "own", "rule": 0});
    let mut outside = Outside::new(&dns).entry("api", for_a).entry("own", of_a);
    let key = RouteKey::of("HTTPRoute", "test", "out", 0);
    let route = route("/in", Some("api.example.com"), "Bearer token");
    outside.0.routes.insert(key, Arc::new(route));
    let (proxy, _) = outside.start();
    let answer = proxy.fetch(A, "http://api.example.com/in").await;
    assert!(answer.ends_with("up"), "{answer}");
    let answer = proxy.fetch(A, "http://api.example.com/").await;
    assert!(answer.ends_with("own"), "{answer}");
    for (caller, reason) in [(B, "host_not_listed"), (STRANGER, "unknown_caller")] {
        let answer = proxy.fetch(caller, "http://api.example.com/in").await;
        assert_eq!(outcome(&answer), ("403", Some(reason)), "{answer}");
    }
}

/// A route of `namespace` for everything, to a Service.
fn to_service(namespace: &str, cluster: ClusterKey) -> Route {
    let mut route = route("/", None, "Bearer token");
    route.source.namespace = namespace.into();
    route.action = RouteAction::Forward(vec![WeightedCluster {
        weight: 1,
        backend: RouteBackend::Cluster(cluster),
        filters: vec![],
    }]);
    route
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_leads_to_no_endpoint_that_is_not_in_the_cluster() {
    let (backend, copies) = (Backend::start("up").await, Backend::start("copies").await);
    let dns = FakeDns::start(&[], 60).await;
    let mut outside = Outside::new(&dns);
    let cluster = service(&mut outside, "api", &backend);
    let mirror = Mirror {
        cluster: service(&mut outside, "copies", &copies),
        numerator: 1,
        denominator: 1,
    };
    // By a route of the Gateway's namespace, what policies open, which here is the loopback; by others no more than the cluster.
    for (namespace, path) in [("test", "/"), ("a", "/team")] {
        let mut route = to_service(namespace, cluster.clone());
        route.matches[0].path = PathMatch::Prefix(path.into());
        route.filters.push(Filter::Mirror(mirror.clone()));
        let key = RouteKey::of("HTTPRoute", namespace, "out", 0);
        outside.0.routes.insert(key, Arc::new(route));
    }
    let guarded = Outside(outside.0.clone()).guarded();

    let (proxy, log) = outside.start();
    let url = |path: &str| format!("http://inside.example.com{path}");
    assert!(proxy.fetch(A, &url("/")).await.ends_with("up"));
    let answer = proxy.fetch(A, &url("/team")).await;
    assert_eq!(
        outcome(&answer),
        ("403", Some("address_refused")),
        "{answer}"
    );
    assert!(
        answer.contains("lead the route to a ServiceEntry"),
        "{answer}"
    );
    let line = log.departures(2).await.pop().unwrap();
    assert_eq!(
        (&line["verdict"], &line["reason"], &line["host"]),
        (
            &json!("refuse"),
            &json!("address_refused"),
            &json!("inside.example.com")
        )
    );
    assert_eq!(
        line["detail"],
        "no endpoint of the Service is in the cluster"
    );
    let failed = r#"portcullis_mirrors_total{result="failed"}"#;
    proxy.reaches(failed, 1.0).await;
    let sent = r#"portcullis_mirrors_total{result="sent"}"#;
    proxy.reaches(sent, 1.0).await;
    assert_eq!((backend.seen().len(), copies.seen().len()), (1, 1));

    let (proxy, _) = guarded.start();
    for path in ["/", "/team"] {
        let answer = proxy.fetch(A, &url(path)).await;
        assert_eq!(
            outcome(&answer),
            ("403", Some("address_refused")),
            "{answer}"
        );
    }
    proxy.reaches(failed, 2.0).await;
    assert_eq!((backend.connections(), copies.connections()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_are_not_in_the_cluster_are_passed_over() {
    let backend = Backend::start("up").await;
    let dns = FakeDns::start(&[], 60).await;
    // All of the loopback, but for one address of it, is the cluster's here.
    let mut outside = Outside::new(&dns).guarded().policy(
        "here",
        json!({"scope": "Gateway", "action": "Allow", "allow_private": ["127.0.0.1/32"]}),
    );
    let cluster = service(&mut outside, "api", &backend);
    let endpoints = Arc::make_mut(outside.0.endpoints.get_mut(&cluster).unwrap());
    for bad in ["127.0.0.9", "8.8.8.8", "169.254.169.254", "::1"] {
        endpoints.endpoints.push(Endpoint {
            host: EndpointHost::Ip(bad.parse().unwrap()),
            port: backend.address.port(),
            state: EndpointState::Ready,
        });
    }
    let order = |one: &Endpoint, other: &Endpoint| one.host.cmp(&other.host);
    endpoints.endpoints.sort_by(order);
    let key = RouteKey::of("HTTPRoute", "test", "out", 0);
    let route = to_service("test", cluster);
    outside.0.routes.insert(key, Arc::new(route));
    let (proxy, log) = outside.start();
    for _ in 0..10 {
        let answer = proxy.fetch(A, "http://inside.example.com/").await;
        assert!(answer.ends_with("up"), "{answer}");
    }
    for line in log.departures(10).await {
        assert_eq!(line["address"], json!(backend.address));
    }
}
