//! CPU per tunnel, per request and per gigabyte: interleaved rounds, every contender in turn, every other round backwards.

use std::{cell::RefCell, collections::BTreeMap, fmt, time::Duration};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use serde::Serialize;
use tokio::time::{Instant, timeout};

use super::{
    contender::{Arena, Contender, Running},
    wire::{Wire, get, is_closed, post},
};
use crate::{
    bench::cost::{microseconds, summaries, until_quiet},
    support::{
        process::to_f64,
        statistics::{Summary, quantile},
    },
};

/// Clients that open tunnels, one after the other.
const TUNNEL_CLIENTS: usize = 2;
/// Clients that send requests to the proxy itself, and keep their connections if they may.
const REQUEST_CLIENTS: usize = 32;
/// How much longer than it should a measurement may take.
const PATIENCE: Duration = Duration::from_mins(1);
const GIGABYTE: f64 = 1e9;

/// What is asked of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Work {
    /// CONNECT, one GET through the tunnel, close.
    Tunnels,
    /// GET of a URL, on connections that are kept.
    Requests,
    /// A long body through a tunnel to the client.
    Download,
    /// A long body through a tunnel to the server.
    Upload,
}

impl Work {
    pub(crate) const BULK: [Self; 2] = [Self::Download, Self::Upload];

    /// What its CPU is given in.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Tunnels => "us per tunnel",
            Self::Requests => "us per request",
            Self::Download | Self::Upload => "ms per GB",
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tunnels => "tunnels",
            Self::Requests => "requests",
            Self::Download => "download",
            Self::Upload => "upload",
        })
    }
}

/// How much is asked.
#[derive(Clone, Copy)]
pub(crate) struct Strength {
    /// Of tunnels and requests.
    pub(crate) duration: Duration,
    /// Bytes of a long body.
    pub(crate) bulk: u64,
}

/// One measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: usize,
    pub(crate) contender: Contender,
    pub(crate) work: Work,
    #[serde(flatten)]
    pub(crate) cost: Cost,
}

/// What a piece of work took.
#[derive(Debug, Serialize)]
pub(crate) struct Cost {
    /// Tunnels or requests; bytes.
    pub(crate) count: u64,
    /// The same per second.
    pub(crate) per_second: f64,
    /// Of the whole process tree, see [`Work::unit`].
    pub(crate) cpu: f64,
    /// Of one tunnel or request from the first byte to the last, with the connect if there was one.
    pub(crate) times: Option<Times>,
}

/// How long clients had to wait, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Times {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

/// Every contender at each of `works`, `rounds` times.
pub(crate) async fn measure(
    arena: &Arena,
    contenders: &[Contender],
    works: &[Work],
    rounds: usize,
    strength: Strength,
) -> Result<Vec<Sample>> {
    let mut running = Vec::new();
    for contender in contenders {
        running.push(arena.start(*contender).await?);
    }
    let mut samples = Vec::new();
    for round in 1..=rounds {
        for work in works.iter().copied() {
            for proxy in &running {
                let cost = cost(arena, proxy, work, strength).await?;
                let contender = proxy.contender;
                println!(
                    "round {round}: {contender:<10} {work:<8} {:>7.1} {}",
                    cost.cpu,
                    work.unit()
                );
                samples.push(Sample {
                    round,
                    contender,
                    work,
                    cost,
                });
            }
        }
        running.reverse();
    }
    Ok(samples)
}

/// Median and spread of each contender's CPU at `work`.
pub(crate) fn cpu(samples: &[Sample], work: Work) -> BTreeMap<Contender, Summary> {
    let samples = samples.iter().filter(|sample| sample.work == work);
    summaries(samples.map(|sample| (sample.contender, sample.cost.cpu)))
}

/// Has `proxy` do `work` and looks what it took. Its answers are checked before, and all of them while it works.
pub(crate) async fn cost(
    arena: &Arena,
    proxy: &Running,
    work: Work,
    strength: Strength,
) -> Result<Cost> {
    proxy.check(arena).await?;
    let before = proxy.service.cpu()?;
    let start = Instant::now();
    let what = || format!("{} at {work}", proxy.contender);
    let done = timeout(
        strength.duration + PATIENCE,
        carry_out(arena, proxy, work, strength),
    )
    .await
    .with_context(|| format!("{} takes too long", what()))?
    .with_context(what)?;
    let elapsed = start.elapsed();
    until_quiet(&proxy.service).await?;
    let cpu = proxy.service.cpu_since(before)?;
    let count = to_f64(done.count);
    let cpu = match work {
        Work::Tunnels | Work::Requests => microseconds(cpu) / count,
        Work::Download | Work::Upload => cpu.as_secs_f64() * 1e3 * GIGABYTE / count,
    };
    Ok(Cost {
        count: done.count,
        per_second: count / elapsed.as_secs_f64(),
        cpu,
        times: Times::of(&done.milliseconds),
    })
}

/// What was done: tunnels, requests or bytes, and how long each tunnel or request took.
struct Done {
    count: u64,
    milliseconds: Vec<f64>,
}

async fn carry_out(arena: &Arena, proxy: &Running, work: Work, strength: Strength) -> Result<Done> {
    match work {
        Work::Tunnels => tunnels(arena, proxy, strength.duration).await,
        Work::Requests => requests(arena, proxy, strength.duration).await,
        Work::Download | Work::Upload => {
            let authority = arena.bulk_authority();
            let mut tunnel = Wire::tunnel(proxy.proxy, &authority).await?;
            let length = strength.bulk;
            if work == Work::Download {
                let request = get(&format!("/sized/{length}"), &authority);
                tunnel.download(&request, length).await?;
            } else {
                let request = post("/sink", &authority, length);
                tunnel.upload(&request, length).await?;
            }
            Ok(Done {
                count: length,
                milliseconds: Vec::new(),
            })
        }
    }
}

async fn tunnels(arena: &Arena, proxy: &Running, duration: Duration) -> Result<Done> {
    let authority = arena.tunnel_authority();
    let request = get("/", &authority);
    closed_loop(TUNNEL_CLIENTS, duration, async |_| {
        let mut tunnel = Wire::tunnel(proxy.proxy, &authority).await?;
        tunnel.get(&request).await
    })
    .await
}

async fn requests(arena: &Arena, proxy: &Running, duration: Duration) -> Result<Done> {
    let authority = arena.authority();
    let request = get(&format!("http://{authority}/"), &authority);
    let kept: Vec<RefCell<Option<Wire>>> = (0..REQUEST_CLIENTS).map(|_| None.into()).collect();
    let lost = RefCell::new(0_u64);
    let done = closed_loop(REQUEST_CLIENTS, duration, async |client| {
        if let Some(mut wire) = kept[client].take() {
            match wire.get(&request).await {
                Err(error) if is_closed(&error) => *lost.borrow_mut() += 1,
                answered => {
                    kept[client].replace(Some(wire));
                    return answered;
                }
            }
        }
        let mut wire = Wire::open(proxy.proxy).await?;
        wire.get(&request).await?;
        kept[client].replace(Some(wire));
        Ok(())
    })
    .await?;
    let lost = lost.into_inner();
    ensure!(
        lost == 0 || !proxy.contender.keeps_connections(),
        "{lost} of the connections were closed that clients wanted to keep"
    );
    Ok(done)
}

/// Lets each of `clients`, by its number, repeat `exchange` until `duration` is over.
async fn closed_loop(
    clients: usize,
    duration: Duration,
    exchange: impl AsyncFn(usize) -> Result<()>,
) -> Result<Done> {
    let end = Instant::now() + duration;
    let client = async |number| {
        let mut milliseconds = Vec::new();
        loop {
            let start = Instant::now();
            if start >= end {
                return anyhow::Ok(milliseconds);
            }
            exchange(number).await?;
            milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        }
    };
    let milliseconds = try_join_all((0..clients).map(client)).await?.concat();
    Ok(Done {
        count: milliseconds.len() as u64,
        milliseconds,
    })
}

impl Times {
    fn of(milliseconds: &[f64]) -> Option<Self> {
        let mut sorted = milliseconds.to_vec();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            p50_ms: quantile(&sorted, 0.5)?,
            p99_ms: quantile(&sorted, 0.99)?,
        })
    }
}
