//! `cargo e2e chart`: the Helm chart and the manifests for kustomize, which install the same.

mod check;
mod cycle;
mod expectations;
mod helm;
pub(crate) mod install;
mod objects;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Subcommand;

/// The Helm chart: what it renders, and what it does in a cluster.
#[derive(Subcommand)]
pub(crate) enum Chart {
    /// Lint the chart, render it with good and bad values, and compare it with config/. Needs no cluster.
    Check {
        /// Write config/controller/controller.yaml from what the chart renders before it is compared.
        #[arg(long)]
        update: bool,
    },
    /// Install this checkout in the cluster, or upgrade it, as release `portcullis` in namespace `portcullis-system`.
    Install {
        /// Where `cargo e2e images product` has put the images. Without it they are built.
        #[arg(long, value_name = "DIRECTORY")]
        images: Option<PathBuf>,
    },
    /// Install, upgrade, break, roll back and uninstall it in the cluster, and look for what is left behind.
    Cycle {
        /// Where `cargo e2e images product` has put the images. Without it they are built.
        #[arg(long, value_name = "DIRECTORY")]
        images: Option<PathBuf>,
    },
}

impl Chart {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Check { update } => check::run(update).await,
            Self::Install { images } => install::run(images).await,
            Self::Cycle { images } => cycle::run(images).await,
        }
    }
}

/// A file or folder of the repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}
