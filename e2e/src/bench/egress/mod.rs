//! `cargo e2e bench egress`: Portcullis as an explicit forward proxy beside Squid, tinyproxy and Envoy.

mod bars;
mod contender;
mod decisions;
mod figures;
mod manifests;
mod memory;
mod rounds;
mod wire;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use self::{
    contender::{Arena, Contender, Programs},
    figures::EgressFigures,
    rounds::{Strength, Work},
};
use super::Options;
use crate::support::binaries::{build, python_tool};

const EXAMPLES: &str = "\
Each proxy may forward to two names of the same servers, on one core; clients and servers are on the other. All are asked the
same in turn:
  tunnels    CONNECT, one GET through the tunnel, close; by 2 clients
  requests   GET http://host/ on 32 connections
  bulk       2 GB each way through a tunnel
  memory     1,000 idle tunnels, in a fresh process
  decisions  Portcullis only: tunnels and requests with 10 ServiceEntries and with 10,000
Before each measurement the allowed host must answer and another must be refused; every answer is checked.

What it needs: nginx and taskset, the Python index for Envoy, and apt-get of Debian 12 and root for Squid and tinyproxy. These
are unpacked, not installed, and see a hosts file of their own.

Examples:
  cargo e2e bench egress --quick                       shows that it works, 1 min
  cargo e2e bench egress                               a full run, about 20 min; results in e2e/results
  cargo e2e bench egress --peers-only --rounds 3       the others' figures on this machine
  cargo e2e bench egress --only tunnels,requests --contenders portcullis,envoy";

/// Beside Squid, tinyproxy and Envoy as forward proxies: CPU per tunnel, request and GB, memory per tunnel, cost of rules.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct EgressBench {
    #[command(flatten)]
    options: Options,
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["portcullis", "squid", "tinyproxy", "envoy"])]
    contenders: Vec<Contender>,
    /// Without Portcullis: what the others need on this machine.
    #[arg(long, conflicts_with = "contenders")]
    peers_only: bool,
    /// Measure only these; there are bars only for what is measured.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Measure>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measure {
    Tunnels,
    Requests,
    Bulk,
    Memory,
    Decisions,
}

/// How much is measured.
struct Extent {
    bulk: u64,
    tunnels: u32,
    entries: u32,
}

const FULL: Extent = Extent {
    bulk: 2_000_000_000,
    tunnels: 1000,
    entries: 10_000,
};
const QUICK: Extent = Extent {
    bulk: 200_000_000,
    tunnels: 100,
    entries: 500,
};

impl EgressBench {
    pub(super) async fn run(mut self) -> Result<()> {
        if self.peers_only {
            self.contenders = Contender::PEERS.to_vec();
        }
        self.contenders.sort();
        self.contenders.dedup();
        let arena = Arena::new(self.programs().await?).await?;
        let machine = self.options.machine(arena.versions().await?).await?;
        let extent = if self.options.quick { QUICK } else { FULL };
        let rounds = self.options.rounds();
        let strength = Strength {
            duration: self.options.duration(),
            bulk: extent.bulk,
        };

        let works = self.works();
        let samples = rounds::measure(&arena, &self.contenders, &works, rounds, strength).await?;
        let mut memory = Vec::new();
        if self.measures(Measure::Memory) {
            for contender in &self.contenders {
                memory.push(memory::measure(&arena, *contender, extent.tunnels).await?);
            }
        }
        let mut decisions = Vec::new();
        if self.measures(Measure::Decisions) && self.contenders.contains(&Contender::Portcullis) {
            decisions = decisions::measure(&arena, extent.entries, rounds, strength).await?;
        }
        let bars = bars::judge(&samples, &memory, &decisions);
        let figures = EgressFigures {
            memory,
            decisions,
            samples,
        };
        self.options.publish(machine, bars, figures)
    }

    /// Finds the programs of those that take part; Portcullis' are built.
    async fn programs(&self) -> Result<Programs> {
        let takes_part = |contender| self.contenders.contains(&contender);
        let debian = self.contenders.iter().any(|peer| peer.needs_root());
        ensure!(
            !debian || rustix::process::geteuid().is_root(),
            "Squid and tinyproxy get a hosts file of their own, which takes root; `--contenders portcullis,envoy` leaves them out"
        );
        let mut programs = Programs {
            debian,
            ..Programs::default()
        };
        if takes_part(Contender::Portcullis) {
            let proxy = self.options.portcullis().await?;
            // Only makes a table of manifests, so it need not be as fast as can be.
            programs.portcullis = Some((proxy, build("portcullis", "release").await?));
        }
        if takes_part(Contender::Envoy) {
            programs.envoy = Some(python_tool("envoy").await?);
        }
        Ok(programs)
    }

    fn measures(&self, measure: Measure) -> bool {
        self.only.is_empty() || self.only.contains(&measure)
    }

    fn works(&self) -> Vec<Work> {
        let mut works = Vec::new();
        if self.measures(Measure::Tunnels) {
            works.push(Work::Tunnels);
        }
        if self.measures(Measure::Requests) {
            works.push(Work::Requests);
        }
        if self.measures(Measure::Bulk) {
            works.extend(Work::BULK);
        }
        works
    }
}
