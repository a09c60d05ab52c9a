//! `cargo e2e cluster`: a real Kubernetes of one node, from Go modules and Debian packages, in namespaces of its own.
//!
//! Where `KUBECONFIG` names another cluster, that one is used, and what needs a node of our own is skipped by name.

pub(crate) mod allocator;
pub(crate) mod artifacts;
mod certificates;
mod cgroups;
mod components;
mod config;
pub(crate) mod doctor;
pub(crate) mod kubectl;
pub(crate) mod layout;
pub(crate) mod names;
mod network;
pub(crate) mod node;
pub(crate) mod outside;
pub(crate) mod processes;
mod smoke;
mod teardown;
mod toolchain;
pub(crate) mod up;

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use tokio::process::Command;

use self::{kubectl::Kubectl, up::Crds};
use crate::support::{binaries::installed, process::output_of};

/// Holds how a cluster of somebody else takes images: a command that gets the tarball as its last argument.
const LOADER: &str = "PORTCULLIS_IMAGE_LOADER";

/// A Kubernetes cluster to test in: of our own, or the one that KUBECONFIG names.
#[derive(Subcommand)]
pub(crate) enum Action {
    /// Build what is missing, boot the node, install the CRDs of Gateway API.
    Up {
        /// Channel of Gateway API's CRDs.
        #[arg(long, value_enum, default_value_t = Crds::Experimental)]
        crds: Crds,
    },
    /// End the cluster and check that nothing of it is left.
    Down,
    /// Print the shell commands that point kubectl and helm at the cluster.
    Env,
    /// Import an image (an OCI tarball) into the cluster.
    Load {
        /// Written by `cargo e2e images pack`, or by any tool that writes OCI archives.
        image: PathBuf,
    },
    /// Say what the machine lacks, one line each.
    Doctor,
    /// Check that workloads run and that ClusterIP, NodePort and LoadBalancer answer from outside.
    Smoke,
}

/// The cluster that commands talk to.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Cluster {
    /// That of `cluster up`.
    Own,
    /// That of a kubeconfig of the user.
    Foreign(PathBuf),
}

impl Action {
    pub(crate) async fn run(self) -> Result<()> {
        let cluster = Cluster::chosen();
        match (self, &cluster) {
            (Self::Up { crds }, Cluster::Own) => up::up(crds).await,
            (Self::Up { crds }, Cluster::Foreign(_)) => up::prepare(&cluster, crds).await,
            (Self::Down, Cluster::Own) => teardown::down().await,
            (Self::Down, Cluster::Foreign(path)) => {
                println!(
                    "SKIPPED: ending the cluster of {}, because it is not ours; unset KUBECONFIG to end ours",
                    path.display()
                );
                Ok(())
            }
            (Self::Env, _) => cluster.print_environment().await,
            (Self::Load { image }, _) => cluster.load(&image).await,
            (Self::Doctor, Cluster::Own) => {
                doctor::check().await?;
                println!("everything is here");
                Ok(())
            }
            (Self::Doctor, Cluster::Foreign(path)) => {
                println!(
                    "SKIPPED: what a node of our own needs, because KUBECONFIG is set ({})",
                    path.display()
                );
                cluster.kubectl().await?;
                println!("the cluster answers");
                Ok(())
            }
            (Self::Smoke, _) => smoke::run(&cluster).await,
        }
    }
}

impl Cluster {
    /// Our own, unless `KUBECONFIG` names another one.
    pub(crate) fn chosen() -> Self {
        match env::var_os("KUBECONFIG") {
            Some(path) if !path.is_empty() && path != layout::kubeconfig("admin").as_os_str() => {
                Self::Foreign(path.into())
            }
            _ => Self::Own,
        }
    }

    /// kubectl for this cluster: ours is built with the cluster, for others it is the user's own.
    pub(crate) async fn kubectl(&self) -> Result<Kubectl> {
        match self {
            Self::Own => {
                if !self.is_up().await {
                    if layout::complete_file().exists() {
                        bail!(
                            "the cluster does not answer; its logs are in {}, and `cargo e2e cluster down` ends it",
                            layout::logs().display()
                        );
                    }
                    bail!("no cluster is up: `cargo e2e cluster up`, or set KUBECONFIG");
                }
                Ok(Kubectl::own())
            }
            Self::Foreign(path) => {
                let kubectl = Kubectl {
                    program: installed("kubectl")?,
                    kubeconfig: path.clone(),
                    cache: None,
                };
                kubectl
                    .run(&["get", "--raw", "/readyz"])
                    .await
                    .with_context(|| {
                        format!(
                            "the cluster of KUBECONFIG={} does not answer",
                            path.display()
                        )
                    })?;
                Ok(kubectl)
            }
        }
    }

    /// Whether our own cluster is complete and answers. Another one is taken as it is.
    async fn is_up(&self) -> bool {
        *self != Self::Own
            || layout::complete_file().exists()
                && Kubectl::own()
                    .run(&["get", "--raw", "/readyz"])
                    .await
                    .is_ok()
    }

    async fn print_environment(&self) -> Result<()> {
        let kubectl = self.kubectl().await?;
        println!("export KUBECONFIG='{}'", kubectl.kubeconfig.display());
        if let Some(cache) = kubectl.cache {
            println!("export KUBECACHEDIR='{}'", cache.display());
            println!("export PATH='{}':\"$PATH\"", layout::bin().display());
        }
        Ok(())
    }

    /// Gives an image to the cluster's nodes.
    pub(crate) async fn load(&self, image: &Path) -> Result<()> {
        self.kubectl().await?;
        match self {
            Self::Own => load_into_node(image).await?,
            Self::Foreign(_) => {
                let loader = env::var(LOADER).with_context(|| {
                    format!(
                        "how this cluster takes images is not known; set {LOADER} to a command that gets the tarball as its last argument, such as `kind load image-archive` or `k3d image import`"
                    )
                })?;
                let mut words = loader.split_whitespace();
                let mut command =
                    Command::new(words.next().with_context(|| format!("{LOADER} is empty"))?);
                command.args(words).arg(image);
                output_of(command).await?;
            }
        }
        println!("{} imported", image.display());
        Ok(())
    }
}

impl Kubectl {
    /// kubectl of our own cluster, whether it is up or not.
    fn own() -> Self {
        Self {
            program: layout::bin().join("kubectl"),
            kubeconfig: layout::kubeconfig("admin"),
            cache: Some(layout::kubectl_cache()),
        }
    }
}

/// The first process of our own node, as the machine sees it.
pub(crate) fn node_pid() -> Result<u32> {
    let pid = fs::read_to_string(layout::pid_file()).context("the node is not running")?;
    pid.parse()
        .with_context(|| layout::pid_file().display().to_string())
}

/// A command that runs in the namespaces of our own node.
fn node_command(program: &str) -> Result<Command> {
    let pid = node_pid()?.to_string();
    let mut command = Command::new("nsenter");
    command
        .args(["--target", &pid, "--mount", "--net", "--pid"])
        .arg(program);
    Ok(command)
}

async fn load_into_node(image: &Path) -> Result<()> {
    up::import(image)
        .await
        .with_context(|| format!("cannot import {}", image.display()))
}
