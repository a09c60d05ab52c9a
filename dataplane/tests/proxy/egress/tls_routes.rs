//! TLSRoutes on an egress listener.

use std::sync::{Arc, atomic::Ordering};

use portcullis_routing::{
    Backend, Cluster, ClusterEndpoints, Endpoint, EndpointHost, EndpointState, EntryKey,
    WeightedCluster,
};
use serde_json::{Value, json};

use super::{
    passthrough::{ACCESS_DENIED, INTERNAL_ERROR, UNRECOGNISED_NAME, greet},
    tunnels::{Echo, hello, read, rest},
};
use crate::support::{
    Log,
    fake_dns::FakeDns,
    outside::{A, B, Outside, STRANGER},
    table::{cluster_key, tls_route},
};

/// A backend beyond the cluster.
fn through(entry: &str, host: Option<&str>, port: u16) -> WeightedCluster {
    WeightedCluster {
        weight: 1,
        backend: Backend::External {
            entry: EntryKey::of("test", entry),
            host: host.map(str::to_owned),
            port,
        },
        filters: vec![],
    }
}

impl Outside {
    /// Adds a TLSRoute of a namespace.
    fn tls_route(
        mut self,
        (namespace, name): (&str, &str),
        hostname: &str,
        backend: WeightedCluster,
    ) -> Self {
        let (key, route) = tls_route((namespace, name), "tls", hostname, vec![backend]);
        self.0.routes.insert(key, route);
        self
    }
}

/// What the last of so many lines says.
async fn told<const N: usize>(log: &Log, count: usize, fields: [&str; N]) -> [Value; N] {
    let line = log.departures(count).await.pop().unwrap();
    fields.map(|field| line[field].clone())
}

/// An entry for some hosts, whose port 8443 is `echo`.
fn entry(echo: &Echo, hosts: &[&str]) -> Value {
    let mut entry = echo.entry(hosts[0], 8443, "TLS");
    entry["hosts"] = json!(hosts);
    entry
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_leads_through_its_entry_and_what_none_names_goes_as_ever() {
    let (routed, plain) = (Echo::start().await, Echo::start().await);
    let dns = FakeDns::start(&[], 60).await;
    let hosts = ["api.example.com", "*.many.example", "alias.example"];
    let (proxy, log) = Outside::new(&dns)
        .passthrough()
        .entry("api", entry(&routed, &hosts))
        .entry("plain", plain.entry("plain.example.com", 443, "TLS"))
        .tls_route(
            ("test", "api"),
            "api.example.com",
            through("api", Some("api.example.com"), 8443),
        )
        .tls_route(
            ("test", "many"),
            "*.many.example",
            through("api", None, 8443),
        )
        .tls_route(
            ("test", "alias"),
            "alias.example",
            through("api", Some("api.example.com"), 8443),
        )
        .start();
    for (count, (name, host, route)) in (1..).zip([
        (
            "api.example.com",
            "api.example.com",
            json!("tlsroute/test/api/0"),
        ),
        (
            "x.many.example",
            "x.many.example",
            json!("tlsroute/test/many/0"),
        ),
        (
            "alias.example",
            "api.example.com",
            json!("tlsroute/test/alias/0"),
        ),
    ]) {
        let greeting = hello(name);
        let mut stream = greet(&proxy, A, &greeting).await;
        assert_eq!(read(&mut stream, greeting.len()).await, greeting);
        proxy.reaches("portcullis_egress_tunnels", 1.0).await;
        drop(stream);
        let fields = ["sni", "host", "port", "verdict", "entry", "route"];
        assert_eq!(
            told(&log, count, fields).await,
            [
                json!(name),
                json!(host),
                json!(8443),
                json!("allow"),
                json!("serviceentry/test/api"),
                route
            ]
        );
    }
    assert_eq!(plain.received.load(Ordering::SeqCst), 0);
    let greeting = hello("plain.example.com");
    let mut stream = greet(&proxy, A, &greeting).await;
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
    drop(stream);
    let fields = ["port", "verdict", "route"];
    let expected = [json!(443), json!("allow"), Value::Null];
    assert_eq!(told(&log, 4, fields).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_opens_nothing_that_entries_and_policies_do_not() {
    let echo = Echo::start().await;
    let dns = FakeDns::start(&[], 60).await;
    let deny = |account: &str, host: &str| {
        json!({
            "scope": "Gateway", "action": "Deny", "from": [{"service_accounts": [[account, "x"]]}],
            "to": [{"hosts": [host]}],
        })
    };
    let mut of_a = entry(&echo, &["private.example.com"]);
    of_a["exported_to"] = json!({"Namespaces": ["a"]});
    of_a["order"] = json!({"namespace": "a", "name": "private", "rule": 0});
    let mut inside = entry(&echo, &["inside.example.com"]);
    inside["resolution"] = json!("Dns");
    inside["endpoints"] = json!([{"host": "10.1.2.3"}]);
    let host = |name: &'static str| through("api", Some(name), 8443);
    let (proxy, log) = Outside::new(&dns)
        .passthrough()
        .entry(
            "api",
            entry(&echo, &["api.example.com", "alias.example.com"]),
        )
        .entry("private", of_a)
        .entry("inside", inside)
        .policy("not-b", deny("b", "api.example.com"))
        .policy("not-alias", deny("a", "alias.example.com"))
        .tls_route(("test", "api"), "api.example.com", host("api.example.com"))
        .tls_route(
            ("test", "alias"),
            "alias.example.com",
            host("api.example.com"),
        )
        .tls_route(
            ("test", "fronted"),
            "evil.example.com",
            host("api.example.com"),
        )
        .tls_route(
            ("test", "private"),
            "private.example.com",
            through("private", None, 8443),
        )
        .tls_route(
            ("test", "inside"),
            "inside.example.com",
            through("inside", None, 8443),
        )
        .tls_route(
            ("test", "gone"),
            "gone.example.com",
            through("gone", None, 8443),
        )
        .start();
    for (count, (from, name, alert, reason)) in (1..).zip([
        (B, "api.example.com", ACCESS_DENIED, "denied_by_policy"),
        (STRANGER, "api.example.com", ACCESS_DENIED, "unknown_caller"),
        // What policies say of the name that is greeted holds wherever the route leads.
        (A, "alias.example.com", ACCESS_DENIED, "denied_by_policy"),
        // A server may know many names. Its entry lists only some.
        (A, "evil.example.com", UNRECOGNISED_NAME, "sni_mismatch"),
        (B, "private.example.com", ACCESS_DENIED, "not_exported"),
        (A, "inside.example.com", ACCESS_DENIED, "address_refused"),
        (A, "gone.example.com", UNRECOGNISED_NAME, "sni_mismatch"),
    ]) {
        let mut stream = greet(&proxy, from, &hello(name)).await;
        assert_eq!(rest(&mut stream).await, alert, "{name}: {reason}");
        let [verdict, told] = told(&log, count, ["verdict", "reason"]).await;
        assert_eq!([verdict, told], [json!("refuse"), json!(reason)], "{name}");
    }
    assert_eq!(echo.received.load(Ordering::SeqCst), 0);
    let greeting = hello("api.example.com");
    let mut stream = greet(&proxy, A, &greeting).await;
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_a_tenant_takes_its_own_connections_only() {
    let (own, everybodys) = (Echo::start().await, Echo::start().await);
    let dns = FakeDns::start(&[], 60).await;
    let (proxy, log) = Outside::new(&dns)
        .passthrough()
        .entry("own", entry(&own, &["api.example.com"]))
        .entry("api", everybodys.entry("api.example.com", 443, "TLS"))
        .tls_route(("a", "api"), "api.example.com", through("own", None, 8443))
        .start();
    let greeting = hello("api.example.com");
    for (count, (from, route)) in (1..).zip([
        (A, json!("tlsroute/a/api/0")),
        (B, Value::Null),
        (STRANGER, Value::Null),
    ]) {
        let mut stream = greet(&proxy, from, &greeting).await;
        assert_eq!(read(&mut stream, greeting.len()).await, greeting);
        drop(stream);
        assert_eq!(told(&log, count, ["route"]).await, [route]);
    }
    assert_eq!(own.received.load(Ordering::SeqCst), greeting.len());
}

/// A Service of the cluster.
fn to_service() -> WeightedCluster {
    WeightedCluster {
        weight: 1,
        backend: Backend::Cluster(cluster_key("mirror")),
        filters: vec![],
    }
}

/// A Gateway whose TLSRoute leads to a backend of the cluster.
async fn inward(echo: &Echo) -> Outside {
    let dns = FakeDns::start(&[], 60).await;
    let deny =
        json!({"scope": "Gateway", "action": "Deny", "from": [{"service_accounts": [["b", "x"]]}]});
    let mut outside = Outside::new(&dns)
        .passthrough()
        .policy("not-b", deny)
        .tls_route(("test", "in"), "packages.example.com", to_service());
    let endpoint = Endpoint {
        host: EndpointHost::Ip(echo.address.ip()),
        port: echo.address.port(),
        state: EndpointState::Ready,
    };
    let endpoints = ClusterEndpoints {
        endpoints: vec![endpoint],
    };
    let key = cluster_key("mirror");
    outside
        .0
        .clusters
        .insert(key.clone(), Arc::new(Cluster::default()));
    outside.0.endpoints.insert(key, Arc::new(endpoints));
    outside
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_to_the_cluster_is_for_whom_policies_let() {
    let echo = Echo::start().await;
    let (proxy, log) = inward(&echo).await.start();
    let greeting = hello("packages.example.com");
    let mut stream = greet(&proxy, B, &greeting).await;
    assert_eq!(rest(&mut stream).await, ACCESS_DENIED);
    let fields = ["verdict", "reason", "host"];
    let expected = ["refuse", "denied_by_policy", "packages.example.com"].map(|it| json!(it));
    assert_eq!(told(&log, 1, fields).await, expected);
    assert_eq!(echo.received.load(Ordering::SeqCst), 0);

    let mut stream = greet(&proxy, A, &greeting).await;
    assert_eq!(read(&mut stream, greeting.len()).await, greeting);
    drop(stream);
    let fields = ["verdict", "route", "address", "entry"];
    let expected = [
        json!("allow"),
        json!("tlsroute/test/in/0"),
        json!(echo.address.to_string()),
        Value::Null,
    ];
    assert_eq!(told(&log, 2, fields).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_leads_to_no_endpoint_that_is_not_in_the_cluster() {
    let echo = Echo::start().await;
    let outside = inward(&echo).await;
    let outside = outside.tls_route(("a", "in"), "team.example.com", to_service());
    let mut guarded = Outside(outside.0.clone()).guarded();
    let (proxy, log) = outside.start();
    // By a route of the Gateway's namespace, what policies open, which here is the loopback; by others no more than the cluster.
    let greeting = hello("packages.example.com");
    let mut passing = greet(&proxy, A, &greeting).await;
    assert_eq!(read(&mut passing, greeting.len()).await, greeting);
    let fields = ["verdict", "reason", "detail", "route"];
    let refused = |route: &str| {
        let why = "no endpoint of the Service is in the cluster";
        ["refuse", "address_refused", why, route].map(|it| json!(it))
    };
    let mut stream = greet(&proxy, A, &hello("team.example.com")).await;
    assert_eq!(rest(&mut stream).await, ACCESS_DENIED);
    let expected = refused("tlsroute/a/in/0");
    assert_eq!(told(&log, 1, fields).await, expected);

    guarded.0.seal();
    proxy.apply(guarded.0);
    assert_eq!(rest(&mut passing).await, b"");
    assert_eq!(told(&log, 2, ["reason"]).await, ["revoked"]);
    let mut stream = greet(&proxy, A, &greeting).await;
    assert_eq!(rest(&mut stream).await, ACCESS_DENIED);
    let expected = refused("tlsroute/test/in/0");
    assert_eq!(told(&log, 3, fields).await, expected);
    assert_eq!(echo.received.load(Ordering::SeqCst), greeting.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_are_not_in_the_cluster_are_passed_over() {
    let echo = Echo::start().await;
    // All of the loopback, but for one address of it, is the cluster's here.
    let mut outside = inward(&echo).await.guarded().policy(
        "here",
        json!({"scope": "Gateway", "action": "Allow", "allow_private": ["127.0.0.1/32"]}),
    );
    let endpoints = outside.0.endpoints.get_mut(&cluster_key("mirror"));
    let endpoints = &mut Arc::make_mut(endpoints.unwrap()).endpoints;
    for bad in ["127.0.0.9", "8.8.8.8", "169.254.169.254", "::1"] {
        endpoints.push(Endpoint {
            host: EndpointHost::Ip(bad.parse().unwrap()),
            port: echo.address.port(),
            state: EndpointState::Ready,
        });
    }
    endpoints.sort_by(|one, other| one.host.cmp(&other.host));
    let (proxy, log) = outside.start();
    let greeting = hello("packages.example.com");
    for count in 1..=10 {
        let mut stream = greet(&proxy, A, &greeting).await;
        assert_eq!(read(&mut stream, greeting.len()).await, greeting);
        drop(stream);
        let address = json!(echo.address.to_string());
        assert_eq!(told(&log, count, ["address"]).await, [address]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_cut_when_a_policy_comes_to_deny_it() {
    let echo = Echo::start().await;
    let outside = inward(&echo).await;
    let mut outside = outside
        .entry(
            "api",
            entry(&echo, &["api.example.com", "alias.example.com"]),
        )
        .tls_route(
            ("test", "alias"),
            "alias.example.com",
            through("api", Some("api.example.com"), 8443),
        );
    let table = outside.0.clone();
    let (proxy, log) = outside.start();
    let mut streams = Vec::new();
    for name in ["packages.example.com", "alias.example.com"] {
        let greeting = hello(name);
        let mut stream = greet(&proxy, A, &greeting).await;
        assert_eq!(read(&mut stream, greeting.len()).await, greeting);
        streams.push(stream);
    }
    outside = Outside(table);
    let hosts = ["packages.example.com", "alias.example.com"];
    outside = outside.policy(
        "none",
        json!({"scope": "Gateway", "action": "Deny", "to": [{"hosts": hosts}]}),
    );
    outside.0.seal();
    proxy.apply(outside.0);
    for stream in &mut streams {
        assert_eq!(rest(stream).await, b"");
    }
    for line in log.departures(2).await {
        assert_eq!(line["reason"], "revoked", "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_without_a_backend_refuses() {
    let dns = FakeDns::start(&[], 60).await;
    let invalid = WeightedCluster {
        weight: 1,
        backend: Backend::Invalid {
            reason: "BackendNotFound".into(),
        },
        filters: vec![],
    };
    let (proxy, log) = Outside::new(&dns)
        .passthrough()
        .tls_route(("test", "bad"), "api.example.com", invalid)
        .start();
    let mut stream = greet(&proxy, A, &hello("api.example.com")).await;
    assert_eq!(rest(&mut stream).await, INTERNAL_ERROR);
    let expected = ["refuse", "invalid_backend", "tlsroute/test/bad/0"].map(|it| json!(it));
    assert_eq!(
        told(&log, 1, ["verdict", "reason", "route"]).await,
        expected
    );
}
