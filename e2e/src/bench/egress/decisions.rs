//! What it costs to decide: the same work with few entries (`ServiceEntry`) and with many.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::{
    contender::Arena,
    rounds::{Cost, Strength, Work, cost},
};
use crate::{bench::cost::summaries, support::statistics::Summary};

/// Entries that hardly cost anything to look through.
pub(crate) const FEW: u32 = 10;

/// One measurement of Portcullis.
#[derive(Debug, Serialize)]
pub(crate) struct Decision {
    pub(crate) round: usize,
    pub(crate) entries: u32,
    pub(crate) work: Work,
    #[serde(flatten)]
    pub(crate) cost: Cost,
}

/// Portcullis with [`FEW`] and with `many` entries, in turn.
pub(crate) async fn measure(
    arena: &Arena,
    many: u32,
    rounds: usize,
    strength: Strength,
) -> Result<Vec<Decision>> {
    let mut running = Vec::new();
    for entries in [FEW, many] {
        running.push((entries, arena.start_portcullis(entries).await?));
    }
    let mut decisions = Vec::new();
    for round in 1..=rounds {
        for work in [Work::Tunnels, Work::Requests] {
            for (entries, proxy) in &running {
                let cost = cost(arena, proxy, work, strength).await?;
                println!(
                    "round {round}: {entries:>6} entries, {work:<8} {:>7.1} {}",
                    cost.cpu,
                    work.unit()
                );
                decisions.push(Decision {
                    round,
                    entries: *entries,
                    work,
                    cost,
                });
            }
        }
        running.reverse();
    }
    Ok(decisions)
}

/// Median and spread of the CPU at `work` by the number of entries.
pub(crate) fn cpu(decisions: &[Decision], work: Work) -> BTreeMap<u32, Summary> {
    let decisions = decisions.iter().filter(|decision| decision.work == work);
    summaries(decisions.map(|decision| (decision.entries, decision.cost.cpu)))
}
