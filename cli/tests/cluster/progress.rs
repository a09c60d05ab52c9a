//! `portcullis explain --gateway`: whether the proxies have what the objects say, and whether any answers.

use std::process::Output;

use serde_json::{Value, json};

use crate::{
    common::{stderr, stdout},
    explain::EDGE,
    fake::{Contents, FakeCluster},
};

const ROUTE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop, generation: 2}
spec:
  parentRefs: [{name: edge}]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: other.example}}]}]
status:
  parents:
  - controllerName: portcullis.dev/gateway-controller
    parentRef: {name: edge}
    conditions: [{type: Accepted, status: \"True\", observedGeneration: 2}]
";

fn ask(contents: Contents, url: &str) -> Output {
    let cluster = FakeCluster::start(contents);
    let output = cluster.run(&["explain", "--gateway", "shop/edge", "GET", url]);
    assert_eq!(stderr(&output), "");
    output
}

/// The answer, which is an error.
fn told(contents: Contents, url: &str) -> String {
    let output = ask(contents, url);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{told}");
    told
}

#[track_caller]
fn assert_says(told: &str, expected: &[&str]) {
    for expected in expected {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

/// The one object of this kind.
fn object<'a>(contents: &'a mut Contents, kind: &str) -> &'a mut Value {
    let mut objects = contents.objects.iter_mut();
    objects.find(|it| it["kind"] == *kind).expect("an object")
}

#[test]
fn what_no_controller_has_looked_at_since_it_changed_is_not_said_to_be_in_force() {
    let manifests = EDGE.to_owned() + ROUTE;
    let contents = || Contents::of(&manifests).controlled();
    let url = "http://shop.example/";
    let output = ask(contents(), url);
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));

    let mut edited = contents();
    object(&mut edited, "HTTPRoute")["metadata"]["generation"] = 3.into();
    let told_of_route = told(edited, url);
    assert_says(
        &told_of_route,
        &[
            "Answer     redirect 302",
            "; but the proxies do not have this yet (see below)",
            "HTTPRoute shop/web: no controller has looked at it as it is now. Ask again in a moment",
        ],
    );
    assert!(
        !told_of_route.contains("have acknowledged"),
        "{told_of_route}"
    );

    let mut edited = contents();
    object(&mut edited, "Gateway")["metadata"]["generation"] = 2.into();
    object(&mut edited, "Lease")["spec"]["holderIdentity"] = "".into();
    assert_says(
        &told(edited, url),
        &[
            "Gateway shop/edge: no controller has looked at it as it is now, and the proxies get nothing until a controller runs: \
             nobody holds Lease portcullis-system/portcullis",
        ],
    );
}

#[test]
fn without_a_controller_nothing_is_said_to_be_in_force() {
    let manifests = EDGE.to_owned() + ROUTE;
    let url = "http://shop.example/";
    let mut late = Contents::of(&manifests).controlled();
    object(&mut late, "Lease")["spec"]["renewTime"] = "2026-01-01T00:00:00.000000Z".into();
    assert_says(
        &told(late, url),
        &[
            "; proxies may still have an earlier state, for no controller runs",
            "one, who holds Lease portcullis-system/portcullis, has not renewed it for ",
        ],
    );
    assert_says(
        &told(Contents::of(&manifests), url),
        &["no namespace has a Deployment of a controller named portcullis.dev/gateway-controller"],
    );
    let hidden = Contents::of(&manifests)
        .controlled()
        .refusing("leases", 403);
    let output = ask(hidden, url);
    assert_eq!(output.status.code(), Some(0));
    let told = stdout(&output);
    assert_says(
        &told,
        &["note: whether a controller runs is not known: leases is forbidden"],
    );
}

#[test]
fn where_no_proxy_is_ready_nobody_answers() {
    let manifests = EDGE.to_owned() + ROUTE;
    let mut contents = Contents::of(&manifests).controlled();
    object(&mut contents, "Gateway")["status"]["conditions"] = json!([{
        "type": "Programmed", "status": "False", "reason": "Pending",
        "message": "0 of 1 proxies are ready; kubectl -n shop describe pod says why",
    }]);
    let told = told(contents, "http://shop.example/");
    assert_says(
        &told,
        &[
            "Answer     nobody answers: 0 of 1 proxies are ready; kubectl -n shop describe pod says why; with a proxy that is ready: \
           redirect 302",
        ],
    );
    assert!(!told.contains("Clients reach"), "{told}");
}

#[test]
fn a_load_balancer_is_where_the_status_of_the_gateway_says() {
    let manifests = EDGE.replace("type: NodePort", "type: LoadBalancer") + ROUTE;
    let asked = |contents| stdout(&ask(contents, "http://shop.example/"));
    let pending = asked(Contents::of(&manifests).controlled());
    assert_says(
        &pending,
        &["Clients reach port 80 at an address that is not given yet"],
    );
    let mut contents = Contents::of(&manifests).controlled();
    object(&mut contents, "Gateway")["status"]["addresses"] =
        json!([{ "type": "IPAddress", "value": "192.0.2.7" }]);
    let given = asked(contents);
    assert_says(
        &given,
        &["Clients reach port 80 at 192.0.2.7 (Service shop/edge-portcullis, LoadBalancer)"],
    );
}

/// The answer where `Programmed` of the Gateway says this, and whether it is an error.
fn told_where(status: &str, reason: &str, message: &str) -> (String, Option<i32>) {
    let mut contents = Contents::of(&(EDGE.to_owned() + ROUTE)).controlled();
    object(&mut contents, "Gateway")["status"]["conditions"] = json!([{
        "type": "Programmed", "status": status, "reason": reason, "message": message,
    }]);
    let output = ask(contents, "http://shop.example/");
    (stdout(&output), output.status.code())
}

#[test]
fn what_no_proxy_has_acknowledged_is_not_said_to_be_in_force() {
    let (told, code) = told_where("False", "NoResources", "pods are forbidden");
    assert_says(&told, &["Answer     nobody answers: pods are forbidden; "]);
    assert_eq!(code, Some(1));
    for (status, reason) in [("Unknown", "Pending"), ("False", "Invalid")] {
        let (told, code) = told_where(status, reason, "Because.");
        let cause = format!("may serve something else: Programmed is {status} (Because), see");
        assert_says(
            &told,
            &["; but no proxy is known to have this (see below)", &cause],
        );
        assert_eq!(code, Some(1), "{told}");
    }
    for reason in ["AddressNotAssigned", "AddressNotUsable"] {
        let (told, code) = told_where("False", reason, "No address.");
        assert_says(
            &told,
            &["its proxies have acknowledged their table, but: No address."],
        );
        assert!(!told.contains("something else"), "{told}");
        assert_eq!(code, Some(0), "{told}");
    }
}

#[test]
fn what_answers_at_a_listener_that_proxies_refuse_is_an_error() {
    const SET: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: more, namespace: shop, generation: 3}
spec:
  parentRef: {name: edge}
  listeners: [{name: extra, protocol: HTTP, port: 8080}]
";
    let manifests = EDGE.replace(
        "  listeners:\n  - {name: http,",
        "  allowedListeners: {namespaces: {from: Same}}\n  listeners:\n  - {name: http,",
    ) + SET
        + &ROUTE.replace(
            "{name: edge}]",
            "{name: edge}, {kind: ListenerSet, name: more}]",
        );
    let refused = |name: &str, generation: i64| {
        json!([{ "name": name, "attachedRoutes": 1, "conditions": [{
            "type": "Programmed", "status": "False", "reason": "Invalid",
            "message": "The data plane cannot serve it: the port is taken",
            "observedGeneration": generation,
        }]}])
    };
    for (kind, name, url) in [
        ("Gateway", "http", "http://shop.example/"),
        ("ListenerSet", "extra", "http://shop.example:8080/"),
    ] {
        let mut contents = Contents::of(&manifests).controlled();
        object(&mut contents, kind)["status"]["listeners"] = refused(name, 3);
        let told = told(contents, url);
        assert_says(
            &told,
            &[
                "Answer     redirect 302",
                "; but the proxies do not serve its listener (see below)",
                "the proxies do not serve it. Its status says: Programmed is False, The data plane cannot serve it: the port is taken.",
            ],
        );
        assert!(!told.contains("Clients reach"), "{told}");
    }
    // What was said of an earlier generation says nothing of this one.
    let mut contents = Contents::of(&manifests).controlled();
    object(&mut contents, "ListenerSet")["status"]["listeners"] = refused("extra", 2);
    let output = ask(contents, "http://shop.example:8080/");
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
}
