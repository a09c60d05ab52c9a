//! `cargo e2e churn egress`: tunnels by a proxy whose entries, policies and callers change all the time, each decision held against
//! a plain reference; for a while nobody publishes.

mod backends;
mod control;
mod edits;
mod exchange;
mod figures;
mod history;
mod judge;
mod load;
mod manifests;
mod names;
mod policies;
mod reference;
mod run;
mod shared;
mod world;

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Args;

use crate::support::binaries;

/// 10,000 ServiceEntries, 1,000 pods that come and go, 500 tunnels a second: no decision may be wrong, also while nobody
/// publishes.
///
/// portcullis-proxy follows the controller's own translation and publisher, which run in this process. Pods are source addresses
/// of loopback (127.1.0.0/16), hosts are names of a DNS server of its own, and servers tell where they were reached. Entries, policies
/// and pods change several times a second. Every tunnel is judged by a reference that has nothing of the product's code: by each
/// table that may have been in force from the last one that was acknowledged when the tunnel began to the last one that was published
/// when it ended. Right is the refusal with its reason, or the answer of the server that the right entry leads to.
#[derive(Args)]
pub(crate) struct Egress {
    /// ServiceEntries; 1,000 with --quick.
    #[arg(
        long,
        default_value_t = 10_000,
        default_value_if("quick", "true", "1000")
    )]
    entries: usize,
    /// Pods; 200 with --quick.
    #[arg(
        long,
        default_value_t = 1_000,
        default_value_if("quick", "true", "200")
    )]
    pods: usize,
    /// Tunnels each second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// Seconds with changes that are published, half of them before the publisher is taken away; 20 with --quick.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 120,
        default_value_if("quick", "true", "20")
    )]
    published: u64,
    /// Seconds for which nobody publishes, while things change on; 5 with --quick.
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 120,
        default_value_if("quick", "true", "5")
    )]
    away: u64,
    /// What changes, and who calls whom, is drawn by this number. How both fall together is not.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Some 40 s.
    #[arg(long)]
    quick: bool,
    /// Cargo profile that portcullis-proxy is built with.
    #[arg(long, default_value = "release")]
    profile: String,
}

impl Egress {
    pub(crate) async fn run(self) -> Result<()> {
        // Each has an address of its own in one network of 65,536.
        ensure!(
            (1_000..=20_000).contains(&self.entries) && (10..=20_000).contains(&self.pods),
            "there may be 1,000 to 20,000 entries and 10 to 20,000 pods"
        );
        ensure!(self.rate > 0, "there has to be a tunnel now and then");
        let binary = binaries::build("portcullis-proxy", &self.profile).await?;
        let found = run::run(&binary, &self).await?;
        figures::close(&self, found)
    }

    /// Before the publisher is taken away, and after it has come back.
    fn half(&self) -> Duration {
        Duration::from_secs(self.published) / 2
    }
}
