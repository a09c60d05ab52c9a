//! `portcullis status`, `check` and `explain` say what is so in the cluster.

use anyhow::{Context, Result};

use super::EDGE;
use crate::test::{bed::Bed, portcullis::Portcullis};

pub(super) async fn portcullis(bed: &Bed) -> Result<()> {
    let portcullis = Portcullis::get(bed).await?;
    bed.echo("app", 1).await?;
    bed.apply(EDGE).await?;
    let address = bed.address("edge").await?;
    let url = format!("http://{address}/");
    bed.until_curl(&[&url], |answer| answer.is_from("app"))
        .await?;
    let namespace = bed.namespace.as_str();
    let gateway = format!("{namespace}/edge");
    let status = ["status", "--namespace", namespace];
    let explain = ["explain", "--gateway", &gateway, "GET"];

    portcullis
        .expect(
            &status,
            0,
            &[&gateway, &address.to_string(), "No condition is wrong."],
        )
        .await?;
    let pods = bed.get("pods").await?;
    let pod = find_pod(&pods, "app")?;
    portcullis
        .expect(
            &[&explain[..], &[&url]].concat(),
            0,
            &[
                &format!("rule 0 of HTTPRoute {namespace}/app"),
                &format!("to Service {namespace}/app:80"),
                &format!("{pod}:3000"),
                "Programmed is True",
            ],
        )
        .await?;
    check(&portcullis, namespace, &gateway).await?;

    // A mistake: what it is, where, and by the exit code that there is one.
    let backend = r#"{"spec":{"rules":[{"matches":[{"path":{"type":"PathPrefix","value":"/shop"}}],"backendRefs":[{"name":"nowhere","port":80}]}]}}"#;
    bed.patch("httproute/app", backend).await?;
    bed.until_condition(
        "httproute/app",
        "/status/parents/0/conditions",
        "ResolvedRefs",
        "False",
    )
    .await?;
    portcullis
        .expect(&status, 1, &["ResolvedRefs", "nowhere", "1 finding"])
        .await?;
    portcullis
        .expect(&[&explain[..], &[&url]].concat(), 1, &["404"])
        .await?;
    let nothing = format!("{namespace}/nothing");
    portcullis
        .expect(
            &["explain", "--gateway", &nothing, "GET", &url],
            2,
            &[&format!("there is no Gateway {nothing} in the cluster")],
        )
        .await
}

/// The installation and what it serves is well, and in this namespace there is none.
async fn check(portcullis: &Portcullis<'_>, namespace: &str, gateway: &str) -> Result<()> {
    let ours = format!("ok      Gateway {gateway}: accepted");
    let words = [
        ours.as_str(),
        "ok      Kubernetes: v1.",
        "ok      Gateway API: v1.",
        "replicas are ready",
        "held by portcullis-controller-",
        "0 faults",
    ];
    portcullis.expect(&["check"], 0, &words).await?;
    let missing = format!("there is none in namespace {namespace}");
    let elsewhere = ["check", "--namespace", namespace];
    portcullis.expect(&elsewhere, 1, &[&missing]).await?;
    portcullis
        .expect(&["check", "--pre"], 0, &["ok      Kubernetes: v1."])
        .await
}

/// The address of a pod of the application.
fn find_pod(pods: &serde_json::Value, app: &str) -> Result<String> {
    pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|pod| pod["metadata"]["labels"]["app"] == app)
        .and_then(|pod| pod["status"]["podIP"].as_str())
        .map(str::to_owned)
        .with_context(|| format!("no pod of {app} has an address"))
}
