//! What is made for Gateways: applied, repaired, deleted, and never taken from anybody.

use portcullis_controller::provision::infrastructure_name;
use serde_json::{Value, json};

use crate::{
    fake_api::{FakeApi, Logged},
    support::{EDGE, Replica, SHOP, condition},
};

const NAME: &str = "shop/edge-portcullis";
pub(crate) const ACCOUNT: (&str, &str) = ("ServiceAccount", NAME);
pub(crate) const SERVICE: (&str, &str) = ("Service", NAME);
pub(crate) const DEPLOYMENT: (&str, &str) = ("Deployment", NAME);
pub(crate) const DAEMON_SET: (&str, &str) = ("DaemonSet", NAME);
pub(crate) const BUDGET: (&str, &str) = ("PodDisruptionBudget", NAME);
pub(crate) const AUTOSCALER: (&str, &str) = ("HorizontalPodAutoscaler", NAME);

fn exists(api: &FakeApi, object: (&str, &str)) -> bool {
    !api.get(object).is_null()
}

pub(crate) fn is_made(api: &FakeApi) -> bool {
    [ACCOUNT, SERVICE, DEPLOYMENT]
        .into_iter()
        .all(|object| exists(api, object))
}

/// Requests that changed what is made for Gateways, or tried to.
fn writes(api: &FakeApi) -> usize {
    writes_of(api, |_| true)
}

/// Those of some clients.
fn writes_of(api: &FakeApi, of: impl Fn(&Logged) -> bool) -> usize {
    api.count(|it| {
        let kinds = [ACCOUNT, SERVICE, DEPLOYMENT, DAEMON_SET, BUDGET, AUTOSCALER];
        kinds.iter().any(|(kind, _)| *kind == it.kind) && it.method != "GET" && of(it)
    })
}

/// A GatewayParameters with this spec, which the Gateway refers to.
fn ask(api: &FakeApi, spec: &Value) {
    if exists(api, ("GatewayParameters", "shop/own")) {
        api.patch(("GatewayParameters", "shop/own"), &json!({ "spec": spec }));
        return;
    }
    api.create(&json!({
        "kind": "GatewayParameters", "metadata": { "name": "own", "namespace": "shop" }, "spec": spec,
    }));
    let reference =
        json!({ "group": "portcullis.dev", "kind": "GatewayParameters", "name": "own" });
    api.patch(
        EDGE,
        &json!({ "spec": { "infrastructure": { "parametersRef": reference } } }),
    );
}

pub(crate) fn programmed(api: &FakeApi) -> Value {
    let gateway = api.get(EDGE);
    condition(&gateway["status"]["conditions"], "Programmed").clone()
}

/// A fresh cluster with a Gateway whose infrastructure is made.
pub(crate) async fn made() -> (FakeApi, Replica) {
    made_by(Replica::provisioning).await
}

/// The same, by a controller that is started so.
pub(crate) async fn made_by(start: fn(&FakeApi, &str) -> Replica) -> (FakeApi, Replica) {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let replica = start(&api, "one");
    api.until("it is made", is_made).await;
    (api, replica)
}

#[tokio::test]
async fn every_gateway_gets_proxies_and_a_service() {
    let (api, replica) = made().await;
    let uid = api.get(EDGE)["metadata"]["uid"].clone();
    for object in [ACCOUNT, SERVICE, DEPLOYMENT] {
        let metadata = &api.get(object)["metadata"];
        let owner = &metadata["ownerReferences"][0];
        assert_eq!((&owner["uid"], &owner["controller"]), (&uid, &json!(true)));
        assert_eq!(
            metadata["labels"]["gateway.networking.k8s.io/gateway-name"],
            "edge"
        );
    }
    assert_eq!(api.get(SERVICE)["spec"]["ports"][0]["port"], 80);
    assert_eq!(writes(&api), 3, "each one once");
    // A new port is a new port of the Service, and restarts no proxy.
    let before = api.get(DEPLOYMENT);
    let listeners = json!([
        { "name": "http", "port": 80, "protocol": "HTTP" },
        { "name": "other", "port": 8080, "protocol": "HTTP" },
    ]);
    api.patch(EDGE, &json!({ "spec": { "listeners": listeners } }));
    let ports = |api: &FakeApi| api.get(SERVICE)["spec"]["ports"].as_array().map(Vec::len);
    api.until("the port is there", |api| ports(api) == Some(2))
        .await;
    api.patch(EDGE, &json!({ "spec": { "listeners": [listeners[1]] } }));
    api.until("a port is gone", |api| ports(api) == Some(1))
        .await;
    assert_eq!(api.get(DEPLOYMENT), before);
    let metrics = String::from_utf8(replica.metrics.encode().unwrap()).unwrap();
    let applied = "infrastructure_writes_total{kind=\"ServiceAccount\",result=\"applied\"} 1";
    assert!(metrics.contains(applied), "{metrics}");
}

#[tokio::test]
async fn what_somebody_changes_or_deletes_is_put_back() {
    let (api, _replica) = made().await;
    api.patch(
        SERVICE,
        &json!({ "spec": { "type": "ClusterIP", "selector": { "app": "mine" } } }),
    );
    api.until("the Service is repaired", |api| {
        let spec = &api.get(SERVICE)["spec"];
        spec["type"] == "LoadBalancer"
            && spec["selector"]["gateway.networking.k8s.io/gateway-name"] == "edge"
    })
    .await;
    api.delete(DEPLOYMENT);
    api.until("the Deployment is back", |api| exists(api, DEPLOYMENT))
        .await;
    // Without the label we hear nothing of it any more, and it is ours all the same.
    let label = "app.kubernetes.io/managed-by";
    api.patch(
        DEPLOYMENT,
        &json!({ "metadata": { "labels": { label: "somebody" } } }),
    );
    api.until("the label is back", |api| {
        api.get(DEPLOYMENT)["metadata"]["labels"][label] == "portcullis"
    })
    .await;
    api.patch(ACCOUNT, &json!({ "metadata": { "annotations": null } }));
    api.until("the annotation is back", |api| {
        api.get(ACCOUNT)["metadata"]["annotations"].is_object()
    })
    .await;
}

#[tokio::test]
async fn what_others_say_stays() {
    let (api, _replica) = made().await;
    api.patch(DEPLOYMENT, &json!({ "spec": { "replicas": 7 } }));
    let port = api.get(SERVICE)["spec"]["ports"][0].clone();
    let mut with_node_port = port.clone();
    with_node_port["nodePort"] = 30080.into();
    api.patch(
        SERVICE,
        &json!({
            "metadata": { "annotations": { "example.com/theirs": "yes" } },
            "spec": { "ports": [with_node_port], "clusterIP": "10.96.0.7" },
        }),
    );
    let before = writes(&api);
    // What we have to say next does not touch it.
    api.patch(
        EDGE,
        &json!({ "spec": { "infrastructure": { "labels": { "team": "edge" } } } }),
    );
    api.until("the label is there", |api| {
        [ACCOUNT, SERVICE, DEPLOYMENT]
            .into_iter()
            .all(|it| api.get(it)["metadata"]["labels"]["team"] == "edge")
    })
    .await;
    let twice = "for each object one, and before that one of what it was created with";
    assert_eq!(writes(&api) - before, 6, "{twice}");
    assert_eq!(api.get(DEPLOYMENT)["spec"]["replicas"], 7);
    let service = api.get(SERVICE);
    assert_eq!(service["spec"]["clusterIP"], "10.96.0.7");
    assert_eq!(service["spec"]["ports"][0]["nodePort"], 30080);
    assert_eq!(
        service["metadata"]["annotations"]["example.com/theirs"],
        "yes"
    );
    // And what we do not say any more goes.
    let before = writes(&api);
    api.patch(EDGE, &json!({ "spec": { "infrastructure": null } }));
    api.until("the label is gone", |api| {
        [ACCOUNT, SERVICE, DEPLOYMENT]
            .into_iter()
            .all(|it| api.get(it)["metadata"]["labels"]["team"].is_null())
    })
    .await;
    assert_eq!(writes(&api) - before, 3, "one for each object");
    assert_eq!(api.get(SERVICE)["spec"]["clusterIP"], "10.96.0.7");
}

#[tokio::test]
async fn what_was_said_at_the_creation_goes_too() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let labels = json!({ "team": "edge" });
    api.patch(
        EDGE,
        &json!({ "spec": { "infrastructure": { "labels": labels } } }),
    );
    let _replica = Replica::provisioning(&api, "one");
    let all_have = |api: &FakeApi, team: &Value| {
        let mut all = [ACCOUNT, SERVICE, DEPLOYMENT].into_iter();
        all.all(|it| is_made(api) && api.get(it)["metadata"]["labels"]["team"] == *team)
    };
    api.until("it is made", |api| all_have(api, &labels["team"]))
        .await;
    api.patch(EDGE, &json!({ "spec": { "infrastructure": null } }));
    api.until("the label is gone", |api| all_have(api, &Value::Null))
        .await;
}

#[tokio::test]
async fn what_is_not_asked_for_any_more_is_deleted() {
    let (api, _replica) = made().await;
    ask(
        &api,
        &json!({
            "workload": { "resources": { "requests": { "cpu": "1" } } },
            "podDisruptionBudget": {}, "horizontalPodAutoscaler": { "maxReplicas": 3 },
        }),
    );
    api.until("they are made", |api| {
        exists(api, BUDGET) && exists(api, AUTOSCALER)
    })
    .await;
    ask(
        &api,
        &json!({ "podDisruptionBudget": null, "horizontalPodAutoscaler": null }),
    );
    api.until("they are deleted", |api| {
        !exists(api, BUDGET) && !exists(api, AUTOSCALER)
    })
    .await;
    assert!(is_made(&api));
}

#[tokio::test]
async fn the_workload_of_another_kind_goes_once_the_new_one_takes_traffic() {
    let (api, _replica) = made().await;
    ask(&api, &json!({ "workload": { "kind": "DaemonSet" } }));
    api.until("the DaemonSet is made", |api| exists(api, DAEMON_SET))
        .await;
    api.patch(
        DAEMON_SET,
        &json!({ "status": { "numberAvailable": 0, "observedGeneration": 1 } }),
    );
    ask(&api, &json!({ "podDisruptionBudget": {} }));
    api.until("something else is made", |api| exists(api, BUDGET))
        .await;
    assert!(exists(&api, DEPLOYMENT), "nobody would take traffic");
    api.patch(DAEMON_SET, &json!({ "status": { "numberAvailable": 1 } }));
    api.until("the Deployment is deleted", |api| !exists(api, DEPLOYMENT))
        .await;
    assert!(exists(&api, DAEMON_SET) && exists(&api, SERVICE));
}

#[tokio::test]
async fn a_mistake_takes_nothing_away_and_another_class_everything() {
    let (api, _replica) = made().await;
    ask(
        &api,
        &json!({ "service": { "nodePorts": [{ "port": 80, "nodePort": 0 }] } }),
    );
    api.until("it is not accepted", |api| {
        let gateway = api.get(EDGE);
        condition(&gateway["status"]["conditions"], "Accepted")["status"] == "False"
    })
    .await;
    api.patch(EDGE, &json!({ "spec": { "gatewayClassName": "missing" } }));
    api.create(&json!({
        "kind": "GatewayClass", "metadata": { "name": "theirs" },
        "spec": { "controllerName": "example.com/other" },
    }));
    api.apply(
        &SHOP
            .split("\n---\n")
            .nth(2)
            .unwrap()
            .replace("name: edge", "name: second"),
    );
    api.until("another Gateway is served", |api| {
        exists(api, ("Deployment", "shop/second-portcullis"))
    })
    .await;
    assert!(is_made(&api));
    api.patch(EDGE, &json!({ "spec": { "gatewayClassName": "theirs" } }));
    api.until("it is deleted", |api| {
        [ACCOUNT, SERVICE, DEPLOYMENT]
            .into_iter()
            .all(|object| !exists(api, object))
    })
    .await;
    assert!(exists(&api, ("Service", "shop/second-portcullis")));
}

#[tokio::test]
async fn what_was_not_made_for_the_gateway_is_left_alone_and_told() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let service = json!({
        "kind": "Service", "metadata": { "name": "edge-portcullis", "namespace": "shop" },
        "spec": { "ports": [{ "port": 5432 }] },
    });
    api.create(&service);
    // One that says it is ours, and is of a Gateway that was deleted.
    let mut labelled = service.clone();
    labelled["kind"] = "Deployment".into();
    labelled["metadata"]["labels"] = json!({
        "app.kubernetes.io/managed-by": "portcullis",
        "gateway.networking.k8s.io/gateway-class-name": "portcullis",
    });
    labelled["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway", "name": "edge", "uid": "before",
        "controller": true,
    }]);
    api.create(&labelled);
    let before = [SERVICE, DEPLOYMENT].map(|it| api.get(it));
    let _replica = Replica::provisioning(&api, "one");
    api.until("it is told", |api| {
        let message = programmed(api)["message"].to_string();
        ["Service", "Deployment"].iter().all(|kind| {
            message.contains(&format!(
                "{kind} {NAME} exists and was not made for this Gateway"
            ))
        })
    })
    .await;
    assert_eq!(programmed(&api)["reason"], "NoResources");
    assert!(exists(&api, ACCOUNT));
    assert_eq!([SERVICE, DEPLOYMENT].map(|it| api.get(it)), before);
    api.delete(SERVICE);
    api.delete(DEPLOYMENT);
    api.until("it is made", is_made).await;
    api.until("it is not told any more", |api| {
        programmed(api)["reason"] == "Pending"
    })
    .await;
}

#[tokio::test]
async fn who_makes_an_object_at_the_same_time_keeps_it() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let service = json!({
        "kind": "Service", "metadata": { "name": "edge-portcullis", "namespace": "shop" },
        "spec": { "ports": [{ "port": 5432 }], "selector": { "app": "database" } },
    });
    // It says nothing that we would contradict.
    let account = json!({
        "kind": "ServiceAccount", "metadata": { "name": "edge-portcullis", "namespace": "shop" },
    });
    api.sneak_in(&service);
    api.sneak_in(&account);
    let _replica = Replica::provisioning(&api, "one");
    api.until("it is told", |api| {
        let message = programmed(api)["message"].to_string();
        ["Service", "ServiceAccount"].iter().all(|kind| {
            message.contains(&format!(
                "{kind} {NAME} exists and was not made for this Gateway"
            ))
        })
    })
    .await;
    assert_eq!(api.get(SERVICE)["spec"], service["spec"]);
    for object in [SERVICE, ACCOUNT] {
        let metadata = &api.get(object)["metadata"];
        assert!(metadata["ownerReferences"].is_null() && metadata["labels"].is_null());
    }
    api.delete(ACCOUNT);
    api.until("there is room for ours", |api| {
        api.get(ACCOUNT)["metadata"]["ownerReferences"].is_array()
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_told_and_tried_again() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.refuse("Deployment", u32::MAX, 403);
    let _replica = Replica::provisioning(&api, "one");
    api.until("it watches in vain", |api| {
        api.count(|it| it.kind == "Deployment" && it.code == 403) > 0
    })
    .await;
    api.refuse("Deployment", 0, 403);
    api.until("it is made", is_made).await;
    api.refuse("Deployment", u32::MAX, 403);
    ask(
        &api,
        &json!({ "workload": { "image": "registry.example/other" } }),
    );
    api.until("it is told", |api| {
        let programmed = programmed(api);
        let message = programmed["message"].to_string();
        programmed["status"] == "False"
            && message.contains("Deployment shop/edge-portcullis cannot be applied: Refused")
    })
    .await;
    api.refuse("Deployment", 0, 403);
    api.until("it is applied", |api| {
        let pod = &api.get(DEPLOYMENT)["spec"]["template"]["spec"];
        pod["containers"][0]["image"] == "registry.example/other"
    })
    .await;
}

#[tokio::test]
async fn only_the_leader_makes_anything() {
    let (api, one) = made().await;
    let mut two = Replica::provisioning(&api, "two");
    two.tables("two translates", |tables| tables.len() == 1)
        .await;
    api.until("two watches", |api| {
        api.count(|it| it.client == "two" && it.kind == "DaemonSet" && it.from.is_some()) > 0
    })
    .await;
    api.delete(SERVICE);
    api.until("it is back", is_made).await;
    let by = |api: &FakeApi, client: &str| writes_of(api, |it| it.client == client);
    assert_eq!(by(&api, "two"), 0);
    // Whoever takes over finds everything as it should be, and repairs what has happened meanwhile.
    one.controller.shutdown().await;
    let before = by(&api, "one");
    api.delete(ACCOUNT);
    api.until("two makes it", is_made).await;
    assert_eq!((by(&api, "one"), by(&api, "two")), (before, 1));
}

#[tokio::test]
async fn the_longest_name_is_served() {
    let api = FakeApi::start().await;
    let longest = "a".repeat(253);
    api.apply(&SHOP.replace("name: edge", &format!("name: {longest}")));
    let _replica = Replica::provisioning(&api, "one");
    let name = format!("shop/{}", infrastructure_name(&longest, "portcullis"));
    api.until("it is made", |api| {
        ["ServiceAccount", "Service", "Deployment"]
            .iter()
            .all(|kind| exists(api, (kind, &name)))
    })
    .await;
}
