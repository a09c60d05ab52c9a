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
        others.contains("is not served: its class is not of example.com/other"),
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
