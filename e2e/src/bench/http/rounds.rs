//! CPU per request and per handshake: interleaved rounds, every contender in turn, every other round backwards.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use futures::{StreamExt, stream};
use serde::Serialize;

use super::{
    contender::{Arena, Contender, Protocol, Running},
    load::load,
};
use crate::{
    bench::cost::{microseconds, summaries, until_quiet},
    support::{process::to_f64, statistics::Summary},
};

/// Handshakes under way at once.
const HANDSHAKES_AT_ONCE: usize = 4;

/// One measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    pub(crate) contender: Contender,
    /// `None` for handshakes.
    pub(crate) protocol: Option<Protocol>,
    /// Requests, or handshakes.
    pub(crate) count: u64,
    pub(crate) per_second: f64,
    /// CPU of the whole process tree per request or handshake, in microseconds.
    pub(crate) cpu_us: f64,
}

/// Every contender under load on every protocol, `rounds` times for `duration` each.
pub(crate) async fn requests(
    arena: &Arena,
    rounds: usize,
    duration: Duration,
) -> Result<Vec<Sample>> {
    let mut running = start_all(arena).await?;
    let mut samples = Vec::new();
    for round in 1..=rounds {
        for protocol in Protocol::ALL {
            for contender in &running {
                contender.check(arena, protocol).await?;
                let before = contender.service.cpu()?;
                let load = load(contender, protocol, duration).await?;
                let sample = Sample {
                    round,
                    contender: contender.contender,
                    protocol: Some(protocol),
                    count: load.requests,
                    per_second: load.per_second,
                    cpu_us: microseconds(contender.service.cpu_since(before)?)
                        / to_f64(load.requests),
                };
                println!(
                    "round {round}: {:<10} {protocol:<14} {:>6.1} us per request, {:>6.0} requests/s",
                    sample.contender, sample.cpu_us, sample.per_second
                );
                samples.push(sample);
            }
        }
        running.reverse();
    }
    Ok(samples)
}

/// Every contender doing `count` full TLS 1.3 handshakes, `rounds` times.
pub(crate) async fn handshakes(arena: &Arena, rounds: usize, count: u32) -> Result<Vec<Sample>> {
    let mut running = start_all(arena).await?;
    let mut samples = Vec::new();
    for round in 1..=rounds {
        for contender in &running {
            let target = contender.target(arena, Protocol::TlsHttp1)?;
            let before = contender.service.cpu()?;
            let start = tokio::time::Instant::now();
            let mut attempts = stream::iter(0..count)
                .map(|_| async { target.open().await.map(drop) })
                .buffer_unordered(HANDSHAKES_AT_ONCE);
            while let Some(result) = attempts.next().await {
                result?;
            }
            let elapsed = start.elapsed();
            until_quiet(&contender.service).await?;
            let sample = Sample {
                round,
                contender: contender.contender,
                protocol: None,
                count: count.into(),
                per_second: f64::from(count) / elapsed.as_secs_f64(),
                cpu_us: microseconds(contender.service.cpu_since(before)?) / f64::from(count),
            };
            println!(
                "round {round}: {:<10} {:>6.1} us per handshake",
                sample.contender, sample.cpu_us
            );
            samples.push(sample);
        }
        running.reverse();
    }
    Ok(samples)
}

/// Median and spread of each contender's CPU on `protocol` (`None`: handshakes).
pub(crate) fn cpu(samples: &[Sample], protocol: Option<Protocol>) -> BTreeMap<Contender, Summary> {
    let samples = samples.iter().filter(|sample| sample.protocol == protocol);
    summaries(samples.map(|sample| (sample.contender, sample.cpu_us)))
}

async fn start_all(arena: &Arena) -> Result<Vec<Running>> {
    let mut running = Vec::new();
    for contender in arena.programs.keys() {
        running.push(arena.start(*contender).await?);
    }
    Ok(running)
}
