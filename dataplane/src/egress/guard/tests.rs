//! Where entries, names and addresses lead, and where they do not.

use std::sync::Arc;

use portcullis_routing::{CompiledTable, EntryKey, PolicyKey, RoutingTable, compile, egress::Seen};
use serde_json::json;
use tokio::task::LocalSet;

use super::*;
use crate::{
    telemetry::{Metrics, MetricsOptions},
    upstream::testing::dns::FakeDns,
};

/// For the host of every entry here.
const ASKED: Question<'_> = Question {
    destination: Destination::Name("a.example"),
    port: 80,
    caller: None,
    seen: Seen::Tunnel,
};

/// A Gateway in `system` with an entry of `namespace` that leads to `endpoint`.
fn table(namespace: &str, endpoint: &str, open: &[&str]) -> CompiledTable<()> {
    let mut table: RoutingTable = serde_json::from_value(json!({
        "schema": 1, "gateway": "system/egress",
        "settings": {"egress": {"protected": ["192.168.77.0/24"], "external": ["10.20.0.15/32", "93.184.216.35/32"]}},
    }))
    .unwrap();
    let entry = json!({
        "hosts": ["a.example"], "resolution": "Static",
        "ports": [{"number": 80, "protocol": "HTTP"}], "endpoints": [{"host": endpoint}],
        "order": {"namespace": namespace, "name": "a", "rule": 0},
    });
    let policy = json!({"scope": "Gateway", "action": "Allow", "allow_private": open});
    let key = EntryKey::of(namespace, "a");
    let entry = serde_json::from_value(entry).unwrap();
    table.entries.insert(key, Arc::new(entry));
    let policy = serde_json::from_value(policy).unwrap();
    let key = PolicyKey::of("system", "open");
    table.policies.insert(key, Arc::new(policy));
    let (compiled, rejections) = compile(None, Arc::new(table), |_, _| Ok(()));
    assert_eq!(rejections, []);
    compiled
}

/// An address that an entry lists.
fn listed(address: SocketAddr) -> Found {
    Found {
        address,
        origin: Origin::LISTED,
    }
}

/// Whether the guard lets a request to the entry's host through, and lets a tunnel there stay.
async fn passes(table: &CompiledTable<()>, endpoint: &str) -> bool {
    let metrics = Metrics::new(MetricsOptions::default());
    let egress = table.egress().unwrap();
    let guard = Guard {
        egress,
        resolver: &Resolver::new(metrics.worker()),
        own: &Own::at(&["10.9.9.9".parse().unwrap()]),
        local: "10.9.9.10".parse().unwrap(),
    };
    let opened = egress.decide(&ASKED).opened;
    assert!(opened.is_some());
    let checked = guard.check(&ASKED, opened).await.is_ok();
    let at = SocketAddr::new(endpoint.parse().unwrap(), 80);
    let stays = guard.may_stay(&ASKED, opened, &listed(at));
    assert_eq!(checked, stays, "{endpoint}");
    checked
}

#[tokio::test]
async fn where_an_entry_may_lead_depends_on_who_wrote_it_and_on_what_is_opened() {
    let everything = &["0.0.0.0/0", "::/0"][..];
    // By an entry of a team, of the Gateway's namespace, and with everything opened.
    for (endpoint, wanted) in [
        ("93.184.216.34", [true, true, true]),
        ("10.1.2.3", [true, true, true]),
        ("100.64.0.1", [true, true, true]),
        ("fd00::1", [true, true, true]),
        ("64:ff9b::10.1.2.3", [true, true, true]),
        ("169.254.169.254", [false, true, true]),
        ("fe80::1", [false, true, true]),
        ("192.168.77.1", [false, true, true]),
        ("::ffff:192.168.77.1", [false, true, true]),
        ("10.20.0.15", [false, true, true]),
        ("64:ff9b::10.20.0.15", [false, true, true]),
        ("93.184.216.35", [false, true, true]),
        ("127.0.0.1", [false, false, true]),
        ("::ffff:127.0.0.1", [false, false, true]),
        ("0.0.0.0", [false, false, true]),
        ("224.0.0.1", [false, false, true]),
        ("255.255.255.255", [false, false, true]),
        ("240.0.0.1", [false, false, true]),
        ("10.9.9.9", [false, false, false]),
        ("::ffff:10.9.9.9", [false, false, false]),
        ("10.9.9.10", [false, false, false]),
    ] {
        let found = [
            passes(&table("team", endpoint, &[]), endpoint).await,
            passes(&table("system", endpoint, &[]), endpoint).await,
            passes(&table("team", endpoint, everything), endpoint).await,
        ];
        assert_eq!(found, wanted, "{endpoint}");
    }
}

#[tokio::test]
async fn nothing_leads_to_where_the_proxy_listens_but_its_neighbours_are_open_as_they_are() {
    let here: SocketAddr = "127.0.0.1:80".parse().unwrap();
    let own = Own::default();
    own.opened(3128, here);
    let metrics = Metrics::new(MetricsOptions::default());
    for (endpoint, wanted) in [("127.0.0.1", false), ("127.0.0.2", true)] {
        let table = table("system", endpoint, &["127.0.0.0/8"]);
        let egress = table.egress().unwrap();
        let guard = Guard {
            egress,
            resolver: &Resolver::new(metrics.worker()),
            own: &own,
            local: here.ip(),
        };
        let opened = egress.decide(&ASKED).opened;
        let to = SocketAddr::new(endpoint.parse().unwrap(), 80);
        let checked = guard.check(&ASKED, opened).await;
        assert_eq!(checked.is_ok(), wanted, "{checked:?}");
        assert_eq!(guard.may_stay(&ASKED, opened, &listed(to)), wanted);
        let admitted = admits_backend(egress, &ASKED, true, to, (&own, here.ip()));
        assert_eq!(admitted, wanted);
    }
}

/// Where a name leads that has these addresses, as text; or why nowhere.
async fn leads(addresses: &[&str]) -> Result<Vec<String>, String> {
    let addresses: Vec<IpAddr> = addresses.iter().map(|it| it.parse().unwrap()).collect();
    let entry = json!({
        "hosts": ["a.example"], "ports": [{"number": 80, "protocol": "HTTP"}],
        "order": {"namespace": "team", "name": "a", "rule": 0},
    });
    let mut table: RoutingTable = serde_json::from_value(json!({
        "schema": 1, "gateway": "system/egress", "settings": {"egress": {}},
    }))
    .unwrap();
    let entry = serde_json::from_value(entry).unwrap();
    let key = EntryKey::of("team", "a");
    table.entries.insert(key, Arc::new(entry));
    let (table, _) = compile(None, Arc::new(table), |_, _| Ok::<(), _>(()));
    let metrics = Metrics::new(MetricsOptions::default());
    let resolver = Resolver::new(metrics.worker());
    let egress = table.egress().unwrap();
    let checking = async {
        let dns = FakeDns::start(&addresses, 60).await;
        resolver.use_servers(&[dns.address]);
        let guard = Guard {
            egress,
            resolver: &resolver,
            own: &Own::default(),
            local: "10.9.9.10".parse().unwrap(),
        };
        let opened = egress.decide(&ASKED).opened;
        let checked = guard.check(&ASKED, opened).await;
        checked.map_err(|obstacle| obstacle.to_string())
    };
    let checked = LocalSet::new().run_until(checking).await?;
    let addresses = checked.addresses.iter().map(|it| it.ip().to_string());
    Ok(addresses.collect())
}

#[tokio::test]
async fn what_dns64_made_of_an_address_of_the_name_is_left_out_and_nothing_else() {
    let public = "93.184.216.34";
    let led = leads(&[public, "64:ff9b::93.184.216.34"]).await;
    assert_eq!(led, Ok(vec![public.to_owned()]));
    for bad in [
        // Of another address, of one inside, and in another wrapping.
        &[public, "64:ff9b::93.184.216.35"][..],
        &["64:ff9b::93.184.216.34"],
        &[public, "64:ff9b::10.0.0.1"],
        &["10.0.0.1", "64:ff9b::10.0.0.1"],
        &[public, "::ffff:93.184.216.34"],
        &[public, "2002:5db8:d822::1"],
    ] {
        assert!(leads(bad).await.is_err(), "{bad:?}");
    }
}

#[tokio::test]
async fn all_addresses_are_checked_and_some_of_them_used() {
    let mut many: Vec<_> = (1..=40).map(|n| format!("93.184.216.{n}")).collect();
    many.extend((1..=20).map(|n| format!("2606:4700::{n}")));
    let led = leads_of(&many).await.unwrap();
    let v4 = led.iter().filter(|it| it.contains('.')).count();
    assert_eq!((v4, led.len()), (MAX_USED, 2 * MAX_USED));
    many.push("93.184.216.41".to_owned());
    many.push("224.0.0.1".to_owned());
    assert!(leads_of(&many).await.is_err());
}

async fn leads_of(addresses: &[String]) -> Result<Vec<String>, String> {
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    leads(&addresses).await
}

#[tokio::test]
async fn an_endpoint_that_is_refused_takes_no_other_with_it() {
    let mut table = RoutingTable::clone(table("team", "93.184.216.34", &[]).table());
    let entry = table.entries.values_mut().next().unwrap();
    let bad = EntryEndpoint {
        host: EndpointHost::Ip([127, 0, 0, 1].into()),
        ports: Vec::new(),
        weight: 1,
    };
    Arc::make_mut(entry).endpoints.insert(0, bad);
    let (table, _) = compile(None, Arc::new(table), |_, _| Ok::<(), _>(()));
    assert!(passes(&table, "93.184.216.34").await);
    let egress = table.egress().unwrap();
    let metrics = Metrics::new(MetricsOptions::default());
    let guard = Guard {
        egress,
        resolver: &Resolver::new(metrics.worker()),
        own: &Own::default(),
        local: [10, 9, 9, 10].into(),
    };
    let opened = egress.decide(&ASKED).opened;
    let checked = guard.check(&ASKED, opened).await.unwrap();
    assert_eq!(checked.addresses, [([93, 184, 216, 34], 80).into()]);
    // What is listed no longer is left, public or not.
    let other = listed(([93, 184, 216, 36], 80).into());
    assert!(!guard.may_stay(&ASKED, opened, &other));
}

#[test]
fn weights_are_shares_and_whoever_is_drawn_comes_first() {
    fastrand::seed(7);
    let endpoint = |last: u8, weight| EntryEndpoint {
        host: EndpointHost::Ip([192, 0, 2, last].into()),
        ports: Vec::new(),
        weight,
    };
    let endpoints = [endpoint(1, 0), endpoint(2, 1), endpoint(3, 9)];
    let mut first = 0;
    for _ in 0..10_000 {
        let (taking, drawn) = in_turn(&endpoints);
        assert!(drawn && taking.len() == 2);
        first += u32::from(taking[0] == &endpoints[2]);
    }
    assert!((8_800..9_200).contains(&first), "{first}");
    let equal = [endpoint(1, 2), endpoint(2, 2)];
    assert_eq!(in_turn(&equal), (equal.iter().collect(), false));
    assert_eq!(in_turn(&endpoints[..1]), (vec![], false));
}
