//! The controller that writes is killed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::try_join;

use super::Chaos;
use crate::test::proxies;

/// A Lease that has run out is taken by who has waited for that. To hear of it, to write it and to look on takes this long
/// at most, also while clients keep the machine busy.
const TAKING_OVER: Duration = Duration::from_secs(5);

/// `kill -9` of the process; the kubelet starts another one in the same pod.
pub(super) async fn process(chaos: &Chaos<'_>) -> Result<()> {
    let proxies = proxies::until_ready(chaos.bed, super::GATEWAY, super::REPLICAS).await?;
    let leader = chaos.controllers.leader().await?;
    let before = chaos.controllers.restarts(&leader).await?;
    chaos
        .controllers
        .process(&leader)
        .await?
        .signal(Signal::KILL)?;
    chaos.change(&proxies).await?;
    chaos.until_told().await?;
    chaos
        .bed
        .until("the process was started again", async || {
            let now = chaos.controllers.restarts(&leader).await?;
            ensure!(now == before + 1, "{now} restarts after {before}");
            Ok(())
        })
        .await
}

/// `kill -9`, and the pod never comes back: another one leads as soon as the Lease has run out.
pub(super) async fn pod(chaos: &Chaos<'_>) -> Result<()> {
    let proxies = proxies::until_ready(chaos.bed, super::GATEWAY, super::REPLICAS).await?;
    let controllers = chaos.controllers;
    let leader = controllers.leader().await?;
    let limit = controllers.lease_duration().await? + TAKING_OVER;
    let pod = ["delete", "pod", &leader, "--force", "--grace-period=0"];
    controllers.process(&leader).await?.signal(Signal::KILL)?;
    let killed = Instant::now();
    controllers.run(&pod).await?;
    // Proxies are served by every replica, leading or not.
    try_join!(
        chaos.change(&proxies),
        until_taken_over(chaos, &leader, killed, limit)
    )?;
    chaos.until_told().await
}

/// Waits until another replica than `leader` holds the Lease, which must not take longer than `limit`.
async fn until_taken_over(
    chaos: &Chaos<'_>,
    leader: &str,
    killed: Instant,
    limit: Duration,
) -> Result<()> {
    let holder = chaos.bed.until("another replica leads", async || {
        let holder = chaos.controllers.leader().await?;
        ensure!(holder != leader, "{leader} still leads");
        Ok(holder)
    });
    let holder = holder.await?;
    let took = killed.elapsed();
    ensure!(
        took <= limit,
        "{holder} leads only {:.1} s after {leader} was killed; at most {:.1} s were to be",
        took.as_secs_f64(),
        limit.as_secs_f64()
    );
    Ok(())
}
