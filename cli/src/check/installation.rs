//! What has been installed: the controller, its Lease, and the objects that it serves.

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::Value;

use super::Item;
use crate::{
    args::StatusOf,
    cluster::{Cluster, Kind, Refusal, Scope},
    status,
};

/// Seconds by which clocks may differ.
const CLOCK_SKEW: i64 = 60;

/// The Deployments of controllers in a namespace, each with the Lease of its name.
pub(super) async fn controllers(cluster: &Cluster, namespace: &str) -> anyhow::Result<Vec<Item>> {
    let scope = Scope::Namespace(namespace.to_owned());
    let what = "Controller";
    let deployments = match cluster.list(&Kind::DEPLOYMENT, &scope).await {
        Ok(deployments) => deployments,
        Err(Refusal::Forbidden(message)) => return Ok(vec![Item::hidden(what, &message)]),
        Err(refusal) => return Err(refusal.fatal(&Kind::DEPLOYMENT)),
    };
    let controllers: Vec<_> = deployments.iter().filter(|it| is_controller(it)).collect();
    if controllers.is_empty() {
        return Ok(vec![Item::fault(
            what,
            format!("there is none in namespace {namespace}"),
            "`portcullis install` installs it; if it is in another namespace, name that with --namespace",
        )]);
    }
    let mut items: Vec<_> = controllers
        .iter()
        .map(|it| replicas(it, namespace))
        .collect();
    match cluster.list(&Kind::LEASE, &scope).await {
        Ok(leases) => items.extend(controllers.iter().map(|it| lease(it, &leases, namespace))),
        Err(Refusal::Forbidden(message)) => items.push(Item::hidden("Lease", &message)),
        Err(refusal) => return Err(refusal.fatal(&Kind::LEASE)),
    }
    Ok(items)
}

fn is_controller(deployment: &DynamicObject) -> bool {
    let labels = deployment.metadata.labels.as_ref();
    let has = |name: &str, value: &str| {
        let label = labels.and_then(|labels| labels.get(&format!("app.kubernetes.io/{name}")));
        label.is_some_and(|label| label == value)
    };
    has("name", "portcullis") && has("component", "controller")
}

fn name(object: &DynamicObject) -> &str {
    object.metadata.name.as_deref().unwrap_or_default()
}

fn replicas(deployment: &DynamicObject, namespace: &str) -> Item {
    let what = format!("Deployment {namespace}/{}", name(deployment));
    let number = |pointer: &str| deployment.data.pointer(pointer).and_then(Value::as_i64);
    let wanted = number("/spec/replicas").unwrap_or(1);
    let ready = number("/status/readyReplicas").unwrap_or(0);
    let found = format!("{ready} of {wanted} replicas are ready");
    let remedy = format!(
        "kubectl -n {namespace} describe pods -l app.kubernetes.io/component=controller, and kubectl -n {namespace} logs \
         deployment/{}",
        name(deployment)
    );
    match ready {
        0 => Item::fault(what, found, &remedy),
        _ if ready < wanted => Item::concern(what, found, &remedy),
        _ => Item::ok(what, found),
    }
}

fn lease(deployment: &DynamicObject, leases: &[DynamicObject], namespace: &str) -> Item {
    let what = format!("Lease {namespace}/{}", name(deployment));
    let lease = leases.iter().find(|lease| name(lease) == name(deployment));
    let holder = lease.and_then(|it| it.data.pointer("/spec/holderIdentity")?.as_str());
    let Some(holder) = holder.filter(|holder| !holder.is_empty()) else {
        return Item::fault(
            what,
            "nobody holds it, so nobody writes statuses",
            "the log of the controller says why: it may lack the right to `leases` in its namespace",
        );
    };
    match lease.and_then(overdue) {
        Some(seconds) => Item::fault(
            what,
            format!(
                "held by {holder}, who has not renewed it for {seconds} s: nobody writes statuses"
            ),
            "the log of the controller says why it cannot renew or take the Lease",
        ),
        None => Item::ok(what, format!("held by {holder}")),
    }
}

/// Seconds since the last renewal, if they are far too many. The clock here may differ from theirs by a little.
fn overdue(lease: &DynamicObject) -> Option<i64> {
    let spec = &lease.data["spec"];
    let renewed: Timestamp = spec["renewTime"].as_str()?.parse().ok()?;
    let duration = spec["leaseDurationSeconds"].as_i64()?;
    let since = Timestamp::now().duration_since(renewed).as_secs();
    (since > 2 * duration + CLOCK_SKEW).then_some(since)
}

/// GatewayClasses and Gateways of all namespaces.
pub(super) async fn objects(cluster: &Cluster, controller: &str) -> anyhow::Result<Vec<Item>> {
    let status = status::look(cluster, controller, Scope::All, StatusOf::Gateways).await?;
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
    for note in status.notes {
        let remedy = "ask for a role with this right, or somebody who has it";
        items.push(Item::concern("Objects", note, remedy));
    }
    Ok(items)
}

fn faults<'a>(status: &'a status::Status, object: &'a str) -> impl Iterator<Item = Item> + 'a {
    let findings = status.findings.iter();
    findings.filter(move |it| it.object == object).map(|it| {
        let part = it.part.as_ref().map(|part| format!(", {part}"));
        let what = format!("{}{}", it.object, part.unwrap_or_default());
        let found = format!("{}={} ({})", it.condition, it.status, it.reason);
        Item::fault(what, found, &it.message)
    })
}
