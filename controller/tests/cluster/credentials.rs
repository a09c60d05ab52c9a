//! CredentialInjections against an API server: Secrets that come, change and go.

use portcullis_routing::{Filter, RoutingTable};
use serde_json::{Value, json};

use crate::{
    fake_api::FakeApi,
    support::{Replica, SHOP, WEB, condition},
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
    let filters = table.routes.values().flat_map(|route| &route.filters);
    let credentials = filters.filter_map(|filter| match filter {
        Filter::Credential(credential) => Some(credential.value.expose()),
        _ => None,
    });
    credentials.collect()
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
        resolved(&own["status"]["conditions"]) == wanted
            && resolved(&parent["conditions"]) == wanted
    })
    .await;
}

#[tokio::test]
async fn a_secret_that_changes_is_in_force_at_once() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(MANIFEST);
    let reference =
        json!({"group": "portcullis.dev", "kind": "CredentialInjection", "name": "key"});
    let rule = json!({
        "filters": [{"type": "ExtensionRef", "extensionRef": reference}],
        "backendRefs": [{"name": "web", "port": 8080}],
    });
    api.patch(WEB, &json!({"spec": {"rules": [rule]}}));
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
