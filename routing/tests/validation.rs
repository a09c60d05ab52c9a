//! Every rule of validation: a good table with one value changed, and what is said about it.

use std::sync::Arc;

use portcullis_routing::{RoutingTable, validate};
use serde_json::{Value, json};

const ROUTE: &str = "/routes/r";

fn good() -> Value {
    let certificate = "-----BEGIN CERTIFICATE-----\n";
    json!({
        "schema": 1,
        "gateway": "ns/gw",
        "settings": { "limits": { "max_requests_per_connection": 10 }, "access_log": { "Sampled": 1 } },
        "listeners": {
            "l": { "port": 80, "protocol": "HTTP", "hostname": "*.a.b" },
            "s": { "port": 443, "protocol": "HTTPS", "tls": { "certificates": ["c"] } },
            "t": { "port": 8443, "protocol": "TLS" },
        },
        "routes": { "r": {
            "listeners": ["l"],
            "hostnames": ["a.b", "*.b"],
            "matches": [{
                "path": { "Prefix": "/a" },
                "method": "GET",
                "headers": [{ "name": "x", "value": { "Regex": "a+" } }],
                "query": [{ "name": "q", "value": { "Exact": "1" } }],
            }],
            "filters": [
                { "RequestHeaders": { "set": [{ "name": "X", "value": "1" }], "remove": ["y"] } },
                { "UrlRewrite": { "hostname": "a.b", "path": { "ReplacePrefix": "/" } } },
                { "Mirror": { "cluster": "k", "numerator": 1, "denominator": 2 } },
                { "Cors": {
                    "allow_origins": ["*", "https://*.b"], "allow_methods": ["*"], "allow_headers": ["*"], "max_age": 5,
                } },
            ],
            "action": { "Forward": [{
                "weight": 1,
                "backend": { "Cluster": "k" },
                "filters": [{ "ResponseHeaders": { "add": [{ "name": "X", "value": "1" }] } }],
            }] },
            "policy": {
                "timeouts": { "request": 2000, "backend_request": 1000 },
                "retry": { "codes": [503], "attempts": 2, "backoff": 25 },
            },
            "order": { "created_at": 0, "namespace": "ns", "name": "r", "rule": 0 },
            "source": { "kind": "HTTPRoute", "namespace": "ns", "name": "r", "rule": 0 },
        }, "t": {
            "listeners": ["t"],
            "hostnames": ["a.b"],
            "matches": [],
            "action": { "Forward": [{ "weight": 1, "backend": { "Cluster": "k" } }] },
            "order": { "namespace": "ns", "name": "t", "rule": 0 },
            "source": { "kind": "TLSRoute", "namespace": "ns", "name": "t", "rule": 0 },
        } },
        "clusters": { "k": { "tls": {
            "server_name": "a.b",
            "ca_pem": [certificate],
            "subject_alt_names": [{ "Hostname": "*.a.b" }, { "Uri": "spiffe://a.b/c" }],
            "client_certificate": "c",
        } } },
        "endpoints": { "k": { "endpoints": [{ "host": "10.0.0.1", "port": 80 }, { "host": "a.b.", "port": 80 }] } },
        "credentials": { "x": { "header": "x-api-key", "value": "v", "secret": "ns/keys" } },
        "certificates": { "c": { "chain_pem": certificate, "key_pem": "-----BEGIN PRIVATE KEY-----\n" } },
    })
}

/// What is said of the table, one line for each rejection.
fn said(table: Value) -> String {
    let table: RoutingTable = serde_json::from_value(table).unwrap();
    let rejections = validate::table(Arc::new(table));
    let lines: Vec<String> = rejections.iter().map(ToString::to_string).collect();
    lines.join(
        "
",
    )
}

/// Sets the value at a JSON pointer in the good table; the outcome must be one rejection that starts like this.
#[track_caller]
fn rejects(pointer: &str, value: Value, expected: &str) {
    let mut table = good();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match table.pointer_mut(parent).unwrap() {
        Value::Object(map) => drop(map.insert(name.to_owned(), value)),
        list => list[name.parse::<usize>().unwrap()] = value,
    }
    let said = said(table);
    assert!(
        said.starts_with(expected) && said.lines().count() == 1,
        "{pointer}: {said:?} instead of {expected:?}"
    );
}

#[test]
fn a_good_table_is_accepted() {
    assert_eq!(said(good()), "");
}

#[test]
fn settings() {
    rejects(
        "/settings/limits/max_headers",
        json!(0),
        "settings ns/gw: the limit maxHeaders is 0",
    );
    rejects(
        "/settings/limits/max_headers",
        json!(257),
        "settings ns/gw: maxHeaders is above 256",
    );
    rejects(
        "/settings/limits/max_requests_per_connection",
        json!(0),
        "settings ns/gw: the limit maxRequests",
    );
    rejects(
        "/settings/access_log",
        json!({ "Sampled": 0 }),
        "settings ns/gw: one in 0",
    );
}

#[test]
fn listeners() {
    rejects("/listeners/l/port", json!(0), "listener l: the port is 0");
    rejects(
        "/listeners/l/hostname",
        json!("A.b"),
        "listener l: \"A.b\" is not a hostname",
    );
    rejects(
        "/listeners/l/tls",
        json!({ "certificates": ["c"] }),
        "listener l: an HTTP listener has TLS",
    );
    rejects(
        "/listeners/s/tls",
        json!(null),
        "listener s: an HTTPS listener has no TLS",
    );
    rejects(
        "/listeners/s/tls/certificates",
        json!([]),
        "listener s: an HTTPS listener has no certificate",
    );
    rejects(
        "/listeners/s/tls/certificates",
        json!(["c", "d"]),
        "certificate d: a listener names it, but the table does not hold it",
    );
    rejects(
        "/listeners/s/tls/client_validation",
        json!({ "ca_pem": [] }),
        "listener s: client certificates are asked for, but no CA is trusted",
    );
    rejects(
        "/listeners/s/tls/client_validation",
        json!({ "ca_pem": ["-----BEGIN CERTIFICATE-----\n", "x"], "mode": "AllowInsecureFallback" }),
        "listener s: the CAs of client certificates hold an entry that is no PEM certificate",
    );
    rejects(
        "/listeners/s/port",
        json!(80),
        "listener s: another listener of port 80 has another protocol",
    );
    let twin = json!({ "port": 80, "protocol": "HTTP", "hostname": "*.a.b" });
    rejects(
        "/listeners/m",
        twin,
        "listener m: another listener of port 80 has the hostname *.a.b",
    );
}

#[test]
fn routes_of_connections() {
    let rejects = |place: &str, value: Value, expected: &str| {
        rejects(
            &format!("/routes/t{place}"),
            value,
            &format!("route t: {expected}"),
        );
    };
    rejects("/listeners/0", json!("l"), "it has no match");
    let header = json!([{ "RequestHeaders": { "remove": ["y"] } }]);
    let expected = "it has no match, but filters or a policy";
    rejects("/filters", header.clone(), expected);
    rejects("/action/Forward/0/filters", header, expected);
    rejects(
        "/policy",
        json!({ "timeouts": { "request": 2000 } }),
        expected,
    );
    rejects(
        "/action",
        json!({ "Respond": { "status": 500, "reason": "x" } }),
        "it has no match, and does not forward",
    );
}

#[test]
fn routes() {
    let rejects = |place: &str, value: Value, expected: &str| {
        rejects(
            &format!("{ROUTE}{place}"),
            value,
            &format!("route r: {expected}"),
        );
    };
    rejects("/listeners", json!([]), "it is attached to no listener");
    rejects("/listeners/0", json!("x"), "listener x is not in the table");
    rejects("/hostnames/0", json!("*"), "\"*\" is not a hostname");
    rejects("/matches", json!([]), "it has no match");
    rejects(
        "/listeners/0",
        json!("t"),
        "TLS passes through listener t, where nobody sees what it matches",
    );
    rejects(
        "/action/Forward/0/weight",
        json!(1_000_001),
        "weight 1000001 is above",
    );
    rejects(
        "/action/Forward/0/backend",
        json!({ "Cluster": "x" }),
        "cluster x is not in the table",
    );
    let mirror = json!([{ "Mirror": { "cluster": "k", "numerator": 1, "denominator": 2 } }]);
    rejects(
        "/action/Forward/0/filters",
        mirror,
        "a backend has a mirror or CORS filter",
    );
    rejects(
        "/action",
        json!({ "Respond": { "status": 101, "reason": "x" } }),
        "101 is not the status of a final",
    );
    rejects(
        "/action",
        json!({ "Redirect": { "status": 304 } }),
        "304 is not a status of a redirect",
    );
    rejects(
        "/action",
        json!({ "Redirect": { "status": 301, "scheme": "ftp" } }),
        "the scheme of a redirect",
    );
    rejects(
        "/action",
        json!({ "Redirect": { "status": 301, "port": 0 } }),
        "the port of a redirect is 0",
    );
    rejects(
        "/action",
        json!({ "Redirect": { "status": 301, "hostname": "*.b" } }),
        "\"*.b\" is not a hostname",
    );
}

#[test]
fn matches() {
    let rejects = |place: &str, value: Value, expected: &str| {
        rejects(
            &format!("{ROUTE}/matches/0{place}"),
            value,
            &format!("route r: {expected}"),
        );
    };
    rejects(
        "/path",
        json!({ "Prefix": "a" }),
        "path \"a\" does not start with /",
    );
    rejects(
        "/path",
        json!({ "Prefix": "/a/" }),
        "prefix \"/a/\" ends with /",
    );
    rejects(
        "/path",
        json!({ "Prefix": "/a?b" }),
        "path \"/a?b\" holds a query",
    );
    rejects(
        "/path",
        json!({ "Prefix": format!("/{}", "a".repeat(5000)) }),
        "a path has 5001 bytes",
    );
    rejects("/method", json!("G T"), "\"G T\" is not a method");
    rejects(
        "/headers/0/name",
        json!("X"),
        "header name \"X\" is not in lower case",
    );
    rejects(
        "/headers/0/name",
        json!("x y"),
        "\"x y\" is not a header name",
    );
    rejects(
        "/headers/0/value",
        json!({ "Regex": ".*a.{30}" }),
        "the regular expression \".*a.{30}\" is too complex",
    );
    let twice = json!([{ "name": "q", "value": { "Exact": "1" } }, { "name": "q", "value": { "Exact": "2" } }]);
    rejects(
        "/query",
        twice.clone(),
        "a match names query parameter \"q\" twice",
    );
    rejects("/headers", twice, "a match names header \"q\" twice");
    rejects(
        "/query/0/name",
        json!(""),
        "a query parameter has an empty name",
    );
}

#[test]
fn filters() {
    let rejects = |place: &str, value: Value, expected: &str| {
        rejects(
            &format!("{ROUTE}/filters{place}"),
            value,
            &format!("route r: {expected}"),
        );
    };
    rejects(
        "/0/RequestHeaders/set/0/name",
        json!("x:"),
        "\"x:\" is not a header name",
    );
    rejects(
        "/0/RequestHeaders/set/0/value",
        json!("a\nb"),
        "\"a\\nb\" is not a header value",
    );
    rejects(
        "/0/RequestHeaders/remove/0",
        json!("Y"),
        "header name \"Y\" is not in lower case",
    );
    rejects(
        "/1/UrlRewrite/hostname",
        json!("a_b"),
        "\"a_b\" is not a hostname",
    );
    rejects(
        "/1/UrlRewrite/path",
        json!({ "ReplaceFull": "x" }),
        "path \"x\" does not start with /",
    );
    rejects(
        "/2/Mirror/cluster",
        json!("x"),
        "cluster x is not in the table",
    );
    rejects("/2/Mirror/denominator", json!(0), "1/0 is not a share");
    rejects("/2/Mirror/numerator", json!(3), "3/2 is not a share");
    rejects(
        "/3/Cors/allow_origins/0",
        json!("a.b"),
        "\"a.b\" is neither * nor an origin",
    );
    rejects(
        "/3/Cors/allow_methods/0",
        json!("G T"),
        "\"G T\" is not a method",
    );
    rejects(
        "/3/Cors/allow_headers/0",
        json!("x y"),
        "\"x y\" is not a header name",
    );
}

#[test]
fn a_prefix_is_replaced_only_where_one_is_matched() {
    let exact = json!({ "Exact": "/a" });
    rejects(
        &format!("{ROUTE}/matches/0/path"),
        exact,
        "route r: a prefix is replaced, but a match is not by prefix",
    );
}

#[test]
fn policies() {
    let rejects = |place: &str, value: Value, expected: &str| {
        rejects(
            &format!("{ROUTE}/policy{place}"),
            value,
            &format!("route r: {expected}"),
        );
    };
    rejects("/timeouts/request", json!(0), "a timeout is 0");
    rejects(
        "/timeouts/backend_request",
        json!(2001),
        "the backend timeout is longer",
    );
    rejects("/retry/codes/0", json!(399), "status 399 cannot be retried");
}

#[test]
fn backends() {
    rejects(
        "/clusters/k/connect_timeout",
        json!(0),
        "cluster k: the connect timeout is 0",
    );
    rejects(
        "/clusters/k/max_connections",
        json!(0),
        "cluster k: the number of connections",
    );
    rejects(
        "/clusters/k/tls/server_name",
        json!("*.b"),
        "cluster k: \"*.b\" is not a hostname",
    );
    rejects(
        "/clusters/k/tls/ca_pem/0",
        json!(""),
        "cluster k: a CA holds no PEM certificate",
    );
    rejects(
        "/clusters/k/tls/subject_alt_names/0/Hostname",
        json!("A.b"),
        "cluster k: \"A.b\" is not a hostname",
    );
    for uri in ["a.b", ":x", "1a:x", "a:"] {
        rejects(
            "/clusters/k/tls/subject_alt_names/1/Uri",
            json!(uri),
            &format!("cluster k: {uri:?} is not a URI"),
        );
    }
    rejects(
        "/clusters/k/tls/client_certificate",
        json!("d"),
        "certificate d: it is to be shown to backends, but the table does not hold it",
    );
    rejects(
        "/endpoints/x",
        json!({ "endpoints": [] }),
        "endpoints x: there is no cluster of this key",
    );
    rejects(
        "/endpoints/k/endpoints/0/port",
        json!(0),
        "endpoints k: an endpoint has port 0",
    );
    rejects(
        "/endpoints/k/endpoints/1/host",
        json!("a b"),
        "endpoints k: \"a b\" is not a hostname",
    );
    rejects(
        "/endpoints/k/endpoints/1/host",
        json!("10.0.0.1"),
        "endpoints k: the endpoints are not sorted",
    );
    rejects(
        "/certificates/c/chain_pem",
        json!(""),
        "certificate c: the chain holds no PEM certificate",
    );
    rejects(
        "/certificates/c/key_pem",
        json!("x"),
        "certificate c: the key holds no PEM private key",
    );
}

#[test]
fn credentials() {
    for (field, value, expected) in [
        (
            "header",
            json!("X-Api-Key"),
            "header name \"X-Api-Key\" is not in lower case",
        ),
        (
            "header",
            json!("host"),
            "header \"host\" cannot carry a credential",
        ),
        (
            "value",
            json!("a\nb"),
            "the credential for header \"x-api-key\" is not a header value",
        ),
        (
            "value",
            json!(""),
            "the credential for header \"x-api-key\" is not there: Secret ns/keys",
        ),
        (
            "value",
            json!("v".repeat(8193)),
            "the credential for header \"x-api-key\" has 8193 bytes",
        ),
    ] {
        rejects(
            &format!("/credentials/x/{field}"),
            value,
            &format!("credential x: {expected}"),
        );
    }
    rejects(
        "/routes/r/filters",
        json!([{ "Credential": "y" }]),
        "route r: y is not in the table",
    );
    rejects(
        "/routes/r/filters",
        json!(vec![json!({ "Credential": "x" }); 33]),
        "route r: it names 33 credentials, and 32 are the most of a rule",
    );
}

#[test]
fn a_listener_needs_one_of_its_certificates() {
    let mut table = good();
    *table.pointer_mut("/listeners/s/tls/certificates").unwrap() = json!(["d"]);
    assert_eq!(
        said(table),
        "listener s: none of its certificates is in the table\n\
         certificate d: a listener names it, but the table does not hold it"
    );
}
