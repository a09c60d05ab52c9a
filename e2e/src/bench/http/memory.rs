//! Memory at rest: of an idle process, of an idle connection, of a route. Always a fresh process.

use anyhow::Result;
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use super::contender::{Arena, Contender, Protocol};
use crate::{
    bench::cost::{kib, settled_rss},
    support::{
        backend::ANSWER_LENGTH,
        client::{Client, expect_answer},
        table::MARK,
    },
};

/// Connections set up at once, so that few upstream connections come to be.
const AT_ONCE: usize = 16;

/// What a contender holds.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    pub(crate) contender: Contender,
    /// Right after the start and one request on each protocol.
    pub(crate) idle_mib: f64,
    /// Per idle keep-alive connection after one request.
    pub(crate) connections: Vec<ConnectionMemory>,
}

/// Memory per connection of one protocol.
#[derive(Debug, Serialize)]
pub(crate) struct ConnectionMemory {
    pub(crate) protocol: Protocol,
    pub(crate) connections: u32,
    pub(crate) kib: f64,
}

/// Measures `contender` with `count` connections of each protocol, each in a process of its own.
pub(crate) async fn measure(arena: &Arena, contender: Contender, count: u32) -> Result<Memory> {
    let mut idle_mib = 0.0;
    let mut connections = Vec::new();
    for protocol in Protocol::ALL {
        let running = arena.start(contender).await?;
        let before = settled_rss(&running.service).await?;
        idle_mib = kib(before) / 1024.0;
        let target = &running.target(arena, protocol)?;
        let clients: Vec<Client> = stream::iter(0..count)
            .map(|_| async move {
                let mut client = Client::connect(target).await?;
                expect_answer(&client.get("/").await?, ANSWER_LENGTH, MARK)?;
                anyhow::Ok(client)
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await?;
        let after = settled_rss(&running.service).await?;
        let closed = clients.iter().filter(|client| client.is_closed()).count();
        anyhow::ensure!(closed == 0, "{contender} closed {closed} idle connections");
        let kib = (kib(after) - kib(before)) / f64::from(count);
        println!(
            "{contender:<10} {protocol:<14} {kib:>6.1} KiB per idle connection ({count}), idle {idle_mib:.1} MiB"
        );
        connections.push(ConnectionMemory {
            protocol,
            connections: count,
            kib,
        });
    }
    Ok(Memory {
        contender,
        idle_mib,
        connections,
    })
}
