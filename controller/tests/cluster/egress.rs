//! What egress needs to know of a cluster, and when it is asked for.

use portcullis_controller::{ObjectKey, Resources};
use portcullis_crds::service_entry::Resolution;
use portcullis_routing::GatewayKey;
use serde_json::json;

use crate::{
    fake_api::FakeApi,
    support::{Replica, SHOP, Tables, routes},
};

/// A GatewayClass and a Gateway of egress.
const EGRESS: &str = r"
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

#[tokio::test]
async fn nothing_is_published_before_it_is_known_who_calls() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, EGRESS, CALLER] {
        api.apply(manifests);
    }
    for kind in ["Pod", "Node"] {
        api.hold(kind);
    }
    let mut replica = Replica::start(&api, "one");
    let store = replica.controller.store();
    api.until("only these are missing", |_| {
        store.unknown_kinds() == ["Node", "Pod"]
    })
    .await;
    assert!(replica.tables.borrow_and_update().is_none());
    api.release("Node");
    api.until("only pods are missing", |_| {
        store.unknown_kinds() == ["Pod"]
    })
    .await;
    assert!(store.snapshot().is_none());
    api.release("Pod");
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
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("both Gateways", |tables| tables.len() == 2)
        .await;
    let refused = || {
        let snapshot = replica.controller.store().snapshot();
        snapshot.map(|it| it.installed.refused)
    };
    assert_eq!(refused(), Some(["Pod"].into()));
    api.refuse("Pod", 0, 403);
    api.until("the right is there", |_| refused() == Some([].into()))
        .await;
    assert!(known(&replica, |it| it.pods.len() == 1));
}

#[tokio::test]
async fn pods_and_nodes_are_watched_from_the_first_egress_gateway_to_the_last() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(CALLER);
    let mut replica = Replica::start(&api, "one");
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
    let mut replica = Replica::start(&api, "one");
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
