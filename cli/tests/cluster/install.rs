//! `portcullis install` beside a Helm that waits: what is told meanwhile, and afterwards.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::Stdio,
};

use crate::{
    fake::{Contents, FakeCluster},
    helm::{Answers, FakeHelm},
};

const WITHOUT_IMAGE: &str = "
apiVersion: apps/v1
kind: Deployment
metadata:
  name: edge-controller
  namespace: infra
  labels: {app.kubernetes.io/instance: edge, app.kubernetes.io/component: controller}
spec: {replicas: 2, selector: {matchLabels: {app.kubernetes.io/instance: edge}}}
status: {replicas: 2, updatedReplicas: 2}
---
apiVersion: v1
kind: Pod
metadata:
  name: edge-controller-1
  namespace: infra
  labels: {app.kubernetes.io/instance: edge, app.kubernetes.io/component: controller}
status:
  containerStatuses:
  - name: controller
    image: portcullis-controller:0.1.0
    ready: false
    state: {waiting: {reason: ErrImagePull, message: access denied}}
";

#[test]
fn what_helm_waits_for_is_told_and_when_it_gives_up_what_to_do() {
    let cluster = FakeCluster::start(Contents::of(WITHOUT_IMAGE));
    let helm = FakeHelm::new(&Answers {
        // Until it is told that it has waited long enough, but for a minute at most.
        work: "for turn in $(seq 600); do [ -e \"${0%/*}/enough\" ] || sleep 0.1; done; echo 'Error: timed out' >&2; exit 1",
        ..Answers::default()
    });
    let install = ["install", "--namespace", "infra", "--release", "edge"];
    let mut install = cluster.command(&install);
    install.env("PATH", helm.path()).stderr(Stdio::piped());
    let mut install = install.spawn().expect("the binary starts");
    let mut told = BufReader::new(install.stderr.take().expect("its standard error"));

    for expected in [
        "Waiting: Deployment infra/edge-controller: 0 of 2 replicas are ready\n",
        "Waiting: Pod infra/edge-controller-1: ErrImagePull: access denied\n",
    ] {
        let mut line = String::new();
        told.read_line(&mut line).expect("a line");
        assert_eq!(line, expected);
    }
    fs::write(helm.file("enough"), "").expect("written");
    let mut rest = String::new();
    told.read_to_string(&mut rest).expect("the rest");
    assert_eq!(install.wait().expect("its end").code(), Some(2));
    for expected in [
        "Error: timed out\n",
        "fault   Pod infra/edge-controller-1: ErrImagePull: access denied\n        -> see that the nodes can get the image \
         portcullis-controller:0.1.0",
        "error: helm has not installed it",
    ] {
        assert!(rest.contains(expected), "{expected}\n{rest}");
    }
}
