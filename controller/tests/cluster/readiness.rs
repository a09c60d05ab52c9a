//! `Programmed` of a Gateway whose proxies the controller makes: as long as one of them serves.

use serde_json::json;

use crate::{
    fake_api::FakeApi,
    provision::{
        ACCOUNT, AUTOSCALER, BUDGET, DAEMON_SET, DEPLOYMENT, SERVICE, is_made, made, made_by,
        programmed,
    },
    support::{EDGE, Replica, condition},
};

#[tokio::test]
async fn a_gateway_is_programmed_while_one_of_its_proxies_is_ready() {
    let (api, mut replica) = made().await;
    let is_programmed = |api: &FakeApi, status: &str| {
        let listener = &api.get(EDGE)["status"]["listeners"][0]["conditions"];
        let listener = condition(listener, "Programmed").clone();
        programmed(api)["status"] == status && listener["status"] == status
    };
    let say = |replicas: u32, ready: u32| {
        api.patch(DEPLOYMENT, &json!({ "spec": { "replicas": replicas } }));
        let status = json!({ "observedGeneration": 1, "readyReplicas": ready });
        api.patch(DEPLOYMENT, &json!({ "status": status }));
    };
    let pending = |api: &FakeApi, message: &str| {
        let programmed = programmed(api);
        programmed["reason"] == "Pending" && programmed["message"] == message
    };
    let none = "0 of 2 proxies are ready; kubectl -n shop describe pod -l gateway.networking.k8s.io/gateway-name=edge says why";
    say(2, 0);
    api.until("none is ready", |api| pending(api, none)).await;
    // What proxies acknowledge is of no use before anybody can connect.
    let address = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } });
    api.patch(SERVICE, &json!({ "status": address }));
    replica
        .tables("the table", |tables| tables.len() == 1)
        .await;
    replica.acknowledge();
    api.until("it has an address", |api| {
        !api.get(EDGE)["status"]["addresses"][0].is_null()
    })
    .await;
    assert!(is_programmed(&api, "False") && pending(&api, none));
    say(2, 1);
    api.until("one is ready", |api| is_programmed(api, "True"))
        .await;
    let before = api.get(EDGE);
    say(2, 2);
    say(0, 0);
    let nobody = "Deployment shop/edge-portcullis asks for no proxy: kubectl -n shop scale deployment edge-portcullis --replicas=1 \
                  starts one";
    api.until("all are gone", |api| {
        is_programmed(api, "False") && pending(api, nobody)
    })
    .await;
    assert_eq!(
        before["status"]["addresses"],
        api.get(EDGE)["status"]["addresses"]
    );
}

#[tokio::test]
async fn a_gateway_whose_proxies_cannot_be_made_again_is_programmed_until_the_last_one_is_gone() {
    let (api, mut replica) = made_by(Replica::impatient).await;
    program(&api, &mut replica).await;
    let refusal = "Deployment shop/edge-portcullis cannot be applied: Refused";
    let is_refused = |api: &FakeApi, status: &str, reason: &str| {
        let programmed = programmed(api);
        let message = programmed["message"].as_str().unwrap_or_default();
        (&programmed["status"], &programmed["reason"]) == (&json!(status), &json!(reason))
            && message.contains(refusal)
    };
    api.refuse("Deployment", u32::MAX, 403);
    api.delete(DEPLOYMENT);
    api.until("the proxies that are left serve", |api| {
        is_refused(api, "True", "Programmed")
    })
    .await;
    replica.desert();
    api.until("none is left", |api| {
        is_refused(api, "False", "NoResources")
    })
    .await;
    let listener = &api.get(EDGE)["status"]["listeners"][0]["conditions"];
    assert_ne!(condition(listener, "Programmed")["status"], "True");
    api.refuse("Deployment", 0, 403);
    api.until("it is made again", is_made).await;
    ready(&api);
    replica.acknowledge();
    api.until("it is programmed again", |api| {
        let programmed = programmed(api);
        programmed["status"] == "True" && !programmed["message"].to_string().contains(refusal)
    })
    .await;
}

#[tokio::test]
async fn a_new_leader_knows_which_gateways_have_no_ready_proxy() {
    let (api, one) = made().await;
    let status = json!({ "observedGeneration": 1 });
    api.patch(DEPLOYMENT, &json!({ "status": status }));
    let is_told = |api: &FakeApi, port: u16| {
        let gateway = api.get(EDGE);
        let told = programmed(api);
        told["message"].to_string().contains("0 of 1 proxies")
            && told["observedGeneration"] == gateway["metadata"]["generation"]
            && api.get(SERVICE)["spec"]["ports"][0]["port"] == port
    };
    api.until("none is ready", |api| is_told(api, 80)).await;
    let mut two = Replica::impatient(&api, "two");
    let kinds = [ACCOUNT, SERVICE, DEPLOYMENT, DAEMON_SET, BUDGET, AUTOSCALER];
    api.until("two watches", |api| {
        kinds.iter().all(|(kind, _)| {
            api.count(|it| it.client == "two" && it.kind == *kind && it.from.is_some()) > 0
        })
    })
    .await;
    // By then it has planned, too: that begins with the first table.
    for port in [81, 82, 83] {
        let listener = json!({ "name": "http", "port": port, "protocol": "HTTP" });
        api.patch(EDGE, &json!({ "spec": { "listeners": [listener] } }));
        two.tables("two follows", |tables| {
            let mut listeners = tables.values().flat_map(|table| table.listeners.values());
            listeners.any(|listener| listener.port == port)
        })
        .await;
        api.until("one writes", |api| is_told(api, port)).await;
    }
    one.controller.shutdown().await;
    let written = written_by_two(&api).await;
    assert_eq!(written, 0, "{}", programmed(&api));
}

#[tokio::test]
async fn a_new_leader_lets_a_gateway_stand_whose_proxies_have_not_spoken_yet() {
    let (api, mut one) = made().await;
    program(&api, &mut one).await;
    let before = programmed(&api);
    one.controller.shutdown().await;
    let _two = Replica::provisioning(&api, "two");
    written_by_two(&api).await;
    assert_eq!(programmed(&api), before);
}

/// A proxy is ready.
fn ready(api: &FakeApi) {
    let status = json!({ "observedGeneration": 1, "readyReplicas": 1 });
    api.patch(DEPLOYMENT, &json!({ "status": status }));
}

/// The proxies serve, and the load balancer has an address.
async fn program(api: &FakeApi, replica: &mut Replica) {
    let address = json!({ "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } });
    api.patch(SERVICE, &json!({ "status": address }));
    ready(api);
    replica
        .tables("the table", |tables| tables.len() == 1)
        .await;
    replica.acknowledge();
    api.until("it is programmed", |api| {
        programmed(api)["status"] == "True"
    })
    .await;
}

/// How often the replica `two`, which is to lead now, has written the Gateway's status by the time it wrote a later one.
async fn written_by_two(api: &FakeApi) -> usize {
    // It asks nothing of the Gateway, and is written after it.
    api.create(&json!({
        "kind": "HTTPRoute", "metadata": { "name": "zone", "namespace": "shop" },
        "spec": { "parentRefs": [{ "name": "edge", "sectionName": "missing" }], "rules": [] },
    }));
    let by_two = |api: &FakeApi, kind: &str| {
        api.count(|it| it.status && it.client == "two" && it.kind == kind)
    };
    api.until("two writes", |api| by_two(api, "HTTPRoute") > 0)
        .await;
    by_two(api, "Gateway")
}
