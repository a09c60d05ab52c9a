//! `portcullis status`: tables, findings, exit codes, and what it says if it cannot ask.

use std::{fs, net::TcpListener};

use serde_json::Value;

use crate::{
    common::{config, run, stderr, stdout},
    fake::{Contents, FakeCluster},
};

/// All is well in namespace `shop`; `team` has a route that is not.
const CLUSTER: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: gateways.gateway.networking.k8s.io
  annotations: {gateway.networking.k8s.io/bundle-version: v1.7.0, gateway.networking.k8s.io/channel: standard}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis, generation: 1}
spec: {controllerName: portcullis.dev/gateway-controller}
status:
  conditions:
  - {type: Accepted, status: "True", reason: Accepted, message: "", observedGeneration: 1}
  - {type: SupportedVersion, status: "True", reason: SupportedVersion, message: "", observedGeneration: 1}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: other}
spec: {controllerName: example.com/other}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop, generation: 2}
spec:
  gatewayClassName: portcullis
  listeners:
  - {name: http, port: 80, protocol: HTTP}
  - {name: https, port: 443, protocol: HTTPS}
status:
  addresses: [{value: 192.0.2.1}]
  conditions:
  - {type: Accepted, status: "True", reason: Accepted, message: "", observedGeneration: 2}
  - {type: Programmed, status: "True", reason: Programmed, message: "", observedGeneration: 2}
  listeners:
  - name: http
    attachedRoutes: 2
    conditions: [{type: Accepted, status: "True", reason: Accepted, message: ""}]
  - name: https
    attachedRoutes: 1
    conditions: [{type: Programmed, status: "True", reason: Programmed, message: ""}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: foreign, namespace: shop}
spec: {gatewayClassName: other, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: extra, namespace: shop}
spec:
  parentRef: {name: edge}
  listeners: [{name: more, port: 8080, protocol: HTTP}]
status:
  conditions:
  - {type: Accepted, status: "True", reason: Accepted, message: ""}
  - {type: Programmed, status: "True", reason: Programmed, message: ""}
  listeners:
  - name: more
    attachedRoutes: 0
    conditions: [{type: Accepted, status: "True", reason: Accepted, message: ""}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web, namespace: shop}
spec:
  hostnames: [shop.example, www.shop.example]
  parentRefs: [{name: edge, sectionName: http}, {name: foreign}]
status:
  parents:
  - parentRef: {group: gateway.networking.k8s.io, kind: Gateway, name: edge, sectionName: http}
    controllerName: portcullis.dev/gateway-controller
    conditions:
    - {type: Accepted, status: "True", reason: Accepted, message: ""}
    - {type: ResolvedRefs, status: "True", reason: ResolvedRefs, message: ""}
  - parentRef: {name: foreign}
    controllerName: example.com/other
    conditions: [{type: Accepted, status: "False", reason: Whatever, message: not ours}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: broken, namespace: team, generation: 5}
spec:
  gatewayClassName: portcullis
  listeners: [{name: https, port: 443, protocol: HTTPS}]
status:
  conditions:
  - {type: Accepted, status: "True", reason: Accepted, message: "", observedGeneration: 4}
  - {type: Programmed, status: "Unknown", reason: Pending, message: no proxy is ready yet, observedGeneration: 4}
  listeners:
  - name: https
    attachedRoutes: 0
    conditions:
    - {type: Accepted, status: "True", reason: Accepted, message: "", observedGeneration: 5}
    - {type: Programmed, status: "False", reason: Invalid, message: No certificate can be served, observedGeneration: 5}
    - {type: ResolvedRefs, status: "False", reason: InvalidCertificateRef, message: Secret team/tls is missing, observedGeneration: 5}
    - {type: Conflicted, status: "False", reason: NoConflicts, message: "", observedGeneration: 5}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: misspelt, namespace: team}
spec: {gatewayClassName: portculis, listeners: [{name: http, port: 80, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: lost, namespace: team}
spec: {parentRefs: [{name: nowhere, namespace: shop, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: BackendTLSPolicy
metadata: {name: verify, namespace: team}
spec: {}
status:
  ancestors:
  - ancestorRef: {kind: Gateway, name: edge, namespace: shop}
    controllerName: portcullis.dev/gateway-controller
    conditions: [{type: Accepted, status: "False", reason: NoValidCACertificate, message: ConfigMap team/ca is missing}]
"#;

const CLASS: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
";

const ALL_IS_WELL: &str = "\
GATEWAYCLASS  ACCEPTED  GATEWAY API      SUPPORTED  AGE
portcullis    True      v1.7.0 standard  True       -

GATEWAY    CLASS       ADDRESSES  ACCEPTED  PROGRAMMED  LISTENERS  ROUTES  AGE
shop/edge  portcullis  192.0.2.1  True      True        2/2        3       -

LISTENERSET  GATEWAY    ACCEPTED  PROGRAMMED  LISTENERS  ROUTES  AGE
shop/extra   shop/edge  True      True        1/1        0       -

ROUTE               HOSTNAMES                      PARENT                           ACCEPTED  RESOLVED  AGE
HTTPRoute shop/web  shop.example,www.shop.example  Gateway shop/edge listener http  True      True      -

No condition is wrong.
";

const FINDINGS: &str = "\
GATEWAYCLASS  ACCEPTED  GATEWAY API      SUPPORTED  AGE
portcullis    True      v1.7.0 standard  True       -

GATEWAY        CLASS       ADDRESSES  ACCEPTED  PROGRAMMED  LISTENERS  ROUTES  AGE
team/broken    portcullis  -          True      Unknown     0/1        0       -
team/misspelt  portculis   -          -         -           0/1        0       -

ROUTE                HOSTNAMES  PARENT                   ACCEPTED  RESOLVED  AGE
HTTPRoute team/lost  -          Gateway shop/nowhere:80  -         -         -

7 findings
Gateway team/broken  Programmed=Unknown (Pending)
        no proxy is ready yet
Gateway team/broken  Accepted=Unknown (Stale)
        the controller has not looked at the last change yet: the object is at generation 5, the condition tells of 4
Gateway team/broken, listener https  ResolvedRefs=False (InvalidCertificateRef)
        Secret team/tls is missing
Gateway team/broken  hence listener https Programmed=False (Invalid)
Gateway team/misspelt  Accepted=Unknown (NoSuchClass)
        there is no GatewayClass portculis. Proxies that the Gateway has serve on with what they have, and nothing changes until the class is there: make it again, or write spec.gatewayClassName: portcullis
HTTPRoute team/lost, parent Gateway shop/nowhere:80  Accepted=Unknown (GatewayNotFound)
        there is no Gateway shop/nowhere: create it, or correct name and namespace of the parentRef; `portcullis status gateways -A` shows those that there are
BackendTLSPolicy team/verify, Gateway shop/edge  Accepted=False (NoValidCACertificate)
        ConfigMap team/ca is missing
";

#[test]
fn a_namespace_that_is_well_is_told_in_tables() {
    let cluster = FakeCluster::start(Contents::of(CLUSTER));
    // The namespace is that of the context.
    let output = cluster.run(&["status"]);
    assert_eq!(stdout(&output), ALL_IS_WELL, "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn what_is_wrong_stands_below_with_its_message() {
    let cluster = FakeCluster::start(Contents::of(CLUSTER));
    let output = cluster.run(&["status", "--namespace", "team"]);
    assert_eq!(stdout(&output), FINDINGS, "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
}

/// What stands below the tables.
fn told(cluster: &FakeCluster, arguments: &[&str]) -> String {
    let output = cluster.run(&[&["status"], arguments].concat());
    let told = stdout(&output);
    let (_, findings) = told
        .split_once("finding")
        .unwrap_or_else(|| panic!("{told}{}", stderr(&output)));
    findings.to_owned()
}

#[test]
fn a_gateway_that_is_asked_for_by_name_is_told_even_if_it_is_not_ours_or_not_there() {
    let cluster = FakeCluster::start(Contents::of(CLUSTER));
    let edge = stdout(&cluster.run(&["status", "gateway", "edge"]));
    assert!(edge.contains("No condition is wrong."), "{edge}");
    assert!(
        !edge.contains("HTTPRoute") && !edge.contains("note:"),
        "{edge}"
    );

    let foreign = told(&cluster, &["gateway", "shop/foreign"]);
    assert!(
        foreign.contains("Gateway shop/foreign  Accepted=Unknown (ForeignGateway)")
            && foreign.contains("GatewayClass other, which is of controller example.com/other, not of portcullis.dev/")
            && foreign.contains("else write spec.gatewayClassName: portcullis"),
        "{foreign}"
    );
    let elsewhere = told(&cluster, &["gateway", "edge", "-n", "team"]);
    assert!(
        elsewhere.contains("there is no Gateway edge in namespace team; there is one in shop: look there with -n shop"),
        "{elsewhere}"
    );
    let nowhere = told(&cluster, &["gateway", "nowhere"]);
    assert!(
        nowhere.contains("there is no Gateway nowhere in namespace shop; -A without a name"),
        "{nowhere}"
    );
    let route = told(&cluster, &["route", "web", "-n", "team"]);
    assert!(
        route.contains("there is no route web in namespace team; there is one in shop"),
        "{route}"
    );
    let error = stderr(&cluster.run(&["status", "all", "edge"]));
    assert!(
        error.contains("`portcullis status gateway edge`"),
        "{error}"
    );
}

#[test]
fn where_there_are_only_gateways_of_others_they_are_named() {
    let only_foreign = CLUSTER.replace("gatewayClassName: portcullis", "gatewayClassName: other");
    let cluster = FakeCluster::start(Contents::of(&only_foreign));
    let told = stdout(&cluster.run(&["status", "gateways"]));
    assert!(
        told.contains("note: Gateway shop/edge is left out: it is of GatewayClass other, which is of controller example.com/other"),
        "{told}"
    );
}

#[test]
fn each_reason_for_a_parent_to_be_silent_has_its_own_words() {
    const ROUTES: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: quiet}
spec:
  parentRefs:
  - {name: edge}
  - {name: edge, namespace: shop}
  - {name: foreign, namespace: shop}
  - {name: misspelt, namespace: team}
  - {name: mesh, kind: Service}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {name: b, namespace: quiet}
spec: {parentRefs: [{name: edge, namespace: shop}]}
";
    let cluster = FakeCluster::start(Contents::of(&(CLUSTER.to_owned() + ROUTES)));
    let told = told(&cluster, &["routes", "-n", "quiet"]);
    let expected = [
        "Gateway quiet/edge  Accepted=Unknown (GatewayNotFound)\n        there is no Gateway quiet/edge: write namespace: shop beside",
        "Gateway shop/edge  Accepted=Unknown (NoAnswer)\n        the controller has not answered: does it run?",
        "Gateway shop/foreign  Accepted=Unknown (ForeignGateway)\n        Gateway shop/foreign: it is of GatewayClass other",
        "Gateway team/misspelt  Accepted=Unknown (NoSuchClass)\n        it follows from Gateway team/misspelt: there is no",
        "Service quiet/mesh  Accepted=Unknown (NoAnswer)\n        Service quiet/mesh is no Gateway",
        "GRPCRoute quiet/b, parent Gateway shop/edge  Accepted=Unknown (UnsupportedKind)\n        Portcullis does not serve GRPCRoutes",
    ];
    for expected in expected {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[test]
fn a_gateway_that_is_asked_for_by_name_hints_at_its_routes_that_have_findings() {
    const ROUTES: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: quiet}
spec: {parentRefs: [{name: edge, namespace: shop, sectionName: http}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: b, namespace: quiet}
spec: {parentRefs: [{name: edge-2, namespace: shop}]}
";
    let cluster = FakeCluster::start(Contents::of(&(CLUSTER.to_owned() + ROUTES)));
    let edge = stdout(&cluster.run(&["status", "gateway", "edge"]));
    assert!(
        edge.contains("No condition is wrong.")
            && edge.contains("note: 1 of its routes has findings: portcullis status routes -A"),
        "{edge}"
    );
}

#[test]
fn a_reference_that_is_not_permitted_comes_with_the_grant() {
    const ROUTE: &str = r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: a, namespace: quiet, generation: 2}
spec:
  parentRefs: [{name: edge, namespace: shop}]
  rules: [{backendRefs: [{name: web, namespace: shop, port: 80}]}]
status:
  parents:
  - parentRef: {name: edge, namespace: shop}
    controllerName: portcullis.dev/gateway-controller
    conditions:
    - type: ResolvedRefs
      status: "False"
      reason: RefNotPermitted
      observedGeneration: 2
      message: 'spec.rules[0].backendRefs[0].namespace: no ReferenceGrant in namespace "shop" lets them; create one'
"#;
    let cluster = FakeCluster::start(Contents::of(&(CLUSTER.to_owned() + ROUTE)));
    let told = told(&cluster, &["routes", "-n", "quiet"]);
    assert!(
        told.contains(
            "-> or apply this:\n              apiVersion: gateway.networking.k8s.io/v1beta1\n"
        ) && told.contains("name: quiet-httproute-to-service-web"),
        "{told}"
    );
    // The field may be another reference by now.
    let changed = ROUTE.replace("generation: 2}", "generation: 3}");
    let cluster = FakeCluster::start(Contents::of(&(CLUSTER.to_owned() + &changed)));
    let told = self::told(&cluster, &["routes", "-n", "quiet"]);
    assert!(
        told.contains("no ReferenceGrant in namespace \"shop\"") && !told.contains("apply this"),
        "{told}"
    );
}

#[test]
fn programs_read_json_and_choose_what() {
    let cluster = FakeCluster::start(Contents::of(CLUSTER));
    let ask = |arguments: &[&str]| -> Value {
        let output = cluster.run(&[arguments, &["-o", "json"]].concat());
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let all = ask(&["status", "-A"]);
    assert_eq!(all["gatewayApi"], "v1.7.0 standard");
    assert_eq!(all["gateways"].as_array().map(Vec::len), Some(3));
    assert_eq!(all["gateways"][0]["listeners"]["attachedRoutes"], 3);
    assert_eq!(all["routes"].as_array().map(Vec::len), Some(2));
    let gateways = ask(&["status", "gateways", "-A"]);
    assert_eq!(gateways["routes"], Value::Array(Vec::new()));
    let routes = ask(&["status", "routes", "-A"]);
    assert_eq!(routes["gateways"], Value::Array(Vec::new()));
    assert_eq!(routes["findings"][0]["object"], "HTTPRoute team/lost");
}

#[test]
fn where_no_controller_runs_nothing_is_as_it_should_be() {
    let manifests = config().join("samples/shared-gateway.yaml");
    let manifests = fs::read_to_string(manifests).expect("a sample") + CLASS;
    let cluster = FakeCluster::start(Contents::of(&manifests));
    let output = cluster.run(&["status", "gateways", "-A"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("the controller has not answered: does it run?"),
        "{told}"
    );
}

#[test]
fn what_may_not_be_read_is_said_with_the_right_that_is_missing() {
    let contents = Contents::of(CLUSTER).refusing("gatewayclasses", 403);
    let cluster = FakeCluster::start(contents.refusing("backendtlspolicies", 403));
    let output = cluster.run(&["status"]);
    let told = stdout(&output);
    assert!(told.contains("shop/foreign"), "{told}");
    assert!(
        told.contains("note: without GatewayClasses")
            && told.contains("User \"dora\" cannot list resource \"gatewayclasses\"")
            && told.contains("note: without BackendTLSPolicies: backendtlspolicies is forbidden"),
        "{told}"
    );

    let cluster = FakeCluster::start(Contents::of(CLUSTER).refusing("gateways", 403));
    let output = cluster.run(&["status", "-A"]);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        error.contains("you may not list gateways") && error.contains("with -n"),
        "{error}"
    );
}

#[test]
fn missing_crds_are_said_with_the_remedy() {
    let cluster = FakeCluster::start(Contents::default().refusing("gatewayclasses", 404));
    for arguments in [&["status"][..], &["status", "routes"]] {
        let output = cluster.run(arguments);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        assert!(
            error.contains("does not know the kind GatewayClass")
                && error.contains("kubectl apply --server-side"),
            "{error}"
        );
    }
}

#[test]
fn a_route_that_may_not_be_seen_is_not_said_to_be_missing() {
    for refused in ["httproutes", "grpcroutes"] {
        let cluster = FakeCluster::start(Contents::of(CLUSTER).refusing(refused, 403));
        let told = told(&cluster, &["route", "nowhere"]);
        assert!(
            told.contains("route shop/nowhere  Accepted=Unknown (RouteNotSeen)")
                && told.contains(
                    "there is no route nowhere in namespace shop among those that you may list"
                )
                && told.contains(&format!("cannot list resource \"{refused}\"")),
            "{told}"
        );
    }
}

/// Of Gateway `shop/edge`, in the namespace of another team.
const TEAM_SET: &str = r#"
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: {name: theirs, namespace: away}
spec:
  parentRef: {name: edge, namespace: shop}
  listeners: [{name: more, port: 8081, protocol: HTTP}]
status:
  conditions: [{type: Accepted, status: "False", reason: NotAllowed, message: the Gateway takes none from away}]
"#;

#[test]
fn a_listener_set_is_told_with_its_gateway_and_in_its_own_namespace() {
    let all = CLUSTER.to_owned() + TEAM_SET;
    let cluster = FakeCluster::start(Contents::of(&all));
    let refused = "ListenerSet away/theirs  Accepted=False (NotAllowed)";
    let of_gateway = told(&cluster, &["gateway", "shop/edge"]);
    assert!(of_gateway.contains(refused), "{of_gateway}");
    let own = told(&cluster, &["-n", "away"]);
    assert!(
        own.contains(refused) && !own.contains("nothing of Portcullis"),
        "{own}"
    );
    // Of others nothing is told.
    let foreign = all.replace(
        "{name: edge, namespace: shop}\n  listeners",
        "{name: foreign, namespace: shop}\n  listeners",
    );
    let cluster = FakeCluster::start(Contents::of(&foreign));
    let told = stdout(&cluster.run(&["status", "-n", "away"]));
    assert!(
        !told.contains("away/theirs") && told.contains("nothing of Portcullis"),
        "{told}"
    );
}

#[test]
fn without_the_right_to_all_namespaces_a_gateway_has_the_listener_sets_of_its_own() {
    let contents = Contents {
        refused_everywhere: vec!["listenersets"],
        ..Contents::of(&(CLUSTER.to_owned() + TEAM_SET))
    };
    let cluster = FakeCluster::start(contents);
    let output = cluster.run(&["status", "gateway", "shop/edge"]);
    let told = stdout(&output);
    assert!(
        told.contains("shop/extra")
            && !told.contains("away/theirs")
            && told.contains(
                "note: without ListenerSets of other namespaces: listenersets is forbidden"
            ),
        "{told}{}",
        stderr(&output)
    );
}

#[test]
fn a_cluster_without_portcullis_is_told_so() {
    let cluster = FakeCluster::start(Contents::default());
    let output = cluster.run(&["status"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told.contains("`portcullis install`") && told.contains("-A looks at all of them"),
        "{told}"
    );
}

#[test]
fn a_cluster_that_is_away_is_an_error_that_names_it() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr());
    let address = address.expect("a port that is free again");
    let output = FakeCluster::at(address).run(&["status"]);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        error.contains(&format!("cannot ask the API server at http://{address}"))
            && error.contains("refused"),
        "{error}"
    );
}

#[test]
fn a_context_or_kubeconfig_that_is_not_there_is_an_error() {
    let cluster = FakeCluster::start(Contents::default());
    let error = stderr(&cluster.run(&["status", "--context", "production"]));
    assert_eq!(
        error,
        "error: the kubeconfig has no context production; choose one of its contexts with --context: fake\n"
    );
    let output = run(&["status", "--kubeconfig", "/no/such/file"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        stderr(&output),
        "error: cannot read the kubeconfig /no/such/file: No such file or directory (os error 2); name another one with \
         --kubeconfig or KUBECONFIG\n"
    );
}

#[test]
fn each_thing_that_is_wrong_with_a_kubeconfig_is_said_in_one_sentence() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("config");
    let cases = [
        ("a: [", "config is not valid: line 1 column 4: "),
        (
            "{}",
            "config has no current context; it has none at all, so name another one with",
        ),
        (
            "{current-context: a, contexts: [{name: a, context: {cluster: c, user: u}}]}",
            "config has no cluster c, which its context names; mend it, or choose one of its contexts with --context: a\n",
        ),
    ];
    for (text, expected) in cases {
        fs::write(&file, text).expect("written");
        let output = run(&["status", "--kubeconfig", file.to_str().expect("UTF-8")]);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            error.contains(expected) && error.lines().count() == 1,
            "{error}"
        );
    }
    let output = crate::common::portcullis(&["status"])
        .env("HOME", directory.path())
        .env_remove("KUBECONFIG")
        .output()
        .expect("it starts");
    let error = stderr(&output);
    assert!(
        error.starts_with("error: no cluster to ask: there is no kubeconfig at "),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1, "{error}");
}
