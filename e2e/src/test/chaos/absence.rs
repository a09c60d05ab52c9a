//! What Portcullis needs to learn of changes is away for a while.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::time::{sleep, sleep_until};

use super::{Chaos, GATEWAY, REPLICAS};
use crate::{
    cluster::processes::Process,
    test::proxies::{self, Proxy},
};

/// How long there is no controller.
const WITHOUT_CONTROLLERS: Duration = Duration::from_mins(2);
/// How long the API server stands still.
const WITHOUT_API: Duration = Duration::from_mins(1);

/// No controller is there, and meanwhile a proxy is started again.
pub(super) async fn controllers(chaos: &Chaos<'_>) -> Result<()> {
    let controllers = chaos.controllers;
    let replicas = controllers.replicas().await?;
    let alone = async {
        controllers.scale(0).await?;
        let end = Instant::now() + WITHOUT_CONTROLLERS;
        restart_proxy(chaos).await?;
        ensure!(
            Instant::now() < end,
            "the proxy needed longer than the controllers were to be away"
        );
        sleep_until(end.into()).await;
        Ok(())
    };
    let alone = alone.await;
    controllers.scale(replicas).await?;
    alone?;
    let proxies = proxies::until_ready(chaos.bed, GATEWAY, REPLICAS).await?;
    chaos.change(&proxies).await?;
    chaos.until_told().await?;
    for proxy in &proxies {
        until_stale(chaos, proxy, false).await?;
    }
    Ok(())
}

/// Ends the process of a proxy in peace, so that the kubelet starts another one in the same pod. Nobody but the last known
/// good table can tell that one what to serve.
async fn restart_proxy(chaos: &Chaos<'_>) -> Result<()> {
    let before = proxies::until_ready(chaos.bed, GATEWAY, REPLICAS).await?;
    let old = before.first().context("there is no proxy")?;
    chaos.drains.borrow_mut().push(Instant::now());
    old.process()?.signal(Signal::TERM)?;
    let new = chaos
        .bed
        .until("the proxy is started again", async || {
            let now = proxies::until_ready(chaos.bed, GATEWAY, REPLICAS).await?;
            now.into_iter()
                .find(|proxy| proxy.pod == old.pod && proxy.restarts == old.restarts + 1)
                .context("its pod is not Ready with a new process")
        })
        .await?;
    until_stale(chaos, &new, true).await?;
    let url = format!("http://{}/", new.address);
    let answer = chaos
        .bed
        .curl(&["--header", "Host: app.example", &url])
        .await?;
    ensure!(answer.is_from("app"), "{}: {answer}", new.pod);
    Ok(())
}

/// Waits until a proxy says that its table is the last known good one, or that of a controller.
async fn until_stale(chaos: &Chaos<'_>, proxy: &Proxy, stale: bool) -> Result<()> {
    let url = format!("http://{}:9901/metrics", proxy.address);
    let line = format!("portcullis_table_stale {}", u8::from(stale));
    chaos
        .bed
        .until_curl(&[&url], |answer| answer.body.lines().any(|it| it == line))
        .await
        .with_context(|| format!("{} does not say {line}", proxy.pod))
        .map(drop)
}

/// The API server answers nobody, and comes back.
pub(super) async fn api_server(chaos: &Chaos<'_>) -> Result<()> {
    let paused = Process::of_node("kube-apiserver")?.pause()?;
    sleep(WITHOUT_API).await;
    drop(paused);
    let proxies = proxies::until_ready(chaos.bed, GATEWAY, REPLICAS).await?;
    chaos
        .bed
        .until("the change is taken and served", async || {
            chaos.change(&proxies).await
        })
        .await?;
    chaos.until_told().await
}
