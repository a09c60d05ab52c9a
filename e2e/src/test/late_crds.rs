//! The controllers are there before the CRDs of Gateway API. Every object of Gateway API in the cluster is lost on the way.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use futures::FutureExt;
use serde_json::Value;

use super::{
    Company, Scenario,
    bed::{Bed, PATIENCE, expect_condition},
    controllers::Controllers,
};
use crate::cluster::up::{Crds, definitions};

/// What the chart has made, and the kinds that nothing goes without.
const CLASS: &str = "portcullis";
const KINDS: [&str; 3] = ["GatewayClass", "Gateway", "HTTPRoute"];

const OBJECTS: &str = include_str!("manifests/edge.yaml");

pub(super) fn scenario() -> Scenario {
    Scenario::new(
        "late-crds",
        "controllers that start before the CRDs of Gateway API say what they wait for, and serve once it is there",
        Company::AloneOnOwnNode,
        |bed| run(bed).boxed_local(),
    )
}

async fn run(bed: &Bed) -> Result<()> {
    let controllers = Controllers(bed);
    let replicas = controllers.replicas().await?;
    let class = without_history(bed.kubectl.get(&["gatewayclass", CLASS]).await?)?;
    let (folder, _) = definitions(Crds::Experimental)
        .await?
        .context("this channel has definitions")?;
    let patience = format!("--timeout={}s", PATIENCE.as_secs());
    controllers.scale(0).await?;
    let folder_name = folder.to_string_lossy();
    let delete = ["delete", "--kustomize", &folder_name, &patience];
    let without = match bed.kubectl.run(&delete).await {
        Ok(_) => start(bed, replicas, &folder, &class).await,
        Err(error) => Err(error),
    };
    // Whatever came of it, those who come next need them.
    bed.kubectl.apply_kustomization(&folder).await?;
    let all = ["crd", "--all"];
    bed.kubectl
        .wait(&all, "condition=Established", PATIENCE)
        .await?;
    bed.kubectl.apply(&class).await?;
    let pods = match without {
        Ok(pods) => pods,
        Err(error) => {
            controllers.scale(replicas).await?;
            return Err(error);
        }
    };
    serve(bed).await?;
    let now = controllers.pods().await?;
    ensure!(now == pods, "{now:?} have taken the place of {pods:?}");
    expect_started_once(bed, &now).await
}

/// Starts the controllers while there is no CRD; then there is that of the class only. Returns their pods.
async fn start(bed: &Bed, replicas: u64, folder: &Path, class: &Value) -> Result<Vec<String>> {
    let controllers = Controllers(bed);
    controllers.scale(replicas).await?;
    let pods = controllers.pods().await?;
    for pod in &pods {
        let log = controllers.run(&["logs", pod]).await?;
        let waits: Vec<Value> = log
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(|line: &Value| line["message"] == "the CRD is not installed; waiting for it")
            .collect();
        for kind in KINDS {
            ensure!(
                waits.iter().any(|line| line["kind"] == kind),
                "{pod} does not say that it waits for the CRD of {kind}:\n{log}"
            );
        }
    }
    let definition = folder.join("gateway.networking.k8s.io_gatewayclasses.yaml");
    let definition = definition.to_string_lossy();
    bed.kubectl
        .run(&["apply", "--server-side", "--filename", &definition])
        .await?;
    bed.kubectl
        .wait(
            &["crd", "gatewayclasses.gateway.networking.k8s.io"],
            "condition=Established",
            PATIENCE,
        )
        .await?;
    bed.kubectl.apply(class).await?;
    bed.until("the class says which kinds are missing", async || {
        let missing = missing_kinds(bed).await?;
        ensure!(
            ["Gateway", "HTTPRoute"]
                .iter()
                .all(|kind| missing.contains(*kind)),
            "it says that these are: {missing:?}"
        );
        Ok(())
    })
    .await?;
    expect_started_once(bed, &pods).await?;
    Ok(pods)
}

/// The kinds that the class says are not installed, in the message of `SupportedVersion`.
async fn missing_kinds(bed: &Bed) -> Result<BTreeSet<String>> {
    let class = bed.kubectl.get(&["gatewayclass", CLASS]).await?;
    let conditions = class["status"]["conditions"]
        .as_array()
        .context("it has no status")?;
    let message = conditions
        .iter()
        .find(|condition| condition["type"] == "SupportedVersion")
        .and_then(|condition| condition["message"].as_str())
        .context("it says nothing of the version")?;
    let missing = message
        .split_once("Not installed, so not served: ")
        .map_or("", |(_, kinds)| kinds);
    Ok(missing
        .split(", ")
        .filter(|kind| !kind.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Checks that no controller has been started again.
async fn expect_started_once(bed: &Bed, pods: &[String]) -> Result<()> {
    for pod in pods {
        let restarts = Controllers(bed).restarts(pod).await?;
        ensure!(restarts == 0, "{pod} was started again {restarts} times");
    }
    Ok(())
}

async fn serve(bed: &Bed) -> Result<()> {
    bed.until("the class is accepted", async || {
        let class = bed.kubectl.get(&["gatewayclass", CLASS]).await?;
        expect_condition(&class["status"]["conditions"], "Accepted", "True")?;
        expect_condition(&class["status"]["conditions"], "SupportedVersion", "True")?;
        let missing = missing_kinds(bed).await?;
        ensure!(missing.is_empty(), "still missing: {missing:?}");
        Ok(())
    })
    .await?;
    bed.echo("app", 1).await?;
    bed.apply(OBJECTS).await?;
    let url = format!("http://{}/", bed.address("edge").await?);
    bed.until_curl(&[&url], |answer| answer.is_from("app"))
        .await
        .map(drop)
}

/// An object as somebody would write it, without what the API server has made of it.
fn without_history(mut object: Value) -> Result<Value> {
    object
        .as_object_mut()
        .context("not an object")?
        .remove("status");
    let metadata = object["metadata"].as_object_mut().context("no metadata")?;
    metadata.retain(|field, _| ["name", "labels", "annotations"].contains(&field.as_str()));
    Ok(object)
}
