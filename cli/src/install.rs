//! `portcullis install`: the Helm chart that is in this program, rendered or installed by the user's Helm.

use std::{
    io,
    path::Path,
    process::{Command, ExitCode, ExitStatus, Stdio},
};

use anyhow::{Context, bail};
use include_dir::{Dir, include_dir};
use serde_json::Value;

use crate::{
    args::{Format, InstallArgs},
    output::{Columns, print, show},
};

static CHART: Dir = include_dir!("$CARGO_MANIFEST_DIR/../charts/portcullis");

/// Runs it.
pub(crate) fn install(args: &InstallArgs) -> anyhow::Result<ExitCode> {
    let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
    CHART
        .extract(folder.path())
        .context("cannot write the chart into a temporary directory")?;
    if args.dry_run {
        let manifests = render(args, folder.path())?;
        match args.output {
            Format::Yaml => show(&manifests),
            form => {
                let objects: Vec<Value> =
                    serde_saphyr::from_multiple(&manifests).context("cannot read the manifests")?;
                print(form, &objects, |objects| names(objects))?;
            }
        }
    } else {
        apply(args, folder.path())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(args: &InstallArgs, chart: &Path) -> anyhow::Result<String> {
    let mut helm = helm(args, "template", chart);
    helm.arg("--include-crds");
    let output = helm.stdin(Stdio::inherit()).output().map_err(not_started)?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&output.stderr);
        let told = told.trim();
        bail!("helm: {}", told.strip_prefix("Error: ").unwrap_or(told));
    }
    String::from_utf8(output.stdout).context("helm has printed something that is not UTF-8")
}

/// Helm says itself what it does.
fn apply(args: &InstallArgs, chart: &Path) -> anyhow::Result<()> {
    let mut helm = helm(args, "upgrade", chart);
    helm.args(["--install", "--create-namespace", "--wait"]);
    if let Some(context) = &args.context {
        helm.args(["--kube-context", context]);
    }
    let status: ExitStatus = helm.status().map_err(not_started)?;
    if !status.success() {
        bail!("helm has not installed it ({status}); what it says is above");
    }
    Ok(())
}

fn helm(args: &InstallArgs, command: &str, chart: &Path) -> Command {
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

fn not_started(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::NotFound {
        anyhow::anyhow!(
            "there is no `helm` on the PATH: install it (https://helm.sh/docs/intro/install), or apply the manifests of the repository, which need no Helm: kubectl apply --server-side -k config/default"
        )
    } else {
        anyhow::Error::new(error).context("cannot start helm")
    }
}

fn names(objects: &[Value]) -> String {
    let mut columns = Columns::new(["KIND", "NAMESPACE", "NAME"]);
    for object in objects {
        let word = |pointer: &str| {
            let word = object.pointer(pointer).and_then(Value::as_str);
            word.unwrap_or("-").to_owned()
        };
        columns.row([
            word("/kind"),
            word("/metadata/namespace"),
            word("/metadata/name"),
        ]);
    }
    columns.to_string()
}
