//! The controller that writes is killed.

use anyhow::{Result, ensure};
use rustix::process::Signal;

use super::Chaos;
use crate::test::proxies;

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

/// `kill -9`, and the pod never comes back: another one has to lead, once the Lease has run out.
pub(super) async fn pod(chaos: &Chaos<'_>) -> Result<()> {
    let proxies = proxies::until_ready(chaos.bed, super::GATEWAY, super::REPLICAS).await?;
    let controllers = chaos.controllers;
    let leader = controllers.leader().await?;
    let pod = ["delete", "pod", &leader, "--force", "--grace-period=0"];
    controllers.process(&leader).await?.signal(Signal::KILL)?;
    controllers.run(&pod).await?;
    // Proxies are served by every replica, leading or not.
    chaos.change(&proxies).await?;
    chaos.until_told().await?;
    let now = controllers.leader().await?;
    ensure!(now != leader, "{leader} still leads");
    Ok(())
}
