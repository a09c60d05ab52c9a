//! `portcullis explain --gateway` for a caller who may not read everything: nothing is claimed of what cannot be seen.

use serde_json::Value;

use crate::{
    common::{stderr, stdout},
    explain::{EDGE, gateway, programmed, sample},
    fake::{Contents, FakeCluster},
};

/// The answer to a caller who may not list or get this kind.
fn told(manifests: &str, refused: &'static str, url: &str) -> String {
    let cluster = FakeCluster::start(Contents::of(manifests).controlled().refusing(refused, 403));
    let output = cluster.run(&["explain", "--gateway", "shop/edge", "GET", url]);
    assert_eq!(stderr(&output), "");
    stdout(&output)
}

/// Each is told, and none of the others.
fn assert_told(told: &str, expected: &[&str], unexpected: &[&str]) {
    for expected in expected {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    for unexpected in unexpected {
        assert!(!told.contains(unexpected), "{unexpected}\n{told}");
    }
}

#[test]
fn without_secrets_certificates_are_missing_and_the_rest_is_explained() {
    let (_, mut contents) = sample("tls-redirect.yaml");
    programmed(&mut contents);
    let name = gateway(&contents);
    let cluster = FakeCluster::start(contents.refusing("secrets", 403));
    let output = cluster.run(&["explain", "--gateway", &name, "GET", "http://shop.example/"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{told}{}", stderr(&output));
    assert!(
        told.contains("note: as if it were not there: secrets is forbidden: User \"dora\""),
        "{told}"
    );
    // Nobody is told to create what may be there.
    let output = cluster.run(&[
        "explain",
        "--gateway",
        &name,
        "GET",
        "https://shop.example/",
    ]);
    let told = stdout(&output);
    assert!(
        told.contains("you may not read Secret tls-redirect/shop-certificate, so what comes of it is not known here")
            && !told.contains("create"),
        "{told}"
    );
}

#[test]
fn without_parameters_it_is_not_known_whether_the_gateway_is_accepted() {
    let parameters = "  gatewayClassName: portcullis
  infrastructure:
    parametersRef: {group: portcullis.dev, kind: GatewayParameters, name: settings}
";
    let manifests = EDGE.replace("  gatewayClassName: portcullis\n", parameters);
    let manifests = manifests.replace(
        "  conditions: [{type: Programmed",
        "  conditions: [{type: Accepted, status: \"True\", message: It is.}, {type: Programmed",
    );
    let told = told(&manifests, "gatewayparameters", "http://shop.example/");
    assert_told(
        &told,
        &[
            "Answer     not known: what you may not read decides whether the Gateway is accepted",
            "you may not read GatewayParameters shop/settings, so what comes of it is not known here",
            "-> ask for the right to `list` it",
            "Its status says: Accepted is True, It is.",
            "gatewayparameters is forbidden: User \"dora\"",
        ],
        &["create it", "does not exist", "go on as they were"],
    );
}

#[test]
fn without_services_neither_backends_nor_proxies_are_said_to_be_missing() {
    const ROUTE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 80}]}]}
";
    let manifests = EDGE.to_owned() + ROUTE;
    assert_told(
        &told(&manifests, "services", "http://shop.example/"),
        &[
            "500: the backendRef is invalid (BackendNotFound), as far as you may read",
            "you may not read Service shop/web, so what comes of it is not known here",
        ],
        &["create the Service"],
    );
    let refused = EDGE.replace(
        "  gatewayClassName: portcullis\n",
        "  gatewayClassName: portcullis\n  addresses: [{type: example.com/Other, value: x}]\n",
    );
    assert_told(
        &told(&refused, "services", "http://shop.example/"),
        &[
            "the Gateway is not accepted",
            "Whether the controller has made proxies for it is not known, for you may not list Services",
        ],
        &["Nothing has been made"],
    );
}

#[test]
fn without_grants_nobody_is_told_to_make_one() {
    let (_, contents) = sample("faults/missing-grant.yaml");
    let name = gateway(&contents);
    let cluster = FakeCluster::start(contents.refusing("referencegrants", 403));
    let output = cluster.run(&["explain", "--gateway", &name, "GET", "http://shop.example/"]);
    assert_told(
        &stdout(&output),
        &[
            "500: the backendRef is invalid (RefNotPermitted), as far as you may read",
            "you may not read ReferenceGrants, so what comes of them is not known here",
        ],
        &["or apply this", "create a ReferenceGrant"],
    );
}

#[test]
fn without_namespaces_a_selector_is_not_said_to_refuse_a_route() {
    const ROUTE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: foreign, namespace: team}
spec: {parentRefs: [{name: edge, namespace: shop, sectionName: http}], hostnames: [shop.example]}
";
    let manifests = EDGE.to_owned() + ROUTE;
    assert_told(
        &told(&manifests, "namespaces", "http://shop.example/"),
        &["extend allowedRoutes"],
        &["you may not read Namespaces"],
    );
    let selector = "hostname: \"*.example\", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {a: b}}}}";
    let manifests = manifests.replace("hostname: \"*.example\"", selector);
    assert_told(
        &told(&manifests, "namespaces", "http://shop.example/"),
        &[
            "404",
            "as far as you may read",
            "you may not read Namespaces",
        ],
        &["extend allowedRoutes"],
    );
}

#[test]
fn what_may_not_be_read_is_noted_once_for_each_kind() {
    let names: Vec<_> = (0..8)
        .map(|number| format!("{{name: cert-{number}}}"))
        .collect();
    let manifests = EDGE.replace("{name: cert}", &names.join(", "));
    let cluster = FakeCluster::start(
        Contents::of(&manifests)
            .controlled()
            .refusing("secrets", 403),
    );
    let request = ["GET", "https://shop.example/", "-o", "json"];
    let output = cluster.run(&[&["explain", "--gateway", "shop/edge"][..], &request].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let notes = answer["cluster"]["notes"].as_array().expect("notes");
    assert_eq!(notes.len(), 1, "{notes:?}");
    let note = notes[0].as_str().unwrap_or_default();
    assert!(note.ends_with("; likewise 7 more Secrets"), "{note}");
}

#[test]
fn with_rights_in_one_namespace_its_gateway_is_explained() {
    const ROUTE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec: {parentRefs: [{name: edge}], rules: [{backendRefs: [{name: web, port: 80}]}]}
";
    let mut contents = Contents::of(&(EDGE.to_owned() + ROUTE)).controlled();
    contents.refused_everywhere = vec![
        "gateways",
        "httproutes",
        "listenersets",
        "referencegrants",
        "services",
        "endpointslices",
        "deployments",
    ];
    let contents = contents.refusing("gatewayclasses", 403);
    let cluster = FakeCluster::start(contents.refusing("namespaces", 403));
    let request = ["GET", "http://shop.example/"];
    let output = cluster.run(&[&["explain", "--gateway", "shop/edge"][..], &request].concat());
    assert_eq!(stderr(&output), "");
    assert_told(
        &stdout(&output),
        &[
            "Answer     500: the backendRef is invalid (BackendNotFound), as far as you may read",
            // What is missing in the namespace that may be seen is missing.
            "BackendNotFound  HTTPRoute shop/web",
            "create the Service",
            "note: GatewayClass portcullis is taken for one of portcullis.dev/gateway-controller, and without parameters: gatewayclasses is",
            "note: only of namespace shop: services is forbidden",
            "note: whether a controller runs is not known: deployments is forbidden",
            "Clients reach port 80",
        ],
        &[],
    );

    let hidden = Contents::of(EDGE).refusing("gateways", 403);
    let output = FakeCluster::start(hidden)
        .run(&[&["explain", "--gateway", "shop/edge"][..], &request].concat());
    let error = stderr(&output);
    assert!(
        error.contains("you may not read Gateway shop/edge") && !error.contains(" -n"),
        "{error}"
    );
}

/// A namesake of the Gateway in a namespace that may not be seen is there, for all one knows.
#[test]
fn without_a_look_at_a_namespace_no_gateway_of_it_is_said_to_be_missing() {
    const ROUTES: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec: {parentRefs: [{name: edge, namespace: infra}], hostnames: [shop.example]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lost, namespace: shop}
spec: {parentRefs: [{name: nowhere}], hostnames: [shop.example]}
";
    let mut contents = Contents::of(&(EDGE.to_owned() + ROUTES)).controlled();
    contents.refused_everywhere = vec!["gateways"];
    let url = "http://shop.example/";
    let output =
        FakeCluster::start(contents).run(&["explain", "--gateway", "shop/edge", "GET", url]);
    assert_eq!(stderr(&output), "");
    assert_told(
        &stdout(&output),
        &[
            "you may not read Gateway infra/edge, so what comes of it is not known here",
            "-> ask for the right to `list` it",
            // What is missing in the namespace that may be seen is missing.
            "there is no Gateway shop/nowhere",
        ],
        &["there is no Gateway infra/edge", "write namespace: shop"],
    );
}

#[test]
fn a_failure_of_the_api_server_is_not_taken_for_a_missing_right() {
    let mut contents = Contents::of(EDGE).controlled().refusing("services", 500);
    contents.refused_everywhere = vec!["services"];
    let request = ["GET", "http://shop.example/"];
    let output = FakeCluster::start(contents)
        .run(&[&["explain", "--gateway", "shop/edge"][..], &request].concat());
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(
        error.contains("refuses to tell of services") && error.contains("(500)"),
        "{error}"
    );
}
