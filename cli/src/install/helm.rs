//! The user's Helm: what it is called with, how old it is, and what it knows of an earlier installation.

use std::{
    io,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;

use super::values::names;
use crate::args::InstallArgs;

/// The first release that knows `--reset-then-reuse-values`.
const OLDEST: (u32, u32) = (3, 14);

/// How Helm says that it knows of no release of this name.
const NO_RELEASE: &str = "release: not found";
/// The status of what `helm uninstall --keep-history` leaves. Helm installs such a release anew.
const UNINSTALLED: &str = "uninstalled";

/// A revision of a release, as `helm history` has it.
#[derive(Debug, Deserialize)]
struct Revision {
    revision: u32,
    status: String,
}

/// Helm with the chart and the values that the caller names.
pub(super) fn with_chart(args: &InstallArgs, command: &str, chart: &Path) -> Command {
    let mut helm = Command::new("helm");
    helm.args([command, &args.release])
        .arg(chart)
        .args(["--namespace", &args.namespace]);
    for file in &args.values {
        helm.arg("--values").arg(file);
    }
    for value in &args.set {
        helm.args(["--set", value]);
    }
    helm
}

/// Runs it to its end.
pub(super) fn output_of(mut helm: Command) -> anyhow::Result<String> {
    let output = helm.stdin(Stdio::inherit()).output().map_err(not_started)?;
    if !output.status.success() {
        bail!("helm: {}", complaint(&output));
    }
    String::from_utf8(output.stdout).context("helm has printed something that is not UTF-8")
}

pub(super) fn not_started(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound {
        anyhow!(
            "there is no `helm` on the PATH: install it (https://helm.sh/docs/intro/install), or apply the manifests of the repository, which need no Helm: kubectl apply --server-side -k config/default"
        )
    } else {
        anyhow::Error::new(error).context("cannot start helm")
    }
}

fn complaint(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    let told = told.trim();
    told.strip_prefix("Error: ").unwrap_or(told).to_owned()
}

/// An error if it is too old. One that does not say how old it is may try.
pub(super) fn is_recent() -> anyhow::Result<()> {
    let mut helm = Command::new("helm");
    helm.args(["version", "--template", "{{.Version}}"]);
    let told = output_of(helm)?;
    let version = told.trim();
    if number(version).is_some_and(|number| number < OLDEST) {
        let (major, minor) = OLDEST;
        bail!(
            "helm {version} on the PATH is too old: it cannot keep the values of an earlier installation. Install {major}.{minor} \
             or later (https://helm.sh/docs/intro/install)"
        );
    }
    Ok(())
}

/// Major and minor of `v3.14.2`.
fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.strip_prefix('v')?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Names of the values that were set for the installation that there is, which are those that Helm would keep; `None` if
/// there is none.
pub(super) fn earlier_values(args: &InstallArgs) -> anyhow::Result<Option<Vec<String>>> {
    let mut history = about(args, &["history"]);
    let output = history.output().map_err(not_started)?;
    if !output.status.success() {
        let complaint = complaint(&output);
        if complaint.contains(NO_RELEASE) {
            return Ok(None);
        }
        bail!("helm: {complaint}");
    }
    let history: Vec<Revision> =
        serde_json::from_slice(&output.stdout).context("cannot read what `helm history` says")?;
    let Some(last) = history.last().filter(|it| it.status != UNINSTALLED) else {
        return Ok(None);
    };
    if last.status.starts_with("pending-") {
        bail!("{}", pending(args, &last.status));
    }
    let deployed = history.iter().rfind(|it| it.status == "deployed");
    let revision = deployed.unwrap_or(last).revision.to_string();
    let values = output_of(about(args, &["get", "values", "--revision", &revision]))?;
    let values = serde_json::from_str(&values).context("cannot read what `helm get` says")?;
    Ok(Some(names(&values)))
}

/// A question about the release.
fn about(args: &InstallArgs, command: &[&str]) -> Command {
    let mut helm = Command::new("helm");
    helm.args(command)
        .args([&args.release, "--namespace", &args.namespace])
        .args(["--output", "json"]);
    in_context(&mut helm, args);
    helm
}

/// Has Helm ask the cluster that the caller means.
pub(super) fn in_context(helm: &mut Command, args: &InstallArgs) {
    if let Some(context) = &args.cluster.context {
        helm.args(["--kube-context", context]);
    }
    if let Some(path) = &args.cluster.kubeconfig {
        helm.arg("--kubeconfig").arg(path);
    }
}

/// Helm does nothing with a release that it believes to be at work on.
fn pending(args: &InstallArgs, status: &str) -> String {
    let InstallArgs {
        release, namespace, ..
    } = args;
    let command = if status == "pending-install" {
        "uninstall"
    } else {
        "rollback"
    };
    format!(
        "release {release} in namespace {namespace} is {status}: another Helm is at work on it, or has been interrupted. If none is, \
         `helm {command} {release} --namespace {namespace}` ends that; then try again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(number("v3.9.4").unwrap() < OLDEST);
        assert!(number("v3.14.0+gabc").unwrap() >= OLDEST);
        assert!(number("v4.1").unwrap() >= OLDEST);
        assert_eq!(number("unknown"), None);
    }
}
