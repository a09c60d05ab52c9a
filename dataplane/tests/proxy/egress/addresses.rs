//! Where names lead: resolved once, checked without exception, and nothing else connected to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hickory_resolver::proto::op::ResponseCode;
use portcullis_routing::egress::EgressSettings;
use serde_json::json;

use crate::support::{
    Backend,
    fake_dns::FakeDns,
    outside::{A, B, Outside, STRANGER, by_dns, fixed, outcome},
};

const URL: &str = "http://api.example.com/";
const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_address_refuses_all_and_nobody_is_connected_to() {
    let backend = Backend::start("up").await;
    let good = backend.address.ip();
    let public: IpAddr = "9.9.9.9".parse().unwrap();
    let dns = FakeDns::start(&[], 1).await;
    for (addresses, what) in [
        (
            vec![public, METADATA],
            "169.254.169.254, a cloud metadata address",
        ),
        (
            vec![good, "10.1.2.3".parse().unwrap()],
            "10.1.2.3, a private address",
        ),
        (
            vec![good, "::1".parse().unwrap()],
            "::1, a loopback address",
        ),
        (
            vec![good, "::ffff:10.0.0.1".parse().unwrap()],
            "::ffff:10.0.0.1, a wrapped (10.0.0.1, private) address",
        ),
        (
            vec![good, "8.8.8.8".parse().unwrap()],
            "8.8.8.8, an address of the cluster",
        ),
    ] {
        dns.change(&addresses);
        let (proxy, log) = Outside::new(&dns)
            .guarded()
            .settings(|egress| egress.protected = vec!["8.8.8.0/24".parse().unwrap()])
            .entry("api", by_dns("api.example.com", backend.address))
            .policy(
                "private",
                json!({"scope": "Gateway", "action": "Allow", "allow_private": ["127.0.0.1/32"]}),
            )
            .start();
        let answer = proxy.fetch(A, URL).await;
        assert_eq!(
            outcome(&answer),
            ("403", Some("address_refused")),
            "{answer}"
        );
        let detail = format!("api.example.com leads to {what}");
        assert!(answer.contains(&detail), "{answer}");
        let is_grave = what.contains("metadata") || what.contains("loopback");
        assert!(answer.contains("NO_PROXY"), "{answer}");
        assert!(answer.contains("mend its DNS"), "{answer}");
        assert_eq!(answer.contains("allowPrivate"), !is_grave, "{answer}");
        let line = log.departures(1).await.pop().unwrap();
        assert_eq!(line["detail"], detail);
        assert_eq!(
            (&line["verdict"], &line["reason"]),
            (&json!("refuse"), &json!("address_refused"))
        );
    }
    // As an alias of another name.
    dns.alias("inside.example.net.", &[good, METADATA]);
    let (proxy, _) = Outside::new(&dns)
        .entry("api", by_dns("api.example.com", backend.address))
        .private_for_a()
        .start();
    let answer = proxy.fetch(A, URL).await;
    assert_eq!(
        outcome(&answer),
        ("403", Some("address_refused")),
        "{answer}"
    );
    dns.alias("inside.example.net.", &[good]);
    while outcome(&proxy.fetch(A, URL).await).0 != "200" {}
    assert_eq!(backend.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_turns_inside_is_not_followed_there_nor_to_where_it_led_before() {
    let (backend, other) = (Backend::start("up").await, Backend::start("other").await);
    let dns = FakeDns::start(&[backend.address.ip()], 0).await;
    let (proxy, _) = Outside::new(&dns)
        .entry("api", by_dns("api.example.com", backend.address))
        .entry("other", fixed("other.example.com", other.address))
        .private_for_a()
        .start();
    let keep = "GET http://api.example.com/ HTTP/1.1\r\nHost: api.example.com\r\nConnection: close\r\n\r\n";
    assert!(proxy.tell(A, keep).await.ends_with("up"));
    assert!(proxy.tell(A, keep).await.ends_with("up"));
    assert_eq!(backend.connections(), 1, "the connection is kept");
    dns.change(&[METADATA]);
    // At most a second, which is the shortest time that an answer holds.
    loop {
        let seen = backend.seen().len();
        let answer = proxy.tell(A, keep).await;
        match outcome(&answer) {
            ("200", _) => {}
            refused => {
                assert_eq!(refused, ("403", Some("address_refused")));
                assert_eq!(backend.seen().len(), seen);
                break;
            }
        }
    }
    assert!(
        proxy
            .fetch(A, "http://other.example.com/")
            .await
            .ends_with("other")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooled_connection_opens_nothing_to_others() {
    let backend = Backend::start("up").await;
    let mut wide = by_dns("*.example.com", backend.address);
    wide["resolution"] = json!("None");
    let dns = FakeDns::start(&[backend.address.ip()], 60).await;
    let (proxy, _) = Outside::new(&dns)
        .entry("api", by_dns("api.example.com", backend.address))
        .entry("wide", wide)
        .entry("fixed", fixed("fixed.example.com", backend.address))
        .private_for_a()
        .start();
    assert!(proxy.fetch(A, URL).await.ends_with("up"));
    for (caller, reason) in [(B, "address_refused"), (STRANGER, "unknown_caller")] {
        let answer = proxy.fetch(caller, URL).await;
        assert_eq!(outcome(&answer), ("403", Some(reason)), "{answer}");
    }
    assert!(proxy.fetch(A, URL).await.ends_with("up"));
    assert_eq!(backend.connections(), 1);
    assert_eq!(dns.questions(), 2, "once, for both families");
    // Neither across hosts nor across entries.
    assert!(
        proxy
            .fetch(A, "http://other.example.com/")
            .await
            .ends_with("up")
    );
    assert!(
        proxy
            .fetch(A, "http://fixed.example.com/")
            .await
            .ends_with("up")
    );
    assert_eq!(backend.connections(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_named_only_where_an_entry_has_them() {
    let backend = Backend::start("up").await;
    let dns = FakeDns::start(&[], 60).await;
    let port = backend.address.port();
    let entry = json!({
        "hosts": ["api.example.com"], "addresses": ["127.0.0.0/8", "::/0"],
        "ports": [{"number": port, "protocol": "HTTP"}],
    });
    let (proxy, log) = Outside::new(&dns)
        .entry("api", entry)
        .private_for_a()
        .start();
    let url = |host: &str| format!("http://{host}:{port}/");
    assert!(proxy.fetch(A, &url("127.0.0.1")).await.ends_with("up"));
    assert_eq!(backend.only().headers["host"], format!("127.0.0.1:{port}"));
    let reason = async |from, host: &str| {
        let answer = proxy.fetch(from, &url(host)).await;
        outcome(&answer).1.map(str::to_owned)
    };
    assert_eq!(
        reason(B, "127.0.0.1").await.as_deref(),
        Some("address_refused")
    );
    assert_eq!(
        reason(A, "8.8.8.8").await.as_deref(),
        Some("host_not_listed")
    );
    assert_eq!(
        reason(A, "[::ffff:127.0.0.1]").await.as_deref(),
        Some("address_refused")
    );
    let hosts: Vec<_> = log
        .departures(4)
        .await
        .iter()
        .map(|line| line["host"].clone())
        .collect();
    assert_eq!(
        hosts,
        ["127.0.0.1", "127.0.0.1", "8.8.8.8", "[::ffff:127.0.0.1]"]
    );
    assert_eq!(dns.questions(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_stand_in_for_the_host_by_their_weights_and_ports() {
    let (heavy, never) = (Backend::start("heavy").await, Backend::start("never").await);
    let dns = FakeDns::start(&[], 60).await;
    let endpoint = |backend: &Backend, weight: u32| {
        let SocketAddr::V4(address) = backend.address else {
            unreachable!()
        };
        json!({"host": address.ip(), "ports": [[80, address.port()]], "weight": weight})
    };
    let entry = json!({
        "hosts": ["api.example.com"], "resolution": "Static", "ports": [{"number": 80, "protocol": "HTTP"}],
        "endpoints": [endpoint(&never, 0), endpoint(&heavy, 3)],
    });
    let (proxy, _) = Outside::new(&dns).entry("api", entry).start();
    for _ in 0..5 {
        assert!(proxy.fetch(A, URL).await.ends_with("heavy"));
    }
    assert_eq!(never.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_nobody_knows_is_an_answer_of_its_own() {
    let backend = Backend::start("up").await;
    let dns = FakeDns::start(&[], 60).await;
    dns.fail(ResponseCode::NXDomain);
    let (proxy, log) = Outside::new(&dns)
        .entry("api", by_dns("api.example.com", backend.address))
        .start();
    let answer = proxy.fetch(A, URL).await;
    assert_eq!(outcome(&answer), ("503", Some("dns_failed")), "{answer}");
    assert!(
        answer.contains("api.example.com cannot be resolved: there is no such name"),
        "{answer}"
    );
    let line = log.departures(1).await.pop().unwrap();
    assert_eq!(
        (&line["verdict"], &line["error"]),
        (&json!("allow"), &json!("dns_failed"))
    );
    proxy
        .reaches(r#"portcullis_egress_dns_total{result="negative"}"#, 1.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_addresses_one_that_does_not_answer_is_passed_over() {
    let backend = Backend::start("up").await;
    let nobody: IpAddr = "127.0.0.5".parse().unwrap();
    let dns = FakeDns::start(&[backend.address.ip(), nobody], 60).await;
    let port = backend.address.port();
    let in_order = json!({
        "hosts": ["first.example.com"], "resolution": "DnsRoundRobin",
        "ports": [{"number": 80, "protocol": "HTTP", "target_port": port}],
    });
    let raw = json!({
        "hosts": ["raw.example.com"], "resolution": "Dns",
        "ports": [{"number": 22, "protocol": "TCP", "target_port": port}],
    });
    let (proxy, _) = Outside::new(&dns)
        .entry("api", by_dns("api.example.com", backend.address))
        .entry("first", in_order)
        .entry("raw", raw)
        .private_for_a()
        .start();
    let get = "GET / HTTP/1.1\r\nHost: raw.example.com\r\nConnection: close\r\n\r\n";
    let tunnel =
        format!("CONNECT raw.example.com:22 HTTP/1.1\r\nHost: raw.example.com:22\r\n\r\n{get}");
    for _ in 0..5 {
        assert!(proxy.fetch(A, URL).await.ends_with("up"));
        assert!(
            proxy
                .fetch(A, "http://first.example.com/")
                .await
                .ends_with("up")
        );
        assert!(proxy.tell(A, &tunnel).await.ends_with("up"));
    }
    // The first one answers, so no other one was tried for it, nor is anybody tried without a request.
    let refused = proxy.metric(r#"portcullis_upstream_connects_total{result="refused"}"#);
    assert!(refused <= 5.0, "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_leads_nobody_to_the_proxy_its_node_or_the_cluster() {
    let dns = FakeDns::start(&[], 60).await;
    let at = |address: &str| {
        fixed(
            "api.example.com",
            SocketAddr::new(address.parse().unwrap(), 9),
        )
    };
    let protect =
        |egress: &mut EgressSettings| egress.protected = vec!["192.168.77.0/24".parse().unwrap()];
    for (address, what) in [
        ("127.0.0.1", "a loopback address"),
        ("::1", "a loopback address"),
        (
            "::ffff:127.0.0.1",
            "a wrapped (127.0.0.1, loopback) address",
        ),
        ("0.0.0.0", "a this-network address"),
        ("224.0.0.1", "a multicast address"),
        ("240.0.0.1", "a reserved address"),
        ("169.254.169.254", "a cloud metadata address"),
        ("fe80::1", "a link-local address"),
        ("192.168.77.1", "an address of the cluster"),
    ] {
        let mut entry = at(address);
        entry["order"] = json!({"namespace": "a", "name": "api", "rule": 0});
        let outside = Outside::new(&dns).guarded().settings(protect);
        let (proxy, log) = outside.entry("api", entry).start();
        let answer = proxy.fetch(A, URL).await;
        assert_eq!(
            outcome(&answer),
            ("403", Some("address_refused")),
            "{address}: {answer}"
        );
        let line = log.departures(1).await.pop().unwrap();
        let detail = format!("an endpoint of its ServiceEntry is {address}, {what}");
        assert_eq!(line["detail"], detail);
        assert!(answer.contains("mend the endpoints"), "{answer}");
        assert!(!answer.contains("DNS"), "{answer}");
        assert_eq!(line["entry"], "serviceentry/test/api");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_the_gateways_policy_allows_is_not_led_elsewhere_by_a_tenant() {
    let (backend, bait) = (Backend::start("up").await, Backend::start("bait").await);
    let dns = FakeDns::start(&[backend.address.ip()], 60).await;
    let mut led = fixed("api.example.com", bait.address);
    led["order"] = json!({"namespace": "a", "name": "led", "rule": 0});
    let outside = Outside::new(&dns)
        .guarded()
        .entry("api", by_dns("api.example.com", backend.address))
        .policy(
            "api",
            json!({
                "scope": "Gateway", "action": "Allow", "to": [{"hosts": ["api.example.com"]}],
                "allow_private": ["127.0.0.0/8"],
            }),
        );
    let (proxy, _) = Outside(outside.0.clone()).start();
    assert!(proxy.fetch(A, URL).await.ends_with("up"));

    let (proxy, log) = outside.entry("led", led).start();
    let answer = proxy.fetch(A, URL).await;
    assert_eq!(outcome(&answer), ("403", Some("led_elsewhere")), "{answer}");
    // Nobody else is led by it.
    assert!(proxy.fetch(B, URL).await.ends_with("up"));
    assert_eq!(bait.connections(), 0);
    let line = &log.departures(1).await[0];
    assert_eq!(
        (&line["reason"], &line["entry"], &line["policy"]),
        (
            &json!("led_elsewhere"),
            &json!("serviceentry/test/led"),
            &json!("egresspolicy/test/api")
        )
    );
}
