//! BackendTLSPolicies at the API server: the CA that they name is read and followed, their statuses are written.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::{
    fake_api::FakeApi,
    support::{Replica, SHOP, condition},
};

const POLICY: (&str, &str) = ("BackendTLSPolicy", "shop/web");
const CA: (&str, &str) = ("ConfigMap", "shop/ca");

const MANIFEST: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: web, namespace: shop, generation: 1}
spec:
  targetRefs: [{group: "", kind: Service, name: web}]
  validation:
    caCertificateRefs: [{group: "", kind: ConfigMap, name: ca}]
    hostname: web.example.com
"#;

fn ca_certificate() -> String {
    let mut ca = CertificateParams::new([]).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn config_map(pem: &str) -> String {
    let map = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "ca", "namespace": "shop" },
        "data": { "ca.crt": pem },
    });
    map.to_string()
}

/// The conditions of our only entry.
fn own(api: &FakeApi) -> Value {
    let ancestors = &api.get(POLICY)["status"]["ancestors"];
    let mut all = ancestors.as_array().into_iter().flatten();
    let own = all.find(|it| it["controllerName"] == "portcullis.dev/gateway-controller");
    own.map(|own| own["conditions"].clone()).unwrap_or_default()
}

/// Whether both conditions have these reasons.
fn says(api: &FakeApi, accepted: &str, resolved: &str) -> bool {
    let conditions = own(api);
    condition(&conditions, "Accepted")["reason"] == accepted
        && condition(&conditions, "ResolvedRefs")["reason"] == resolved
}

#[tokio::test]
async fn the_ca_is_followed_and_the_status_says_what_it_is_worth() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(MANIFEST);
    let mut replica = Replica::start(&api, "one");
    let useless = |api: &FakeApi| says(api, "NoValidCACertificate", "InvalidCACertificateRef");
    let good = |api: &FakeApi| says(api, "Accepted", "ResolvedRefs");
    api.until("there is no CA", useless).await;
    replica
        .tables("the backend is not used", |tables| {
            tables.values().all(|table| table.clusters.is_empty())
        })
        .await;

    api.apply(&config_map(&ca_certificate()));
    api.until("there is a CA", good).await;
    replica
        .tables("the backend is talked to in TLS", |tables| {
            let mut clusters = tables.values().flat_map(|table| table.clusters.values());
            clusters.any(|cluster| cluster.tls.is_some())
        })
        .await;
    api.patch(CA, &json!({ "data": { "ca.crt": "" } }));
    api.until("the CA is empty", useless).await;
    api.patch(CA, &json!({ "data": { "ca.crt": ca_certificate() } }));
    api.until("the CA is there again", good).await;
    api.delete(CA);
    api.until("the CA is gone", useless).await;
}

#[tokio::test]
async fn what_others_wrote_about_a_policy_stays_as_it_is() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(MANIFEST);
    api.apply(&config_map(&ca_certificate()));
    let foreign = json!({
        "controllerName": "example.com/other", "ancestorRef": { "name": "unmanaged", "namespace": "shop" },
        "conditions": [{ "type": "Accepted", "status": "True", "reason": "Accepted", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z", "observedGeneration": 1 }],
    });
    api.patch(POLICY, &json!({ "status": { "ancestors": [foreign] } }));
    let _replica = Replica::start(&api, "one");
    api.until("it is accepted", |api| {
        says(api, "Accepted", "ResolvedRefs")
    })
    .await;
    assert_eq!(api.get(POLICY)["status"]["ancestors"][0], foreign);

    let newer = json!({ "metadata": { "generation": 2 }, "spec": { "validation": { "hostname": "second.example.com" } } });
    api.patch(POLICY, &newer);
    api.until("the new generation was seen", |api| {
        condition(&own(api), "Accepted")["observedGeneration"] == 2
    })
    .await;
    assert_eq!(
        condition(&own(&api), "ResolvedRefs")["observedGeneration"],
        2
    );
    assert_eq!(api.get(POLICY)["status"]["ancestors"][0], foreign);

    // No route, no Gateway that it says anything to.
    api.delete(("HTTPRoute", "shop/web"));
    api.until("only the foreign entry is left", |api| {
        api.get(POLICY)["status"]["ancestors"] == json!([foreign])
    })
    .await;
}
