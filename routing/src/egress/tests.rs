//! Decisions, one table per part of the semantics.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{EntryKey, GatewayKey, PolicyKey, RoutingTable, WorkloadKey, compile};

mod always;
mod astray;
mod entries;
mod paths;
mod plain;
mod private;
mod proxies;

/// A table of entries and policies, each by the name of its object in namespace `a`.
fn table(entries: Value, policies: Value) -> RoutingTable {
    let mut table = RoutingTable::new(GatewayKey::of("gateways", "egress"));
    Arc::make_mut(&mut table.settings).egress = Some(EgressSettings::default());
    let entries: BTreeMap<String, Value> = serde_json::from_value(entries).unwrap();
    for (name, mut entry) in entries {
        let order = json!({"created_at": 0, "namespace": "a", "name": name, "rule": 0});
        let fields = entry.as_object_mut().unwrap();
        fields.entry("order").or_insert(order);
        let entry: Entry = serde_json::from_value(entry).unwrap();
        table
            .entries
            .insert(EntryKey::of("a", &name), Arc::new(entry));
    }
    let policies: BTreeMap<String, Policy> = serde_json::from_value(policies).unwrap();
    for (name, policy) in policies {
        table
            .policies
            .insert(PolicyKey::of("a", &name), Arc::new(policy));
    }
    table
}

fn compiled(table: RoutingTable) -> crate::CompiledTable<()> {
    let (compiled, rejections) = compile(None, Arc::new(table), |_, _| Ok(()));
    assert_eq!(rejections, []);
    compiled
}

/// `NAMESPACE/ACCOUNT` or `?`, the host, the port, and `GET /path`, `TLS GET /path`, `tunnel` or `tls`.
fn ask(compiled: &crate::CompiledTable<()>, question: &str) -> String {
    let parts: Vec<&str> = question.split(' ').collect();
    let [who, host, port, ref seen @ ..] = parts[..] else {
        panic!("{question}");
    };
    let (namespace, service_account) = who.split_once('/').unwrap_or_default();
    let labels = BTreeMap::from([("app".to_owned(), service_account.to_owned())]);
    let caller = Caller {
        namespace,
        service_account,
        labels: Some(&labels),
    };
    let request = |method, path, encrypted| Seen::Request {
        method,
        path,
        encrypted,
    };
    let question = Question {
        destination: host
            .parse()
            .map_or(Destination::Name(host), Destination::Address),
        port: port.parse().unwrap(),
        caller: (who != "?").then_some(caller),
        seen: match *seen {
            ["tunnel"] => Seen::Tunnel,
            ["tls"] => Seen::Tls,
            ["TLS", method, path] => request(method, path, true),
            [method, path] => request(method, path, false),
            _ => panic!("{question}"),
        },
    };
    let decision = compiled.egress().unwrap().decide(&question);
    let by = decision.policy.map(|key| format!(" by {key}"));
    let entry = decision.opened.map(|it| format!(" through {}", it.key));
    let verdict = match decision.verdict {
        Verdict::Allow => "allow",
        Verdict::Report => "report",
        Verdict::Refuse => "refuse",
    };
    let told = |text: Option<String>| {
        text.unwrap_or_default()
            .replace("serviceentry/a/", "")
            .replace("egresspolicy/a/", "")
    };
    format!(
        "{verdict} {}{}{}",
        decision.reason.code(),
        told(entry),
        told(by)
    )
}

fn check(table: RoutingTable, cases: &[(&str, &str)]) {
    let compiled = compiled(table);
    for (question, answer) in cases {
        assert_eq!(ask(&compiled, question), *answer, "{question}");
    }
}

#[test]
fn only_what_is_listed_is_open() {
    let entries = json!({
        "exact": {"hosts": ["api.example.com"], "ports": [{"number": 80, "protocol": "HTTP"}]},
        "wild": {"hosts": ["*.example.com"], "ports": [{"number": 443, "protocol": "TLS"}]},
        "deep": {"hosts": ["*.eu.example.com"], "ports": [{"number": 443, "protocol": "HTTPS"}]},
        "range": {
            "hosts": ["range.example"], "addresses": ["192.0.2.0/24"],
            "ports": [{"number": 5432, "protocol": "TCP"}]
        },
    });
    check(
        table(entries, json!({})),
        &[
            ("? api.example.com 80 GET /", "allow allowed through exact"),
            ("? api.example.com 81 GET /", "refuse port_not_listed"),
            ("? example.com 443 tls", "refuse host_not_listed"),
            ("? www.example.com 443 tls", "allow allowed through wild"),
            // An exact host does not hide the port that a wildcard opens.
            ("? api.example.com 443 tunnel", "allow allowed through wild"),
            ("? a.b.example.com 443 tls", "allow allowed through wild"),
            ("? x.eu.example.com 443 tls", "allow allowed through deep"),
            ("? notexample.com 443 tls", "refuse host_not_listed"),
            ("? 192.0.2.7 5432 tunnel", "allow allowed through range"),
            ("? 192.0.3.7 5432 tunnel", "refuse host_not_listed"),
            ("? 192.0.2.7 80 tunnel", "refuse port_not_listed"),
        ],
    );
}

#[test]
fn a_port_is_open_for_its_protocol() {
    let ports = json!([
        {"number": 80, "protocol": "HTTP"}, {"number": 443, "protocol": "HTTPS"},
        {"number": 444, "protocol": "TLS"}, {"number": 22, "protocol": "TCP"},
        {"number": 50, "protocol": "GRPC"},
        {"number": 81, "protocol": "HTTP", "target_port": 443, "tls": 0},
    ]);
    check(
        table(
            json!({"e": {"hosts": ["h"], "ports": ports, "tls": [{}]}}),
            json!({}),
        ),
        &[
            ("? h 80 GET /", "allow allowed through e"),
            ("? h 50 POST /", "allow allowed through e"),
            ("? h 80 tls", "refuse protocol_not_listed through e"),
            ("? h 80 tunnel", "allow allowed through e"),
            ("? h 443 tls", "allow allowed through e"),
            ("? h 443 tunnel", "allow allowed through e"),
            ("? h 443 GET /", "refuse protocol_not_listed through e"),
            ("? h 443 TLS GET /", "allow allowed through e"),
            ("? h 444 TLS GET /", "refuse protocol_not_listed through e"),
            ("? h 444 tls", "allow allowed through e"),
            ("? h 22 tls", "allow allowed through e"),
            ("? h 22 tunnel", "allow allowed through e"),
            ("? h 22 GET /", "refuse protocol_not_listed through e"),
            ("? h 81 GET /", "allow allowed through e"),
        ],
    );
}

#[test]
fn an_entry_is_for_those_it_is_exported_to_and_the_oldest_goes_first() {
    let port = json!([{"number": 80, "protocol": "HTTP"}]);
    let entry = |created_at: i64, name: &str, exported_to: Value| {
        json!({
            "hosts": ["h"], "ports": port, "exported_to": exported_to,
            "order": {"created_at": created_at, "namespace": "a", "name": name, "rule": 0},
        })
    };
    let entries = json!({
        "one": entry(3, "one", json!({"Namespaces": ["a", "b"]})),
        "two": entry(2, "two", json!({"Namespaces": ["b"]})),
        "three": entry(1, "three", json!({"Namespaces": ["c"]})),
    });
    check(
        table(entries, json!({})),
        &[
            ("a/x h 80 GET /", "allow allowed through one"),
            ("b/x h 80 GET /", "allow allowed through two"),
            ("c/x h 80 GET /", "allow allowed through three"),
            ("d/x h 80 GET /", "refuse not_exported"),
            ("? h 80 GET /", "refuse unknown_caller"),
        ],
    );
}

const BOTH: &str = r#"{"e": {"hosts": ["h", "g"], "ports": [{"number": 80, "protocol": "HTTP"}, {"number": 443, "protocol": "HTTPS"}]}}"#;

fn with_policies(policies: Value) -> RoutingTable {
    table(serde_json::from_str(BOTH).unwrap(), policies)
}

#[test]
fn deny_wins_and_whoever_is_allowed_something_gets_nothing_else() {
    let policies = json!({
        "allow": {"scope": "Gateway", "action": "Allow", "from": [{"namespaces": ["a"]}], "to": [{"hosts": ["h"]}]},
        "deny": {
            "scope": "Gateway", "action": "Deny",
            "from": [{"service_accounts": [["a", "bad"]]}], "to": [{"hosts": ["h"], "ports": [443]}]
        },
    });
    check(
        with_policies(policies),
        &[
            ("a/good h 80 GET /", "allow allowed through e"),
            ("a/good h 443 tls", "allow allowed through e"),
            (
                "a/good g 80 GET /",
                "refuse not_allowed_by_policy through e by allow",
            ),
            (
                "a/bad h 443 tls",
                "refuse denied_by_policy through e by deny",
            ),
            ("a/bad h 80 GET /", "allow allowed through e"),
            ("b/x g 80 GET /", "allow allowed through e"),
            // It may be anybody.
            ("? h 443 tls", "refuse unknown_caller through e by deny"),
            ("? h 80 GET /", "refuse unknown_caller through e by allow"),
            ("? g 80 GET /", "refuse unknown_caller through e by allow"),
        ],
    );
}

#[test]
fn scopes_narrow_each_by_itself() {
    let policies = json!({
        "gateway": {"scope": "Gateway", "action": "Allow", "to": [{"ports": [443]}]},
        "own": {"scope": {"Namespace": "a"}, "action": "Allow", "to": [{"hosts": ["h"]}]},
        "nothing": {"scope": {"Namespace": "c"}, "action": "Allow", "to": []},
    });
    check(
        with_policies(policies),
        &[
            ("a/x h 443 tls", "allow allowed through e"),
            (
                "a/x g 443 tls",
                "refuse not_allowed_by_policy through e by own",
            ),
            (
                "a/x h 80 GET /",
                "refuse not_allowed_by_policy through e by gateway",
            ),
            ("b/x g 443 tls", "allow allowed through e"),
            (
                "c/x h 443 tls",
                "refuse not_allowed_by_policy through e by nothing",
            ),
            ("? h 443 tls", "refuse unknown_caller through e by own"),
        ],
    );
}

#[test]
fn what_a_tunnel_hides_counts_against_it() {
    let policies = json!({
        "read": {
            "scope": "Gateway", "action": "Allow", "from": [{"namespaces": ["a"]}],
            "to": [{"methods": ["GET"], "paths": [{"Prefix": "/v1"}]}]
        },
        "admin": {
            "scope": "Gateway", "action": "Deny", "from": [{"namespaces": ["b"]}],
            "to": [{"paths": [{"Prefix": "/admin"}]}]
        },
    });
    check(
        with_policies(policies),
        &[
            ("a/x h 80 GET /v1/a", "allow allowed through e"),
            (
                "a/x h 80 GET /v10",
                "refuse not_allowed_by_policy through e by read",
            ),
            (
                "a/x h 80 POST /v1",
                "refuse not_allowed_by_policy through e by read",
            ),
            (
                "a/x h 443 tunnel",
                "refuse not_allowed_by_policy through e by read",
            ),
            (
                "a/x h 443 tls",
                "refuse not_allowed_by_policy through e by read",
            ),
            // Its requests are asked about one by one.
            ("a/x h 80 tunnel", "allow allowed through e"),
            ("b/x h 80 GET /", "allow allowed through e"),
            (
                "b/x h 80 GET /admin/x",
                "refuse denied_by_policy through e by admin",
            ),
            (
                "b/x h 443 tls",
                "refuse denied_by_policy through e by admin",
            ),
            ("b/x h 80 tunnel", "allow allowed through e"),
        ],
    );
}

#[test]
fn what_is_only_reported_passes() {
    let policies = json!({
        "report": {
            "scope": "Gateway", "action": "Allow", "mode": "Report",
            "from": [{"namespaces": ["a"]}], "to": [{"hosts": ["h"]}]
        },
        "enforced": {"scope": "Gateway", "action": "Deny", "to": [{"ports": [443]}]},
    });
    let mut table = with_policies(policies);
    let cases = [
        ("a/x h 80 GET /", "allow allowed through e"),
        (
            "a/x g 80 GET /",
            "report not_allowed_by_policy through e by report",
        ),
        (
            "a/x g 443 tls",
            "refuse denied_by_policy through e by enforced",
        ),
        ("a/x other 80 GET /", "refuse host_not_listed"),
    ];
    check(table.clone(), &cases);
    let settings = Arc::make_mut(&mut table.settings);
    settings.egress.as_mut().unwrap().mode = PolicyMode::Report;
    check(
        table,
        &[
            ("a/x other 80 GET /", "report host_not_listed"),
            (
                "a/x g 443 tls",
                "refuse denied_by_policy through e by enforced",
            ),
            // What is refused does not pass for not being listed.
            ("a/x other 443 tls", "refuse denied_by_policy by enforced"),
            ("a/x g 444 tls", "report port_not_listed"),
        ],
    );
}

#[test]
fn a_host_that_is_denied_is_denied_by_its_addresses_too() {
    let entries = json!({
        "e": {
            "hosts": ["bad.example", "*.more.example"], "addresses": ["203.0.113.5/32"],
            "ports": [{"number": 443, "protocol": "TCP"}]
        },
    });
    let deny = |host: &str| json!({"no": {"scope": "Gateway", "action": "Deny", "to": [{"hosts": [host]}]}});
    let question = "a/x 203.0.113.5 443 tunnel";
    for (host, answer) in [
        ("bad.example", "refuse denied_by_policy through e by no"),
        ("*.more.example", "refuse denied_by_policy through e by no"),
        ("*.example", "refuse denied_by_policy through e by no"),
        // Whoever connects to the address may ask for any of the hosts, and nobody is asked about that again.
        ("x.more.example", "refuse denied_by_policy through e by no"),
        (
            "*.x.more.example",
            "refuse denied_by_policy through e by no",
        ),
        ("more.example", "allow allowed through e"),
        ("xmore.example", "allow allowed through e"),
        ("other.example", "allow allowed through e"),
    ] {
        check(table(entries.clone(), deny(host)), &[(question, answer)]);
    }
}

#[test]
fn labels_select_pods_and_a_caller_without_a_pod_may_have_any() {
    let policies = json!({
        "labelled": {
            "scope": "Gateway", "action": "Deny",
            "from": [{"labels": [{"In": ["app", ["batch"]]}]}], "to": [{"hosts": ["h"]}]
        },
    });
    let compiled = compiled(with_policies(policies));
    assert_eq!(
        ask(&compiled, "a/batch h 80 GET /"),
        "refuse denied_by_policy through e by labelled"
    );
    assert_eq!(
        ask(&compiled, "a/web h 80 GET /"),
        "allow allowed through e"
    );
    let question = Question {
        destination: Destination::Name("h"),
        port: 80,
        caller: Some(Caller {
            namespace: "a",
            service_account: "web",
            labels: None,
        }),
        seen: Seen::Tunnel,
    };
    let decision = compiled.egress().unwrap().decide(&question);
    assert_eq!(decision.reason, DecisionReason::UnknownCaller);
}

#[test]
fn what_did_not_change_is_not_compiled_again() {
    let first = Arc::new(with_policies(json!({})));
    let (compiled, _) = compile::<()>(None, Arc::clone(&first), |_, _| Ok(()));
    let mut next = RoutingTable::clone(&first);
    let workload = Workload {
        namespace: "a".into(),
        service_account: "x".into(),
        pod: "x-1".into(),
        labels: BTreeMap::new(),
        proxy_of: None,
    };
    next.workloads
        .insert(WorkloadKey::new("10.0.0.1"), Arc::new(workload));
    let (next, _) = compile(Some(&compiled), Arc::new(next), |_, _| Ok(()));
    let (before, after) = (compiled.egress().unwrap(), next.egress().unwrap());
    assert!(Arc::ptr_eq(&before.entries, &after.entries));
    assert!(Arc::ptr_eq(&before.policies, &after.policies));
    assert!(!Arc::ptr_eq(&before.workloads, &after.workloads));
    assert!(after.workload("10.0.0.1".parse().unwrap()).is_some());
}

#[test]
fn whom_nobody_can_tell_holds_against_everybody() {
    let policy = |action: &str, host: &str| {
        json!({
            "scope": {"Namespace": "a"}, "action": action, "to": [{"hosts": [host]}],
            "from": [{"service_accounts": [["a", "x"]]}, {"unclear": true}],
        })
    };
    let table = with_policies(json!({"p/ns/allow": policy("Allow", "h")}));
    check(
        table,
        &[
            ("a/x h 80 GET /", "allow allowed through e"),
            (
                "a/y h 80 GET /",
                "refuse not_allowed_by_policy through e by p/ns/allow",
            ),
            ("b/x h 80 GET /", "allow allowed through e"),
            (
                "? h 80 GET /",
                "refuse unknown_caller through e by p/ns/allow",
            ),
        ],
    );
    let table = with_policies(json!({"p/ns/deny": policy("Deny", "g")}));
    check(
        table,
        &[
            (
                "a/y g 80 GET /",
                "refuse denied_by_policy through e by p/ns/deny",
            ),
            ("a/y h 80 GET /", "allow allowed through e"),
            ("b/y g 80 GET /", "allow allowed through e"),
        ],
    );
}
