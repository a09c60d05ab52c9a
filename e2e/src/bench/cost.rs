//! What a program costs: its CPU time and its memory, once it is done with what it was given.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use tokio::time::sleep;

use crate::support::{
    process::{Service, to_f64},
    statistics::Summary,
};

/// A process that uses no CPU for this long has finished what it was given.
const QUIET: Duration = Duration::from_millis(100);
/// Memory that stays the same for this long has settled.
const SETTLED: Duration = Duration::from_millis(500);

/// Waits until `service` uses no more CPU.
pub(crate) async fn until_quiet(service: &Service) -> Result<()> {
    let mut before = service.cpu()?;
    loop {
        sleep(QUIET).await;
        let now = service.cpu()?;
        if now == before {
            return Ok(());
        }
        before = now;
    }
}

/// Resident memory once it stays the same, in bytes.
pub(crate) async fn settled_rss(service: &Service) -> Result<u64> {
    let mut before = service.rss()?;
    loop {
        sleep(SETTLED).await;
        let now = service.rss()?;
        if now == before {
            return Ok(now);
        }
        before = now;
    }
}

pub(crate) fn kib(bytes: u64) -> f64 {
    to_f64(bytes) / 1024.0
}

pub(crate) fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Median and spread of each contender, from one figure per round.
pub(crate) fn summaries<C: Ord>(
    figures: impl IntoIterator<Item = (C, f64)>,
) -> BTreeMap<C, Summary> {
    let mut groups = BTreeMap::<C, Vec<f64>>::new();
    for (contender, figure) in figures {
        groups.entry(contender).or_default().push(figure);
    }
    groups
        .into_iter()
        .filter_map(|(contender, values)| Some((contender, Summary::of(&values)?)))
        .collect()
}
