//! A Service becomes reachable from outside.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

use super::EDGE;
use crate::test::bed::Bed;

const NODE_PORT: &str = include_str!("../manifests/node-port.yaml");
const TWO_GATEWAYS: &str = include_str!("../manifests/two-gateways.yaml");

/// A Gateway and a route, nothing else.
pub(super) async fn load_balancer(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    bed.apply(EDGE).await?;
    let address = bed.address("edge").await?;
    let url = format!("http://{address}/hello");
    let answer = bed
        .until_curl(&[&url], |answer| answer.is_from("app"))
        .await?;
    ensure!(answer.echo()["path"] == "/hello", "another path: {answer}");
    // As the tutorials find it.
    let told = bed
        .run(&[
            "get",
            "service",
            "edge-portcullis",
            "--output=jsonpath={.status.loadBalancer.ingress[0].ip}",
        ])
        .await?;
    ensure!(
        told == address.to_string(),
        "the Service has {told}, the Gateway {address}"
    );
    Ok(())
}

/// A port of the node, then another one.
pub(super) async fn node_port(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    bed.apply(NODE_PORT).await?;
    let node = node_address(bed).await?;
    let [first, second] = [30080, 30081].map(|port| format!("http://{node}:{port}/"));
    bed.until_curl(&[&first], |answer| answer.is_from("app"))
        .await?;
    let patch = r#"{"spec":{"service":{"nodePorts":[{"port":80,"nodePort":30081}]}}}"#;
    bed.patch("gatewayparameters/edge", patch).await?;
    bed.until_curl(&[&second], |answer| answer.is_from("app"))
        .await?;
    bed.until("the first port is closed", async || {
        ensure!(bed.curl(&[&first]).await.is_err(), "it answers");
        Ok(())
    })
    .await
}

async fn node_address(bed: &Bed) -> Result<IpAddr> {
    let nodes = bed.kubectl.get(&["nodes"]).await?;
    nodes["items"][0]["status"]["addresses"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|address| address["type"] == "InternalIP")
        .and_then(|address| address["address"].as_str()?.parse().ok())
        .context("the node has no internal address")
}

/// Two Gateways with the same port in one namespace.
pub(super) async fn two_gateways(bed: &Bed) -> Result<()> {
    for app in ["blue-app", "green-app"] {
        bed.echo(app, 1).await?;
    }
    bed.apply(TWO_GATEWAYS).await?;
    let blue = bed.address("blue").await?;
    let green = bed.address("green").await?;
    ensure!(blue != green, "both have {blue}");
    for (address, own, app, other) in [
        (blue, "blue", "blue-app", "green"),
        (green, "green", "green-app", "blue"),
    ] {
        let own = format!("http://{address}/{own}");
        bed.until_curl(&[&own], |answer| answer.is_from(app))
            .await?;
        let answer = bed.curl(&[&format!("http://{address}/{other}")]).await?;
        ensure!(answer.status == 404, "{other} at {address}: {answer}");
    }
    Ok(())
}
