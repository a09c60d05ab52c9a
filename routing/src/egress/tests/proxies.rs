//! Proxies of Gateways: nobody who calls, and nowhere to go.

use std::net::IpAddr;

use super::*;

fn pod(proxy_of: Option<GatewayKey>) -> Arc<Workload> {
    Arc::new(Workload {
        namespace: "gateways".into(),
        service_account: "egress".into(),
        pod: "egress-0".into(),
        labels: BTreeMap::new(),
        proxy_of,
    })
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A Gateway with a proxy, a Service in front of it, a proxy of another Gateway, and a pod; everything is open.
fn cluster() -> crate::CompiledTable<()> {
    let open = json!({"open": {
        "scope": "Gateway", "action": "Allow", "allow_private": ["0.0.0.0/0", "::/0"],
    }});
    let mut table = with_policies(open);
    let own = Some(table.gateway.clone());
    for (address, proxy_of) in [
        ("203.0.113.1", own),
        ("203.0.113.2", Some(GatewayKey::of("gateways", "other"))),
        ("203.0.113.3", None),
    ] {
        let key = WorkloadKey::new(address);
        table.workloads.insert(key, pod(proxy_of));
    }
    let settings = Arc::make_mut(&mut table.settings);
    settings.egress.as_mut().unwrap().own = vec![address("10.96.0.7")];
    compiled(table)
}

const QUESTION: Question<'_> = Question {
    destination: Destination::Name("h"),
    port: 80,
    caller: None,
    seen: Seen::Tunnel,
};

#[test]
fn nobody_is_taken_for_the_proxy_that_passes_its_request_on() {
    let compiled = cluster();
    let egress = compiled.egress().unwrap();
    let is_known = |text| egress.workload(address(text)).is_some();
    assert!(!is_known("203.0.113.1") && !is_known("203.0.113.2"));
    assert!(is_known("203.0.113.3"));
    // They are the cluster's all the same.
    assert!(egress.is_protected(address("203.0.113.2")));
}

#[test]
fn nothing_opens_the_way_back_to_the_gateway() {
    let compiled = cluster();
    let egress = compiled.egress().unwrap();
    let opened = egress.decide(&QUESTION).opened;
    for (text, is_proxy) in [
        ("203.0.113.1", true),
        ("::ffff:203.0.113.1", true),
        ("64:ff9b::203.0.113.1", true),
        ("10.96.0.7", true),
        ("::ffff:10.96.0.7", true),
        ("203.0.113.2", false),
        ("203.0.113.3", false),
        ("10.96.0.8", false),
    ] {
        let address = address(text);
        let class = address::AddressClass::of(address);
        let wanted = is_proxy.then_some(Inside::Proxy);
        let none = |_| false;
        assert_eq!(
            egress.refuses(&QUESTION, opened, (address, class), none),
            wanted,
            "{text}"
        );
        let listed = egress.refuses_endpoint(&QUESTION, opened.unwrap(), address, none);
        assert_eq!(listed, wanted, "{text}");
        assert_eq!(
            egress.admits_backend(&QUESTION, true, address, none),
            !is_proxy,
            "{text}"
        );
    }
}

#[test]
fn services_are_in_the_cluster_and_nowhere_else() {
    let mut table = with_policies(json!({"open": {
        "scope": "Gateway", "action": "Allow", "allow_private": ["9.9.9.9/32", "127.0.0.0/8"],
    }}));
    let settings = Arc::make_mut(&mut table.settings);
    let protected = vec!["93.184.216.0/24".parse().unwrap()];
    let settings = settings.egress.as_mut().unwrap();
    settings.protected = protected;
    settings.external = vec!["93.184.215.14/32".parse().unwrap()];
    table
        .workloads
        .insert(WorkloadKey::new("1.1.1.1"), pod(None));
    let compiled = compiled(table);
    let egress = compiled.egress().unwrap();
    // By a route of a team, and by one of the Gateway's namespace.
    for (text, wanted) in [
        ("10.1.2.3", [true, true]),
        ("100.64.0.1", [true, true]),
        ("fd00::1", [true, true]),
        ("93.184.216.34", [true, true]),
        ("64:ff9b::93.184.216.34", [true, true]),
        ("1.1.1.1", [true, true]),
        ("8.8.8.8", [false, false]),
        // Whoever writes a Service may claim it.
        ("93.184.215.14", [false, false]),
        ("64:ff9b::8.8.8.8", [false, false]),
        ("2606:4700::1111", [false, false]),
        ("9.9.9.9", [false, true]),
        ("127.0.0.1", [false, true]),
        ("::1", [false, false]),
        ("0.0.0.0", [false, false]),
        ("169.254.169.254", [false, false]),
        ("fe80::1", [false, false]),
        ("fd00:ec2::254", [false, false]),
        ("224.0.0.1", [false, false]),
        ("10.9.9.9", [false, false]),
    ] {
        let is_own = |it| it == address("10.9.9.9");
        let admits =
            |by_gateway| egress.admits_backend(&QUESTION, by_gateway, address(text), is_own);
        assert_eq!([admits(false), admits(true)], wanted, "{text}");
    }
}
