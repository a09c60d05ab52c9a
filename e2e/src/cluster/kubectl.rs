//! kubectl, pointed at one cluster.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, process::Command};

use crate::support::process::output_of;

/// kubectl with the kubeconfig of the cluster under test.
#[derive(Clone)]
pub(crate) struct Kubectl {
    pub(crate) program: PathBuf,
    pub(crate) kubeconfig: PathBuf,
    /// Where it keeps which kinds there are; none for the user's own place. Our clusters all have one address, and must
    /// not know each other's kinds.
    pub(crate) cache: Option<PathBuf>,
}

impl Kubectl {
    /// kubectl with these arguments, to be run.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            // The user's own preferences must not change what a check does.
            .env("KUBERC", "off");
        if let Some(cache) = &self.cache {
            command.env("KUBECACHEDIR", cache);
        }
        command
    }

    /// Runs kubectl and returns what it printed.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        output_of(self.command(arguments)).await
    }

    /// Runs kubectl and reads the JSON that it printed.
    pub(crate) async fn get(&self, arguments: &[&str]) -> Result<Value> {
        let mut all = vec!["get", "--output=json"];
        all.extend(arguments);
        Ok(serde_json::from_str(&self.run(&all).await?)?)
    }

    /// Waits for a condition or a field: `condition=Ready`, `create`, `delete`, `jsonpath=...`.
    pub(crate) async fn wait(
        &self,
        what: &[&str],
        condition: &str,
        patience: Duration,
    ) -> Result<()> {
        let condition = format!("--for={condition}");
        let patience = format!("--timeout={}s", patience.as_secs());
        let mut all = vec!["wait", &condition, &patience];
        all.extend(what);
        self.run(&all).await.map(drop)
    }

    /// Applies one object on the server's side.
    pub(crate) async fn apply(&self, object: &Value) -> Result<()> {
        self.feed(
            &["apply", "--server-side", "--filename=-"],
            &object.to_string(),
        )
        .await
        .map(drop)
    }

    /// Runs kubectl with `input` on its standard input, and returns what it printed.
    pub(crate) async fn feed(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start kubectl")?;
        let mut pipe = child.stdin.take().context("the input is piped")?;
        pipe.write_all(input.as_bytes()).await?;
        drop(pipe);
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!(
                "kubectl {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies a folder with a `kustomization.yaml` on the server's side and returns how many objects it has.
    pub(crate) async fn apply_kustomization(&self, folder: &Path) -> Result<usize> {
        let folder = folder.to_string_lossy();
        let applied = self
            .run(&[
                "apply",
                "--server-side",
                "--force-conflicts",
                "--kustomize",
                &folder,
            ])
            .await?;
        Ok(applied.lines().count())
    }
}

/// The pods in a list that are Ready and not on their way out.
pub(crate) fn ready_pods(pods: &Value) -> impl Iterator<Item = &Value> {
    pods["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|pod| pod["metadata"]["deletionTimestamp"].is_null())
        .filter(|pod| {
            pod["status"]["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        })
}
