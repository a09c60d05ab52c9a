//! A role that lets kinds be listed, or their objects be read one by one, but not watched.

use serde_json::json;

use crate::{
    credentials::use_it,
    egress::EGRESS,
    fake_api::FakeApi,
    rights::{KINDS, OTHERS, goes_on, has_table, told},
    support::{EDGE, Replica, SHOP, routes},
};

/// A certificate, a CA and a credential, and what refers to them.
const NEW: &str = r#"
kind: Secret
type: kubernetes.io/tls
metadata: {name: tls, namespace: shop}
---
kind: Secret
metadata: {name: keys, namespace: shop}
---
kind: ConfigMap
metadata: {name: ca, namespace: shop}
---
apiVersion: portcullis.dev/v1alpha1
kind: CredentialInjection
metadata: {name: key, namespace: shop}
spec: {header: X-Api-Key, secretRef: {name: keys, key: credential}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: web, namespace: shop}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  validation:
    caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]
    hostname: web.example.com"#;

/// It was made since the right was taken away: that nobody has told of it does not say that it is not there.
#[tokio::test]
async fn what_is_new_since_it_may_not_be_watched_is_not_taken_for_missing() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let mut replica = Replica::hasty(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    for kind in ["Secret", "ConfigMap"] {
        api.refuse(kind, u32::MAX, 403);
    }
    api.cut_watches();
    api.until("the Gateway says so", |api| {
        let told = told(api, EDGE.1);
        ["Secret", "ConfigMap"]
            .iter()
            .all(|kind| told.contains(&format!("{kind} cannot be read")))
    })
    .await;

    api.apply(NEW);
    let listener = json!({
        "name": "https", "port": 443, "protocol": "HTTPS",
        "tls": {"certificateRefs": [{"name": "tls"}]},
    });
    api.patch(EDGE, &json!({"spec": {"listeners": [listener]}}));
    use_it(&api);
    // What no proxy takes, unless it has it from before.
    let tables = replica
        .tables("what stands in for them", |tables| {
            let mut tables = tables.values();
            tables.any(|table| !table.credentials.is_empty() && !table.clusters.is_empty())
        })
        .await;
    let mut listeners = tables.values().flat_map(|table| table.listeners.values());
    let tls = listeners.find_map(|it| it.tls.as_ref()).unwrap();
    assert_eq!(tls.certificates[0].to_string(), "secret/shop/tls");
    let all_say = |api: &FakeApi, words: &str| {
        let policy = |kind| api.get((kind, "shop/web"))["status"]["ancestors"].take();
        let said = [
            api.get(EDGE)["status"]["listeners"].take(),
            policy("BackendTLSPolicy"),
            api.get(("CredentialInjection", "shop/key"))["status"]["ancestors"].take(),
        ];
        said.iter().all(|said| said.to_string().contains(words))
    };
    api.until("it is said what to grant", |api| {
        all_say(api, "cannot be read, if it is there")
            && all_say(api, "the verbs list and watch for ")
    })
    .await;

    for kind in ["Secret", "ConfigMap"] {
        api.refuse(kind, 0, 403);
    }
    api.until("they are read, and hold nothing", |api| {
        all_say(api, " has no ")
    })
    .await;
}

/// The verbs are given one by one.
#[tokio::test]
async fn what_may_be_listed_but_not_watched_is_told_once_and_listed_now_and_then() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.refuse_watches("HTTPRoute");
    let mut replica = Replica::hasty(&api, "one");
    api.until("the Gateway says so", |api| {
        told(api, EDGE.1).contains("HTTPRoute cannot be read, so what was known")
    })
    .await;
    let asked = |is_watch: bool| {
        api.count(|it| {
            it.kind == "HTTPRoute" && it.method == "GET" && it.from.is_some() == is_watch
        })
    };
    let written = || api.count(|it| it.kind == "Gateway" && it.status);
    let (watches, lists, before) = (asked(true), asked(false), written());
    goes_on(&api, &mut replica, "listed.example").await;
    api.until("it is tried again and again", |_| asked(true) > watches + 5)
        .await;
    let (watches, lists) = (asked(true) - watches, asked(false) - lists);
    assert!(lists <= watches + 1, "{lists} lists, {watches} watches");
    assert_eq!(written(), before);

    api.permit_watches("HTTPRoute");
    goes_on(&api, &mut replica, "later.example").await;
    api.until("nothing is missing", |api| told(api, EDGE.1).is_empty())
        .await;
}

#[tokio::test]
async fn what_was_never_known_is_known_once_it_may_be_listed() {
    let api = FakeApi::start().await;
    for manifests in [SHOP, OTHERS, EGRESS] {
        api.apply(manifests);
    }
    let (kind, gateway) = KINDS[0];
    for kind in [kind, "Pod"] {
        api.refuse(kind, u32::MAX, 403);
    }
    let mut replica = Replica::hasty(&api, "one");
    let nobody = "Pod cannot be read, so nobody's address";
    api.until("the Gateways say so", |api| {
        told(api, gateway).contains(&format!("{kind} cannot be read, so nothing is known"))
            && told(api, "shop/out").contains(nobody)
    })
    .await;
    for kind in [kind, "Pod"] {
        api.refuse_watches(kind);
        api.refuse(kind, 0, 403);
    }
    replica
        .tables("the Gateway", |tables| has_table(tables, gateway))
        .await;
    api.until("the Gateway says so", |api| {
        told(api, gateway).contains(&format!("{kind} cannot be read, so what was known"))
    })
    .await;
    // An address that was a pod's when they were listed may be anybody's by now.
    assert!(told(&api, "shop/out").contains(nobody));
}
