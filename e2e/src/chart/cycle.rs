//! `cargo e2e chart cycle`: a release's whole life in the cluster, with nothing left in the end.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{
    helm::Helm,
    install::{IMAGES, load_images},
    repository,
};
use crate::{
    cluster::{Cluster, kubectl::Kubectl},
    images::product,
    support::{process::POLL, report::Tally},
};

/// The release, and its namespace. Its GatewayClass has another name than the default one, and it leaves egress to others, so that
/// it may be installed beside.
const RELEASE: &str = "portcullis-cycle";
const CONTROLLER: &str = "portcullis-cycle-controller";
const VALUES: [&str; 3] = [
    "egress.enabled=false",
    "gatewayClass.name=portcullis-cycle",
    "controllerName=portcullis.dev/cycle",
];
/// How long the cluster may take for each step.
const PATIENCE: Duration = Duration::from_mins(2);
/// The namespace of the manifests for kustomize.
const DEFAULT_NAMESPACE: &str = "portcullis-system";
/// What the controller has made by itself in its namespace. It stays when the chart goes: a new release goes on with it.
const KEPT: [&str; 2] = [
    "lease.coordination.k8s.io/portcullis-cycle-controller",
    "secret/portcullis-ca",
];

/// Installs, upgrades, breaks, rolls back and uninstalls a release.
pub(super) async fn run(images: Option<PathBuf>) -> Result<()> {
    let cluster = Cluster::chosen();
    let kubectl = cluster.kubectl().await?;
    load_images(&cluster, images).await?;
    let mut cycle = Cycle {
        helm: Helm::new(Some(&kubectl.kubeconfig)).await?,
        kubectl,
        tally: Tally::default(),
        start: Instant::now(),
    };
    cycle.make_namespace().await?;
    let outcome = cycle.steps().await;
    cycle.check("a release's life", &outcome);
    let cleaned = cycle.clean().await;
    cycle.check("namespace deleted with everything in it", &cleaned);
    let accepted = cycle.kustomize().await;
    cycle.check("the API server takes config/default", &accepted);
    cycle.tally.close()
}

struct Cycle {
    helm: Helm,
    kubectl: Kubectl,
    tally: Tally,
    start: Instant,
}

impl Cycle {
    fn check<T>(&mut self, what: &str, outcome: &Result<T>) {
        let seconds = self.start.elapsed().as_secs_f64();
        let error = outcome.as_ref().err();
        let verdict = if error.is_none() { "ok" } else { "FAILED" };
        println!("{seconds:>6.1} s  {what}: {verdict}");
        self.tally
            .check(error.is_none(), || format!("{what}: {error:?}"));
    }

    /// Each step needs the one before, so the first that fails ends it.
    async fn steps(&mut self) -> Result<()> {
        let installed = self.install().await;
        self.check("install; the class is accepted", &installed);
        installed?;
        let upgraded = self.upgrade().await;
        self.check("upgrade; three replicas", &upgraded);
        upgraded?;
        let broken = self.break_it().await;
        self.check("broken upgrade; the old pods stay ready", &broken);
        broken?;
        let back = self.roll_back().await;
        self.check("rollback to the first revision", &back);
        back?;
        let removed = self.uninstall().await;
        self.check("uninstall; the CRDs stay, else nothing", &removed);
        removed
    }

    async fn make_namespace(&self) -> Result<()> {
        self.kubectl
            .apply(&json!({
                "apiVersion": "v1",
                "kind": "Namespace",
                "metadata": {
                    "name": RELEASE,
                    // What the pods ask for must be within what hardened clusters allow.
                    "labels": { "pod-security.kubernetes.io/enforce": "restricted" },
                },
            }))
            .await?;
        let before = self.of_the_release().await?;
        ensure!(before.is_empty(), "a former release is there: {before:?}");
        Ok(())
    }

    async fn install(&self) -> Result<()> {
        let told = self.release(&["install"], &[], true).await?;
        ensure!(
            told.contains("kubectl get gatewayclass portcullis-cycle"),
            "the notes do not name the class: {told}"
        );
        self.kubectl
            .wait(
                &["gatewayclass/portcullis-cycle"],
                "condition=Accepted",
                PATIENCE,
            )
            .await?;
        ensure!(self.ready().await? == 2, "two replicas are not ready");
        let lease = self
            .kubectl
            .get(&["lease", CONTROLLER, "--namespace", RELEASE])
            .await?;
        ensure!(
            lease["spec"]["holderIdentity"]
                .as_str()
                .is_some_and(|holder| holder.starts_with(CONTROLLER)),
            "no pod holds the Lease: {lease}"
        );
        Ok(())
    }

    async fn upgrade(&self) -> Result<()> {
        self.release(&["upgrade"], &["replicaCount=3", "logFormat=text"], true)
            .await?;
        ensure!(self.ready().await? == 3, "three replicas are not ready");
        Ok(())
    }

    async fn break_it(&self) -> Result<()> {
        self.release(&["upgrade"], &["replicaCount=3", "image.tag=none"], false)
            .await?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let pods = self.kubectl.get(&["pods", "--namespace", RELEASE]).await?;
            if waits_for_image(&pods) {
                break;
            }
            ensure!(Instant::now() < deadline, "no pod has the image: {pods}");
            sleep(POLL).await;
        }
        ensure!(
            self.ready().await? == 3,
            "the broken release has taken pods away"
        );
        Ok(())
    }

    async fn roll_back(&self) -> Result<()> {
        let patience = timeout();
        self.helm
            .run(&[
                "rollback",
                RELEASE,
                "1",
                "--namespace",
                RELEASE,
                "--wait",
                &patience,
            ])
            .await?;
        let deployment = self.deployment().await?;
        ensure!(
            deployment["spec"]["replicas"] == 2
                && deployment["spec"]["template"]["spec"]["containers"][0]["image"]
                    == product::CONTROLLER_IMAGE,
            "not what the first revision was: {deployment}"
        );
        ensure!(self.ready().await? == 2, "two replicas are not ready");
        Ok(())
    }

    async fn uninstall(&self) -> Result<()> {
        let patience = timeout();
        self.helm
            .run(&[
                "uninstall",
                RELEASE,
                "--namespace",
                RELEASE,
                "--wait",
                &patience,
            ])
            .await?;
        let deadline = Instant::now() + PATIENCE;
        // Pods and slices go after what made them.
        loop {
            let left = self.of_the_release().await?;
            if left.is_empty() {
                break;
            }
            ensure!(Instant::now() < deadline, "left behind: {left:?}");
            sleep(POLL).await;
        }
        let kept: BTreeSet<String> = KEPT.map(str::to_owned).into();
        let left = self
            .names(&["--namespace", RELEASE, "leases,secrets,roles,rolebindings,services,deployments,replicasets,poddisruptionbudgets"])
            .await?;
        ensure!(left.is_subset(&kept), "left in the namespace: {left:?}");
        self.kubectl
            .get(&["crd", "gatewayparameters.portcullis.dev"])
            .await?;
        Ok(())
    }

    async fn clean(&self) -> Result<()> {
        // After a failed step the release may still be there; that has been told already.
        let patience = timeout();
        self.helm
            .run(&[
                "uninstall",
                RELEASE,
                "--namespace",
                RELEASE,
                "--ignore-not-found",
                "--wait",
                &patience,
            ])
            .await?;
        self.kubectl
            .run(&["delete", "namespace", RELEASE, &patience])
            .await?;
        let left = self.of_the_release().await?;
        ensure!(left.is_empty(), "left behind: {left:?}");
        Ok(())
    }

    /// Nothing is changed, but the API server says whether it would take every object.
    async fn kustomize(&self) -> Result<()> {
        let namespace = [
            "namespace",
            DEFAULT_NAMESPACE,
            "--ignore-not-found",
            "--output=name",
        ];
        let mut get = vec!["get"];
        get.extend(namespace);
        let is_there = !self.kubectl.run(&get).await?.trim().is_empty();
        if !is_there {
            self.kubectl
                .run(&["create", "namespace", DEFAULT_NAMESPACE])
                .await?;
        }
        let folder = repository("config/default");
        let folder = folder.to_string_lossy();
        let applied = self
            .kubectl
            .run(&[
                "apply",
                "--server-side",
                "--force-conflicts",
                "--dry-run=server",
                "--kustomize",
                &folder,
            ])
            .await;
        if !is_there {
            self.kubectl
                .run(&["delete", "namespace", DEFAULT_NAMESPACE, &timeout()])
                .await?;
        }
        applied.map(drop)
    }

    /// `helm install` or `upgrade` with the values of this check and some more; returns what Helm says.
    async fn release(&self, command: &[&str], values: &[&str], wait: bool) -> Result<String> {
        let patience = timeout();
        let mut arguments = command.to_vec();
        arguments.extend([RELEASE, self.helm.chart(), "--namespace", RELEASE]);
        if wait {
            arguments.extend(["--wait", &patience]);
        }
        for value in IMAGES.iter().chain(&VALUES).chain(values) {
            arguments.extend(["--set", value]);
        }
        self.helm.run(&arguments).await
    }

    async fn deployment(&self) -> Result<Value> {
        self.kubectl
            .get(&["deployment", CONTROLLER, "--namespace", RELEASE])
            .await
    }

    async fn ready(&self) -> Result<u64> {
        Ok(self.deployment().await?["status"]["readyReplicas"]
            .as_u64()
            .unwrap_or_default())
    }

    /// Names of all objects of any kind, in any namespace, that carry the release's label.
    async fn of_the_release(&self) -> Result<BTreeSet<String>> {
        let kinds = self
            .kubectl
            .run(&["api-resources", "--verbs=list", "--output=name"])
            .await?;
        // Events tell of what was, and go by themselves.
        let kinds: Vec<&str> = kinds
            .split_whitespace()
            .filter(|kind| !kind.starts_with("events"))
            .collect();
        let label = format!("--selector=app.kubernetes.io/instance={RELEASE}");
        self.names(&["--all-namespaces", &label, &kinds.join(",")])
            .await
    }

    async fn names(&self, what: &[&str]) -> Result<BTreeSet<String>> {
        let mut arguments = vec!["get", "--output=name", "--ignore-not-found"];
        arguments.extend(what);
        let names = self.kubectl.run(&arguments).await.context("kubectl get")?;
        Ok(names.lines().map(str::to_owned).collect())
    }
}

fn timeout() -> String {
    format!("--timeout={}s", PATIENCE.as_secs())
}

/// Whether one of the pods waits for an image that is not there.
fn waits_for_image(pods: &Value) -> bool {
    pods["items"].as_array().into_iter().flatten().any(|pod| {
        pod.pointer("/status/containerStatuses/0/state/waiting/reason")
            == Some(&json!("ErrImageNeverPull"))
    })
}
