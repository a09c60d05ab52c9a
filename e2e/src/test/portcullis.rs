//! The `portcullis` command, run against the cluster.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::bed::Bed;
use crate::support::binaries;

/// The command with the cluster's kubeconfig.
pub(crate) struct Portcullis<'a> {
    program: PathBuf,
    bed: &'a Bed,
}

impl<'a> Portcullis<'a> {
    /// Builds it, unless it is there.
    pub(crate) async fn get(bed: &'a Bed) -> Result<Self> {
        let program = binaries::build("portcullis", &bed.profile).await?;
        Ok(Self { program, bed })
    }

    /// Runs it, and checks exit code and words on either of its outputs.
    pub(crate) async fn expect(&self, arguments: &[&str], code: i32, words: &[&str]) -> Result<()> {
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
