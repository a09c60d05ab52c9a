//! `portcullis egress` with the objects of a cluster, and with the logs of its proxies.

use std::fs;

use serde_json::{Value, json};

use crate::{
    common::{config, stderr, stdout},
    explain::programmed,
    fake::{Contents, FakeCluster},
};

/// One refusal, just now.
fn refusal(account: &str, host: &str) -> String {
    let line = json!({
        "kind": "egress", "time": "2999-01-01T00:00:00Z", "gateway": "egress/out",
        "caller": { "namespace": "shop", "service_account": account, "ip": "10.0.0.1" },
        "form": "connect", "host": host, "port": 443,
        "verdict": "refuse", "reason": "host_not_listed",
    });
    format!("{line}\n")
}

/// An egress Gateway with two proxies, another Gateway, and a pod that is none of it.
fn contents() -> Contents {
    let mut contents = Contents::of(
        "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: out, namespace: egress}
spec: {gatewayClassName: portcullis-egress}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge, namespace: egress}
spec: {gatewayClassName: portcullis}
---
apiVersion: v1
kind: Pod
metadata: {name: out-1, namespace: egress, labels: {gateway.networking.k8s.io/gateway-name: out}}
---
apiVersion: v1
kind: Pod
metadata: {name: out-2, namespace: egress, labels: {gateway.networking.k8s.io/gateway-name: out}}
---
apiVersion: v1
kind: Pod
metadata: {name: edge-1, namespace: egress, labels: {gateway.networking.k8s.io/gateway-name: edge}}
",
    );
    contents.logs.insert("out-1", refusal("web", "a.example"));
    let second = refusal("web", "a.example") + &refusal("cron", "b.example");
    // The last line of a log may still be under way.
    contents.logs.insert("out-2", second + "{\"kind\":\"egr");
    contents
        .logs
        .insert("edge-1", refusal("web", "edge.example"));
    contents
}

#[test]
fn the_logs_of_all_proxies_are_counted_together() {
    let cluster = FakeCluster::start(contents());
    let output = cluster.run(&["egress", "denied", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let denied: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let groups = denied["groups"].as_array().expect("groups").iter();
    let groups: Vec<_> = groups
        .map(|it| (it["host"].as_str(), it["count"].as_u64()))
        .collect();
    assert_eq!(
        groups,
        [(Some("a.example"), Some(2)), (Some("b.example"), Some(1))]
    );
    assert_eq!(denied["unread"], 1);
    let asked = cluster.asked();
    let logs: Vec<_> = asked.iter().filter(|it| it.contains("/log?")).collect();
    assert_eq!(logs.len(), 2, "{asked:?}");
    for log in logs {
        assert!(
            log.contains("container=proxy") && log.contains("sinceSeconds=3600"),
            "{log}"
        );
    }
}

#[test]
fn one_gateway_may_be_named() {
    let cluster = FakeCluster::start(contents());
    let said = stdout(&cluster.run(&[
        "egress",
        "denied",
        "--gateway",
        "egress/edge",
        "--since",
        "2h",
    ]));
    assert!(
        said.contains("edge.example:443") && !said.contains("a.example:443 "),
        "{said}"
    );
    let asked = cluster.asked();
    assert!(
        asked.iter().any(|it| it.contains("sinceSeconds=7200")),
        "{asked:?}"
    );
    assert!(
        !asked.iter().any(|it| it.ends_with("/gateways")),
        "{asked:?}"
    );

    let output = cluster.run(&["egress", "denied", "--gateway", "egress/gone"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("Gateway egress/gone has no proxy"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_may_not_be_read_is_said_and_the_rest_is_counted() {
    let mut some = contents();
    some.logs.remove("out-1");
    let output = FakeCluster::start(some).run(&["egress", "denied"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("note: the log of Pod egress/out-1 is not read: it is not there any more"),
        "{said}"
    );
    assert!(said.contains("b.example:443"), "{said}");

    for (refused, expected) in [
        ("log", "Ask for a role with `get` of pods/log there"),
        ("pods", "you may not list pods"),
        ("gateways", "Name one with --gateway"),
    ] {
        let cluster = FakeCluster::start(contents().refusing(refused, 403));
        let output = cluster.run(&["egress", "denied"]);
        assert_eq!(output.status.code(), Some(2), "{refused}");
        let said = stderr(&output);
        assert!(
            said.contains(expected) && said.contains("forbidden"),
            "{said}"
        );
    }
}

#[test]
fn a_cluster_without_a_way_out_says_so() {
    let mut none = contents();
    none.objects
        .retain(|object| object["metadata"]["name"] != "out");
    let output = FakeCluster::start(none).run(&["egress", "learn"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("no Gateway of the class portcullis-egress"));
}

#[test]
fn lessons_are_learned_from_proxies_as_from_files() {
    let contents = contents();
    let file = tempfile::NamedTempFile::new().expect("a file");
    let log = contents.logs["out-1"].clone() + &contents.logs["out-2"];
    fs::write(file.path(), log).expect("written");
    let path = file.path().to_str().expect("UTF-8").to_owned();
    let cluster = FakeCluster::start(contents);
    let live = stdout(&cluster.run(&["egress", "learn"]));
    assert_eq!(
        live,
        stdout(&cluster.run(&["egress", "learn", "--log", &path]))
    );
    assert!(live.contains("a.example:443, 2 times, by web"), "{live}");
}

/// The sample of egress in a cluster where only an older version of ServiceEntry is served, with a pod that calls and a node.
fn sample() -> Contents {
    let path = config().join("samples/egress/allow-list.yaml");
    let manifests = fs::read_to_string(path).expect("a sample");
    let manifests = manifests.replace("networking.istio.io/v1\n", "networking.istio.io/v1beta1\n");
    let more = r"
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: portcullis-egress}
spec: {controllerName: portcullis.dev/gateway-controller}
---
apiVersion: v1
kind: Pod
metadata: {name: checkout-1, namespace: shop, labels: {app: checkout}}
spec: {serviceAccountName: web, containers: [{name: web, image: web}]}
status: {phase: Running, podIP: 10.4.0.17, podIPs: [{ip: 10.4.0.17}]}
---
apiVersion: v1
kind: Namespace
metadata: {name: apps}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: default, namespace: apps}
---
apiVersion: v1
kind: Node
metadata: {name: one}
spec: {podCIDR: 198.51.100.0/24, podCIDRs: [198.51.100.0/24]}
status: {addresses: [{type: InternalIP, address: 9.9.9.9}]}
";
    let mut contents = Contents::of(&(manifests + more)).controlled();
    programmed(&mut contents);
    contents
}

/// What is said of a destination, and the exit code.
fn checked(contents: Contents, arguments: &[&str]) -> (Option<i32>, String) {
    let output = FakeCluster::start(contents).run(&[&["egress", "check"], arguments].concat());
    (output.status.code(), stdout(&output) + &stderr(&output))
}

#[test]
fn a_destination_is_checked_by_the_objects_of_the_cluster() {
    for (arguments, code, expected) in [
        (
            &["https://api.openweathermap.org", "--from", "shop/web"][..],
            0,
            "Address  not judged",
        ),
        (
            &["http://payments.example/", "--pod", "shop/checkout-1"],
            0,
            "Caller   shop/web",
        ),
        (
            &["http://payments.example/", "--from", "shop/web"],
            1,
            "egresspolicy/shop/payments",
        ),
        (
            &["https://other.example", "--gateway", "egress/egress"],
            1,
            "(host_not_listed)",
        ),
        (
            &[
                "https://api.openweathermap.org",
                "--from",
                "apps",
                "--resolve",
                "9.9.9.9",
            ],
            1,
            "it leads to 9.9.9.9, an address of the cluster (address_refused)",
        ),
        (
            &[
                "https://api.openweathermap.org",
                "--from",
                "apps",
                "--resolve",
                "8.8.8.8,10.0.0.1",
            ],
            1,
            "Address  10.0.0.1: refused, a private address",
        ),
        (
            &[
                "https://api.openweathermap.org",
                "--from",
                "apps",
                "--resolve",
                "api.openweathermap.org:443:8.8.8.8",
            ],
            0,
            "Address  8.8.8.8: may be connected to",
        ),
        (
            &[
                "https://api.openweathermap.org",
                "--resolve",
                "b.example:443:8.8.8.8",
            ],
            2,
            "no --resolve is for api.openweathermap.org:443",
        ),
        (
            &["https://other.example", "--gateway", "egress/gone"],
            2,
            "there is no Gateway egress/gone",
        ),
        (
            &["https://other.example", "--from", "shopp/web"],
            2,
            "there is no Namespace shopp in the cluster",
        ),
        (
            &["https://other.example", "--from", "shop/wbe"],
            2,
            "there is no ServiceAccount shop/wbe in the cluster",
        ),
        (
            &["https://other.example", "-f", "x", "--context", "y"],
            2,
            "cannot be used with",
        ),
    ] {
        let (found, said) = checked(sample(), arguments);
        assert_eq!(found, Some(code), "{arguments:?} {said}");
        assert!(said.contains(expected), "{arguments:?} {said}");
        assert!(!said.contains("note:"), "{arguments:?} {said}");
    }
}

#[test]
fn the_answer_for_a_cluster_is_that_for_its_manifests() {
    let contents = sample();
    let file = tempfile::NamedTempFile::with_suffix(".json").expect("a file");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": contents.objects });
    fs::write(file.path(), list.to_string()).expect("written");
    let path = file.path().to_str().expect("UTF-8").to_owned();
    let cluster = FakeCluster::start(contents);
    for asked in [
        &["http://payments.example/", "--pod", "shop/checkout-1"][..],
        &["https://new.example", "--from", "shop/web", "-o", "json"],
        &["https://new.example", "--from", "shop/web", "-o", "yaml"],
    ] {
        let live = cluster.run(&[&["egress", "check"], asked].concat());
        let files = cluster.run(&[&["egress", "check", "-f", &path], asked].concat());
        assert_eq!(stdout(&live), stdout(&files), "{}", stderr(&live));
        assert_eq!(live.status.code(), files.status.code());
    }
}

#[test]
fn what_may_make_the_answer_untrue_is_said() {
    let mut unconfirmed = sample();
    let is_gateway = |object: &&mut Value| object["kind"] == "Gateway";
    let gateway = unconfirmed.objects.iter_mut().find(is_gateway);
    gateway.expect("a Gateway")["status"] = Value::Null;
    let by_label = || {
        let mut contents = sample();
        contents.objects.push(json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "EgressPolicy",
            "metadata": { "name": "by-label", "namespace": "egress" },
            "spec": { "action": "Deny", "from": [{ "namespaceSelector": {} }], "to": [{ "hosts": ["other.example"] }] },
        }));
        contents
    };
    let mut refusing = sample();
    let gateway = refusing.objects.iter_mut().find(is_gateway);
    let condition = json!({
        "type": "portcullis.dev/SourcesReadable", "status": "False", "message": "EgressPolicy cannot be read",
    });
    let conditions = &mut gateway.expect("a Gateway")["status"]["conditions"];
    conditions
        .as_array_mut()
        .expect("conditions")
        .push(condition);
    let mut held_back = sample();
    held_back.objects = refusing.objects.clone();
    let gateway = held_back.objects.iter_mut().find(is_gateway);
    let conditions = &mut gateway.expect("a Gateway")["status"]["conditions"];
    for condition in conditions.as_array_mut().expect("conditions") {
        if condition["type"] == "Programmed" {
            condition["status"] = "Unknown".into();
        }
    }
    for (contents, code, expected) in [
        (held_back, 2, "EgressPolicy cannot be read"),
        (
            by_label().refusing("namespaces", 403),
            2,
            "you may not list namespaces in all namespaces, and they decide",
        ),
        (
            sample().refusing("namespaces", 403),
            0,
            "note: as if it were not there: namespaces is forbidden",
        ),
        (
            unconfirmed,
            0,
            "note: the proxies of Gateway egress/egress may do something else: Programmed is Unknown",
        ),
        (
            refusing,
            0,
            "note: the controller cannot read all that you may: EgressPolicy cannot be read",
        ),
        (
            sample().refusing("pods", 403),
            0,
            "note: as if it were not there: pods is forbidden",
        ),
        (
            sample().refusing("serviceaccounts", 403),
            0,
            "note: whether there is a ServiceAccount apps/default is not known: serviceaccounts is forbidden",
        ),
        (
            sample().refusing("egresspolicies", 403),
            2,
            "you may not list egresspolicies in all namespaces, and they decide",
        ),
        (
            sample().refusing("serviceentries", 403),
            2,
            "you may not list serviceentries in all namespaces",
        ),
        (
            sample().refusing("gateways", 403),
            2,
            "Name one with --gateway",
        ),
    ] {
        let (found, said) = checked(
            contents,
            &["https://api.openweathermap.org", "--from", "apps"],
        );
        assert_eq!(found, Some(code), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}

/// Addresses that Services may have, and do not have yet.
#[test]
fn ranges_of_services_are_refused_as_far_as_they_can_be_read() {
    let with_ranges = || {
        let mut contents = sample();
        contents.objects.push(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": { "name": "kubernetes" }, "spec": { "cidrs": ["9.8.0.0/16"] },
        }));
        contents
    };
    let asked = [
        "https://api.openweathermap.org",
        "--from",
        "apps",
        "--resolve",
        "9.8.7.6",
    ];
    let (code, said) = checked(with_ranges(), &asked);
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("Address  9.8.7.6: refused, an address of the cluster"),
        "{said}"
    );
    assert!(!said.contains("note:"), "{said}");
    for (status, why) in [
        (403, "you may not list them, and the controller may"),
        (
            404,
            "the cluster has none (Kubernetes has them from 1.33 on)",
        ),
    ] {
        let (code, said) = checked(with_ranges().refusing("servicecidrs", status), &asked);
        assert_eq!(code, Some(0), "{said}");
        assert!(
            said.contains("note: without ServiceCIDRs only addresses"),
            "{said}"
        );
        assert!(said.contains(why), "{said}");
    }
}

/// Who asks the wrong command has not asked whether the Gateway is well.
#[test]
fn explain_leaves_an_egress_gateway_to_check() {
    let explain = [
        "explain",
        "--gateway",
        "egress/egress",
        "GET",
        "http://api.example/",
    ];
    let output = FakeCluster::start(sample()).run(&explain);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("Gateway egress/egress is one of egress")
            && said.contains("`portcullis egress check`"),
        "{said}"
    );
}

#[test]
fn without_the_nodes_or_the_gateway_there_is_no_answer() {
    let (found, said) = checked(
        sample().refusing("nodes", 403),
        &[
            "https://api.openweathermap.org",
            "--from",
            "apps",
            "--resolve",
            "8.8.8.8",
        ],
    );
    assert_eq!(found, Some(2), "{said}");
    assert!(said.contains("you may not list nodes"), "{said}");
    let mut two = contents();
    two.objects[1]["spec"]["gatewayClassName"] = "portcullis-egress".into();
    let (found, said) = checked(two, &["https://api.openweathermap.org"]);
    assert_eq!(found, Some(2));
    assert!(
        said.contains("choose one with --gateway: egress/"),
        "{said}"
    );
}

/// Pods of proxies listen on all of their addresses.
#[test]
fn what_leads_to_the_proxy_itself_is_refused() {
    for (port, address, reason) in [
        (3128, "127.0.0.1", "leads_to_proxy"),
        (9901, "127.1.2.3", "leads_to_proxy"),
        (9902, "127.0.0.1", "allowed"),
    ] {
        let mut contents = sample();
        contents.objects.push(json!({
            "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
            "metadata": { "name": "own", "namespace": "egress" },
            "spec": {
                "hosts": ["own.example"], "resolution": "DNS",
                "ports": [{ "number": 80, "name": "http", "protocol": "HTTP", "targetPort": port }],
            },
        }));
        contents.objects.push(json!({
            "apiVersion": "portcullis.dev/v1alpha1", "kind": "EgressPolicy",
            "metadata": { "name": "here", "namespace": "egress" },
            "spec": { "allowPrivate": ["127.0.0.0/8"] },
        }));
        let (_, said) = checked(contents, &["http://own.example", "--resolve", address]);
        assert!(said.contains(&format!("({reason})")), "{port}: {said}");
    }
}
