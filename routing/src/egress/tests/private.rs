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

#[test]
fn by_which_services_are_reached_from_beyond_is_the_clusters_and_can_be_opened() {
    let mut table = with_policies(json!({"open": {
        "scope": "Gateway", "action": "Allow", "from": [{"namespaces": ["a"]}], "to": [{"hosts": ["h"]}],
        "allow_private": ["93.184.215.14/32"],
    }}));
    let settings = Arc::make_mut(&mut table.settings);
    let external = ["10.20.0.15/32", "93.184.215.14/32"].map(|it| it.parse().unwrap());
    settings.egress.as_mut().unwrap().external = external.to_vec();
    let compiled = compiled(table);
    let egress = compiled.egress().unwrap();
    let refused = |namespace, address: &str| {
        let question = Question {
            destination: Destination::Name("h"),
            port: 80,
            caller: Some(Caller {
                namespace,
                service_account: "x",
                labels: None,
            }),
            seen: Seen::Tunnel,
        };
        let opened = egress.decide(&question).opened;
        let address = address.parse().unwrap();
        let class = address::AddressClass::of(address);
        let none = |_| false;
        // By a name, and as an endpoint of a tenant's entry.
        [
            egress.refuses(&question, opened, (address, class), none),
            egress.refuses_endpoint(&question, opened.unwrap(), address, none),
        ]
    };
    let cluster = [Some(Inside::Cluster); 2];
    assert_eq!(refused("a", "93.184.215.14"), [None; 2]);
    assert_eq!(refused("b", "93.184.215.14"), cluster);
    assert_eq!(refused("b", "93.184.215.15"), [None; 2]);
    let private = Some(Inside::Range(address::AddressClass::Private));
    assert_eq!(refused("b", "10.20.0.15"), [private, Some(Inside::Cluster)]);
    assert_eq!(refused("b", "10.20.0.16"), [private, None]);
}
