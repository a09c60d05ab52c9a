//! What has been installed: the controller, its Lease, and the objects that it serves.

use jiff::Timestamp;
use kube::api::DynamicObject;

use super::{Fleet, Item};
use crate::{
    cluster::{Cluster, Holder, Kind, Refusal, Scope},
    status,
};

/// The controllers of a namespace, each with the Lease of its name.
pub(super) async fn controllers(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<Item>> {
    let fleet = Fleet::controllers(cluster, namespace, "app.kubernetes.io/name=portcullis").await?;
    if fleet.workloads.is_empty() && fleet.hidden.is_empty() {
        return Ok(vec![Item::fault(
            "Controller",
            format!("there is none in namespace {namespace}"),
            "`portcullis install` installs it; if it is in another namespace, name that with --namespace",
        )]);
    }
    let names: Vec<_> = fleet
        .workloads
        .iter()
        .map(|it| it.name().to_owned())
        .collect();
    let mut items = fleet.items();
    if names.is_empty() {
        return Ok(items);
    }
    let scope = Scope::Namespace(namespace.to_owned());
    match cluster.list(&Kind::LEASE, &scope).await {
        Ok(leases) => items.extend(names.iter().map(|it| lease(it, &leases, namespace))),
        Err(Refusal::Forbidden(message)) => items.push(Item::hidden("Lease", &message)),
        Err(refusal) => return Err(refusal.fatal(&Kind::LEASE)),
    }
    Ok(items)
}

fn lease(name: &str, leases: &[DynamicObject], namespace: &str) -> Item {
    let what = format!("Lease {namespace}/{name}");
    let lease = leases
        .iter()
        .find(|it| it.metadata.name.as_deref() == Some(name));
    match Holder::of(lease) {
        Holder::Nobody => Item::fault(
            what,
            "nobody holds it, so nobody writes statuses",
            "the log of the controller says why: it may lack the right to `leases` in its namespace",
        ),
        Holder::Overdue(holder, seconds) => Item::fault(
            what,
            format!(
                "held by {holder}, who has not renewed it for {seconds} s: nobody writes statuses"
            ),
            "the log of the controller says why it cannot renew or take the Lease",
        ),
        Holder::Alive(holder) => Item::ok(what, format!("held by {holder}")),
    }
}

/// GatewayClasses and Gateways of all namespaces, and what runs the Gateways' proxies.
pub(super) async fn objects(cluster: &Cluster, controller: &str) -> anyhow::Result<Vec<Item>> {
    let status = status::gateways(cluster, controller).await?;
    let classes = status.gateway_classes.iter().map(|it| &it.name);
    let classes = classes.map(|name| format!("GatewayClass {name}"));
    let gateways = status.gateways.iter().map(|it| &it.name);
    let gateways = gateways.map(|name| format!("Gateway {name}"));
    let mut items = Vec::new();
    if status.gateway_classes.is_empty() {
        // The status tells why.
        items.extend(faults(&status, "GatewayClass"));
    }
    for object in classes.chain(gateways) {
        let faults: Vec<_> = faults(&status, &object).collect();
        if faults.is_empty() {
            items.push(Item::ok(object, "accepted, nothing is wrong with it"));
        }
        items.extend(faults);
    }
    let mut proxies = Fleet::proxies(cluster).await?;
    proxies.workloads.retain(|workload| {
        let gateway = workload.gateway();
        gateway.is_some_and(|gateway| status.gateways.iter().any(|it| it.name == gateway))
    });
    items.extend(proxies.items());
    let hidden = status.hidden.iter();
    items.extend(hidden.map(|it| Item::hidden(&it.what, &it.message)));
    Ok(items)
}

/// What is wrong with an object; a warning if it has only just begun and nothing else is wrong with it.
fn faults<'a>(status: &'a status::Status, object: &'a str) -> impl Iterator<Item = Item> + 'a {
    let findings = || status.findings.iter().filter(move |it| it.object == object);
    let now = Timestamp::now();
    let has_begun = findings().all(|it| it.is_beginning(now));
    findings().map(move |it| {
        let part = it.part.as_ref().map(|part| format!(", {part}"));
        let what = format!("{}{}", it.object, part.unwrap_or_default());
        let found = format!("{}={} ({})", it.condition, it.status, it.reason);
        if has_begun {
            return Item::concern(what, found, &it.message);
        }
        Item {
            apply: it.apply.clone(),
            ..Item::fault(what, found, &it.message)
        }
    })
}
