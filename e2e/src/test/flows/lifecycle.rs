//! Routes and Gateways go, and come again.

use anyhow::{Result, ensure};

use super::EDGE;
use crate::test::bed::Bed;

/// What runs the Gateway `edge`.
const MADE: [&str; 4] = [
    "deployment/edge-portcullis",
    "service/edge-portcullis",
    "serviceaccount/edge-portcullis",
    "secret/edge-portcullis-identity",
];

pub(super) async fn deletion(bed: &Bed) -> Result<()> {
    bed.echo("app", 1).await?;
    serve(bed).await?;
    ensure!(made(bed).await?.len() == MADE.len(), "something is missing");

    let url = format!("http://{}/", bed.address("edge").await?);
    bed.run(&["delete", "httproute/app"]).await?;
    bed.until_curl(&[&url], |answer| answer.status == 404)
        .await?;

    bed.run(&["delete", "gateway/edge"]).await?;
    bed.until("what ran the Gateway is gone", async || {
        let left = made(bed).await?;
        ensure!(left.is_empty(), "there is still {left:?}");
        Ok(())
    })
    .await?;
    bed.until("the address is not served", async || {
        ensure!(bed.curl(&[&url]).await.is_err(), "it is");
        Ok(())
    })
    .await?;

    // The address may be another one.
    serve(bed).await
}

async fn serve(bed: &Bed) -> Result<()> {
    bed.apply(EDGE).await?;
    let url = format!("http://{}/", bed.address("edge").await?);
    bed.until_curl(&[&url], |answer| answer.is_from("app"))
        .await
        .map(drop)
}

/// Those of [`MADE`] that are there.
async fn made(bed: &Bed) -> Result<Vec<String>> {
    let mut arguments = vec!["get", "--ignore-not-found", "--output=name"];
    arguments.extend(MADE);
    let names = bed.run(&arguments).await?;
    Ok(names.lines().map(str::to_owned).collect())
}
