//! Pods of a backend come and go under load.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use super::{EDGE, load::Load};
use crate::{support::client::Target, test::bed::Bed};

/// Requests after which every one of a few pods has answered.
const ENOUGH: u64 = 100;

/// 1, then 5, then 1.
pub(super) async fn scale(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    bed.apply(EDGE).await?;
    let address = bed.address("edge").await?;
    bed.until_curl(&[&format!("http://{address}/")], |answer| {
        answer.is_from("app")
    })
    .await?;
    let load = Load::new(Target::clear(SocketAddr::new(address, 80), "shop.example"));
    load.during(async {
        for replicas in [1, 5, 1] {
            let replicas_argument = format!("--replicas={replicas}");
            bed.run(&["scale", "deployment/app", &replicas_argument])
                .await?;
            bed.run(&["rollout", "status", "deployment/app", "--timeout=2m"])
                .await?;
            until_answered_by(bed, &load, replicas).await?;
        }
        Ok(())
    })
    .await?;
    println!(
        "          endpoints: {} requests, none failed",
        load.answers()
    );
    Ok(())
}

/// Waits until so many pods answer: all of them, and no other.
async fn until_answered_by(bed: &Bed, load: &Load, count: usize) -> Result<()> {
    bed.until(&format!("{count} pods answer"), async || {
        load.take_pods();
        let before = load.answers();
        bed.until("the load goes on", async || {
            ensure!(load.answers() >= before + ENOUGH, "it has stopped");
            Ok(())
        })
        .await?;
        let pods = load.take_pods();
        ensure!(pods.len() == count, "{pods:?} answer");
        Ok(())
    })
    .await
}
