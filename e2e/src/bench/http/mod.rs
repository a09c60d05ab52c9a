//! `cargo e2e bench http`: Portcullis beside nginx, HAProxy and Envoy.

mod bars;
pub(super) mod contender;
mod figures;
pub(super) mod load;
mod memory;
mod rounds;
mod routes;

use std::collections::BTreeMap;

use anyhow::Result;
use clap::Args;

use self::{
    contender::{Arena, Contender},
    figures::HttpFigures,
};
use super::Options;

/// Beside nginx, HAProxy and Envoy: CPU per request and handshake, memory at rest, cost of routes.
#[derive(Args)]
pub(crate) struct HttpBench {
    #[command(flatten)]
    options: Options,
    /// Who takes part.
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["portcullis", "nginx", "haproxy", "envoy"])]
    contenders: Vec<Contender>,
}

/// How much is measured.
struct Extent {
    handshakes: u32,
    connections: u32,
    routes: u32,
    swaps: u32,
}

const FULL: Extent = Extent {
    handshakes: 3000,
    connections: 3000,
    routes: 5000,
    swaps: 20,
};
const QUICK: Extent = Extent {
    handshakes: 300,
    connections: 300,
    routes: 500,
    swaps: 3,
};
/// Handshakes differ little from round to round.
const HANDSHAKE_ROUNDS: usize = 5;

impl HttpBench {
    pub(super) async fn run(mut self) -> Result<()> {
        self.contenders.sort();
        self.contenders.dedup();
        let mut programs = BTreeMap::new();
        for contender in &self.contenders {
            programs.insert(*contender, contender.program(&self.options).await?);
        }
        let arena = Arena::new(programs).await?;
        let machine = self.options.machine(arena.versions().await?).await?;
        let extent = if self.options.quick { QUICK } else { FULL };
        let rounds = self.options.rounds();

        let mut samples = rounds::requests(&arena, rounds, self.options.duration()).await?;
        let handshake_rounds = rounds.min(HANDSHAKE_ROUNDS);
        samples.extend(rounds::handshakes(&arena, handshake_rounds, extent.handshakes).await?);
        let mut memory = Vec::new();
        for contender in &self.contenders {
            memory.push(memory::measure(&arena, *contender, extent.connections).await?);
        }
        let routes = if self.contenders.contains(&Contender::Portcullis) {
            Some(routes::measure(&arena, extent.routes, extent.swaps).await?)
        } else {
            None
        };
        let bars = bars::judge(&samples, &memory, routes.as_ref());
        let figures = HttpFigures {
            memory,
            routes,
            samples,
        };
        self.options.publish(machine, bars, figures)
    }
}
