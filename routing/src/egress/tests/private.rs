//! Which private addresses policies open, and to whom.

use super::*;

#[test]
fn private_ranges_are_opened_to_those_that_a_policy_selects() {
    let policies = json!({
        "private": {
            "scope": "Gateway", "action": "Allow", "from": [{"namespaces": ["a"]}],
            "to": [{"hosts": ["h"]}], "allow_private": ["10.1.0.0/16"]
        },
        "read": {
            "scope": "Gateway", "action": "Allow", "from": [{"namespaces": ["a"]}],
            "to": [{"hosts": ["r"], "methods": ["GET"]}], "allow_private": ["10.1.0.0/16"]
        },
    });
    let mut table = with_policies(policies);
    let workload = Workload {
        namespace: "b".into(),
        service_account: "x".into(),
        pod: "x-1".into(),
        labels: BTreeMap::new(),
        proxy_of: None,
    };
    let address = "203.0.113.9".parse().unwrap();
    table
        .workloads
        .insert(WorkloadKey::of(address), Arc::new(workload));
    let compiled = compiled(table);
    let egress = compiled.egress().unwrap();
    let opens_to = |namespace, host, address: &str, seen| {
        let question = Question {
            destination: Destination::Name(host),
            port: 80,
            caller: Some(Caller {
                namespace,
                service_account: "x",
                labels: None,
            }),
            seen,
        };
        let opened = egress.decide(&question).opened;
        egress.opens_private(&question, opened, address.parse().unwrap())
    };
    let opens = |namespace, host, address| opens_to(namespace, host, address, Seen::Tunnel);
    assert!(opens("a", "h", "10.1.2.3"));
    assert!(!opens("a", "h", "10.2.2.3"));
    assert!(!opens("a", "g", "10.1.2.3"));
    assert!(!opens("b", "h", "10.1.2.3"));
    // What is opened to requests of some methods is not opened to tunnels in which anything may be.
    let get = Seen::Request {
        method: "GET",
        path: "/",
        encrypted: false,
    };
    assert!(opens_to("a", "r", "10.1.2.3", get));
    assert!(!opens("a", "r", "10.1.2.3"));
    assert!(egress.is_protected(address));
    assert!(egress.is_protected("::ffff:203.0.113.9".parse().unwrap()));
    assert!(!egress.is_protected("203.0.113.10".parse().unwrap()));
}

#[test]
fn a_pod_is_found_behind_every_form_of_its_address() {
    let mut table = with_policies(json!({}));
    let workload = Workload {
        namespace: "b".into(),
        service_account: "x".into(),
        pod: "x-1".into(),
        labels: BTreeMap::new(),
        proxy_of: None,
    };
    let key = WorkloadKey::of("203.0.113.9".parse().unwrap());
    table.workloads.insert(key, Arc::new(workload));
    let compiled = compiled(table);
    let egress = compiled.egress().unwrap();
    let is_found = |address: &str| egress.workload_behind(address.parse().unwrap()).is_some();
    // As it is, mapped, and as NAT64 has it.
    for address in ["203.0.113.9", "::ffff:203.0.113.9", "64:ff9b::203.0.113.9"] {
        assert!(is_found(address), "{address}");
    }
    assert!(!is_found("203.0.113.10"));
    assert!(!is_found("64:ff9b::203.0.113.10"));
}
