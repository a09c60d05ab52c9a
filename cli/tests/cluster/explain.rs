//! `portcullis explain --gateway`: against the objects of a cluster.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{
    common::{config, run, stderr, stdout},
    fake::{Contents, FakeCluster},
};

fn sample(name: &str) -> (PathBuf, Contents) {
    let path = config().join("samples").join(name);
    let class = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
";
    let manifests = fs::read_to_string(&path).expect("a sample") + class;
    (path, Contents::of(&manifests))
}

/// The name of the one Gateway that there is.
fn gateway(contents: &Contents) -> String {
    let mut objects = contents.objects.iter();
    let gateway = objects.find(|object| object["kind"] == "Gateway");
    let metadata = &gateway.expect("a Gateway")["metadata"];
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

#[test]
fn the_answer_is_that_for_the_same_manifests_and_says_whether_it_is_in_force() {
    let (path, mut contents) = sample("dark-launch.yaml");
    let name = gateway(&contents);
    let request = ["GET", "http://shop.example/", "-H", "user: test"];
    let path = path.to_str().expect("UTF-8");
    let files = run(&[&["explain", "--config", path][..], &request].concat());

    let command = [&["explain", "--gateway", &name][..], &request].concat();
    let cluster = FakeCluster::start(Contents {
        objects: contents.objects.clone(),
        ..Contents::default()
    });
    let output = cluster.run(&command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = stdout(&output);
    let (answer, origin) = told
        .split_once("\nComputed from")
        .expect("where it is from");
    assert_eq!(answer, stdout(&files));
    assert!(origin.contains("Programmed is Unknown"), "{origin}");

    for object in &mut contents.objects {
        if object["kind"] == "Gateway" {
            object["status"] = serde_json::json!({
                "conditions": [{ "type": "Programmed", "status": "True" }],
            });
        }
    }
    let output = FakeCluster::start(contents).run(&[&command[..], &["-o", "json"]].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["cluster"]["programmed"], "True");
    assert_eq!(answer["cluster"]["notes"], Value::Array(Vec::new()));
}

#[test]
fn without_secrets_certificates_are_missing_and_the_rest_is_explained() {
    let (_, contents) = sample("tls-redirect.yaml");
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

/// The answer about a request to a cluster with these manifests.
fn told(manifests: &str, gateway: &str, request: &[&str]) -> String {
    let cluster = FakeCluster::start(Contents::of(manifests));
    let output = cluster.run(&[&["explain", "--gateway", gateway, "GET"], request].concat());
    assert_eq!(stderr(&output), "");
    stdout(&output)
}

pub(crate) const EDGE: &str = r#"
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop, uid: "1"}
spec:
  gatewayClassName: portcullis
  listeners:
  - {name: http, protocol: HTTP, port: 80, hostname: "*.example"}
  - {name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: cert}]}}
status:
  conditions: [{type: Programmed, status: "True", reason: Programmed, message: ""}]
  listeners:
  - name: https
    attachedRoutes: 0
    conditions: [{type: Programmed, status: "False", reason: Invalid, message: No certificate can be served}]
---
apiVersion: v1
kind: Service
metadata:
  name: edge-portcullis
  namespace: shop
  ownerReferences:
  - {apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, name: edge, uid: "1", controller: true}
spec:
  type: NodePort
  clusterIP: 10.0.0.9
  ports:
  - {name: http-80, port: 80, nodePort: 30080}
  - {name: https-443, port: 443, nodePort: 30443}
"#;

#[test]
fn a_missing_secret_is_named_with_its_field_and_the_command_that_makes_it() {
    let told = told(EDGE, "shop/edge", &["https://shop.example/"]);
    for expected in [
        "no listener that can be served has port 443, only 80",
        "InvalidCertificateRef  Gateway shop/edge  spec.listeners[1].tls.certificateRefs[0]",
        "Secret shop/cert does not exist",
        "`kubectl -n shop create secret tls cert --cert=FILE --key=FILE`",
        "Listener shop/edge/https: proxies close it as soon as they are told",
        "Its status says: Programmed is False, No certificate can be served.",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[test]
fn what_proxies_have_of_a_broken_secret_is_said_as_far_as_it_can_be_known() {
    const BROKEN: &str = "
---
apiVersion: v1
kind: Secret
metadata: {name: cert, namespace: shop}
type: kubernetes.io/tls
data: {tls.crt: aGFsZg==, tls.key: aGFsZg==}
";
    let manifests = EDGE.to_owned() + BROKEN;
    let told = told(&manifests, "shop/edge", &["https://shop.example/"]);
    for expected in [
        "no listener of port 443 can be served; a proxy that had a good certificate before goes on with it",
        "InvalidCertificateRef  Gateway shop/edge",
        "a proxy that had a good pair from Secret shop/cert shows that on; one that has started since has none",
        "`openssl s_client -connect ADDRESS:443 -servername shop.example`",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[test]
fn a_gateway_that_is_not_accepted_stands_still_and_what_to_mend_is_said() {
    let refused = EDGE.replace(
        "  gatewayClassName: portcullis\n",
        "  gatewayClassName: portcullis\n  addresses: [{type: example.com/Other, value: x}]\n",
    );
    let told = told(&refused, "shop/edge", &["http://shop.example/"]);
    for expected in [
        "Answer     not known: as it is now, the Gateway is not accepted, and its proxies go on as they were",
        "UnsupportedAddress  Gateway shop/edge  spec.addresses[0].type",
        "the controller has made them (Service shop/edge-portcullis is there)",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[test]
fn routes_that_are_refused_are_listed_those_for_the_host_first() {
    const ROUTES: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: foreign, namespace: team}
spec: {parentRefs: [{name: edge, namespace: shop}], hostnames: [shop.example]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lost, namespace: team}
spec: {parentRefs: [{name: edge}], hostnames: [shop.example]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: section, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: web}], hostnames: [a-wholly-different.example]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: host, namespace: shop}
spec: {parentRefs: [{name: edge, sectionName: http}], hostnames: [shop.exmaple]}
";
    const TAKEN: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: good, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  hostnames: [other.example]
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: shop.example}}]}]
";
    let manifests = EDGE.to_owned() + ROUTES;
    let said = told(&manifests, "shop/edge", &["http://shop.example/"]);
    let places: Vec<_> = [
        "Answer     404",
        "Routes that are refused",
        "NotAllowedByListeners  HTTPRoute team/foreign  spec.parentRefs[0]",
        "-> extend allowedRoutes of the listener",
        "GatewayNotFound  HTTPRoute team/lost",
        "-> write namespace: shop beside the name if Gateway shop/edge is meant",
        "NoMatchingListenerHostname  HTTPRoute shop/host",
        "NoMatchingParent  HTTPRoute shop/section",
    ]
    .iter()
    .map(|expected| {
        said.find(expected)
            .unwrap_or_else(|| panic!("{expected}\n{said}"))
    })
    .collect();
    assert!(places.is_sorted(), "{said}");

    let taken = told(
        &(manifests + TAKEN),
        "shop/edge",
        &["http://other.example/"],
    );
    assert!(
        taken.contains("redirect 302") && !taken.contains("Routes that are refused"),
        "{taken}"
    );
}

/// The API server knows better what its objects may have than the schemas of this release.
#[test]
fn an_object_with_a_field_of_a_later_release_counts_and_one_that_cannot_be_read_is_named() {
    const ROUTES: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: later, namespace: shop}
spec:
  parentRefs: [{name: edge}]
  fieldOfALaterRelease: yes
  rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: other.example}}]}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: unreadable, namespace: shop}
spec: {parentRefs: 5}
";
    let manifests = EDGE.to_owned() + ROUTES;
    let told = told(&manifests, "shop/edge", &["http://shop.example/"]);
    assert!(told.contains("rule 0 of HTTPRoute shop/later"), "{told}");
    assert!(
        told.contains("note: as if it were not there: HTTPRoute shop/unreadable cannot be read (spec.parentRefs: "),
        "{told}"
    );
}

#[test]
fn a_route_that_answers_500_is_told_with_what_it_lacks() {
    let (_, contents) = sample("faults/missing-grant.yaml");
    let name = gateway(&contents);
    let output = FakeCluster::start(contents).run(&[
        "explain",
        "--gateway",
        &name,
        "GET",
        "http://shop.example/",
    ]);
    let told = stdout(&output);
    assert!(
        told.contains("500: the backendRef is invalid (RefNotPermitted)")
            && told.contains("-> or apply this:")
            && told.contains("kind: ReferenceGrant"),
        "{told}"
    );
}

#[test]
fn the_port_of_the_nodes_is_told_and_known() {
    let said = told(EDGE, "shop/edge", &["http://shop.example/"]);
    assert!(
        said.contains(
            "Clients reach port 80 at 10.0.0.9 within the cluster (Service shop/edge-portcullis, NodePort), and at port 30080 of \
             every node: curl --connect-to shop.example:80:NODE:30080 http://shop.example/"
        ),
        "{said}"
    );
    let said = told(EDGE, "shop/edge", &["http://shop.example:30080/"]);
    assert!(
        said.contains("30080 is the port of the nodes for port 80: ask for that"),
        "{said}"
    );
}

#[test]
fn a_gateway_that_is_not_there_or_not_served_is_an_error() {
    let (_, contents) = sample("dark-launch.yaml");
    let name = gateway(&contents);
    let cluster = FakeCluster::start(contents);
    let error = |arguments: &[&str]| {
        let output =
            cluster.run(&[&["explain"], arguments, &["GET", "http://shop.example/"]].concat());
        assert_eq!(output.status.code(), Some(2));
        stderr(&output)
    };
    let missing = error(&["--gateway", "shop/nowhere"]);
    assert!(
        missing.contains("there is no Gateway shop/nowhere"),
        "{missing}"
    );
    let others = error(&["--gateway", &name, "--controller-name", "example.com/other"]);
    assert!(
        others.contains(
            "is not served: spec.gatewayClassName: GatewayClass \"portcullis\" is of controller"
        ),
        "{others}"
    );
    let unnamed = error(&["--gateway", "edge"]);
    assert!(
        unnamed.contains("NAMESPACE/NAME, such as shop/edge"),
        "{unnamed}"
    );
    let both = error(&["--context", "fake", "--config", "a.yaml"]);
    assert!(both.contains("cannot be used with"), "{both}");
}
