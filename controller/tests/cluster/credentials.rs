//! CredentialInjections against an API server: Secrets that come, change and go.

use portcullis_routing::RoutingTable;
use serde_json::{Value, json};

use crate::{
    fake_api::FakeApi,
    support::{Replica, SHOP, Tables, WEB, condition, routes},
};

const INJECTION: (&str, &str) = ("CredentialInjection", "shop/key");
const SECRET: (&str, &str) = ("Secret", "shop/keys");

const MANIFEST: &str = r"
apiVersion: portcullis.dev/v1alpha1
kind: CredentialInjection
metadata: {name: key, namespace: shop}
spec: {header: X-Api-Key, overwrite: true, secretRef: {name: keys, key: credential}}";

/// `old` and `new` in base64.
const VALUES: [(&str, &str); 2] = [("old", "b2xk"), ("new", "bmV3")];

fn values(table: &RoutingTable) -> Vec<&str> {
    let named = table.routes.values().flat_map(|route| route.credentials());
    let credentials = named.map(|key| table.credentials[key].value.expose());
    credentials.collect()
}

/// A route that uses the credential `key`.
pub(crate) fn use_it(api: &FakeApi) {
    let reference =
        json!({"group": "portcullis.dev", "kind": "CredentialInjection", "name": "key"});
    let rule = json!({
        "filters": [{"type": "ExtensionRef", "extensionRef": reference}],
        "backendRefs": [{"name": "web", "port": 8080}],
    });
    api.patch(WEB, &json!({"spec": {"rules": [rule]}}));
}

/// The Secret, with one of [`VALUES`].
fn secret(value: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": "shop"},
        "data": {"credential": VALUES[value].1},
    })
}

fn resolved(conditions: &Value) -> (&str, &str) {
    let condition = condition(conditions, "ResolvedRefs");
    let text = |name: &str| condition[name].as_str().unwrap_or_default();
    (text("status"), text("reason"))
}

/// Waits until the object and the route that uses it say this.
async fn until(api: &FakeApi, wanted: (&str, &str)) {
    api.until("both say so", |api| {
        let (own, route) = (api.get(INJECTION), api.get(WEB));
        let parent = &route["status"]["parents"][0];
        let ancestor = &own["status"]["ancestors"][0];
        resolved(&ancestor["conditions"]) == wanted && resolved(&parent["conditions"]) == wanted
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_changes_is_in_force_at_once() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(MANIFEST);
    use_it(&api);
    let mut replica = Replica::start(&api, "one");
    let lacking = ("False", "InvalidCredential");
    until(&api, lacking).await;

    api.apply("apiVersion: v1\nkind: Secret\nmetadata: {name: keys, namespace: shop}");
    for (value, encoded) in VALUES {
        api.patch(SECRET, &json!({"data": {"credential": encoded}}));
        replica
            .tables("the value is in the table", |tables| {
                tables.values().any(|table| values(table) == [value])
            })
            .await;
    }
    until(&api, ("True", "ResolvedRefs")).await;

    api.delete(SECRET);
    replica
        .tables("nothing is sent on without it", |tables| {
            tables.values().all(|table| table.clusters.is_empty())
        })
        .await;
    until(&api, lacking).await;
}

/// A tenant who rewrites a Secret all the time keeps the others from nothing: what it was holds until it is read again.
#[tokio::test]
async fn a_secret_that_is_changed_and_not_given_again_holds_nothing_up() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(MANIFEST);
    api.create(&secret(0));
    use_it(&api);
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the value is in the table", |tables| {
            tables.values().any(|table| values(table) == ["old"])
        })
        .await;
    api.hold_reads("Secret");
    api.patch(SECRET, &secret(1));
    api.patch(WEB, &json!({"spec": {"hostnames": ["shop.example"]}}));
    replica
        .tables("the hostname, beside the old value", |tables| {
            let mut routes = tables.values().flat_map(|table| table.routes.values());
            routes.any(|route| !route.hostnames.is_empty())
                && tables.values().all(|table| values(table) == ["old"])
        })
        .await;
    api.release_reads("Secret");
    replica
        .tables("the new value", |tables| {
            tables.values().any(|table| values(table) == ["new"])
        })
        .await;
}

/// Nor does one who refers to Secrets that are not given.
#[tokio::test]
async fn a_secret_that_is_new_and_not_given_holds_up_for_a_moment() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(MANIFEST);
    api.create(&secret(0));
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    api.hold_reads("Secret");
    use_it(&api);
    // A proxy that serves the rule in another form takes none without the value.
    let is_lacking = |tables: &Tables| tables.values().any(|table| values(table) == [""]);
    replica.tables("the rule without a value", is_lacking).await;
    until(&api, ("False", "InvalidCredential")).await;
    let told = |api: &FakeApi| api.get(WEB)["status"]["parents"][0]["conditions"].to_string();
    assert!(told(&api).contains("Secret shop/keys is there, but cannot be read"));
    api.release_reads("Secret");
    replica
        .tables("the value", |tables| {
            tables.values().any(|table| values(table) == ["old"])
        })
        .await;
}

/// Proxies have tables of the replica before this one: one that says less must not take their place for a hiccup.
#[tokio::test]
async fn the_first_tables_wait_for_secrets_that_cannot_be_had_at_once() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(MANIFEST);
    api.create(&secret(0));
    use_it(&api);
    api.refuse_reads("Secret", 500);
    let mut replica = Replica::start(&api, "one");
    api.until("it was tried again", |api| {
        api.count(|it| it.kind == "Secret" && it.name == "keys" && it.code == 500) >= 3
    })
    .await;
    assert!(replica.tables.borrow_and_update().is_none());
    api.permit_reads("Secret");
    replica.tables.changed().await.unwrap();
    let tables = replica.tables.borrow().clone().unwrap();
    assert!(tables.values().all(|table| values(table) == ["old"]));
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_is_told_at_once_and_spares_the_others() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(MANIFEST);
    api.create(&secret(0));
    use_it(&api);
    api.refuse_reads("Secret", 403);
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the listener", |tables| {
            tables.values().any(|table| !table.listeners.is_empty())
        })
        .await;
    until(&api, ("False", "InvalidCredential")).await;
    let told = api.get(INJECTION)["status"].to_string();
    assert!(
        told.contains("the verb get for Secrets of namespace shop"),
        "{told}"
    );
}

/// A handmade role may know nothing of this kind, and of ingress nothing else needs it.
#[tokio::test]
async fn without_the_right_to_the_kind_only_rules_that_refer_to_it_fail() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.refuse("CredentialInjection", u32::MAX, 403);
    let mut replica = Replica::start(&api, "one");
    replica
        .tables("the route", |tables| routes(tables) == 1)
        .await;
    use_it(&api);
    api.until("the route says so", |api| {
        let route = api.get(WEB);
        let conditions = &route["status"]["parents"][0]["conditions"];
        let said = condition(conditions, "ResolvedRefs").to_string();
        said.contains("no CredentialInjection can be read")
            && said.contains("verbs list and watch for credentialinjections")
    })
    .await;
    api.apply(MANIFEST);
    api.create(&secret(0));
    api.refuse("CredentialInjection", 0, 403);
    replica
        .tables("the value", |tables| {
            tables.values().any(|table| values(table) == ["old"])
        })
        .await;
}

/// Another installation may use the same object, and says of it what it has to say.
#[tokio::test]
async fn what_another_controller_says_of_it_stays() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(MANIFEST);
    api.create(&secret(0));
    let theirs = json!({
        "ancestorRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "shop", "name": "other"},
        "controllerName": "example.com/other", "conditions": [],
    });
    api.patch(INJECTION, &json!({"status": {"ancestors": [theirs]}}));
    let _replica = Replica::start(&api, "one");
    let ancestors = |api: &FakeApi| api.get(INJECTION)["status"]["ancestors"].clone();
    use_it(&api);
    api.until("both speak", |api| {
        let ancestors = ancestors(api);
        ancestors.as_array().is_some_and(|it| it.len() == 2) && ancestors[0] == theirs
    })
    .await;
    let rule = json!({"backendRefs": [{"name": "web", "port": 8080}]});
    api.patch(WEB, &json!({"spec": {"rules": [rule]}}));
    api.until("what is not true any more is taken back", |api| {
        ancestors(api) == json!([theirs])
    })
    .await;
}
