//! `portcullis egress` with the logs of a cluster's proxies.

use std::fs;

use serde_json::{Value, json};

use crate::{
    common::{stderr, stdout},
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
