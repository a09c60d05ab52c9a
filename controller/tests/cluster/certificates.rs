//! The certificate authority, and the certificates of the Gateways' data planes, as Secrets of the cluster.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::ByteString;
use portcullis_controller::ca::{Identity, SpiffeId};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};

use crate::{
    fake_api::FakeApi,
    support::{EDGE, Replica, SHOP, condition},
};

const AUTHORITY: (&str, &str) = ("Secret", "portcullis-system/portcullis-ca");
const IDENTITY: (&str, &str) = ("Secret", "shop/edge-portcullis-identity");

/// Waits until a replica has a certificate of its own.
async fn ready(replica: &Replica) {
    let wait = async {
        while !replica.tls.is_ready() {
            tokio::task::yield_now().await;
        }
    };
    let ready = tokio::time::timeout(Duration::from_mins(1), wait).await;
    ready.expect("the replica has a certificate");
}

/// The identity that a Secret holds.
fn identity(secret: &Value) -> Option<Identity> {
    let data: BTreeMap<String, ByteString> = serde_json::from_value(secret["data"].clone()).ok()?;
    Identity::from_data(&data).ok()
}

fn gateway_of(identity: &Identity) -> String {
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap();
    SpiffeId::of_certificate(&certificate).unwrap().to_string()
}

fn creations(api: &FakeApi, client: &str) -> usize {
    api.count(|it| {
        (it.method.as_str(), it.kind, it.client.as_str()) == ("POST", "Secret", client)
            && it.code == 200
    })
}

fn programmed(api: &FakeApi, gateway: (&str, &str)) -> Value {
    let status = api.get(gateway)["status"].take();
    condition(&status["conditions"], "Programmed").clone()
}

#[tokio::test]
async fn replicas_share_one_authority() {
    let api = FakeApi::start().await;
    let one = Replica::start(&api, "one");
    let two = Replica::start(&api, "two");
    ready(&one).await;
    ready(&two).await;
    assert_eq!(creations(&api, "one") + creations(&api, "two"), 1);

    let made = api.get(AUTHORITY)["data"].clone();
    let three = Replica::start(&api, "three");
    ready(&three).await;
    assert_eq!(api.get(AUTHORITY)["data"], made);

    // What is in use stays in use: its certificates are everywhere.
    api.delete(AUTHORITY);
    api.until("the Secret is back", |api| !api.get(AUTHORITY).is_null())
        .await;
    assert_eq!(api.get(AUTHORITY)["data"], made);
}

#[tokio::test]
async fn every_gateway_gets_a_certificate_from_the_leader() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let _one = Replica::start(&api, "one");
    api.until("there is an identity", |api| {
        identity(&api.get(IDENTITY)).is_some()
    })
    .await;
    let secret = api.get(IDENTITY);
    let owner = &secret["metadata"]["ownerReferences"][0];
    assert_eq!(
        (&owner["kind"], &owner["name"], &owner["uid"]),
        (
            &json!("Gateway"),
            &json!("edge"),
            &api.get(EDGE)["metadata"]["uid"]
        )
    );
    let first = identity(&secret).unwrap();
    assert_eq!(
        gateway_of(&first),
        "spiffe://cluster.local/ns/shop/gateway/edge"
    );

    let two = Replica::start(&api, "two");
    ready(&two).await;
    api.delete(IDENTITY);
    api.until("it is made again", |api| {
        identity(&api.get(IDENTITY)).is_some_and(|it| it != first)
    })
    .await;
    let second = identity(&api.get(IDENTITY)).unwrap();
    api.patch(IDENTITY, &json!({ "data": { "tls.key": "bm9uZQ==" } }));
    api.until("what is broken is replaced", |api| {
        identity(&api.get(IDENTITY)).is_some_and(|it| it != second)
    })
    .await;
    assert_eq!(creations(&api, "two"), 0);
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let theirs = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
        "metadata": { "name": "edge-portcullis-identity", "namespace": "shop" },
        "data": { "password": "c2VjcmV0" },
    });
    api.create(&theirs);
    let replica = Replica::start(&api, "one");
    api.until("it was tried twice", |api| {
        api.count(|it| it.kind == "Secret" && it.method == "POST" && it.code == 409) >= 2
    })
    .await;
    assert_eq!(api.get(IDENTITY)["data"], theirs["data"]);
    api.until("the Gateway tells", |api| {
        let it = programmed(api, EDGE);
        let why = "Secret shop/edge-portcullis-identity exists and was not made by Portcullis";
        it["reason"] == "NoResources" && it["message"].to_string().contains(why)
    })
    .await;
    let metrics = String::from_utf8(replica.metrics.encode().unwrap()).unwrap();
    assert!(metrics.contains("portcullis_controller_identity_writes_total{result=\"written\"} 0"));

    api.delete(IDENTITY);
    api.until("there is room for it", |api| {
        identity(&api.get(IDENTITY)).is_some()
    })
    .await;
    api.until("it is not told any more", |api| {
        programmed(api, EDGE)["reason"] == "Pending"
    })
    .await;
}

/// What is made for both Gateways would have the name `edge-a-portcullis`.
const SAME_NAME: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: a-portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: twins}
spec:
  gatewayClassName: a-portcullis
  listeners: [{name: http, port: 80, protocol: HTTP}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge-a, namespace: twins}
spec:
  gatewayClassName: portcullis
  listeners: [{name: http, port: 80, protocol: HTTP}]";

#[tokio::test]
async fn gateways_whose_infrastructure_has_the_same_name_do_not_take_it_from_each_other() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(SAME_NAME);
    let replica = Replica::start(&api, "one");
    let shared = ("Secret", "twins/edge-a-portcullis-identity");
    api.until("one of the two was refused several times", |_| {
        let metrics = String::from_utf8(replica.metrics.encode().unwrap()).unwrap();
        let mut lines = metrics.lines();
        let failed = lines.find_map(|line| {
            let name = "portcullis_controller_identity_writes_total{result=\"failed\"} ";
            line.strip_prefix(name)?.parse::<f64>().ok()
        });
        failed.is_some_and(|failed| failed >= 3.0)
    })
    .await;
    let written = api.count(|it| it.kind == "Secret" && it.method == "PUT" && it.code == 200);
    assert_eq!(written, 0);

    let holder = || gateway_of(&identity(&api.get(shared)).unwrap());
    assert!(holder().ends_with("/edge"), "{}", holder());
    // Nobody makes infrastructure here, and yet somebody says so.
    let other = ("Gateway", "twins/edge-a");
    api.until("the other one tells", |api| {
        let it = programmed(api, other);
        let why = "Gateway twins/edge is older";
        it["reason"] == "NoResources" && it["message"].to_string().contains(why)
    })
    .await;

    api.delete(("Gateway", "twins/edge"));
    api.until("the other one gets it", |_| holder().ends_with("/edge-a"))
        .await;
}
