//! `cargo e2e conformance`: the official conformance suite of Gateway API against the cluster.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use tokio::process::Command;

use crate::cluster::{
    Cluster,
    artifacts::CONFORMANCE,
    doctor,
    layout::{UNUSABLE_ADDRESS, USABLE_ADDRESS},
};

/// Where the project's reports are, one folder for each minor release of Gateway API.
const REPORTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/conformance/reports/v1.7");
/// Longest run of the suite: every test of every profile, each with its worst case.
const TIME_LIMIT: &str = "6h";
/// The GatewayClass that Portcullis serves.
const GATEWAY_CLASS: &str = "portcullis";

/// The official conformance suite of Gateway API. Fails if the suite does.
#[derive(Args)]
pub(crate) struct Conformance {
    /// Profile to run: GATEWAY-HTTP, GATEWAY-GRPC, GATEWAY-TLS, GATEWAY-TCP or GATEWAY-UDP. May be given several times.
    #[arg(long, required = true)]
    profile: Vec<String>,
    /// Run this test only, by its short name (`HTTPRouteMatching`).
    #[arg(long)]
    run_test: Option<String>,
    /// Test every feature, not only those that the GatewayClass says it supports.
    #[arg(long)]
    all_features: bool,
    /// Write the report into e2e/conformance/reports/, as it is handed in upstream.
    #[arg(long, requires_all = ["organization", "url", "contact"], conflicts_with = "run_test")]
    report: bool,
    /// For the report: who makes Portcullis.
    #[arg(long)]
    organization: Option<String>,
    /// For the report: where the project is.
    #[arg(long)]
    url: Option<String>,
    /// For the report: who is to be asked about it.
    #[arg(long)]
    contact: Option<String>,
    /// More flags for the suite, behind `--`.
    #[arg(last = true)]
    suite: Vec<String>,
}

impl Conformance {
    pub(crate) async fn run(self) -> Result<()> {
        let cluster = Cluster::chosen();
        let kubectl = cluster.kubectl().await?;
        doctor::check_suite().await?;
        let suite = CONFORMANCE.get().await?;
        let mut command = Command::new(&suite);
        command
            .args(["-test.v", "-test.run=^TestConformance$"])
            .arg(format!("-test.timeout={TIME_LIMIT}"))
            .arg(format!("--gateway-class={GATEWAY_CLASS}"))
            .arg(format!("--conformance-profiles={}", self.profile.join(",")))
            .env("KUBECONFIG", &kubectl.kubeconfig)
            .kill_on_drop(true);
        if cluster == Cluster::Own {
            command
                .arg(format!("--usable-address={USABLE_ADDRESS}"))
                .arg(format!("--unusable-address={UNUSABLE_ADDRESS}"));
        } else {
            println!(
                "SKIPPED: addresses for GatewayStaticAddresses, because the cluster is not ours; give --usable-address and --unusable-address behind `--`"
            );
        }
        if let Some(test) = &self.run_test {
            command.arg(format!("--run-test={test}"));
        }
        if self.all_features {
            command.arg("--all-features");
        }
        let report = self.add_report(&mut command)?;
        command.args(&self.suite);
        println!("{:?}", command.as_std());
        let status = command.status().await.context("cannot start the suite")?;
        if let Some(report) = report.filter(|report| report.exists()) {
            println!("report: {}", report.display());
        }
        ensure!(status.success(), "the suite ended with {status}");
        Ok(())
    }

    /// Adds what a report needs, and returns where it will be.
    fn add_report(&self, command: &mut Command) -> Result<Option<PathBuf>> {
        if !self.report {
            return Ok(None);
        }
        let version = concat!("v", env!("CARGO_PKG_VERSION"));
        let path = Path::new(REPORTS).join(format!("experimental-{version}-default-report.yaml"));
        fs::create_dir_all(REPORTS)?;
        // What is there afterwards is of this run.
        if path.exists() {
            fs::remove_file(&path)?;
        }
        for (name, value) in [
            ("organization", self.organization.as_deref()),
            ("project", Some("portcullis")),
            ("url", self.url.as_deref()),
            ("version", Some(version)),
            ("contact", self.contact.as_deref()),
        ] {
            let value = value.with_context(|| format!("--report needs --{name}"))?;
            command.arg(format!("--{name}={value}"));
        }
        command.arg("--report-output").arg(&path);
        Ok(Some(path))
    }
}
