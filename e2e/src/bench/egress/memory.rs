//! Memory at rest: of an idle process, and of an idle tunnel. Always a fresh process.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::{
    contender::{Arena, Contender},
    wire::{Wire, get},
};
use crate::bench::cost::{kib, settled_rss};

/// Tunnels set up at once.
const AT_ONCE: usize = 16;

/// What a contender holds.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) contender: Contender,
    /// Right after the start and a tunnel and a request.
    pub(crate) idle_mib: f64,
    pub(crate) tunnels: u32,
    /// Per tunnel that is open and idle after one request through it.
    pub(crate) kib_per_tunnel: f64,
}

/// Measures `contender` with `count` tunnels.
pub(crate) async fn measure(arena: &Arena, contender: Contender, count: u32) -> Result<Memory> {
    let running = arena.start(contender).await?;
    let before = settled_rss(&running.service).await?;
    let authority = &arena.tunnel_authority();
    let request = &get("/", authority);
    let proxy = running.proxy;
    let mut tunnels: Vec<Wire> = stream::iter(0..count)
        .map(|_| async move {
            let mut tunnel = Wire::tunnel(proxy, authority).await?;
            tunnel.get(request).await?;
            anyhow::Ok(tunnel)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let after = settled_rss(&running.service).await?;
    ensure!(tunnels.len() == count as usize, "every tunnel is there");
    // What was closed in the meantime would not have been measured.
    for tunnel in &mut tunnels {
        let alive = tunnel.get(request).await;
        alive.with_context(|| format!("{contender} has closed an idle tunnel"))?;
    }
    let memory = Memory {
        contender,
        idle_mib: kib(before) / 1024.0,
        tunnels: count,
        kib_per_tunnel: (kib(after) - kib(before)) / f64::from(count),
    };
    println!(
        "{contender:<10} {:>6.1} KiB per idle tunnel ({count}), idle {:.1} MiB",
        memory.kib_per_tunnel, memory.idle_mib
    );
    Ok(memory)
}
