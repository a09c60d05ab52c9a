//! `cargo e2e bench`: Portcullis beside its peers on the same machine in the same run.

mod bars;
mod cost;
mod egress;
mod ground;
mod http;
mod result;
mod training;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use clap::{Args, Subcommand};

use self::{
    bars::Bar,
    result::{Figures, Report},
};
use crate::support::{
    binaries,
    machine::{Machine, today},
};

/// What Portcullis is called among the versions.
const PORTCULLIS: &str = "Portcullis";

/// Which bench.
#[derive(Subcommand)]
pub(crate) enum Bench {
    Http(http::HttpBench),
    Egress(Box<egress::EgressBench>),
    Train(training::Train),
}

/// Options of every bench.
#[derive(Args)]
pub(crate) struct Options {
    /// Interleaved rounds; every contender has its turn in each.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of load per measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// One short round with little of everything: shows that the bench works. Its figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Cargo profile that portcullis-proxy is built with; `dist` unless quick.
    #[arg(long)]
    profile: Option<String>,
    /// A portcullis-proxy that is measured in place of a fresh one, such as `bench train` makes. The report names it.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "profile")]
    proxy: Option<PathBuf>,
    /// Where the results go; `e2e/results/<date>-<bench>` unless quick.
    #[arg(long)]
    output: Option<PathBuf>,
}

impl Options {
    /// The portcullis-proxy that is measured.
    async fn portcullis(&self) -> Result<PathBuf> {
        if let Some(proxy) = &self.proxy {
            return Ok(proxy.clone());
        }
        let default = if self.quick { "release" } else { "dist" };
        let profile = self.profile.as_deref().unwrap_or(default);
        binaries::build("portcullis-proxy", profile).await
    }

    /// The machine once it is calm, and what runs on it.
    async fn machine(&self, mut versions: BTreeMap<String, String>) -> Result<Machine> {
        if !self.quick {
            result::until_calm().await?;
        }
        if let (Some(proxy), Some(version)) = (&self.proxy, versions.get_mut(PORTCULLIS)) {
            *version = format!("{version} ({})", proxy.display());
        }
        Machine::look(versions).await
    }

    /// Rounds of this run.
    fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds }
    }

    /// How long each measurement takes.
    fn duration(&self) -> Duration {
        Duration::from_secs(if self.quick { 1 } else { self.seconds })
    }

    /// Judges whether the run is valid, and publishes it.
    fn publish<F: Figures>(self, machine: Machine, bars: Vec<Bar>, figures: F) -> Result<()> {
        let mut report = Report {
            machine,
            quick: self.quick,
            rounds: self.rounds(),
            seconds_per_measurement: self.duration().as_secs(),
            invalid: Vec::new(),
            bars,
            figures,
        };
        report.gate()?;
        let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        let output = match self.output {
            Some(output) => output,
            None if self.quick => results.join(format!("local/quick-{}", F::NAME)),
            None => results.join(format!("{}-{}", today(), F::NAME)),
        };
        report.publish(&output)
    }
}

impl Bench {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Http(bench) => bench.run().await,
            Self::Egress(bench) => Box::pin(bench.run()).await,
            Self::Train(train) => train.run().await,
        }
    }
}
