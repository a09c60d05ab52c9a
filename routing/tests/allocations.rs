//! A lookup allocates nothing, nor does reading a destination in normal form. In a binary of its own, because the counting
//! allocator replaces the global one.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use portcullis_routing::{
    CompiledTable, EntryKey, RequestHead, RoutingTable, compile,
    egress::{Caller, Destination, Question, Seen, host::Authority},
};

/// Every kind of condition, on several hosts.
fn compiled() -> CompiledTable<()> {
    let route = |name: &str, hostnames: &[&str], matches: serde_json::Value| {
        // On its way out a request meets those of the Gateway's namespace and of its own.
        let namespace = if name == "prefix" { "ns" } else { "team" };
        serde_json::json!({
            "listeners": ["ns/gw/any", "ns/gw/wild", "ns/gw/proxy"],
            "hostnames": hostnames,
            "matches": matches,
            "action": { "Respond": { "status": 200, "reason": name } },
            "order": { "created_at": 0, "namespace": "ns", "name": name, "rule": 0 },
            "source": { "kind": "HTTPRoute", "namespace": namespace, "name": name, "rule": 0 },
        })
    };
    let table: RoutingTable = serde_json::from_value(serde_json::json!({
        "schema": 1,
        "gateway": "ns/gw",
        "settings": { "egress": {} },
        "listeners": {
            "ns/gw/proxy": { "port": 3128, "protocol": "HTTP", "direction": "Egress" },
            "ns/gw/any": { "port": 80, "protocol": "HTTP" },
            "ns/gw/wild": { "port": 80, "protocol": "HTTP", "hostname": "*.example.com" },
            "ns/gw/tls": { "port": 443, "protocol": "TLS" },
        },
        "routes": {
            "prefix": route("prefix", &["*.example.com"], serde_json::json!([{ "path": { "Prefix": "/a/b" } }])),
            "exact": route("exact", &[], serde_json::json!([{ "path": { "Exact": "/exact" }, "method": "PURGE" }])),
            "regex": route("regex", &["*.com"], serde_json::json!([{ "path": { "Regex": "/v[0-9]+/(?i)users/.*" } }])),
            "header": route("header", &["www.example.com"], serde_json::json!([{
                "path": { "Prefix": "/" },
                "headers": [
                    { "name": "x-exact", "value": { "Exact": "1, 2" } },
                    { "name": "x-regex", "value": { "Regex": ".*, c" } },
                ],
                "query": [
                    { "name": "a b", "value": { "Exact": "c d" } },
                    { "name": "e", "value": { "Regex": "[0-9 ]+" } },
                ],
            }])),
            "tls": {
                "listeners": ["ns/gw/tls"],
                "hostnames": ["*.example.com"],
                "matches": [],
                "action": { "Forward": [] },
                "order": { "namespace": "ns", "name": "tls", "rule": 0 },
                "source": { "kind": "TLSRoute", "namespace": "ns", "name": "tls", "rule": 0 },
            },
        },
    }))
    .unwrap();
    let (compiled, rejections) = compile(None, Arc::new(table), |_, _| Ok(()));
    assert_eq!(rejections, []);
    compiled
}

#[test]
fn a_lookup_allocates_nothing() {
    let compiled = compiled();
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-exact", "1"),
        ("x-exact", "2"),
        ("x-regex", "b"),
        ("x-regex", "c"),
    ] {
        headers.append(name, HeaderValue::from_static(value));
    }
    let purge = Method::from_bytes(b"PURGE").unwrap();
    let deep = format!("/a/b{}", "/x".repeat(4096));
    let labels = format!("{}example.com", "x.".repeat(4096));
    let requests = [
        (
            "x.y.example.com",
            "/a/b/c",
            None,
            &Method::GET,
            Some("prefix"),
        ),
        (
            labels.as_str(),
            deep.as_str(),
            None,
            &Method::GET,
            Some("prefix"),
        ),
        ("www.example.com", "/a/bc", None, &Method::GET, None),
        ("", "/exact", None, &purge, Some("exact")),
        ("", "/exact", None, &Method::GET, None),
        (
            "b.example.com",
            "/v12/USERS/x",
            None,
            &Method::GET,
            Some("regex"),
        ),
        (
            "www.example.com",
            "/",
            Some("z&a%20b=c+d&e=1%202"),
            &Method::GET,
            Some("header"),
        ),
        (
            "www.example.com",
            "/",
            Some("a%20b=c+d&e=1%203x"),
            &Method::GET,
            None,
        ),
    ];
    for (host, path, query, method, expected) in requests {
        let head = RequestHead {
            host,
            path,
            query,
            method,
            headers: &headers,
        };
        let mut found = [None, None];
        let allocations = allocation_counter::measure(|| {
            let listener = |port| compiled.port(port)?.listener_for(host);
            found = [
                listener(80).and_then(|listener| listener.lookup(&head)),
                listener(3128).and_then(|listener| listener.lookup_of(Some("team"), &head)),
            ];
        });
        let found = found.map(|found| found.map(|found| found.route.key().as_str()));
        assert_eq!(found, [expected; 2], "{host}{path}");
        assert_eq!(allocations.count_total, 0, "{host}{path}");
    }
}

#[test]
fn a_lookup_of_a_connection_allocates_nothing() {
    let compiled = compiled();
    let labels = format!("{}example.com", "x.".repeat(4096));
    for (name, expected) in [
        ("a.example.com", Some("tls")),
        (&labels, Some("tls")),
        ("example.com", None),
    ] {
        let mut found = [None; 2];
        let allocations = allocation_counter::measure(|| {
            let port = compiled.port(443);
            let listener = port.and_then(|port| port.listener_for(name));
            found = [
                listener.and_then(|it| it.lookup_connection(name)),
                listener.and_then(|it| it.lookup_connection_of(Some("ns"), name)),
            ];
        });
        let found = found.map(|route| route.map(|route| route.key().as_str()));
        assert_eq!(found, [expected; 2], "{name}");
        assert_eq!(allocations.count_total, 0, "{name}");
    }
}

#[test]
fn a_decision_allocates_nothing() {
    let entry = |namespace: &str, exported_to: serde_json::Value| {
        serde_json::json!({
            "hosts": ["*.example.com", "api.example.com"], "addresses": ["192.0.2.0/24"],
            "ports": [{"number": 443, "protocol": "TLS"}], "exported_to": exported_to,
            "order": {"namespace": namespace, "name": "e", "rule": 0},
        })
    };
    let nobody = serde_json::json!({"Namespaces": []});
    let table: RoutingTable = serde_json::from_value(serde_json::json!({
        "schema": 1, "gateway": "gateways/egress", "settings": {"egress": {}},
        "entries": {
            "serviceentry/a/e": entry("a", serde_json::json!({"Namespaces": ["a"]})),
            "serviceentry/gateways/e": entry("gateways", nobody),
            "serviceentry/c/e": entry("c", serde_json::json!("All")),
        },
    }))
    .unwrap();
    let (compiled, rejections) = compile(None, Arc::new(table), |_, _| Ok(()));
    assert_eq!(rejections, []);
    let compiled: CompiledTable<()> = compiled;
    let egress = compiled.egress().unwrap();
    for (namespace, entry) in [
        (Some("a"), "serviceentry/a/e"),
        (Some("b"), "serviceentry/c/e"),
        (None, "serviceentry/c/e"),
    ] {
        for destination in [
            Destination::Name("api.example.com"),
            Destination::Name("x.y.example.com"),
            Destination::Address("192.0.2.7".parse().unwrap()),
        ] {
            let question = Question {
                destination,
                port: 443,
                caller: namespace.map(|namespace| Caller {
                    namespace,
                    service_account: "x",
                    labels: None,
                }),
                seen: Seen::Tls,
            };
            let mut decided = None;
            let allocations = allocation_counter::measure(|| {
                decided = egress.decide(&question).opened.map(|opened| opened.key);
            });
            assert_eq!(decided.map(EntryKey::as_str), Some(entry), "{question:?}");
            assert_eq!(allocations.count_total, 0, "{question:?}");
        }
    }
}

#[test]
fn a_destination_in_normal_form_is_read_without_allocating() {
    let normal = [
        "localhost",
        "api.example.com:443",
        "my_bucket.s3.eu-west-1.example.com",
        "r3---sn-abc.example.com",
        "xn--bcher-kva.example:80",
        // A dot at the end is cut off, not rewritten.
        "api.example.com.:443",
        "192.0.2.1:80",
        "[2001:db8::1]:65535",
    ];
    let refused = [
        "0x7f.1",
        "api..example.com",
        "a@b",
        "a:b:c",
        "1.2.3.4.5",
        "a:0",
    ];
    for text in normal.into_iter().chain(refused) {
        let mut accepted = false;
        let allocations = allocation_counter::measure(|| {
            accepted = Authority::normalize(text).is_ok();
        });
        assert_eq!(accepted, normal.contains(&text), "{text}");
        assert_eq!(allocations.count_total, 0, "{text}");
    }
    let allocations = allocation_counter::measure(|| {
        assert!(Authority::parse("api.example.com:443").is_ok());
    });
    assert_eq!(allocations.count_total, 1, "the name");
}
