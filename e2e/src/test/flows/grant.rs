//! A Service of another namespace is used if that namespace allows it, and no longer.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::test::bed::Bed;

const CROSS_NAMESPACE: &str = include_str!("../manifests/cross-namespace.yaml");
const PARENTS: &str = "/status/parents/0/conditions";

pub(super) async fn reference(bed: &Bed) -> Result<()> {
    let neighbour = bed.neighbour().await?;
    neighbour.echo("app", 1).await?;
    bed.apply(&CROSS_NAMESPACE.replace("NEIGHBOUR", &neighbour.namespace))
        .await?;
    let url = format!("http://{}/", bed.address("edge").await?);
    expect_refused(bed, &url, &neighbour.namespace).await?;

    let grant = json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1",
        "kind": "ReferenceGrant",
        "metadata": { "name": "routes" },
        "spec": {
            "from": [{ "group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": bed.namespace }],
            "to": [{ "group": "", "kind": "Service", "name": "app" }],
        },
    });
    neighbour.apply(&grant.to_string()).await?;
    bed.until_curl(&[&url], |answer| {
        answer.is_from("app") && answer.echo()["namespace"] == neighbour.namespace
    })
    .await?;
    bed.until_condition("httproute/app", PARENTS, "ResolvedRefs", "True")
        .await?;

    neighbour.run(&["delete", "referencegrant/routes"]).await?;
    expect_refused(bed, &url, &neighbour.namespace).await
}

/// 500 for clients, and for the author of the route what to do.
async fn expect_refused(bed: &Bed, url: &str, namespace: &str) -> Result<()> {
    bed.until_curl(&[url], |answer| answer.status == 500)
        .await?;
    let condition = bed
        .until_condition("httproute/app", PARENTS, "ResolvedRefs", "False")
        .await?;
    let message = condition["message"].as_str().unwrap_or_default();
    ensure!(
        condition["reason"] == "RefNotPermitted"
            && message.contains("create a ReferenceGrant")
            && message.contains(namespace),
        "no remedy: {condition}"
    );
    Ok(())
}
