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
