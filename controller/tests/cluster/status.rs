//! Statuses at the API server: what is written, and what is left alone.

use serde_json::{Value, json};

use crate::{
    fake_api::FakeApi,
    support::{CLASS, EDGE, Replica, SHOP, WEB, condition, give_address},
};

/// The conditions of the route's first parent of ours.
fn of_route(api: &FakeApi, key: &str) -> Value {
    let route = api.get(("HTTPRoute", key));
    let parents = route["status"]["parents"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let own = parents
        .into_iter()
        .find(|it| it["controllerName"] == "portcullis.dev/gateway-controller");
    own.unwrap_or_default()["conditions"].take()
}

fn is(conditions: &Value, kind: &str, status: &str, reason: &str) -> bool {
    let condition = condition(conditions, kind);
    condition["status"] == status && condition["reason"] == reason
}

fn accepted(api: &FakeApi) -> bool {
    is(
        &api.get(EDGE)["status"]["conditions"],
        "Accepted",
        "True",
        "Accepted",
    ) && is(&of_route(api, "shop/web"), "Accepted", "True", "Accepted")
}

/// Writes of the statuses of one object.
fn writes(api: &FakeApi, kind: &str, name: &str) -> usize {
    api.count(|it| it.status && it.kind == kind && it.name == name && it.code == 200)
}

#[tokio::test]
async fn statuses_say_what_the_translation_does() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let mut replica = Replica::start(&api, "one");
    api.until("it is accepted", accepted).await;
    let class = api.get(CLASS);
    let conditions = &class["status"]["conditions"];
    assert!(is(conditions, "Accepted", "True", "Accepted"));
    assert!(is(
        conditions,
        "SupportedVersion",
        "True",
        "SupportedVersion"
    ));
    let features = class["status"]["supportedFeatures"].as_array().unwrap();
    assert!(features.contains(&json!({ "name": "HTTPRoute" })));

    let gateway = api.get(EDGE);
    let conditions = &gateway["status"]["conditions"];
    assert!(
        is(conditions, "Programmed", "Unknown", "Pending"),
        "nobody serves it yet"
    );
    let pending = condition(conditions, "Programmed");
    assert_eq!(
        pending["lastTransitionTime"], "1970-01-01T00:00:00Z",
        "no flip"
    );
    assert_ne!(
        condition(conditions, "Accepted")["lastTransitionTime"],
        "1970-01-01T00:00:00Z"
    );
    let listener = &gateway["status"]["listeners"][0];
    assert_eq!(
        (&listener["name"], &listener["attachedRoutes"]),
        (&json!("http"), &json!(1))
    );

    replica.tables("tables", |tables| tables.len() == 1).await;
    give_address(&api);
    replica.acknowledge();
    api.until("it is programmed", |api| {
        is(
            &api.get(EDGE)["status"]["conditions"],
            "Programmed",
            "True",
            "Programmed",
        )
    })
    .await;
    let gateway = api.get(EDGE);
    assert_eq!(
        gateway["status"]["addresses"],
        json!([{ "type": "IPAddress", "value": "192.0.2.1" }])
    );
}

/// The Gateway's `Programmed`, and that of its listener.
fn programmed(api: &FakeApi) -> [Value; 2] {
    let status = api.get(EDGE)["status"].take();
    [&status, &status["listeners"][0]].map(|it| condition(&it["conditions"], "Programmed").clone())
}

/// Programs `shop/edge`, and stops the controller that has done it.
async fn program_and_stop(api: &FakeApi) -> [Value; 2] {
    api.apply(SHOP);
    give_address(api);
    let mut replica = Replica::start(api, "one");
    replica.tables("tables", |tables| tables.len() == 1).await;
    replica.acknowledge();
    api.until("it is programmed", |api| {
        programmed(api).iter().all(|it| it["status"] == "True")
    })
    .await;
    replica.controller.shutdown().await;
    programmed(api)
}

/// A restart of the controller is none of the proxies.
#[tokio::test]
async fn what_is_programmed_stays_so_until_its_data_planes_have_spoken() {
    let api = FakeApi::start().await;
    let before = program_and_stop(&api).await;
    let mut replica = Replica::start(&api, "two");
    replica.tables("tables", |tables| tables.len() == 1).await;
    // What the status says besides is written.
    api.delete(("HTTPRoute", "shop/web"));
    api.until("the listener has no route", |api| {
        api.get(EDGE)["status"]["listeners"][0]["attachedRoutes"] == 0
    })
    .await;
    assert_eq!(programmed(&api), before);
    assert_eq!(
        api.get(EDGE)["status"]["addresses"],
        json!([{ "type": "IPAddress", "value": "192.0.2.1" }])
    );

    // Of a newer spec it was never said.
    let listeners = json!([{ "name": "http", "port": 81, "protocol": "HTTP" }]);
    api.patch(EDGE, &json!({ "spec": { "listeners": listeners } }));
    api.until("it is pending", |api| {
        programmed(api).iter().all(|it| it["status"] == "Unknown")
    })
    .await;
    replica
        .tables("the new one", |tables| {
            let mut listeners = tables.values().flat_map(|table| table.listeners.values());
            listeners.all(|listener| listener.port == 81)
        })
        .await;
    replica.acknowledge();
    api.until("it is programmed", |api| {
        programmed(api).iter().all(|it| it["status"] == "True")
    })
    .await;
}

#[tokio::test]
async fn what_was_programmed_is_unknown_if_its_data_planes_stay_silent() {
    let api = FakeApi::start().await;
    program_and_stop(&api).await;
    let _replica = Replica::with_patience(&api, "two", std::time::Duration::from_millis(100));
    api.until("nothing is known any more", |api| {
        programmed(api).iter().all(|it| it["status"] == "Unknown")
    })
    .await;
}

#[tokio::test]
async fn listener_sets_say_whether_their_gateway_takes_them() {
    const SET: (&str, &str) = ("ListenerSet", "shop/extra");
    let api = FakeApi::start().await;
    api.apply(SHOP);
    api.apply(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: extra, namespace: shop}
spec:
  parentRef: {name: edge}
  listeners: [{name: http, port: 81, protocol: HTTP}]
",
    );
    let mut replica = Replica::start(&api, "one");
    let conditions = |api: &FakeApi| api.get(SET)["status"]["conditions"].clone();
    api.until("it is not allowed", |api| {
        is(&conditions(api), "Accepted", "False", "NotAllowed")
    })
    .await;
    assert_eq!(api.get(SET)["status"]["listeners"], Value::Null);
    assert_eq!(
        api.get(EDGE)["status"]["attachedListenerSets"],
        Value::Null,
        "nothing to write"
    );

    let allow =
        |from: &str| json!({ "spec": { "allowedListeners": { "namespaces": { "from": from } } } });
    api.patch(EDGE, &allow("Same"));
    replica
        .tables("both listeners", |tables| {
            tables.values().any(|table| table.listeners.len() == 2)
        })
        .await;
    give_address(&api);
    replica.acknowledge();
    api.until("it is programmed", |api| {
        is(&conditions(api), "Programmed", "True", "Programmed")
    })
    .await;
    assert_eq!(
        api.get(SET)["status"]["listeners"][0]["supportedKinds"][0]["kind"],
        "HTTPRoute"
    );
    let attached =
        |api: &FakeApi, number: u64| api.get(EDGE)["status"]["attachedListenerSets"] == number;
    api.until("it is counted", |api| attached(api, 1)).await;

    api.patch(EDGE, &allow("None"));
    api.until("it is gone from the Gateway", |api| {
        attached(api, 0) && is(&conditions(api), "Programmed", "False", "NotAllowed")
    })
    .await;
    assert_eq!(api.get(SET)["status"]["listeners"], json!([]));
}

#[tokio::test]
async fn what_others_wrote_stays_as_it_is() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let foreign = json!({
        "controllerName": "example.com/other", "parentRef": { "name": "edge" },
        "conditions": [{ "type": "Accepted", "status": "False", "reason": "Whatever", "message": "",
            "lastTransitionTime": "2020-01-01T00:00:00Z", "observedGeneration": 99 }],
        "unknown": { "b": [1, 2.5], "a": null },
    });
    let stranger = json!({ "type": "example.com/Audited", "status": "True", "reason": "Yes",
        "message": "by hand", "lastTransitionTime": "2020-01-01T00:00:00Z" });
    api.patch(WEB, &json!({ "status": { "parents": [foreign] } }));
    let waiting = api.get(EDGE)["status"]["conditions"]
        .as_array()
        .unwrap()
        .clone();
    let conditions: Vec<_> = [stranger.clone()].into_iter().chain(waiting).collect();
    api.patch(
        EDGE,
        &json!({ "status": { "conditions": conditions, "futureField": 7 } }),
    );
    let _replica = Replica::start(&api, "one");
    api.until("it is accepted", accepted).await;
    let parents = api.get(WEB)["status"]["parents"].clone();
    assert_eq!(parents[0], foreign);
    assert_eq!(parents.as_array().unwrap().len(), 2);
    let gateway = api.get(EDGE);
    assert_eq!(gateway["status"]["conditions"][0], stranger);
    assert_eq!(gateway["status"]["futureField"], 7);

    // Also while our own entry comes, changes and goes.
    api.delete(("Service", "shop/web"));
    api.until("the backend is missed", |api| {
        is(
            &of_route(api, "shop/web"),
            "ResolvedRefs",
            "False",
            "BackendNotFound",
        )
    })
    .await;
    api.patch(
        WEB,
        &json!({ "spec": { "parentRefs": [{ "name": "nobody's" }] } }),
    );
    api.until("our entry is gone", |api| {
        api.get(WEB)["status"]["parents"] == json!([foreign])
    })
    .await;
}

#[tokio::test]
async fn nothing_is_written_without_need() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let mut replica = Replica::start(&api, "one");
    api.until("it is accepted", accepted).await;
    let count = |api: &FakeApi| {
        ["GatewayClass/portcullis", "Gateway/edge", "HTTPRoute/web"].map(|it| {
            let (kind, name) = it.split_once('/').unwrap();
            writes(api, kind, name)
        })
    };
    let before = count(&api);
    // Things happen that change no status of these, and one that changes another.
    let addresses =
        |last: u8| json!({ "endpoints": [{ "addresses": [format!("10.0.0.{last}")] }] });
    for last in 2..5 {
        api.patch(("EndpointSlice", "shop/web-1"), &addresses(last));
        let seen = replica.tables.clone();
        let mut seen = seen;
        seen.wait_for(|tables| format!("{tables:?}").contains(&format!("10.0.0.{last}")))
            .await
            .unwrap();
    }
    api.cut_watches();
    api.forget_history();
    let route = SHOP.split("\n---\n").last().unwrap();
    let another = route.replace("name: web, namespace", "name: another, namespace");
    api.apply(&another.replace("name: edge", "name: edge, sectionName: nowhere"));
    api.until("the other one is refused", |api| {
        is(
            &of_route(api, "shop/another"),
            "Accepted",
            "False",
            "NoMatchingParent",
        )
    })
    .await;
    replica.tables("tables", |_| true).await;
    assert_eq!(count(&api), before);
}

#[tokio::test]
async fn whoever_was_faster_is_respected() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let _replica = Replica::start(&api, "one");
    api.until("it is accepted", accepted).await;
    // Another controller writes, and we hear of it only from the refusal of our own write.
    api.mute("HTTPRoute");
    let foreign = json!({ "controllerName": "example.com/other", "parentRef": { "name": "edge" } });
    let mut parents = api.get(WEB)["status"]["parents"]
        .as_array()
        .unwrap()
        .clone();
    parents.insert(0, foreign.clone());
    api.patch(WEB, &json!({ "status": { "parents": parents } }));
    api.delete(("Service", "shop/web"));
    api.until("the backend is missed", |api| {
        is(
            &of_route(api, "shop/web"),
            "ResolvedRefs",
            "False",
            "BackendNotFound",
        )
    })
    .await;
    assert_eq!(api.get(WEB)["status"]["parents"][0], foreign);
    let conflicts = api.count(|it| it.status && it.kind == "HTTPRoute" && it.code == 409);
    assert_eq!(conflicts, 1);
    api.unmute("HTTPRoute");
}

#[tokio::test]
async fn a_write_that_fails_is_tried_again() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let mut replica = Replica::start(&api, "one");
    api.until("it is accepted", accepted).await;
    replica.tables("tables", |tables| tables.len() == 1).await;
    api.refuse("Gateway", 2, 503);
    give_address(&api);
    replica.acknowledge();
    api.until("it is programmed", |api| {
        is(
            &api.get(EDGE)["status"]["conditions"],
            "Programmed",
            "True",
            "Programmed",
        )
    })
    .await;
    assert_eq!(api.count(|it| it.status && it.code == 503), 2);
}

#[tokio::test]
async fn the_transition_time_moves_with_the_status_only() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let _replica = Replica::start(&api, "one");
    api.until("it is accepted", accepted).await;
    // As if it had been written long ago.
    let mut conditions = of_route(&api, "shop/web");
    for condition in conditions.as_array_mut().unwrap() {
        condition["lastTransitionTime"] = "2020-01-01T00:00:00Z".into();
    }
    let mut parents = api.get(WEB)["status"]["parents"].clone();
    parents[0]["conditions"] = conditions;
    api.patch(WEB, &json!({ "status": { "parents": parents } }));
    let backend = json!([{ "backendRefs": [{ "name": "missing", "port": 8080 }] }]);
    api.patch(WEB, &json!({ "spec": { "rules": backend } }));
    api.until("the backend is missed", |api| {
        is(
            &of_route(api, "shop/web"),
            "ResolvedRefs",
            "False",
            "BackendNotFound",
        )
    })
    .await;
    let conditions = of_route(&api, "shop/web");
    let (accepted, resolved) = (
        condition(&conditions, "Accepted"),
        condition(&conditions, "ResolvedRefs"),
    );
    assert_eq!(accepted["lastTransitionTime"], "2020-01-01T00:00:00Z");
    assert_ne!(resolved["lastTransitionTime"], "2020-01-01T00:00:00Z");
    assert_eq!(
        (
            &accepted["observedGeneration"],
            &resolved["observedGeneration"]
        ),
        (&json!(2), &json!(2))
    );
}

#[tokio::test]
async fn a_reference_grant_resolves_references_at_once() {
    let api = FakeApi::start().await;
    api.apply(&SHOP.replace(
        "{name: web, port: 8080}",
        "{name: api, namespace: backends, port: 80}",
    ));
    api.create(&json!({
        "kind": "Service", "metadata": { "name": "api", "namespace": "backends" },
        "spec": { "ports": [{ "port": 80 }] },
    }));
    let _replica = Replica::start(&api, "one");
    api.until("it is not permitted", |api| {
        is(
            &of_route(api, "shop/web"),
            "ResolvedRefs",
            "False",
            "RefNotPermitted",
        )
    })
    .await;
    api.create(&json!({
        "kind": "ReferenceGrant", "metadata": { "name": "shop", "namespace": "backends" },
        "spec": {
            "from": [{ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop" }],
            "to": [{ "group": "", "kind": "Service" }],
        },
    }));
    api.until("it is permitted", |api| {
        is(
            &of_route(api, "shop/web"),
            "ResolvedRefs",
            "True",
            "ResolvedRefs",
        )
    })
    .await;
    api.delete(("ReferenceGrant", "backends/shop"));
    api.until("it is not permitted", |api| {
        is(
            &of_route(api, "shop/web"),
            "ResolvedRefs",
            "False",
            "RefNotPermitted",
        )
    })
    .await;
}

#[tokio::test]
async fn a_route_loses_our_entry_with_its_gateway() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let _replica = Replica::start(&api, "one");
    api.until("it is accepted", accepted).await;
    api.delete(EDGE);
    api.until("no entry", |api| {
        api.get(WEB)["status"]["parents"] == json!([])
    })
    .await;
}

#[tokio::test]
async fn a_thousand_routes_at_once_are_few_writes_of_their_gateway() {
    let api = FakeApi::start().await;
    api.apply(SHOP);
    let _replica = Replica::start(&api, "one");
    api.until("it is accepted", accepted).await;
    let before = writes(&api, "Gateway", "edge");
    let start = std::time::Instant::now();
    for number in 0..1000 {
        api.create(&json!({
            "kind": "HTTPRoute",
            "metadata": { "name": format!("route-{number}"), "namespace": "shop" },
            "spec": {
                "parentRefs": [{ "name": "edge" }],
                "hostnames": [format!("route-{number}.example")],
                "rules": [{ "backendRefs": [{ "name": "web", "port": 8080 }] }],
            },
        }));
        tokio::task::yield_now().await;
    }
    let routes: Vec<_> = (0..1000)
        .map(|number| format!("shop/route-{number}"))
        .collect();
    let mut settled = 0;
    api.until("all is settled", |api| {
        while settled < routes.len()
            && is(
                &of_route(api, &routes[settled]),
                "Accepted",
                "True",
                "Accepted",
            )
        {
            settled += 1;
        }
        settled == routes.len() && api.get(EDGE)["status"]["listeners"][0]["attachedRoutes"] == 1001
    })
    .await;
    let written = writes(&api, "Gateway", "edge") - before;
    let took = start.elapsed();
    println!("settled after {took:?}, {written} writes of the Gateway");
    let most = 10 + usize::try_from(took.as_secs()).unwrap();
    assert!(written <= most, "{written} writes of the Gateway");
    let of_routes = api.count(|it| it.status && it.kind == "HTTPRoute" && it.code == 200);
    assert_eq!(of_routes, 1001, "one write per route");
}
