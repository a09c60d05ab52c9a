//! A Service becomes reachable from outside.

use anyhow::{Result, ensure};

use crate::test::bed::Bed;

const GATEWAY: &str = r"
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  gatewayClassName: portcullis
  listeners: [{ name: http, port: 80, protocol: HTTP }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: app }
spec:
  parentRefs: [{ name: edge }]
  rules: [{ backendRefs: [{ name: app, port: 80 }] }]
";

/// A Gateway and a route, nothing else.
pub(super) async fn load_balancer(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    bed.apply(GATEWAY).await?;
    let url = format!("http://{}/hello", bed.address("edge").await?);
    let answer = bed
        .until_curl(&[&url], |answer| answer.is_from("app"))
        .await?;
    ensure!(answer.echo()["path"] == "/hello", "another path: {answer}");
    Ok(())
}
