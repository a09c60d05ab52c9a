//! Entries of tenants that lead a name elsewhere, and what policies that go by names and ports make of it.

use super::*;

/// An entry of `namespace` for host `h`, port 443 of which is really somewhere else, or is not.
fn entry(namespace: &str, resolution: &str, endpoints: &Value, target: Option<u16>) -> Value {
    json!({
        "hosts": ["h"], "addresses": ["192.0.2.0/24"], "resolution": resolution, "endpoints": endpoints,
        "ports": [{"number": 443, "protocol": "TCP", "target_port": target}],
        "order": {"created_at": 0, "namespace": namespace, "name": "e", "rule": 0},
    })
}

/// What becomes of a tunnel of `a/x` to `h:443` if that is all there is.
fn tunnel(entry: &Value, policy: &Value) -> String {
    let table = table(json!({"e": entry}), json!({"p": policy}));
    ask(&compiled(table), "a/x h 443 tunnel")
}

const ELSEWHERE: &str = "refuse led_elsewhere through e by p";
const ALLOWED: &str = "allow allowed through e";
const DENIED: &str = "refuse denied_by_policy through e by p";

#[test]
fn a_name_that_is_allowed_is_not_allowed_wherever_a_tenant_leads_it() {
    let fixed = || json!([{"host": "203.0.113.5"}]);
    let named = || json!([{"host": "bait.example"}]);
    let of_gateway = |to: Value| json!({"scope": "Gateway", "action": "Allow", "to": [to]});
    let of_a = |to: Value| json!({"scope": {"Namespace": "a"}, "action": "Allow", "to": [to]});
    let host = || json!({"hosts": ["h"]});
    for (namespace, resolution, endpoints, policy, answer) in [
        ("a", "Static", fixed(), of_gateway(host()), ELSEWHERE),
        ("a", "Dns", named(), of_gateway(host()), ELSEWHERE),
        ("a", "DnsRoundRobin", named(), of_gateway(host()), ELSEWHERE),
        // By a third one's word.
        ("c", "Static", fixed(), of_gateway(host()), ELSEWHERE),
        ("c", "Static", fixed(), of_a(host()), ELSEWHERE),
        // Whoever wrote the policy, or runs the Gateway, has led it there.
        ("a", "Static", fixed(), of_a(host()), ALLOWED),
        ("gateways", "Static", fixed(), of_gateway(host()), ALLOWED),
        ("gateways", "Static", fixed(), of_a(host()), ALLOWED),
        // Where the name itself leads.
        ("a", "None", json!([]), of_gateway(host()), ALLOWED),
        ("a", "Dns", json!([]), of_gateway(host()), ALLOWED),
        // What goes by no name.
        (
            "a",
            "Static",
            fixed(),
            of_gateway(json!({"ports": [443]})),
            ALLOWED,
        ),
        ("a", "Static", fixed(), of_gateway(json!({})), ALLOWED),
        // Not for being led elsewhere.
        (
            "a",
            "Static",
            fixed(),
            of_gateway(json!({"hosts": ["g"]})),
            "refuse not_allowed_by_policy through e by p",
        ),
    ] {
        let entry = entry(namespace, resolution, &endpoints, None);
        let told = tunnel(&entry, &policy);
        assert_eq!(told, answer, "{namespace} {resolution} {policy}");
    }
}

#[test]
fn a_port_that_is_allowed_is_not_allowed_wherever_a_tenant_leads_it() {
    let ports = |action: &str, ports: &[u16]| json!({"scope": "Gateway", "action": action, "to": [{"ports": ports}]});
    let own_port =
        || json!([{"host": "bait.example"}, {"host": "more.example", "ports": [[443, 25]]}]);
    for (namespace, endpoints, target, policy, answer) in [
        ("a", json!([]), Some(25), ports("Allow", &[443]), ELSEWHERE),
        (
            "a",
            json!([]),
            Some(25),
            ports("Allow", &[25, 443]),
            ALLOWED,
        ),
        ("a", json!([]), Some(443), ports("Allow", &[443]), ALLOWED),
        ("a", own_port(), None, ports("Allow", &[443]), ELSEWHERE),
        ("a", own_port(), None, ports("Allow", &[25, 443]), ALLOWED),
        (
            "gateways",
            json!([]),
            Some(25),
            ports("Allow", &[443]),
            ALLOWED,
        ),
        ("a", json!([]), Some(25), ports("Deny", &[25]), DENIED),
        ("a", own_port(), None, ports("Deny", &[25]), DENIED),
        ("a", json!([]), Some(25), ports("Deny", &[443]), DENIED),
        (
            "gateways",
            json!([]),
            Some(25),
            ports("Deny", &[25]),
            ALLOWED,
        ),
    ] {
        let entry = entry(namespace, "Dns", &endpoints, target);
        let told = tunnel(&entry, &policy);
        assert_eq!(told, answer, "{namespace} {target:?} {policy}");
    }
}

#[test]
fn what_is_denied_is_denied_by_whatever_name_a_tenant_leads_there() {
    let deny =
        |host: &str| json!({"scope": "Gateway", "action": "Deny", "to": [{"hosts": [host]}]});
    for (namespace, resolution, endpoint, host, answer) in [
        ("a", "Static", "203.0.113.5", "h", DENIED),
        ("a", "Static", "203.0.113.5", "203.0.113.5", DENIED),
        ("a", "Dns", "bad.example", "bad.example", DENIED),
        ("a", "Dns", "bad.example", "*.example", DENIED),
        ("a", "Dns", "bad.example", "good.example", ALLOWED),
        ("gateways", "Dns", "bad.example", "bad.example", ALLOWED),
    ] {
        let entry = entry(namespace, resolution, &json!([{"host": endpoint}]), None);
        let told = tunnel(&entry, &deny(host));
        assert_eq!(told, answer, "{namespace} {endpoint} {host}");
    }
}

#[test]
fn nobody_opens_private_addresses_by_leading_a_name_there() {
    let open = |to: Value| {
        json!({"p": {
            "scope": "Gateway", "action": "Allow", "to": to, "allow_private": ["10.1.0.0/16"],
        }})
    };
    let by_name = json!([{"hosts": ["h"]}]);
    for (namespace, endpoints, to, opens) in [
        (
            "a",
            json!([{"host": "bait.example"}]),
            by_name.clone(),
            false,
        ),
        ("a", json!([]), by_name.clone(), true),
        ("gateways", json!([{"host": "bait.example"}]), by_name, true),
        ("a", json!([{"host": "bait.example"}]), Value::Null, true),
    ] {
        let entries = json!({"e": entry(namespace, "Dns", &endpoints, None)});
        let compiled = compiled(table(entries, open(to.clone())));
        let egress = compiled.egress().unwrap();
        let question = Question {
            destination: Destination::Name("h"),
            port: 443,
            caller: None,
            seen: Seen::Tunnel,
        };
        let opened = egress.decide(&question).opened;
        assert!(opened.is_some());
        let address = "10.1.2.3".parse().unwrap();
        assert_eq!(
            egress.opens_private(&question, opened, address),
            opens,
            "{namespace} {to}"
        );
    }
}

#[test]
fn an_allow_beside_it_counts_as_ever() {
    let entry = entry("a", "Static", &json!([{"host": "203.0.113.5"}]), None);
    let policies = json!({
        "by-name": {"scope": "Gateway", "action": "Allow", "to": [{"hosts": ["h"]}]},
        "by-port": {"scope": "Gateway", "action": "Allow", "to": [{"ports": [443]}]},
    });
    let table = table(json!({"e": entry}), policies);
    check(table, &[("a/x h 443 tunnel", ALLOWED)]);
}

/// What becomes of a request of `a/x` to `h:443`, which an entry of `namespace` has begin this TLS.
fn request(namespace: &str, tls: &Value, policy: &Value) -> String {
    let mut entry = entry(namespace, "None", &json!([]), None);
    entry["hosts"] = json!(["h", "other.example"]);
    entry["ports"][0]["protocol"] = json!("HTTP");
    entry["ports"][0]["tls"] = json!(0);
    entry["tls"] = json!([tls]);
    let table = table(json!({"e": entry}), json!({"p": policy}));
    ask(&compiled(table), "a/x h 443 GET /")
}

#[test]
fn a_name_that_is_allowed_is_not_asked_for_by_another_one_of_the_same_servers() {
    let of_gateway = json!({"scope": "Gateway", "action": "Allow", "to": [{"hosts": ["h"]}]});
    let of_a = json!({"scope": {"Namespace": "a"}, "action": "Allow", "to": [{"hosts": ["h"]}]});
    let by_port = json!({"scope": "Gateway", "action": "Allow", "to": [{"ports": [443]}]});
    let other = || json!({"server_name": "other.example"});
    let names = |names: Value| json!({"server_name": "h", "subject_alt_names": names});
    for (namespace, tls, policy, answer) in [
        ("a", json!({}), &of_gateway, ALLOWED),
        ("a", json!({"server_name": "h"}), &of_gateway, ALLOWED),
        ("a", names(json!([{"Hostname": "h"}])), &of_gateway, ALLOWED),
        ("a", other(), &of_gateway, ELSEWHERE),
        (
            "a",
            names(json!([{"Hostname": "h"}, {"Hostname": "other.example"}])),
            &of_gateway,
            ELSEWHERE,
        ),
        (
            "a",
            names(json!([{"Hostname": "*.example"}])),
            &of_gateway,
            ELSEWHERE,
        ),
        (
            "a",
            names(json!([{"Uri": "spiffe://x/y"}])),
            &of_gateway,
            ELSEWHERE,
        ),
        ("a", other(), &of_a, ALLOWED),
        ("a", other(), &by_port, ALLOWED),
        ("gateways", other(), &of_gateway, ALLOWED),
    ] {
        let told = request(namespace, &tls, policy);
        assert_eq!(told, answer, "{namespace} {tls} {policy}");
    }
}

#[test]
fn what_is_denied_is_denied_to_whoever_asks_for_it_by_tls() {
    let deny =
        |host: &str| json!({"scope": "Gateway", "action": "Deny", "to": [{"hosts": [host]}]});
    let sent = |name: &str| json!({"server_name": name});
    let taken = |name: &str| json!({"subject_alt_names": [{"Hostname": name}]});
    for (namespace, tls, host, answer) in [
        ("a", sent("bad.example"), "bad.example", DENIED),
        ("a", sent("bad.example"), "*.example", DENIED),
        ("a", sent("bad.example"), "good.example", ALLOWED),
        ("a", taken("bad.example"), "bad.example", DENIED),
        ("a", taken("*.example"), "bad.example", DENIED),
        ("a", taken("*.example"), "*.example", DENIED),
        ("gateways", sent("bad.example"), "bad.example", ALLOWED),
    ] {
        let told = request(namespace, &tls, &deny(host));
        assert_eq!(told, answer, "{namespace} {tls} {host}");
    }
}

#[test]
fn whoever_is_named_by_an_address_may_be_asked_for_by_a_name_of_the_entry() {
    let policy =
        json!({"p": {"scope": "Gateway", "action": "Allow", "to": [{"hosts": ["192.0.2.1"]}]}});
    for (name, answer) in [("h", ALLOWED), ("other.example", ELSEWHERE)] {
        let mut entry = entry("a", "None", &json!([]), None);
        entry["ports"][0]["protocol"] = json!("HTTP");
        entry["ports"][0]["tls"] = json!(0);
        entry["tls"] = json!([{"server_name": name}]);
        let table = table(json!({"e": entry}), policy.clone());
        check(table, &[("a/x 192.0.2.1 443 GET /", answer)]);
    }
}

/// A table in which what no entry lists passes.
fn reporting(entries: Value, policies: Value) -> RoutingTable {
    let mut table = table(entries, policies);
    let settings = Arc::make_mut(&mut table.settings);
    settings.egress.as_mut().unwrap().mode = PolicyMode::Report;
    table
}

const PASSES: &str = "report host_not_listed";

#[test]
fn where_what_is_not_listed_passes_nobody_takes_it_from_others() {
    for (number, port, question, answer) in [
        (80, json!({"protocol": "HTTP"}), "GET /", ALLOWED),
        (443, json!({"protocol": "TLS"}), "tunnel", ALLOWED),
        (443, json!({"protocol": "HTTPS"}), "tunnel", ALLOWED),
        (443, json!({"protocol": "HTTPS"}), "tls", ALLOWED),
        (443, json!({"protocol": "HTTPS"}), "TLS GET /", ALLOWED),
        (443, json!({"protocol": "HTTP", "tls": 0}), "GET /", ALLOWED),
        (80, json!({"protocol": "HTTP"}), "tunnel", ALLOWED),
        (5432, json!({"protocol": "TCP"}), "tunnel", ALLOWED),
        // It is shut, or led elsewhere.
        (
            80,
            json!({"protocol": "HTTP", "shut": true}),
            "GET /",
            PASSES,
        ),
        (
            443,
            json!({"protocol": "TLS", "shut": true}),
            "tunnel",
            PASSES,
        ),
        (443, json!({"protocol": "TLS", "shut": true}), "tls", PASSES),
        (
            443,
            json!({"protocol": "TCP", "target_port": 25}),
            "tunnel",
            PASSES,
        ),
        (443, json!({"protocol": "HTTP", "tls": 1}), "GET /", PASSES),
        // It would have to be something else than it is.
        (80, json!({"protocol": "TLS"}), "GET /", PASSES),
        (80, json!({"protocol": "HTTP2"}), "GET /", PASSES),
        (80, json!({"protocol": "HTTP", "tls": 0}), "GET /", PASSES),
        (443, json!({"protocol": "HTTP"}), "GET /", PASSES),
        (443, json!({"protocol": "HTTP", "tls": 2}), "GET /", PASSES),
        (443, json!({"protocol": "HTTPS"}), "GET /", PASSES),
        (443, json!({"protocol": "HTTP"}), "tunnel", PASSES),
        (443, json!({"protocol": "HTTP"}), "tls", PASSES),
        (5432, json!({"protocol": "TLS"}), "tunnel", PASSES),
    ] {
        let of = |namespace: &str| {
            let mut entry = entry(namespace, "None", &json!([]), None);
            entry["ports"][0] = port.clone();
            entry["ports"][0]["number"] = json!(number);
            entry["tls"] = json!([
                {}, {"server_name": "other.example"}, {"ca_pem": ["-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]}
            ]);
            json!({"e": entry})
        };
        let question = format!("a/x h {number} {question}");
        check(reporting(of("c"), json!({})), &[(&question, answer)]);
        // Policies go on to refuse.
        let deny = json!({"p": {"scope": "Gateway", "action": "Deny", "to": [{"hosts": ["h"]}]}});
        let told = ask(&compiled(reporting(of("c"), deny)), &question);
        assert!(told.starts_with("refuse denied_by_policy"), "{told}");
        // Nobody else takes what is the caller's own.
        for near in ["a", "gateways"] {
            let plain = ask(&compiled(table(of(near), json!({}))), &question);
            check(reporting(of(near), json!({})), &[(&question, &plain)]);
        }
    }
}

#[test]
fn where_what_is_not_listed_passes_it_is_led_nowhere_by_third_ones() {
    let wild = |endpoints: Value, resolution: &str| {
        let mut entry = entry("c", resolution, &endpoints, None);
        entry["hosts"] = json!(["*.com"]);
        json!({"e": entry})
    };
    let captured = wild(json!([{"host": "203.0.113.5"}]), "Static");
    let cases = [
        ("a/x api.com 443 tunnel", PASSES),
        ("? api.com 443 tunnel", PASSES),
    ];
    check(reporting(captured.clone(), json!({})), &cases);
    check(
        table(captured, json!({})),
        &[("a/x api.com 443 tunnel", ALLOWED)],
    );
}
