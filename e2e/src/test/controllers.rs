//! The controllers that `cargo e2e chart install` has put into the cluster.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bed::{Bed, PATIENCE};
use crate::{
    chart::install::NAMESPACE,
    cluster::{kubectl::ready_pods, processes::Process},
};

const DEPLOYMENT: &str = "deployment/portcullis-controller";
const LEASE: &str = "lease/portcullis-controller";
const PODS: [&str; 2] = ["pods", Controllers::SELECTOR];
/// The program in their pods.
const PROGRAM: &str = "portcullis-controller";

/// The controllers of the cluster.
#[derive(Clone, Copy)]
pub(crate) struct Controllers<'a>(pub(crate) &'a Bed);

impl Controllers<'_> {
    /// Their pods.
    pub(crate) const SELECTOR: &'static str = "--selector=app.kubernetes.io/component=controller";

    /// Runs kubectl in their namespace.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut all = vec!["--namespace", NAMESPACE];
        all.extend(arguments);
        self.0.kubectl.run(&all).await
    }

    async fn get(&self, what: &[&str]) -> Result<Value> {
        let mut all = vec!["--namespace", NAMESPACE];
        all.extend(what);
        self.0.kubectl.get(&all).await
    }

    /// How many there are to be.
    pub(crate) async fn replicas(&self) -> Result<u64> {
        self.get(&[DEPLOYMENT]).await?["spec"]["replicas"]
            .as_u64()
            .context("the Deployment has no replicas")
    }

    /// The name of the pod that holds the Lease.
    pub(crate) async fn leader(&self) -> Result<String> {
        self.get(&[LEASE]).await?["spec"]["holderIdentity"]
            .as_str()
            .map(str::to_owned)
            .context("nobody holds the Lease")
    }

    /// How long the Lease holds without being renewed.
    pub(crate) async fn lease_duration(&self) -> Result<Duration> {
        self.get(&[LEASE]).await?["spec"]["leaseDurationSeconds"]
            .as_u64()
            .map(Duration::from_secs)
            .context("the Lease has no duration")
    }

    /// The names of the pods that are Ready.
    pub(crate) async fn pods(&self) -> Result<Vec<String>> {
        let pods = self.get(&PODS).await?;
        Ok(ready_pods(&pods)
            .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
            .collect())
    }

    /// The process of a pod.
    pub(crate) async fn process(&self, pod: &str) -> Result<Process> {
        let pod = self.get(&["pod", pod]).await?;
        let uid = pod["metadata"]["uid"]
            .as_str()
            .context("the pod has no UID")?;
        Process::of_pod(uid, PROGRAM)
    }

    /// How often the container of a pod has been started again.
    pub(crate) async fn restarts(&self, pod: &str) -> Result<u64> {
        self.get(&["pod", pod]).await?["status"]["containerStatuses"][0]["restartCount"]
            .as_u64()
            .context("the pod has no containers yet")
    }

    /// Sets their number, and waits until there are so many.
    pub(crate) async fn scale(&self, replicas: u64) -> Result<()> {
        let number = format!("--replicas={replicas}");
        self.run(&["scale", DEPLOYMENT, &number]).await?;
        self.until_ready(replicas).await
    }

    /// Waits until `replicas` pods are Ready, and there are no others.
    pub(crate) async fn until_ready(&self, replicas: u64) -> Result<()> {
        self.0
            .until("the controllers are as many as wanted", async || {
                let all = self.get(&PODS).await?;
                let count = all["items"].as_array().map_or(0, Vec::len) as u64;
                let ready = ready_pods(&all).count() as u64;
                ensure!(
                    (count, ready) == (replicas, replicas),
                    "{ready} of {count} pods are Ready instead of {replicas}"
                );
                Ok(())
            })
            .await
    }

    /// Replaces all of them, one after the other, as an update does.
    pub(crate) async fn replace(&self) -> Result<()> {
        let replicas = self.replicas().await?;
        let patience = format!("--timeout={}s", PATIENCE.as_secs());
        self.run(&["rollout", "restart", DEPLOYMENT]).await?;
        self.run(&["rollout", "status", DEPLOYMENT, &patience])
            .await?;
        self.until_ready(replicas).await
    }
}
