//! Many routes: memory per route, and what a new table costs the worker that serves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use portcullis_routing::{ClusterProtocol, RoutePolicy};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::contender::Arena;
use crate::{
    bench::cost::{kib, settled_rss},
    support::{
        client::{Client, Target},
        process::POLL,
        proxy::Proxy,
        table::TableBuilder,
    },
};

/// Threads that serve requests have names that begin so.
const WORKER: &str = "worker";
/// Requests that show what one poll costs the worker.
const CALIBRATION: u32 = 200;
/// How long a table may take to be served.
const PATIENCE: Duration = Duration::from_secs(20);

/// What many routes cost.
#[derive(Debug, Serialize)]
pub(crate) struct RouteCosts {
    pub(crate) routes: u32,
    pub(crate) kib_per_route: f64,
    /// CPU time of the worker per new table in which one route differs, in milliseconds.
    pub(crate) swap_one_ms: f64,
    /// The same with every route changed.
    pub(crate) swap_all_ms: f64,
    /// From the file's rename to the first request served by it, median, in milliseconds.
    pub(crate) apply_ms: f64,
}

/// Measures Portcullis with `routes` routes over `swaps` new tables of each kind.
pub(crate) async fn measure(arena: &Arena, routes: u32, swaps: u32) -> Result<RouteCosts> {
    let small = arena.start_with(&table(arena, 1, 0, 0)).await?;
    let base = settled_rss(&small.service).await?;
    drop(small);
    let proxy = arena.start_with(&table(arena, routes, 0, 0)).await?;
    let full = settled_rss(&proxy.service).await?;
    let kib_per_route = (kib(full) - kib(base)) / f64::from(routes - 1);

    let mut client = Client::connect(&Target::clear(proxy.http, "route-0.example")).await?;
    let poll_cost = poll_cost(&proxy, &mut client).await?;
    let mut apply = Vec::new();
    let mut swap = async |all: bool| {
        let before = proxy.service.thread_cpu(WORKER)?;
        let mut polls = 0;
        for number in 1..=swaps {
            let mark = if all { swaps + number } else { number };
            table(arena, routes, mark, if all { number } else { 0 }).write(&proxy.table)?;
            let start = Instant::now();
            polls += until_served(&mut client, mark).await?;
            apply.push(start.elapsed().as_secs_f64() * 1e3);
        }
        let spent = proxy
            .service
            .thread_cpu(WORKER)?
            .saturating_sub(before)
            .saturating_sub(poll_cost * polls);
        anyhow::Ok(spent.as_secs_f64() * 1e3 / f64::from(swaps))
    };
    let swap_one_ms = swap(false).await?;
    let swap_all_ms = swap(true).await?;
    apply.sort_by(f64::total_cmp);
    let apply_ms =
        crate::support::statistics::quantile(&apply, 0.5).context("there was at least one swap")?;
    let costs = RouteCosts {
        routes,
        kib_per_route,
        swap_one_ms,
        swap_all_ms,
        apply_ms,
    };
    println!("{costs:?}");
    Ok(costs)
}

/// `routes` routes with a hostname each. `mark` stands in a path of its own, so that a request tells which table serves;
/// `variant` stands in every route.
fn table(arena: &Arena, routes: u32, mark: u32, variant: u32) -> TableBuilder {
    let mut table = TableBuilder::new(&arena.identity);
    let cluster = table.cluster("backend", ClusterProtocol::Http1, &[arena.ground.backend]);
    for number in 0..routes.saturating_sub(1) {
        let host = format!("route-{number}.example");
        table.route(
            &format!("route-{number}"),
            &[&host],
            &format!("/variant-{variant}"),
            &cluster,
            RoutePolicy::default(),
        );
    }
    table.route(
        "mark",
        &["route-0.example"],
        &path(mark),
        &cluster,
        RoutePolicy::default(),
    );
    table
}

fn path(mark: u32) -> String {
    format!("/mark-{mark}")
}

/// CPU time of the worker per request of [`until_served`].
async fn poll_cost(proxy: &Proxy, client: &mut Client) -> Result<Duration> {
    let before = proxy.service.thread_cpu(WORKER)?;
    ensure!(before > Duration::ZERO, "no thread is called '{WORKER}...'");
    for _ in 0..CALIBRATION {
        client.get("/no-such-path").await?;
        sleep(POLL).await;
    }
    Ok(proxy.service.thread_cpu(WORKER)?.saturating_sub(before) / CALIBRATION)
}

/// Asks for the mark's path until it is there; returns how often.
async fn until_served(client: &mut Client, mark: u32) -> Result<u32> {
    let deadline = Instant::now() + PATIENCE;
    for polls in 1.. {
        if client.get(&path(mark)).await?.status() == 200 {
            return Ok(polls);
        }
        ensure!(
            Instant::now() < deadline,
            "table {mark} is not served after {} s",
            PATIENCE.as_secs()
        );
        sleep(POLL).await;
    }
    unreachable!("the loop has no end of its own")
}
