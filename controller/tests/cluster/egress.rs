//! What egress needs to know of a cluster, and when it is asked for.

use std::{collections::BTreeMap, time::Duration};

use portcullis_controller::{ObjectKey, Resources};
use portcullis_crds::service_entry::Resolution;
use portcullis_routing::{GatewayKey, RoutingTable};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    fake_api::FakeApi,
    support::{Replica, SHOP, Tables, WEB, condition, routes},
};

/// A GatewayClass and a Gateway of egress.
pub(crate) const EGRESS: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis-egress}
spec: {controllerName: portcullis.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: out, namespace: shop}
spec:
  gatewayClassName: portcullis-egress
  listeners: [{name: proxy, port: 3128, protocol: HTTP}]";

/// A pod and the node that it is on.
const CALLER: &str = r"
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop, labels: {app: web}}
spec: {serviceAccountName: shop, nodeName: one}
status: {phase: Running, podIP: 10.1.0.7}
---
apiVersion: v1
kind: Node
metadata: {name: one}
spec: {podCIDRs: [10.1.0.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}";

/// Requests for pods and nodes.
fn asked(api: &FakeApi) -> usize {
    api.count(|it| ["Pod", "Node"].contains(&it.kind))
}

fn known(replica: &Replica, holds: impl FnOnce(&Resources) -> bool) -> bool {
    let snapshot = replica.controller.store().snapshot();
    snapshot.is_some_and(|snapshot| holds(&snapshot.resources))
}

/// There may be thousands of them.
#[tokio::test]
async fn without_an_egress_gateway_nobody_asks_for_pods_and_nodes() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(CALLER);
    // A class alone is none; nor is the Gateway of another controller.
    api.apply(EGRESS.split("\n---\n").next().unwrap());
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    let class = ("GatewayClass", "portcullis-egress");
    api.patch(
        class,
        &json!({ "spec": { "controllerName": "example.com/other" } }),
    );
    // Classes and Gateways come by watches of their own, in no certain order.
    let class = ObjectKey::cluster("portcullis-egress");
    api.until("the class is another's", |_| {
        known(&replica, |it| {
            it.gateway_classes[&class].spec.controller_name == "example.com/other"
        })
    })
    .await;
    api.apply(EGRESS.split("\n---\n").last().unwrap());
    api.until("the Gateway is known", |_| {
        known(&replica, |it| it.gateways.len() == 2)
    })
    .await;
    assert_eq!(asked(&api), 0);
    assert_eq!(replica.controller.store().unknown_kinds(), [""; 0]);
}

/// It has no rights to any of that.
#[tokio::test]
async fn a_controller_without_egress_asks_for_nothing_that_only_egress_needs() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, EGRESS, CALLER, ENTRY] {
        api.apply(manifests);
    }
    let mut replica = Replica::without_egress(&api, "one");
    let tables = replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    assert!(table_out(&tables).is_none());
    api.until("the class is refused", |api| {
        let class = api.get(("GatewayClass", "portcullis-egress"));
        let accepted = condition(&class["status"]["conditions"], "Accepted");
        let message = accepted["message"].as_str().unwrap_or_default();
        accepted["status"] == "False" && message.contains("--egress=false")
    })
    .await;
    add_route(&api, &mut replica, "after").await;
    let of_egress = ["Pod", "Node", "ServiceCIDR", "ServiceEntry", "EgressPolicy"];
    assert_eq!(api.count(|it| of_egress.contains(&it.kind)), 0);
    assert_eq!(replica.controller.store().unknown_kinds(), [""; 0]);
}

#[tokio::test]
async fn only_egress_waits_until_it_is_known_who_calls() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, EGRESS, CALLER] {
        api.apply(manifests);
    }
    for kind in ["Pod", "Node"] {
        api.hold(kind);
    }
    let mut replica = Replica::start(&api, "one");
    let store = replica.controller.store();
    for missing in [&["Node", "Pod"][..], &["Pod"]] {
        api.until("only these are missing", |_| {
            store.unknown_kinds() == missing
        })
        .await;
        let pending = store.snapshot().unwrap().installed.pending;
        assert!(pending.iter().eq(missing));
        let tables = replica
            .tables("the route", |tables| routes(tables) == 1)
            .await;
        assert!(table_out(&tables).is_none());
        api.release(missing[0]);
    }
    replica
        .tables("both Gateways", |tables| tables.len() == 2)
        .await;
    let resources = store.snapshot().unwrap().resources;
    let pod = &resources.pods[&ObjectKey::new("shop", "web-1")];
    assert_eq!(pod.service_account, "shop");
    assert_eq!(resources.nodes.len(), 1);
}

/// A missing right is told, and takes nothing from anybody.
#[tokio::test]
async fn without_the_right_to_read_pods_everything_else_goes_on() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, EGRESS, CALLER] {
        api.apply(manifests);
    }
    api.refuse("Pod", u32::MAX, 403);
    let mut replica = Replica::hasty(&api, "one");
    replica
        .tables("both Gateways", |tables| tables.len() == 2)
        .await;
    assert_eq!(unread(&replica), Some([("Pod", false)].into()));
    api.refuse("Pod", 0, 403);
    api.until("the right is there", |_| {
        unread(&replica) == Some([].into())
    })
    .await;
    assert!(known(&replica, |it| it.pods.len() == 1));
}

/// Kinds that cannot be read, and whether they are known all the same.
fn unread(replica: &Replica) -> Option<BTreeMap<&'static str, bool>> {
    let snapshot = replica.controller.store().snapshot()?;
    let unread = snapshot.installed.unread.into_iter();
    Some(unread.map(|(kind, it)| (kind, it.is_known)).collect())
}

fn table_out(tables: &Tables) -> Option<&RoutingTable> {
    let table = tables.get(&GatewayKey::of("shop", "out"));
    table.map(|table| &**table)
}

/// An address that was a pod's may be anybody's by now.
#[tokio::test]
async fn addresses_say_nothing_once_pods_may_not_be_read_any_more() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, EGRESS, CALLER] {
        api.apply(manifests);
    }
    let mut replica = Replica::hasty(&api, "one");
    let callers = |tables: &Tables| table_out(tables).map(|table| table.workloads.len());
    let is_protected = |tables: &Tables| {
        let table = table_out(tables).unwrap();
        let settings = table.settings.egress.as_ref().unwrap();
        settings
            .protected
            .contains(&"192.0.2.1/32".parse().unwrap())
    };
    let first = replica
        .tables("the caller", |it| callers(it) == Some(1))
        .await;
    assert!(is_protected(&first));
    for kind in ["Pod", "Node"] {
        api.refuse(kind, u32::MAX, 403);
    }
    api.cut_watches();
    let without = replica
        .tables("no caller", |it| callers(it) == Some(0))
        .await;
    api.until("both are refused", |_| {
        unread(&replica) == Some([("Pod", false), ("Node", true)].into())
    })
    .await;
    assert!(is_protected(&without), "what refuses stays");
    for kind in ["Pod", "Node"] {
        api.refuse(kind, 0, 403);
    }
    replica
        .tables("the caller", |it| callers(it) == Some(1))
        .await;
    api.until("both can be read", |_| unread(&replica) == Some([].into()))
        .await;
}

const ENTRY: &str = r"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: shop}
spec: {hosts: [api.example], ports: [{number: 443, name: tls, protocol: TLS}]}
---
apiVersion: portcullis.dev/v1alpha1
kind: EgressPolicy
metadata: {name: deny, namespace: shop}
spec: {action: Deny, to: [{hosts: [api.example]}]}";

/// What is open, and what is against it.
fn rules(tables: &Tables) -> Option<(usize, usize)> {
    table_out(tables).map(|table| (table.entries.len(), table.policies.len()))
}

/// An API server knows nobody's rights until it has read the roles. What proxies have is not to be replaced for that.
#[tokio::test]
async fn a_403_at_the_start_takes_nothing_from_anybody() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, EGRESS, CALLER, ENTRY] {
        api.apply(manifests);
    }
    for kind in ["ServiceEntry", "EgressPolicy", "Node", "Pod"] {
        api.refuse(kind, 3, 403);
    }
    let mut replica = Replica::start(&api, "one");
    let tables = replica
        .tables("the egress Gateway", |it| table_out(it).is_some())
        .await;
    assert_eq!(rules(&tables), Some((1, 1)));
    assert_eq!(table_out(&tables).unwrap().workloads.len(), 1);
    assert_eq!(unread(&replica), Some([].into()));
}

/// Without Nodes egress would be more open, and without `ServiceCIDRs` it is not.
#[tokio::test]
async fn what_every_release_has_is_not_taken_for_missing() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, EGRESS, CALLER] {
        api.apply(manifests);
    }
    for kind in ["Node", "ServiceCIDR"] {
        api.refuse(kind, u32::MAX, 404);
    }
    let replica = Replica::hasty(&api, "one");
    api.until("that there are no Nodes is not believed", |_| {
        unread(&replica) == Some([("Node", false)].into())
    })
    .await;
    let tables = replica.tables.borrow().clone().unwrap();
    assert!(routes(&tables) == 1 && table_out(&tables).is_none());
    let metrics = String::from_utf8(replica.metrics.encode().unwrap()).unwrap();
    let is_counted = |kind: &str| {
        let mut lines = metrics.lines();
        lines.any(|it| it.contains("watch") && it.contains(&format!("kind=\"{kind}\"")))
    };
    assert_eq!(
        (is_counted("Node"), is_counted("ServiceCIDR")),
        (true, false),
        "{metrics}"
    );
}

#[tokio::test]
async fn without_the_right_to_read_policies_only_egress_stands_still() {
    for kind in ["EgressPolicy", "ServiceEntry"] {
        let api = FakeApi::start().await;
        for manifests in [SHOP, EGRESS, CALLER, ENTRY] {
            api.apply(manifests);
        }
        api.refuse(kind, u32::MAX, 403);
        let mut replica = Replica::hasty(&api, "one");
        let tables = replica
            .tables("the route", |tables| routes(tables) == 1)
            .await;
        assert!(table_out(&tables).is_none(), "{kind}");
        api.until("the Gateway says so", |api| {
            let gateway = api.get(("Gateway", "shop/out"));
            let conditions = &gateway["status"]["conditions"];
            let said = condition(conditions, "portcullis.dev/SourcesReadable");
            let message = said["message"].as_str().unwrap_or_default();
            message.contains(kind) && message.contains("go on as they are")
        })
        .await;
        api.refuse(kind, 0, 403);
        replica
            .tables("the rules", |tables| rules(tables) == Some((1, 1)))
            .await;
        api.until("it is said no more", |api| {
            let gateway = api.get(("Gateway", "shop/out"));
            let conditions = &gateway["status"]["conditions"];
            condition(conditions, "portcullis.dev/SourcesReadable").is_null()
        })
        .await;
        // What is known stays, be it said that it is old.
        api.refuse(kind, u32::MAX, 403);
        api.cut_watches();
        api.until("it is refused", |_| {
            unread(&replica) == Some([(kind, true)].into())
        })
        .await;
        let tables = replica.tables.borrow().clone().unwrap();
        assert_eq!(rules(&tables), Some((1, 1)), "{kind}");
    }
}

#[tokio::test]
async fn an_egress_gateway_made_again_and_again_has_pods_listed_once() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(CALLER);
    let (class, gateway) = EGRESS.split_once("\n---\n").unwrap();
    api.apply(class);
    let mut replica = Replica::start(&api, "one");
    let lists = |kind: &str| api.count(|it| it.kind == kind && it.from.is_none());
    for round in 1..=3 {
        api.apply(gateway);
        replica
            .tables("the egress Gateway", |it| table_out(it).is_some())
            .await;
        api.delete(("Gateway", "shop/out"));
        replica
            .tables("it is gone", |it| table_out(it).is_none())
            .await;
        assert_eq!((lists("Pod"), lists("Node")), (1, 1), "round {round}");
    }
    // Without such a Gateway it is nobody's business that pods come and go: so many, one after the other, that they could not all be
    // translated with the route. Statuses that are still being written may be translated meanwhile, but not each time.
    let mut pods = 1;
    for attempt in 0.. {
        let before = translations(&replica);
        for _ in 0..40 {
            pods += 1;
            let name = format!("web-{pods}");
            api.create(
                &json!({ "kind": "Pod", "metadata": { "name": name, "namespace": "shop" } }),
            );
            // Nothing is written of it that the API server could tell.
            let heard_of = async {
                while !known(&replica, |it| it.pods.len() == pods) {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(Duration::from_mins(1), heard_of)
                .await
                .expect("it is heard of");
        }
        add_route(&api, &mut replica, &format!("after-{attempt}")).await;
        let translated = translations(&replica) - before;
        if translated == 1 {
            break;
        }
        assert!(attempt < 10, "{translated} translations");
    }
}

/// A pod changes all the time, and hardly ever in what egress goes by.
#[tokio::test]
async fn what_of_a_pod_nobody_goes_by_costs_no_translation() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, EGRESS, CALLER] {
        api.apply(manifests);
    }
    let mut replica = Replica::start(&api, "one");
    let callers = |tables: &Tables| table_out(tables).map(|table| table.workloads.len());
    replica
        .tables("the caller", |it| callers(it) == Some(1))
        .await;
    let pod = ("Pod", "shop/web-1");
    // Statuses that are still being written may be translated meanwhile, but not each time.
    for attempt in 8.. {
        let before = translations(&replica);
        for heartbeat in 0..5 {
            api.patch(
                pod,
                &json!({ "metadata": { "annotations": { "beat": heartbeat.to_string() } } }),
            );
            api.patch(
                pod,
                &json!({ "status": {
                "phase": if heartbeat % 2 == 0 { "Pending" } else { "Running" },
                "conditions": [{ "type": "Ready", "status": "True", "lastProbeTime": null }],
            } }),
            );
        }
        // What is heard of after them is the next that is translated.
        let address = format!("10.1.0.{attempt}");
        api.patch(pod, &json!({ "status": { "podIP": address } }));
        replica
            .tables("the new address", |tables| {
                let table = table_out(tables).unwrap();
                table.workloads.keys().any(|key| key.as_str() == address)
            })
            .await;
        let translated = translations(&replica) - before;
        if translated == 1 {
            break;
        }
        assert!(attempt < 18, "{translated} translations");
    }
}

/// Adds a route, and waits until it is translated.
async fn add_route(api: &FakeApi, replica: &mut Replica, name: &str) {
    let before = replica.tables.borrow().as_ref().map_or(0, routes);
    let mut route = api.get(WEB);
    route["metadata"] = json!({ "name": name, "namespace": "shop" });
    api.create(&route);
    replica
        .tables("the route", |tables| routes(tables) > before)
        .await;
}

/// Translations so far.
fn translations(replica: &Replica) -> u64 {
    let metrics = String::from_utf8(replica.metrics.encode().unwrap()).unwrap();
    let mut lines = metrics.lines();
    let count = lines
        .find_map(|line| line.strip_prefix("portcullis_controller_translation_seconds_count "));
    count.unwrap().parse().unwrap()
}

#[tokio::test]
async fn pods_and_nodes_are_watched_from_the_first_egress_gateway_to_the_last() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(CALLER);
    let mut replica = Replica::forgetful(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    for round in 0..2 {
        api.apply(EGRESS);
        api.until("they are known", |_| {
            known(&replica, |it| it.pods.len() == 1 && it.nodes.len() == 1)
        })
        .await;
        let pod = format!("web-{}", round + 2);
        api.create(&json!({ "kind": "Pod", "metadata": { "name": pod, "namespace": "shop" } }));
        api.until("a new one is heard of", |_| {
            known(&replica, |it| it.pods.len() == 2)
        })
        .await;
        api.delete(("Pod", &format!("shop/{pod}")));
        api.delete(("Gateway", "shop/out"));
        api.delete(("GatewayClass", "portcullis-egress"));
        api.until("they are forgotten", |_| {
            known(&replica, |it| it.pods.is_empty() && it.nodes.is_empty())
        })
        .await;
    }
}

#[tokio::test]
async fn service_entries_are_read_at_the_first_version_that_is_served() {
    for withdrawn in [&[][..], &["v1"], &["v1", "v1beta1"]] {
        let api = FakeApi::start().await;
        for version in withdrawn {
            api.withdraw("ServiceEntry", version);
        }
        api.apply(SHOP);
        for (name, resolution) in [("known", "DNS"), ("later", "LATER")] {
            api.create(&json!({
                "kind": "ServiceEntry", "metadata": { "name": name, "namespace": "shop" },
                "spec": { "hosts": [format!("{name}.example")], "resolution": resolution, "later": 1 },
            }));
        }
        let mut replica = Replica::start(&api, "one");
        replica
            .tables("the route", |tables| routes(tables) == 1)
            .await;
        api.until("they are known", |_| {
            known(&replica, |it| it.service_entries.len() == 2)
        })
        .await;
        let resources = replica.controller.store().snapshot().unwrap().resources;
        let found = resources.service_entries.values();
        let found: Vec<_> = found.map(|it| it.spec.resolution.clone()).collect();
        let later = Resolution::Unknown("LATER".into());
        assert_eq!(found, [Some(Resolution::Dns), Some(later)], "{withdrawn:?}");
        let refused = api.count(|it| it.kind == "ServiceEntry" && it.code == 404);
        assert_eq!(refused, withdrawn.len());
    }
}

const CONFIGURATION: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// The keys that the table of `shop/out` has tokens verified with.
fn token_keys(tables: &Tables) -> Option<String> {
    let table = tables.get(&GatewayKey::of("shop", "out"))?;
    let settings = table.settings.egress.as_ref()?;
    let tokens = settings.tokens.as_ref()?;
    assert_eq!(tokens.issuer, "https://issuer.example");
    assert_eq!(tokens.audience, "portcullis-egress");
    Some(tokens.jwks.clone())
}

#[tokio::test]
async fn the_keys_of_tokens_are_asked_for_while_there_is_an_egress_gateway() {
    let api = FakeApi::start().await;
    api.serve(CONFIGURATION, json!({ "issuer": "https://issuer.example" }));
    api.serve(KEYS, json!({ "keys": [{ "kid": "first" }] }));
    api.apply(SHOP);
    let mut replica = Replica::forgetful(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    assert_eq!((api.asked(CONFIGURATION), api.asked(KEYS)), (0, 0));
    for kid in ["first", "second"] {
        let keys = json!({ "keys": [{ "kid": kid }] });
        api.serve(KEYS, keys.clone());
        api.apply(EGRESS);
        // There is no table without them in between.
        let has_table = |tables: &Tables| tables.contains_key(&GatewayKey::of("shop", "out"));
        let published = replica.tables("the egress Gateway", has_table).await;
        assert_eq!(token_keys(&published), Some(keys.to_string()));
        api.delete(("Gateway", "shop/out"));
        api.delete(("GatewayClass", "portcullis-egress"));
        api.until("they are forgotten", |_| {
            let snapshot = replica.controller.store().snapshot();
            snapshot.is_some_and(|snapshot| snapshot.token_issuer.is_none())
        })
        .await;
        replica
            .tables("the Gateway is gone", |tables| !has_table(tables))
            .await;
    }
}

#[tokio::test]
async fn without_the_right_to_get_the_keys_tables_are_made_without_them() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(EGRESS);
    let mut replica = Replica::start(&api, "one");
    let published = replica
        .tables("both Gateways", |tables| tables.len() == 2)
        .await;
    assert_eq!(token_keys(&published), None);
    let snapshot = replica.controller.store().snapshot().unwrap();
    let why = snapshot.token_issuer.unwrap().unwrap_err();
    assert!(why.starts_with(CONFIGURATION), "{why}");
}
