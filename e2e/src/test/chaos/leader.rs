//! The controller that writes is killed.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use tokio::try_join;

use super::Chaos;
use crate::test::proxies;

/// A Lease that has run out is taken by who has waited for that. To hear of it, to write it and to look on takes no longer
/// than this on a machine that has time for it. A figure over it is printed as a loss.
const TAKING_OVER: Duration = Duration::from_secs(5);
/// No load explains more than this many times the Lease's duration.
const BROKEN: u32 = 4;

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

/// `kill -9`, and the pod never comes back: another one leads when the Lease has run out.
pub(super) async fn pod(chaos: &Chaos<'_>) -> Result<()> {
    let proxies = proxies::until_ready(chaos.bed, super::GATEWAY, super::REPLICAS).await?;
    let controllers = chaos.controllers;
    let leader = controllers.leader().await?;
    let lease = controllers.lease_duration().await?;
    let pod = ["delete", "pod", &leader, "--force", "--grace-period=0"];
    controllers.process(&leader).await?.signal(Signal::KILL)?;
    let killed = Instant::now();
    controllers.run(&pod).await?;
    // Proxies are served by every replica, leading or not.
    try_join!(
        chaos.change(&proxies),
        until_taken_over(chaos, &leader, killed, lease)
    )?;
    chaos.until_told().await
}

/// Waits until another replica than `leader` holds the Lease, which runs out `lease` after it was written last.
async fn until_taken_over(
    chaos: &Chaos<'_>,
    leader: &str,
    killed: Instant,
    lease: Duration,
) -> Result<()> {
    let holder = chaos.bed.until("another replica leads", async || {
        let holder = chaos.controllers.leader().await?;
        ensure!(holder != leader, "{leader} still leads");
        Ok(holder)
    });
    let holder = holder.await?;
    let took = killed.elapsed();
    let bar = lease + TAKING_OVER;
    let verdict = if took <= bar { "PASS" } else { "LOSS" };
    let told = format!(
        "{holder} leads {:.1} s after {leader} was killed",
        took.as_secs_f64()
    );
    println!("          {told}; <= {} s: {verdict}", bar.as_secs());
    ensure!(
        took <= lease * BROKEN,
        "{told}: no load explains more than {} s",
        (lease * BROKEN).as_secs()
    );
    Ok(())
}
