//! The way out of the cluster, with a world of our own beyond it.

mod clients;
mod dns_down;
mod pods;
mod policies;
mod samples;
mod takeover;
mod world;

use anyhow::{Context, Result};
use futures::FutureExt;
use serde_json::{Value, json};

use super::{Company::AloneOnOwnNode, Scenario, bed::Bed};

/// The Gateway of all of them.
const GATEWAY: &str = include_str!("../manifests/egress-gateway.yaml");
/// What is allowed in all of them.
const WEATHER: &str = include_str!("../manifests/egress-weather.yaml");
/// Names that have addresses of one family, and some that lead where nobody may go.
const MORE: &str = include_str!("../manifests/egress-more.yaml");

pub(super) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "egress-clients",
            "curl, wget, Python, Go, Node and Java reach the listed host by four ways and two families, and nothing else",
            AloneOnOwnNode,
            |bed| clients::run(bed).boxed_local(),
        ),
        Scenario::new(
            "egress-policies",
            "policies hold for callers known by address, token and certificate, and a pod that gets the address of another is not taken for it",
            AloneOnOwnNode,
            |bed| policies::run(bed).boxed_local(),
        ),
        Scenario::new(
            "egress-dns-down",
            "without DNS known names are served on, others get a 503 in words, and all comes back with it",
            AloneOnOwnNode,
            |bed| dns_down::run(bed).boxed_local(),
        ),
        Scenario::new(
            "egress-samples",
            "the samples of egress, all in one cluster, hold what their headers promise of who reaches what, and who sees which key",
            AloneOnOwnNode,
            |bed| samples::run(bed).boxed_local(),
        )
        .making(&samples::NAMESPACES),
    ]
}

/// Puts objects where the scenario is.
async fn apply(bed: &Bed, objects: &[Value]) -> Result<()> {
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    bed.apply(&list.to_string()).await
}

/// The addresses of the Gateway: that of its own Service, and that of the one with IPv6.
async fn addresses(bed: &Bed) -> Result<[String; 2]> {
    let v4 = bed.address("egress").await?.to_string();
    let service = bed.get("service/egress-v6").await?;
    let v6 = service["spec"]["clusterIP"]
        .as_str()
        .context("no address")?;
    Ok([v4, v6.to_owned()])
}

/// A host of a URL.
fn in_url(address: &str) -> String {
    if address.contains(':') {
        format!("[{address}]")
    } else {
        address.to_owned()
    }
}
