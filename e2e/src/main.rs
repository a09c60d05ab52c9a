//! `cargo e2e`: end-to-end checks and benchmarks against the real binaries, on loopback or in a cluster of their own.

mod attack;
mod bench;
mod bodies;
mod chart;
mod churn;
mod cluster;
mod conformance;
mod failover;
mod images;
mod support;
mod test;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

/// End-to-end checks and benchmarks of Portcullis. Builds the binaries it needs.
#[derive(Parser)]
#[command(name = "cargo e2e")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Portcullis beside nginx, HAProxy and Envoy.
    #[command(subcommand)]
    Bench(bench::Bench),
    Attack(attack::Attack),
    Bodies(bodies::Bodies),
    #[command(subcommand)]
    Chart(chart::Chart),
    Churn(churn::Churn),
    Failover(failover::Failover),
    #[command(subcommand)]
    Cluster(cluster::Action),
    Conformance(conformance::Conformance),
    #[command(subcommand)]
    Images(images::Images),
    Test(test::Test),
    #[command(subcommand, hide = true)]
    Node(cluster::node::Inside),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    // The bench pins its one thread. The others get two, so that load and backend do not wait for each other.
    let mut runtime = match command {
        Command::Bench(_) => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    runtime
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(async {
            // An interrupt drops the work, and with it every process it has started.
            tokio::select! {
                result = command.run() => result,
                interrupt = tokio::signal::ctrl_c() => {
                    interrupt?;
                    bail!("interrupted")
                }
            }
        })
}

impl Command {
    async fn run(self) -> Result<()> {
        match self {
            Self::Bench(bench) => bench.run().await,
            Self::Attack(attack) => attack.run().await,
            Self::Bodies(bodies) => Box::pin(bodies.run()).await,
            Self::Chart(chart) => Box::pin(chart.run()).await,
            Self::Churn(churn) => Box::pin(churn.run()).await,
            Self::Failover(failover) => failover.run().await,
            Self::Cluster(action) => Box::pin(action.run()).await,
            Self::Conformance(conformance) => conformance.run().await,
            Self::Images(images) => images.run().await,
            Self::Test(test) => Box::pin(test.run()).await,
            // Its own runtime has nothing else to do: what is inside waits for one thing only.
            Self::Node(inside) => inside.run(),
        }
    }
}
