//! `portcullis install`: the Helm chart that is in this program, rendered or installed by the user's Helm.

mod helm;
mod progress;
mod values;

use std::{path::Path, process::ExitCode};

use anyhow::{Context, bail};
use include_dir::{Dir, include_dir};
use serde_json::Value;
use tokio::process::Command;

use self::progress::Progress;
use crate::{
    args::{Format, InstallArgs},
    output::{Columns, print, show, tell},
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
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(apply(args, folder.path()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn render(args: &InstallArgs, chart: &Path) -> anyhow::Result<String> {
    let mut helm = helm::with_chart(args, "template", chart);
    helm.arg("--include-crds");
    helm::output_of(helm)
}

/// Helm says itself what it does, but for what it waits for.
async fn apply(args: &InstallArgs, chart: &Path) -> anyhow::Result<()> {
    helm::is_recent()?;
    if let Some(values) = helm::earlier_values(args)? {
        tell(&values::fate(args, &values));
    }
    let mut helm = helm::with_chart(args, "upgrade", chart);
    helm.args(["--install", "--create-namespace", "--wait"]);
    helm.arg(if args.reset_values {
        "--reset-values"
    } else {
        "--reset-then-reuse-values"
    });
    helm::in_context(&mut helm, args);
    let mut helm = Command::from(helm).spawn().map_err(helm::not_started)?;

    let progress = Progress::new(args).await;
    let status = tokio::select! {
        status = helm.wait() => status.context("cannot wait for helm")?,
        never = progress.follow() => match never {},
    };
    if !status.success() {
        tell(&progress.remedies().await);
        bail!(
            "helm has not installed it ({status}); what it says is above. Once that is mended, the same command goes on from here"
        );
    }
    Ok(())
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
