//! What runs a Gateway: made as its GatewayParameters say, put back when somebody changes it, and never somebody else's.

use std::net::SocketAddr;

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::{EDGE, load::Load};
use crate::{support::client::Target, test::bed::Bed};

const AUTOSCALER: &str = include_str!("../manifests/autoscaler.yaml");
const DAEMON_SET: &str = include_str!("../manifests/daemon-set.yaml");
const MADE: &str = "edge-portcullis";

/// Autoscaler and disruption budget come, change and go with the parameters.
pub(super) async fn autoscaler(bed: &Bed) -> Result<()> {
    bed.apply(AUTOSCALER).await?;
    bed.address("edge").await?;
    let hpa = "horizontalpodautoscaler/edge-portcullis";
    let pdb = "poddisruptionbudget/edge-portcullis";
    until_field(bed, hpa, "/spec/maxReplicas", &json!(3)).await?;
    let object = bed.get(hpa).await?;
    let target = &object["spec"]["scaleTargetRef"];
    ensure!(
        target["kind"] == "Deployment" && target["name"] == MADE,
        "it scales {target}"
    );
    let metric = &object["spec"]["metrics"][0]["resource"];
    ensure!(
        metric["name"] == "cpu" && metric["target"]["averageUtilization"] == 70,
        "it looks at {metric}"
    );
    until_field(bed, pdb, "/spec/maxUnavailable", &json!(1)).await?;
    // Kubernetes finds the Gateway's pods by it.
    until_field(bed, pdb, "/status/expectedPods", &json!(1)).await?;

    let more = r#"{"spec":{"horizontalPodAutoscaler":{"maxReplicas":5}}}"#;
    bed.patch("gatewayparameters/edge", more).await?;
    until_field(bed, hpa, "/spec/maxReplicas", &json!(5)).await?;
    let none = r#"{"spec":{"horizontalPodAutoscaler":null,"podDisruptionBudget":null}}"#;
    bed.patch("gatewayparameters/edge", none).await?;
    bed.until("both are gone", async || {
        let left = bed
            .run(&["get", hpa, pdb, "--ignore-not-found", "--output=name"])
            .await?;
        ensure!(left.is_empty(), "there is still {left}");
        Ok(())
    })
    .await
}

/// A DaemonSet serves, and a Deployment takes over from it while requests go on.
pub(super) async fn daemon_set(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    bed.apply(DAEMON_SET).await?;
    let address = bed.address("edge").await?;
    bed.until_curl(&[&format!("http://{address}/")], |answer| {
        answer.is_from("app")
    })
    .await?;
    expect_workload(bed, "daemonset").await?;
    let load = Load::new(Target::clear(SocketAddr::new(address, 80), "shop.example"));
    load.during(async {
        let deployment = r#"{"spec":{"workload":{"kind":"Deployment"}}}"#;
        bed.patch("gatewayparameters/edge", deployment).await?;
        bed.until("the DaemonSet is gone", async || {
            expect_workload(bed, "deployment").await
        })
        .await?;
        let before = load.answers();
        // The pods of the DaemonSet end now, one connection after the other.
        bed.run(&[
            "wait",
            "pods",
            "--selector=!pod-template-hash,!app",
            "--for=delete",
            "--timeout=2m",
        ])
        .await?;
        bed.until("requests go on", async || {
            ensure!(load.answers() > before + 100, "they have stopped");
            Ok(())
        })
        .await
    })
    .await
}

/// The Gateway has this kind of workload, and no other.
async fn expect_workload(bed: &Bed, kind: &str) -> Result<()> {
    let names = bed
        .run(&[
            "get",
            "deployments,daemonsets",
            "--selector=gateway.networking.k8s.io/gateway-name=edge",
            "--output=name",
        ])
        .await?;
    ensure!(
        names.trim() == format!("{kind}.apps/{MADE}"),
        "there is {names}"
    );
    Ok(())
}

/// Somebody edits or deletes what the controller has made.
pub(super) async fn drift(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    bed.apply(EDGE).await?;
    let url = format!("http://{}/", bed.address("edge").await?);
    bed.until_curl(&[&url], |answer| answer.is_from("app"))
        .await?;
    let deployment = "deployment/edge-portcullis";
    let service = "service/edge-portcullis";
    let image = "/spec/template/spec/containers/0/image";
    let port = "/spec/ports/0/port";
    let ours = bed.get(deployment).await?;
    let image_of_ours = ours.pointer(image).cloned().unwrap_or_default();
    let target_port = bed.get(service).await?["spec"]["ports"][0]["targetPort"].clone();

    bed.run(&["set", "image", deployment, "proxy=localhost/nobody:1"])
        .await?;
    until_field(bed, deployment, image, &image_of_ours).await?;

    let edits = json!([
        { "op": "replace", "path": port, "value": 81 },
        { "op": "replace", "path": "/spec/ports/0/targetPort", "value": 9 },
    ]);
    bed.run(&[
        "patch",
        service,
        "--type=json",
        "--patch",
        &edits.to_string(),
    ])
    .await?;
    until_field(bed, service, port, &json!(80)).await?;
    until_field(bed, service, "/spec/ports/0/targetPort", &target_port).await?;
    let ports = bed.get(service).await?["spec"]["ports"].clone();
    ensure!(
        ports.as_array().is_some_and(|ports| ports.len() == 1),
        "the edit left a port: {ports}"
    );
    bed.until_curl(&[&url], |answer| answer.is_from("app"))
        .await?;

    bed.run(&["delete", deployment]).await?;
    bed.until("there is a new Deployment", async || {
        let new = bed.get(deployment).await?;
        ensure!(
            new["metadata"]["uid"] != ours["metadata"]["uid"]
                && new["status"]["readyReplicas"] == 1,
            "{}",
            new["status"]
        );
        Ok(())
    })
    .await?;
    bed.until_curl(&[&url], |answer| answer.is_from("app"))
        .await
        .map(drop)
}

/// A Service of the name that the Gateway's would have was there before.
pub(super) async fn foreign_service(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    let service = "service/edge-portcullis";
    bed.run(&["create", "service", "clusterip", MADE, "--tcp=5432:5432"])
        .await?;
    let before = bed.get(service).await?;
    bed.apply(EDGE).await?;
    let name = format!("Service {}/{MADE}", bed.namespace);
    bed.until("the status names the Service", async || {
        let gateway = bed.get("gateway/edge").await?;
        let conditions = &gateway["status"]["conditions"];
        let condition = crate::test::bed::expect_condition(conditions, "Programmed", "False")?;
        let message = condition["message"].as_str().unwrap_or_default();
        if condition["reason"] == "NoResources" && message.contains(&name) {
            return Ok(());
        }
        bail!("it says {condition}")
    })
    .await?;
    let after = bed.get(service).await?;
    ensure!(after == before, "{before} has become {after}");
    // It is out of the way: everything goes on by itself.
    bed.run(&["delete", service]).await?;
    let url = format!("http://{}/", bed.address("edge").await?);
    bed.until_curl(&[&url], |answer| answer.is_from("app"))
        .await
        .map(drop)
}

async fn until_field(bed: &Bed, object: &str, pointer: &str, wanted: &Value) -> Result<()> {
    bed.until(&format!("{pointer} of {object} is {wanted}"), async || {
        let found = bed.get(object).await?;
        let found = found.pointer(pointer).unwrap_or(&Value::Null);
        ensure!(found == wanted, "it is {found}");
        Ok(())
    })
    .await
}
