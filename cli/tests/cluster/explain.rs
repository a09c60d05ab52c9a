//! `portcullis explain --gateway`: against the objects of a cluster.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    common::{config, run, stderr, stdout},
    fake::{Contents, FakeCluster},
};

pub(crate) fn sample(name: &str) -> (PathBuf, Contents) {
    let path = config().join("samples").join(name);
    let class = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
";
    let manifests = fs::read_to_string(&path).expect("a sample") + class;
    (path, Contents::of(&manifests).controlled())
}

/// The name of the one Gateway that there is.
pub(crate) fn gateway(contents: &Contents) -> String {
    let mut objects = contents.objects.iter();
    let gateway = objects.find(|object| object["kind"] == "Gateway");
    let metadata = &gateway.expect("a Gateway")["metadata"];
    let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", text("namespace"), text("name"))
}

/// The proxies have acknowledged what the Gateway is.
pub(crate) fn programmed(contents: &mut Contents) {
    let mut objects = contents.objects.iter_mut();
    let gateway = objects.find(|object| object["kind"] == "Gateway");
    gateway.expect("a Gateway")["status"] = json!({
        "conditions": [{ "type": "Programmed", "status": "True" }],
    });
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
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = stdout(&output);
    assert!(told.contains("Programmed is Unknown"), "{told}");

    programmed(&mut contents);
    let cluster = FakeCluster::start(contents);
    let output = cluster.run(&command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let told = stdout(&output);
    let (answer, _) = told
        .split_once("\nComputed from")
        .expect("where it is from");
    assert_eq!(answer, stdout(&files));

    let output = cluster.run(&[&command[..], &["-o", "json"]].concat());
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["cluster"]["programmed"], "True");
    assert_eq!(answer["cluster"]["notes"], Value::Array(Vec::new()));
}

/// The answer about a request to a cluster with these manifests.
fn told(manifests: &str, gateway: &str, request: &[&str]) -> String {
    let cluster = FakeCluster::start(Contents::of(manifests).controlled());
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
        "a proxy that had a good pair from Secret shop/cert shows that on; one that has started since does not open the port, so \
         that connections are refused",
        "`openssl s_client -connect ADDRESS:443 -servername shop.example`",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert!(!told.contains("Clients reach"), "{told}");
}

/// A Secret of type kubernetes.io/tls that can be used.
fn secret(name: &str) -> String {
    secret_for(name, &format!("{name}.example"))
}

/// The same, for this host.
fn secret_for(name: &str, host: &str) -> String {
    let pair = rcgen::generate_simple_self_signed([host.to_owned()]).expect("a pair");
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": { "name": name, "namespace": "shop" },
        "stringData": { "tls.crt": pair.cert.pem(), "tls.key": pair.signing_key.serialize_pem() },
    });
    format!("\n---\n{secret}\n")
}

#[test]
fn what_an_earlier_certificate_is_good_for_is_said_only_of_its_listener() {
    const EARLIER: &str = "a proxy that had a good certificate before goes on with it";
    const LISTENERS: &str = "
  - {name: https, protocol: HTTPS, port: 443, hostname: shop.example, tls: {certificateRefs: [{name: cert}]}}
  - {name: good, protocol: HTTPS, port: 443, hostname: good.example, tls: {certificateRefs: [{name: good}]}}";
    let one =
        "\n  - {name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: cert}]}}";
    let broken = secret("cert").replace("BEGIN CERTIFICATE", "BEGIN NOTHING");
    let manifests = EDGE.replace(one, LISTENERS) + &broken + &secret("good");
    let cluster = FakeCluster::start(Contents::of(&manifests).controlled());
    let answer = |request: [&str; 2]| {
        stdout(&cluster.run(&[&["explain", "--gateway", "shop/edge"][..], &request].concat()))
    };
    let broken = answer(["GET", "https://shop.example/"]);
    assert!(broken.contains(EARLIER), "{broken}");
    for (method, url, expected) in [
        ("GET", "https://good.example/", "404"),
        (
            "GET",
            "https://other.example/",
            "no listener of port 443 serves",
        ),
        ("GET", "http://shop.example:443/", "400"),
        ("CONNECT", "https://good.example/", "405"),
    ] {
        let told = answer([method, url]);
        assert!(told.contains(expected), "{expected}\n{told}");
        assert!(!told.contains(EARLIER), "{told}");
    }
}

/// Clients name no address in the handshake, so that the proxy cannot look for its certificate.
#[test]
fn for_an_address_the_first_certificate_is_shown() {
    let both = EDGE.replace("{name: cert}", "{name: cert}, {name: address}");
    let manifests = both + &secret("cert") + &secret_for("address", "192.0.2.7");
    let refused = told(&manifests, "shop/edge", &["https://192.0.2.7/"]);
    assert!(
        refused.contains("the certificate is not for 192.0.2.7")
            && refused.contains("the certificate of Secret shop/cert is for cert.example"),
        "{refused}"
    );
    let manifests = manifests.replace("{name: cert}, {name: address}", "{name: address}");
    let accepted = told(&manifests, "shop/edge", &["https://192.0.2.7/"]);
    assert!(
        accepted.contains("a client that trusts its issuer accepts it"),
        "{accepted}"
    );
}

#[test]
fn why_a_gateway_is_not_accepted_is_said_whatever_port_is_asked_for() {
    let listeners = EDGE.find("  - {name: http,").expect("listeners");
    let end = EDGE.find("status:").expect("a status");
    let only = "  - {name: odd, protocol: TCP, port: 9000}\n";
    let manifests = [&EDGE[..listeners], only, &EDGE[end..]].concat();
    let told = told(&manifests, "shop/edge", &["http://shop.example/"]);
    assert!(
        told.contains("the Gateway is not accepted")
            && told.contains("Gateway shop/edge  spec.listeners[0].protocol"),
        "{told}"
    );
    let service = manifests
        .find("---\napiVersion: v1\nkind: Service")
        .expect("a Service");
    let never = self::told(
        &manifests[..service],
        "shop/edge",
        &["http://shop.example:8080/"],
    );
    assert!(
        never.contains(
            "nobody answers: the Gateway is not accepted, and nothing has been made for it"
        ) && never.contains("Gateway shop/edge  spec.listeners[0].protocol")
            && !never.contains("not known"),
        "{never}"
    );
}

#[test]
fn what_a_route_lacks_is_said_once_however_often_it_names_the_gateway() {
    const ROUTE: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  parentRefs: [{name: edge, sectionName: http}, {name: edge, port: 80}]
  rules:
  - {matches: [{path: {value: /a}}], backendRefs: [{name: a, port: 80}]}
  - {matches: [{path: {value: /b}}], backendRefs: [{name: b, port: 80}]}
";
    let manifests = EDGE.to_owned() + ROUTE;
    let json = told(
        &manifests,
        "shop/edge",
        &["http://shop.example/a", "-o", "json"],
    );
    let answer: Value = serde_json::from_str(&json).expect("JSON");
    let routes = answer["route"]["issues"].as_array().expect("findings");
    let fields: Vec<_> = routes.iter().map(|it| it["field"].as_str()).collect();
    let expected = [0, 1].map(|rule| format!("spec.rules[{rule}].backendRefs[0].name"));
    assert_eq!(fields, expected.each_ref().map(|it| Some(it.as_str())));
}

#[test]
fn objects_that_cannot_be_read_are_all_named_for_programs_and_counted_for_people() {
    let mut manifests = EDGE.to_owned();
    for number in 0..12 {
        let route = format!(
            "\n---\n{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: r{number}, namespace: \
             shop}}, spec: {{parentRefs: 5}}}}\n"
        );
        manifests += &route;
    }
    let text = told(&manifests, "shop/edge", &["http://shop.example/"]);
    assert_eq!(text.matches("note: ").count(), 10, "{text}");
    assert!(
        text.contains("... and 2 more notes (-o json shows all)"),
        "{text}"
    );
    let json = told(
        &manifests,
        "shop/edge",
        &["http://shop.example/", "-o", "json"],
    );
    let answer: Value = serde_json::from_str(&json).expect("JSON");
    let notes = answer["cluster"]["notes"].as_array();
    assert_eq!(notes.map(Vec::len), Some(12));
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

/// One that names the host is told of, whatever it names besides.
#[test]
fn a_route_that_names_the_host_is_told_of_whatever_its_parent() {
    const LOST: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lost, namespace: nu}
spec: {parentRefs: [{name: nowhere}], hostnames: [lost.test]}
";
    const OTHER: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: other, namespace: shop}
spec: {gatewayClassName: portcullis, listeners: [{name: http, protocol: HTTP, port: 80}]}
";
    let manifests = EDGE.to_owned() + LOST;
    let said = told(&manifests, "shop/edge", &["http://lost.test/"]);
    assert!(
        said.contains("404: no listener of this port serves this host")
            && said.contains("Routes that are refused\nerror   GatewayNotFound  HTTPRoute nu/lost"),
        "{said}"
    );
    let manifests = manifests.replace("name: nowhere", "name: other, namespace: shop") + OTHER;
    let said = told(&manifests, "shop/edge", &["http://lost.test/"]);
    assert!(
        said.contains(
            "HTTPRoute nu/lost names this host, and is for Gateway shop/other, not for this one"
        ),
        "{said}"
    );
}

#[test]
fn a_route_of_a_mesh_is_not_one_of_a_gateway_that_has_the_name_of_its_service() {
    const MESH: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: mesh, namespace: shop, generation: 2}
spec:
  parentRefs: [{name: edge, kind: Service, group: \"\"}]
  hostnames: [lost.test]
";
    const OTHER: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: other, namespace: shop}
spec: {gatewayClassName: portcullis, listeners: [{name: http, protocol: HTTP, port: 80}]}
";
    let manifests = EDGE.to_owned() + MESH;
    let said = told(&manifests, "shop/edge", &["http://lost.test/"]);
    assert!(!said.contains("no controller has looked at it"), "{said}");
    let manifests = manifests.replace("name: edge, kind", "name: other, kind") + OTHER;
    let said = told(&manifests, "shop/edge", &["http://lost.test/"]);
    assert!(!said.contains("is for Gateway shop/other"), "{said}");
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
            && told.contains("kind: ReferenceGrant")
            && told.contains("What is wrong with the route that answers")
            && !told.contains("Routes that are refused"),
        "{told}"
    );
}

#[test]
fn the_port_of_the_nodes_is_told_and_known() {
    let said = told(EDGE, "shop/edge", &["http://shop.example/"]);
    assert!(
        said.contains(
            "Clients reach port 80 at 10.0.0.9 within the cluster (Service shop/edge-portcullis, NodePort), and at port 30080 of \
             every node: give curl `--connect-to ::NODE:30080`"
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
fn a_port_that_is_forwarded_may_be_asked_for() {
    let url = "http://127.0.0.1:8080/";
    let said = told(EDGE, "shop/edge", &[url]);
    assert!(
        said.contains(
            "if `kubectl port-forward` leads there from port 8080, say to which: --map-port 80=8080"
        ),
        "{said}"
    );
    let tls = EDGE.replace("port: 443, tls", "port: 8443, tls") + &secret("cert");
    let said = told(&tls, "shop/edge", &["https://127.0.0.1:9443/"]);
    assert!(
        said.contains("say to which: --map-port 8443=9443"),
        "{said}"
    );
    let said = told(EDGE, "shop/edge", &["https://127.0.0.1:9443/"]);
    assert!(said.contains("say to which: --map-port 443=9443"), "{said}");
    let said = told(EDGE, "shop/edge", &["--map-port", "80=8080", url]);
    assert!(
        said.contains("404") && said.contains("port 80, host 127.0.0.1"),
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
