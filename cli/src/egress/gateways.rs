//! The egress Gateways of a cluster.

use anyhow::bail;
use portcullis_controller::{ObjectKey, translate::EGRESS_CLASS};

use crate::cluster::{Cluster, Kind, Refusal, Scope};

/// All of them, at least one.
pub(super) async fn gateways(cluster: &Cluster) -> anyhow::Result<Vec<ObjectKey>> {
    let listed = cluster.list(&Kind::GATEWAY, &Scope::All).await;
    let listed = match listed {
        Err(Refusal::Forbidden(message)) => {
            bail!(
                "which egress Gateways there are is not known: {message}. Name one with --gateway"
            )
        }
        listed => listed.map_err(|refusal| refusal.fatal(&Kind::GATEWAY))?,
    };
    let is_egress = |class: &serde_json::Value| class == EGRESS_CLASS;
    let found = listed.iter();
    let found = found.filter(|it| is_egress(&it.data["spec"]["gatewayClassName"]));
    let found: Vec<_> = found.map(ObjectKey::of).collect();
    if found.is_empty() {
        bail!(
            "the cluster has no Gateway of the class {EGRESS_CLASS}: name another one with --gateway"
        );
    }
    Ok(found)
}
