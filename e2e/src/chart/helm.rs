//! Helm, without anything that the user has configured for it.

use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Command;

use super::repository;
use crate::cluster::artifacts::HELM;

/// Helm with the chart of this checkout, and with a cluster or none.
pub(super) struct Helm {
    program: PathBuf,
    chart: PathBuf,
    kubeconfig: Option<PathBuf>,
    /// Where it keeps what it wants to keep.
    home: TempDir,
}

impl Helm {
    /// Builds Helm on first use.
    pub(super) async fn new(kubeconfig: Option<&Path>) -> Result<Self> {
        Ok(Self {
            program: HELM.get().await?,
            chart: repository("charts/portcullis"),
            kubeconfig: kubeconfig.map(Path::to_owned),
            home: tempfile::tempdir()?,
        })
    }

    /// The chart's folder, as an argument.
    pub(super) fn chart(&self) -> &str {
        self.chart.to_str().unwrap_or_default()
    }

    /// Runs it and returns what it printed on standard output; fails if it does.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments).await?;
        ensure!(
            output.status.success(),
            "helm {}: {}",
            arguments.join(" "),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// Runs it, expects it to refuse, and returns why it did.
    pub(super) async fn refusal(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output(arguments).await?;
        ensure!(
            !output.status.success(),
            "helm {} was to be refused",
            arguments.join(" ")
        );
        Ok(text(&output.stderr))
    }

    async fn output(&self, arguments: &[&str]) -> Result<Output> {
        let home = self.home.path();
        let mut command = Command::new(&self.program);
        command
            .args(arguments)
            .env("HELM_CACHE_HOME", home.join("cache"))
            .env("HELM_CONFIG_HOME", home.join("config"))
            .env("HELM_DATA_HOME", home.join("data"))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        match &self.kubeconfig {
            Some(path) => command.env("KUBECONFIG", path),
            None => command.env_remove("KUBECONFIG"),
        };
        command.output().await.context("cannot start helm")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
