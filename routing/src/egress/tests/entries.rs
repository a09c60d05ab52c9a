//! Which of several entries is in force.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{check, compiled, table};
use crate::{
    CompiledTable, EntryKey, compile,
    egress::{Caller, Destination, MAX_CLAIMS, PolicyMode, Question, Seen},
};

#[test]
fn own_entries_and_those_of_the_gateway_go_before_others_and_narrow_ones_before_wide_ones() {
    let entry = |created_at: i64, namespace: &str, host: &str, exported_to: Value| {
        json!({
            "hosts": [host], "addresses": ["192.0.2.0/24"], "ports": [{"number": 80, "protocol": "HTTP"}],
            "exported_to": exported_to,
            "order": {"created_at": created_at, "namespace": namespace, "name": "e", "rule": 0},
        })
    };
    let all = || json!("All");
    let entries = json!({
        // The oldest, the narrowest, and nobody asked for it.
        "captor": entry(0, "captor", "api.example.com", all()),
        "gateway": entry(1, "gateways", "*.example.com", all()),
        "own": entry(2, "b", "*.com", json!({"Namespaces": ["b"]})),
        // The same as the Gateway's, but younger and of the caller.
        "same": entry(3, "e", "*.example.com", all()),
        "away": entry(0, "c", "api.example.com", json!({"Namespaces": ["d"]})),
    });
    check(
        table(entries, json!({})),
        &[
            (
                "a/x api.example.com 80 GET /",
                "allow allowed through gateway",
            ),
            // What the Gateway has for fewer hosts is not taken away by what somebody has for many.
            (
                "b/x api.example.com 80 GET /",
                "allow allowed through gateway",
            ),
            ("e/x api.example.com 80 GET /", "allow allowed through same"),
            (
                "c/x api.example.com 80 GET /",
                "allow allowed through gateway",
            ),
            (
                "d/x api.example.com 80 GET /",
                "allow allowed through gateway",
            ),
            (
                "captor/x api.example.com 80 GET /",
                "allow allowed through captor",
            ),
            (
                "? api.example.com 80 GET /",
                "allow allowed through gateway",
            ),
            ("b/x other.com 80 GET /", "allow allowed through own"),
            ("a/x other.com 80 GET /", "refuse not_exported"),
            ("b/x 192.0.2.1 80 GET /", "allow allowed through own"),
            ("a/x 192.0.2.1 80 GET /", "allow allowed through gateway"),
            (
                "captor/x 192.0.2.1 80 GET /",
                "allow allowed through captor",
            ),
        ],
    );
}

#[test]
fn a_port_that_cannot_be_served_is_left_to_nobody_else() {
    let entry = |created_at: i64, namespace: &str, is_shut: bool, exported_to: Value| {
        json!({
            "hosts": ["h"],
            "ports": [
                {"number": 80, "protocol": "HTTP", "shut": is_shut}, {"number": 443, "protocol": "TLS"},
            ],
            "exported_to": exported_to,
            "order": {"created_at": created_at, "namespace": namespace, "name": "e", "rule": 0},
        })
    };
    let entries = || {
        json!({
            "others": entry(1, "b", false, json!("All")),
            "own": entry(2, "a", true, json!({"Namespaces": ["a"]})),
        })
    };
    let answers = [
        ("a/x h 80 GET /", "refuse entry_shut through own"),
        ("a/x h 80 tunnel", "refuse entry_shut through own"),
        ("a/x h 443 tls", "allow allowed through own"),
        ("b/x h 80 GET /", "allow allowed through others"),
        ("? h 80 GET /", "allow allowed through others"),
    ];
    check(table(entries(), json!({})), &answers);
    // What is listed is not what a mode that only reports lets pass.
    let mut reporting = table(entries(), json!({}));
    let settings = std::sync::Arc::make_mut(&mut reporting.settings);
    settings.egress.as_mut().unwrap().mode = PolicyMode::Report;
    check(reporting, &answers);
}

#[test]
fn an_entry_does_not_claim_more_than_others_can_be_held_against() {
    let hosts = |count: usize| (0..count).map(|it| format!("h{it}")).collect::<Vec<_>>();
    let rejections = |hosts: Vec<String>| {
        let entry = json!({
            "hosts": hosts, "addresses": ["192.0.2.0/24"], "exported_to": {"Namespaces": ["a", "b"]},
            "ports": [{"number": 80, "protocol": "HTTP"}, {"number": 81, "protocol": "HTTP"}],
        });
        let table = Arc::new(table(json!({"e": entry}), json!({})));
        compile::<()>(None, table, |_, _| Ok(())).1
    };
    assert_eq!(rejections(hosts(MAX_CLAIMS / 4 - 1)), []);
    let told = rejections(hosts(MAX_CLAIMS / 4));
    assert_eq!(told.len(), 1);
    assert!(told[0].message.contains("multiply to 4100"), "{told:?}");
}

#[test]
fn through_a_certain_entry_goes_what_that_opens_to_the_caller() {
    let entry = |namespace: &str, exported_to: Value| {
        json!({
            "hosts": ["h"], "ports": [{"number": 80, "protocol": "HTTP"}], "exported_to": exported_to,
            "order": {"created_at": 0, "namespace": namespace, "name": "e", "rule": 0},
        })
    };
    let entries = json!({
        "named": entry("gateways", json!({"Namespaces": ["a", "b"]})), "own": entry("a", json!("All")),
    });
    let table = table(entries, json!({}));
    let mut reporting = table.clone();
    let settings = &mut Arc::make_mut(&mut reporting.settings).egress;
    settings.as_mut().unwrap().mode = PolicyMode::Report;
    let (enforcing, reporting) = (compiled(table), compiled(reporting));
    let asked = |compiled: &CompiledTable<()>, namespace: Option<&str>, host: &str, port| {
        let question = Question {
            destination: Destination::Name(host),
            port,
            caller: namespace.map(|namespace| Caller {
                namespace,
                service_account: "x",
                labels: None,
            }),
            seen: Seen::Tunnel,
        };
        let egress = compiled.egress().unwrap();
        let decision = egress.decide_through(&EntryKey::of("a", "named"), &question)?;
        let opened = decision.opened.map(|opened| opened.key.as_str());
        Some((decision.reason.code(), opened.map(ToOwned::to_owned)))
    };
    let through = |namespace, host, port| asked(&enforcing, namespace, host, port);
    let open = Some(("allowed", Some("serviceentry/a/named".to_owned())));
    assert_eq!(through(Some("a"), "h", 80), open);
    assert_eq!(through(Some("b"), "h", 80), open);
    assert_eq!(asked(&reporting, Some("b"), "h", 80), open);
    // What is let through all the same is not what a route is for.
    assert_eq!(asked(&reporting, Some("c"), "h", 80), None);
    assert_eq!(through(Some("c"), "h", 80), Some(("not_exported", None)));
    assert_eq!(through(None, "h", 80), Some(("unknown_caller", None)));
    assert_eq!(through(Some("a"), "g", 80), None);
    assert_eq!(through(Some("a"), "h", 81), None);
}

#[test]
fn of_many_hosts_an_entry_lists_its_own() {
    let mut hosts: Vec<_> = (0..500).map(|it| format!("h{it}.example")).collect();
    hosts.push("*.wide.example".to_owned());
    let entry = json!({
        "hosts": hosts, "addresses": ["192.0.2.0/25", "192.0.2.128/25", "2001:db8::/64"],
        "ports": [{"number": 80, "protocol": "HTTP"}],
    });
    let compiled = compiled(table(json!({"e": entry}), json!({})));
    let key = EntryKey::of("a", "e");
    for (host, is_listed) in [
        ("h0.example", true),
        ("h499.example", true),
        ("h500.example", false),
        ("x.h0.example", false),
        ("a.b.wide.example", true),
        ("wide.example", false),
        ("192.0.2.200", true),
        ("192.0.3.1", false),
        ("2001:db8::1", true),
        ("2001:db8:0:1::1", false),
    ] {
        let destination = host
            .parse()
            .map_or(Destination::Name(host), Destination::Address);
        let egress = compiled.egress().unwrap();
        assert_eq!(egress.lists(&key, destination), is_listed, "{host}");
    }
}
