//! `portcullis check`: before and after an installation.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::{
    common::{stderr, stdout},
    fake::{Contents, FakeCluster},
};

/// The CRDs of Gateway API but for some.
fn definitions(missing: &[&str]) -> String {
    let plurals = [
        "gatewayclasses",
        "gateways",
        "httproutes",
        "tlsroutes",
        "referencegrants",
        "listenersets",
        "backendtlspolicies",
    ];
    let there = plurals.iter().filter(|plural| !missing.contains(plural));
    there
        .map(|plural| DEFINITION.replace("PLURAL", plural))
        .collect()
}

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: PLURAL.gateway.networking.k8s.io
  annotations: {gateway.networking.k8s.io/bundle-version: v1.7.0, gateway.networking.k8s.io/channel: standard}
spec: {versions: [{name: v1, served: true}]}
---";

const INSTALLED: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gatewayparameters.portcullis.dev}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: portcullis-controller
  namespace: portcullis-system
  labels: {app.kubernetes.io/name: portcullis, app.kubernetes.io/component: controller}
spec: {replicas: 2, selector: {matchLabels: {app.kubernetes.io/component: controller}}}
status: {replicas: 2, readyReplicas: 2, updatedReplicas: 2, availableReplicas: 2}
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: {name: portcullis-controller, namespace: portcullis-system}
spec: {holderIdentity: portcullis-controller-abc}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis}
spec: {controllerName: portcullis.dev/gateway-controller}
status: {conditions: [{type: Accepted, status: "True", reason: Accepted, message: ""}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {gatewayClassName: portcullis, listeners: []}
status: {conditions: [{type: Programmed, status: "True", reason: Programmed, message: ""}]}
---
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: edge-portcullis
  namespace: shop
  labels: &proxy {app.kubernetes.io/name: portcullis-proxy, app.kubernetes.io/managed-by: portcullis}
  ownerReferences: [{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, name: edge, uid: u}]
spec: {selector: {matchLabels: *proxy}}
status: {desiredNumberScheduled: 3, numberReady: 3, updatedNumberScheduled: 3, numberAvailable: 3}
"#;

/// A pod whose image nobody has.
const WITHOUT_IMAGE: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: SPACE, labels: {LABELS}}
status:
  phase: Pending
  containerStatuses:
  - name: program
    image: nowhere.example/portcullis:none
    ready: false
    state: {waiting: {reason: ImagePullBackOff, message: no such host}}
";

fn without_image(namespace: &str, labels: &str) -> String {
    WITHOUT_IMAGE
        .replace("NAME", "new")
        .replace("SPACE", namespace)
        .replace("LABELS", labels)
}

const WELL: &str = "\
ok      Kubernetes: v1.33.4-eks
ok      Gateway API: v1.7.0, channel standard
ok      CRDs of Portcullis: gatewayparameters.portcullis.dev
ok      Deployment portcullis-system/portcullis-controller: 2 of 2 replicas are ready
ok      Lease portcullis-system/portcullis-controller: held by portcullis-controller-abc
ok      GatewayClass portcullis: accepted, nothing is wrong with it
ok      Gateway shop/edge: accepted, nothing is wrong with it
ok      DaemonSet shop/edge-portcullis: 3 of 3 replicas are ready

0 faults, 0 warnings
";

#[test]
fn an_installation_that_is_well_is_told_line_by_line() {
    let cluster = FakeCluster::start(Contents::of(&(definitions(&[]) + INSTALLED)));
    let output = cluster.run(&["check"]);
    assert_eq!(stdout(&output), WELL, "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn faults_come_with_their_remedy() {
    let broken = INSTALLED
        .replace("readyReplicas: 2", "readyReplicas: 0")
        .replace(
            "{holderIdentity: portcullis-controller-abc}",
            "{holderIdentity: gone, renewTime: \"2020-01-01T00:00:00.000000Z\", leaseDurationSeconds: 15}",
        )
        .replace(
            "{type: Programmed, status: \"True\", reason: Programmed, message: \"\"}",
            "{type: Programmed, status: \"False\", reason: NoResources, message: ask for quota}",
        );
    let cluster = FakeCluster::start(Contents::of(&(definitions(&[]) + &broken)));
    let output = cluster.run(&["check"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(1));
    for expected in [
        "fault   Deployment portcullis-system/portcullis-controller: 0 of 2 replicas are ready\n        -> kubectl",
        "fault   Lease portcullis-system/portcullis-controller: held by gone, who has not renewed it for",
        "fault   Gateway shop/edge: Programmed=False (NoResources)\n        -> ask for quota",
        "3 faults, 0 warnings",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

#[test]
fn a_gateway_that_has_just_begun_is_a_warning_unless_more_is_wrong() {
    let told = |age: i64, conditions: &str| {
        let created = Timestamp::now() - SignedDuration::from_secs(age);
        let begun = INSTALLED
            .replace(
                "{name: edge, namespace: shop}",
                &format!(
                    "{{name: edge, namespace: shop, generation: 2, creationTimestamp: \"{created}\"}}"
                ),
            )
            .replace(
                "{type: Programmed, status: \"True\", reason: Programmed, message: \"\"}",
                conditions,
            );
        let cluster = FakeCluster::start(Contents::of(&(definitions(&[]) + &begun)));
        stdout(&cluster.run(&["check"]))
    };
    // As the API server writes it, before anybody has looked at the Gateway.
    let pending = "{type: Programmed, status: Unknown, reason: Pending, message: wait, \
                   lastTransitionTime: \"1970-01-01T00:00:00Z\"}";
    let new = told(1, pending);
    assert!(
        new.contains("warning Gateway shop/edge: Programmed=Unknown (Pending)")
            && new.contains("0 faults, 1 warning"),
        "{new}"
    );
    assert!(told(1, "").contains("warning Gateway shop/edge: Accepted=Unknown (NoAnswer)"));
    let old = told(120, pending);
    assert!(
        old.contains("fault   Gateway shop/edge: Programmed"),
        "{old}"
    );
    let broken = "{type: Accepted, status: \"False\", reason: Invalid, message: broken}";
    let more = told(1, &format!("{pending}, {broken}"));
    assert!(more.contains("2 faults, 0 warnings"), "{more}");
    // Edited a moment ago, however old it is.
    let edited = "{type: Programmed, status: \"True\", reason: Programmed, message: \"\", observedGeneration: 1}";
    let edited = told(120, edited);
    assert!(
        edited.contains("warning Gateway shop/edge") && edited.contains("0 faults, 1 warning"),
        "{edited}"
    );
}

#[test]
fn a_rollout_that_is_stuck_is_told_with_what_its_pods_wait_for() {
    let stuck = INSTALLED
        .replace(
            "{replicas: 2, readyReplicas: 2, updatedReplicas: 2, availableReplicas: 2}",
            "{replicas: 3, readyReplicas: 2, updatedReplicas: 1, availableReplicas: 2, conditions: [{type: Progressing, \
             status: \"False\", reason: ProgressDeadlineExceeded, message: timed out}]}",
        )
        .replace("updatedNumberScheduled: 3", "updatedNumberScheduled: 1");
    let controller = without_image(
        "portcullis-system",
        "app.kubernetes.io/name: portcullis, app.kubernetes.io/component: controller",
    );
    let proxy = without_image(
        "shop",
        "app.kubernetes.io/name: portcullis-proxy, app.kubernetes.io/managed-by: portcullis",
    );
    let cluster = FakeCluster::start(Contents::of(
        &(definitions(&[]) + &stuck + &controller + &proxy),
    ));
    let output = cluster.run(&["check"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{told}{}", stderr(&output));
    for expected in [
        "fault   Deployment portcullis-system/portcullis-controller: 2 of 2 replicas are ready; 1 of 2 are of the latest \
         version; the rollout is stuck: timed out (ProgressDeadlineExceeded)\n        -> kubectl",
        "fault   Pod portcullis-system/new: ImagePullBackOff: no such host\n        -> see that the \
         nodes can get the image nowhere.example/portcullis:none",
        "ok      Gateway shop/edge",
        "warning DaemonSet shop/edge-portcullis: 3 of 3 replicas are ready; 1 of 3 are of the latest version\n",
        "fault   Pod shop/new: ImagePullBackOff",
        "3 faults, 1 warning",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
}

/// Neither what another controller's Gateways have, nor pods that are not of a workload here.
#[test]
fn proxies_of_others_are_left_out() {
    let others = INSTALLED.replace("name: edge, uid: u", "name: other, uid: u");
    let cluster = FakeCluster::start(Contents::of(&(definitions(&[]) + &others)));
    let output = cluster.run(&["check"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{told}{}", stderr(&output));
    assert!(!told.contains("DaemonSet"), "{told}");
}

/// Both have the labels of proxies; the selectors tell whose a pod is.
#[test]
fn a_broken_pod_is_told_of_its_own_workload_only() {
    let (_, daemon_set) = INSTALLED.split_once("kind: DaemonSet").expect("one");
    let installed = INSTALLED.replace(
        "matchLabels: *proxy",
        "matchLabels: {app.kubernetes.io/instance: edge}",
    );
    let other = daemon_set.replace("edge-portcullis", "second").replace(
        "matchLabels: *proxy",
        "matchLabels: {app.kubernetes.io/instance: second}",
    );
    let pod = without_image(
        "shop",
        "app.kubernetes.io/name: portcullis-proxy, app.kubernetes.io/managed-by: portcullis, app.kubernetes.io/instance: second",
    );
    let all = format!(
        "{}{installed}---\napiVersion: apps/v1\nkind: DaemonSet{other}{pod}",
        definitions(&[])
    );
    let told = stdout(&FakeCluster::start(Contents::of(&all)).run(&["check"]));
    assert_eq!(told.matches("fault   Pod shop/new").count(), 1, "{told}");
    assert!(
        told.contains("DaemonSet shop/second: 3 of 3 replicas are ready\nfault   Pod shop/new"),
        "{told}"
    );
}

/// What is only worth knowing about a cluster is no reason to ask for a role.
#[test]
fn gateways_of_others_are_no_concern() {
    let others = INSTALLED.replace("gatewayClassName: portcullis", "gatewayClassName: other")
        + "---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: other}
spec: {controllerName: example.com/other}
";
    let cluster = FakeCluster::start(Contents::of(&(definitions(&[]) + &others)));
    let told = stdout(&cluster.run(&["check"]));
    assert!(told.ends_with("0 faults, 0 warnings\n"), "{told}");
}

#[test]
fn a_reference_that_is_not_permitted_comes_with_the_grant() {
    let refused = INSTALLED.replace(
        "listeners: []}\nstatus: {conditions: [",
        "listeners: [], tls: {backend: {clientCertificateRef: {name: own, namespace: certs}}}}\nstatus: {conditions: [{type: \
         ResolvedRefs, status: \"False\", reason: RefNotPermitted, message: \"spec.tls.backend.clientCertificateRef.namespace: \
         no ReferenceGrant in namespace certs lets Gateways; create it\"}, ",
    );
    let cluster = FakeCluster::start(Contents::of(&(definitions(&[]) + &refused)));
    let told = stdout(&cluster.run(&["check"]));
    assert!(
        told.contains("fault   Gateway shop/edge: ResolvedRefs=False (RefNotPermitted)")
            && told.contains("-> or apply this:")
            && told.contains("kind: Secret"),
        "{told}"
    );
}

#[test]
fn a_namespace_without_a_controller_is_a_fault() {
    let cluster = FakeCluster::start(Contents::of(&(definitions(&[]) + INSTALLED)));
    let output = cluster.run(&["check", "--namespace", "elsewhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("fault   Controller: there is none in namespace elsewhere"));
}

#[test]
fn before_an_installation_rights_and_crds_are_looked_at() {
    let cluster = FakeCluster::start(Contents::of(definitions(&[]).trim_end_matches("---")));
    let output = cluster.run(&["check", "--pre"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{told}{}", stderr(&output));
    assert!(
        told.contains("ok      Rights: you may create all that is installed"),
        "{told}"
    );

    let few = definitions(&["gateways", "listenersets"]);
    let contents = Contents {
        not_creatable: vec!["clusterroles", "deployments"],
        ..Contents::of(few.trim_end_matches("---"))
    };
    let cluster = FakeCluster::start(contents);
    // One remedy for all rights that are missing.
    let told = stdout(&cluster.run(&["check", "--pre"]));
    assert!(
        told.contains(
            "fault   Rights: you may not create clusterroles\nfault   Rights: you may not create deployments in \
             portcullis-system\n        -> ask somebody with cluster-admin"
        ),
        "{told}"
    );
    let output = cluster.run(&["check", "--pre", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let items: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let found = |state: &str| -> Vec<String> {
        let items = items.as_array().into_iter().flatten();
        let items = items.filter(|item| item["state"] == state);
        items
            .filter_map(|item| Some(item["found"].as_str()?.to_owned()))
            .collect()
    };
    assert_eq!(
        found("fault"),
        [
            "the CRD gateways.gateway.networking.k8s.io is not installed",
            "you may not create clusterroles",
            "you may not create deployments in portcullis-system",
        ]
    );
    assert_eq!(
        found("warning"),
        [
            "the CRD listenersets.gateway.networking.k8s.io is not installed, so there are none of them"
        ]
    );
}

#[test]
fn a_cluster_without_gateway_api_is_a_fault_and_no_error() {
    let cluster = FakeCluster::start(Contents::default().refusing("gatewayclasses", 404));
    let output = cluster.run(&["check"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stdout(&output).contains("-> install v1.7.0: kubectl apply --server-side"));
}

#[test]
fn what_may_not_be_looked_at_is_a_warning() {
    let contents = Contents::of(&(definitions(&[]) + INSTALLED));
    let contents = contents
        .refusing("deployments", 403)
        .refusing("customresourcedefinitions", 403);
    let output = FakeCluster::start(contents).run(&["check"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{told}{}", stderr(&output));
    assert!(
        told.contains("warning Controller: may not be looked at: deployments is forbidden"),
        "{told}"
    );
    assert!(
        told.contains("warning Gateway API: may not be looked at"),
        "{told}"
    );

    let contents = Contents::of(&(definitions(&[]) + INSTALLED)).refusing("gateways", 403);
    let output = FakeCluster::start(contents).run(&["check"]);
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{told}{}", stderr(&output));
    for expected in [
        "ok      Lease portcullis-system/portcullis-controller",
        "ok      GatewayClass portcullis",
        "warning Gateways: may not be looked at: gateways is forbidden",
        "-> ask for a role with this right",
        "0 faults, 1 warning",
    ] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert!(!told.contains("-n"), "{told}");
}
