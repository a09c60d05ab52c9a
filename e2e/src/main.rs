//! `cargo e2e`: end-to-end checks and benchmarks against the real binaries, on loopback only.

mod attack;
mod bench;
mod bodies;
mod churn;
mod failover;
mod support;

use anyhow::Result;
use clap::{Parser, Subcommand};

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
    Churn(churn::Churn),
    Failover(failover::Failover),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let work = async {
        match arguments.command {
            Command::Bench(bench) => bench.run().await,
            Command::Attack(attack) => attack.run().await,
            Command::Bodies(bodies) => bodies.run().await,
            Command::Churn(churn) => churn.run().await,
            Command::Failover(failover) => failover.run().await,
        }
    };
    // An interrupt drops the work, and with it every process it has started.
    tokio::select! {
        result = work => result,
        interrupt = tokio::signal::ctrl_c() => {
            interrupt?;
            anyhow::bail!("interrupted")
        }
    }
}
