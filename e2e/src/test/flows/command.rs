//! `portcullis status`, `check` and `explain` say what is so in the cluster.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::EDGE;
use crate::{support::binaries, test::bed::Bed};

/// The command with the cluster's kubeconfig.
struct Portcullis<'a> {
    program: PathBuf,
    bed: &'a Bed,
}

impl Portcullis<'_> {
    /// Runs it, and checks exit code and words on either of its outputs.
    async fn expect(&self, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
        let output = Command::new(&self.program)
            .args(arguments)
            .env("KUBECONFIG", &self.bed.kubectl.kubeconfig)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot run portcullis")?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let what = arguments.join(" ");
        ensure!(
            output.status.code() == Some(code),
            "portcullis {what}: {} instead of {code}: {said}",
            output.status
        );
        for word in words {
            ensure!(
                said.contains(word),
                "portcullis {what} does not say `{word}`: {said}"
            );
        }
        Ok(())
    }
}

pub(super) async fn portcullis(bed: &Bed) -> Result<()> {
    let portcullis = Portcullis {
        program: binaries::build("portcullis", &bed.profile).await?,
        bed,
    };
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
