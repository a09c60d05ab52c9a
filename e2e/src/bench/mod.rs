//! `cargo e2e bench`: Portcullis beside nginx, HAProxy and Envoy on the same machine in the same run.

mod bars;
mod contender;
mod load;
mod memory;
mod result;
mod rounds;
mod routes;
mod training;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};

use self::{
    contender::{Arena, Contender},
    result::Report,
};
use crate::support::machine::{Machine, today};

/// Which bench.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// CPU per request and handshake, memory at rest, cost of routes.
    Http(HttpBench),
    Train(training::Train),
}

/// Options of the HTTP bench.
#[derive(Args)]
pub(crate) struct HttpBench {
    /// Interleaved rounds; every contender has its turn in each.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of load per measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// One short round with few connections and routes: shows that the bench works. Its figures mean nothing.
    #[arg(long)]
    quick: bool,
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["portcullis", "nginx", "haproxy", "envoy"])]
    contenders: Vec<Contender>,
    /// Cargo profile that portcullis-proxy is built with; `dist` unless quick.
    #[arg(long)]
    profile: Option<String>,
    /// A portcullis-proxy that is measured in place of a fresh one, such as `bench train` makes. The report names it.
    #[arg(long, value_name = "PROGRAM", conflicts_with = "profile")]
    proxy: Option<PathBuf>,
    /// Where the results go; `e2e/results/<date>-http` unless quick.
    #[arg(long)]
    output: Option<PathBuf>,
}

/// How much is measured.
struct Extent {
    rounds: usize,
    seconds: u64,
    handshake_rounds: usize,
    handshakes: u32,
    connections: u32,
    routes: u32,
    swaps: u32,
}

impl HttpBench {
    fn extent(&self) -> Extent {
        if self.quick {
            return Extent {
                rounds: 1,
                seconds: 1,
                handshake_rounds: 1,
                handshakes: 300,
                connections: 300,
                routes: 500,
                swaps: 3,
            };
        }
        Extent {
            rounds: self.rounds,
            seconds: self.seconds,
            handshake_rounds: self.rounds.min(5),
            handshakes: 3000,
            connections: 3000,
            routes: 5000,
            swaps: 20,
        }
    }

    async fn run(mut self) -> Result<()> {
        ensure!(
            std::thread::available_parallelism()?.get() >= 2,
            "the bench needs two cores: one for the proxy, one for load and backend"
        );
        self.contenders.sort();
        self.contenders.dedup();
        let profile =
            self.profile
                .as_deref()
                .unwrap_or(if self.quick { "release" } else { "dist" });
        let mut programs = BTreeMap::new();
        for contender in &self.contenders {
            let program = match &self.proxy {
                Some(proxy) if *contender == Contender::Portcullis => proxy.clone(),
                _ => contender.program(profile).await?,
            };
            programs.insert(*contender, program);
        }
        let arena = Arena::new(programs).await?;
        if !self.quick {
            result::until_calm().await?;
        }
        let mut versions = arena.versions().await?;
        if let (Some(proxy), Some(version)) = (
            &self.proxy,
            versions.get_mut(&Contender::Portcullis.to_string()),
        ) {
            *version = format!("{version} ({})", proxy.display());
        }
        let machine = Machine::look(versions).await?;
        let extent = self.extent();

        let mut samples =
            rounds::requests(&arena, extent.rounds, Duration::from_secs(extent.seconds)).await?;
        samples
            .extend(rounds::handshakes(&arena, extent.handshake_rounds, extent.handshakes).await?);
        let mut memory = Vec::new();
        for contender in &self.contenders {
            memory.push(memory::measure(&arena, *contender, extent.connections).await?);
        }
        let routes = if self.contenders.contains(&Contender::Portcullis) {
            Some(routes::measure(&arena, extent.routes, extent.swaps).await?)
        } else {
            None
        };

        let mut report = Report {
            machine,
            quick: self.quick,
            rounds: extent.rounds,
            seconds_per_measurement: extent.seconds,
            invalid: Vec::new(),
            bars: bars::judge(&samples, &memory, routes.as_ref()),
            memory,
            routes,
            samples,
        };
        report.gate()?;
        report.publish(&self.output.unwrap_or_else(|| default_output(self.quick)))
    }
}

impl Bench {
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Http(bench) => bench.run().await,
            Self::Train(train) => train.run().await,
        }
    }
}

fn default_output(quick: bool) -> PathBuf {
    let results = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
    if quick {
        results.join("local/quick-http")
    } else {
        results.join(format!("{}-http", today()))
    }
}
