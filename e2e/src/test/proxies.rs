//! The proxies of a scenario's Gateway.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::bed::Bed;
use crate::cluster::{kubectl::ready_pods, processes::Process};

/// The program in their pods.
const PROGRAM: &str = "portcullis-proxy";

/// A pod of a Gateway.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Proxy {
    pub(crate) pod: String,
    uid: String,
    pub(crate) address: IpAddr,
    /// How often the container has been started again.
    pub(crate) restarts: u64,
}

impl Proxy {
    fn of(pod: &Value) -> Result<Self> {
        let text = |pointer: &str| {
            pod.pointer(pointer)
                .and_then(Value::as_str)
                .with_context(|| format!("the pod has no {pointer}"))
        };
        Ok(Self {
            pod: text("/metadata/name")?.to_owned(),
            uid: text("/metadata/uid")?.to_owned(),
            address: text("/status/podIP")?.parse()?,
            restarts: pod["status"]["containerStatuses"][0]["restartCount"]
                .as_u64()
                .unwrap_or_default(),
        })
    }

    /// Its process, if the node is ours.
    pub(crate) fn process(&self) -> Result<Process> {
        Process::of_pod(&self.uid, PROGRAM)
    }
}

/// All pods of a Gateway, those that end too.
pub(crate) async fn pods_of(bed: &Bed, gateway: &str) -> Result<Value> {
    let selector = format!("--selector=gateway.networking.k8s.io/gateway-name={gateway}");
    bed.kubectl
        .get(&["--namespace", &bed.namespace, "pods", &selector])
        .await
}

/// Waits until a Gateway has `replicas` proxies that are Ready, and no others.
pub(crate) async fn until_ready(
    bed: &Bed,
    gateway: &str,
    replicas: usize,
) -> Result<BTreeSet<Proxy>> {
    bed.until("the proxies are as many as wanted", async || {
        let all = pods_of(bed, gateway).await?;
        let count = all["items"].as_array().map_or(0, Vec::len);
        let ready: BTreeSet<Proxy> = ready_pods(&all).map(Proxy::of).collect::<Result<_>>()?;
        ensure!(
            (count, ready.len()) == (replicas, replicas),
            "{} of {count} pods are Ready instead of {replicas}",
            ready.len()
        );
        Ok(ready)
    })
    .await
}
