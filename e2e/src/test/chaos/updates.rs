//! Proxies and controllers are replaced by newer ones, pod by pod.

use std::{collections::BTreeSet, time::Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{Chaos, GATEWAY, REPLICAS};
use crate::test::proxies;

/// A change of the parameters that the pods are made of.
pub(super) async fn proxies(chaos: &Chaos<'_>) -> Result<()> {
    let before = proxies::until_ready(chaos.bed, GATEWAY, REPLICAS).await?;
    let patch = json!({ "spec": { "workload": { "logLevel": "Warn" } } }).to_string();
    let parameters = format!("gatewayparameters/{GATEWAY}");
    chaos
        .bed
        .run(&["patch", &parameters, "--type=merge", "--patch", &patch])
        .await?;
    let mut ending = BTreeSet::new();
    chaos
        .bed
        .until("all pods are new", async || {
            let pods = proxies::pods_of(chaos.bed, GATEWAY).await?;
            let pods = pods["items"].as_array().context("no list")?;
            for pod in pods {
                if !pod["metadata"]["deletionTimestamp"].is_null() && ending.insert(name(pod)) {
                    chaos.drains.borrow_mut().push(Instant::now());
                }
            }
            let old = before
                .iter()
                .filter(|proxy| pods.iter().any(|pod| name(pod) == proxy.pod));
            ensure!(old.count() == 0, "old pods are still there");
            Ok(())
        })
        .await?;
    let now = proxies::until_ready(chaos.bed, GATEWAY, REPLICAS).await?;
    chaos.change(&now).await
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// `kubectl rollout restart`; the Lease goes over to a new pod.
pub(super) async fn controllers(chaos: &Chaos<'_>) -> Result<()> {
    let proxies = proxies::until_ready(chaos.bed, GATEWAY, REPLICAS).await?;
    let before = chaos.controllers.leader().await?;
    chaos.controllers.replace().await?;
    chaos.change(&proxies).await?;
    chaos.until_told().await?;
    let now = chaos.controllers.leader().await?;
    ensure!(now != before, "{before} still leads, but is gone");
    Ok(())
}
