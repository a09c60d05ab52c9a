//! The Leases of controllers: who holds one, and whether one is held at all.

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::Value;

use super::{Cluster, Kind, Refusal, Scope};

/// Seconds by which clocks may differ.
const CLOCK_SKEW: i64 = 60;

/// Who holds a Lease.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Holder<'a> {
    /// It is not there, or was given back.
    Nobody,
    /// One who has not renewed it for so many seconds, far too many.
    Overdue(&'a str, i64),
    /// One who renews it.
    Alive(&'a str),
}

impl<'a> Holder<'a> {
    /// The holder of a Lease, if there is one.
    pub(crate) fn of(lease: Option<&'a DynamicObject>) -> Self {
        let Some(lease) = lease else {
            return Self::Nobody;
        };
        let holder = lease.data.pointer("/spec/holderIdentity");
        match holder.and_then(Value::as_str).unwrap_or_default() {
            "" => Self::Nobody,
            holder => {
                overdue(lease).map_or(Self::Alive(holder), |since| Self::Overdue(holder, since))
            }
        }
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

/// Whether a controller runs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Controller {
    /// One holds its Lease.
    Runs,
    /// None does, and why.
    Gone(String),
    /// The caller may not look; in the words of the API server.
    Hidden(String),
}

impl Controller {
    /// The one that GatewayClasses call by this name, in whatever namespace it is.
    pub(crate) async fn find(cluster: &Cluster, name: &str) -> anyhow::Result<Self> {
        const LABELS: &str = "app.kubernetes.io/component=controller";
        let kind = &Kind::DEPLOYMENT;
        let deployments = match cluster.labelled(kind, &Scope::All, LABELS).await {
            Ok(deployments) => deployments,
            Err(Refusal::Forbidden(message)) => return Ok(Self::Hidden(message)),
            Err(refusal) => return Err(refusal.fatal(kind)),
        };
        let deployments = deployments.iter();
        let mut found = Self::Gone(format!(
            "no namespace has a Deployment of a controller named {name}"
        ));
        for deployment in deployments.filter(|it| argument(it, "--controller-name=") == Some(name))
        {
            // The chart and config/ name both alike.
            let own = deployment.metadata.name.as_deref();
            let lease = argument(deployment, "--lease-name=").or(own);
            let lease = lease.unwrap_or_default();
            let namespace = deployment.metadata.namespace.as_deref();
            found = Self::of_lease(cluster, namespace.unwrap_or_default(), lease).await?;
            if found == Self::Runs {
                break;
            }
        }
        Ok(found)
    }

    async fn of_lease(cluster: &Cluster, namespace: &str, name: &str) -> anyhow::Result<Self> {
        let lease = match cluster.get_in(&Kind::LEASE, namespace, name).await {
            Ok(lease) => lease,
            Err(Refusal::Forbidden(message)) => return Ok(Self::Hidden(message)),
            Err(refusal) => return Err(refusal.fatal(&Kind::LEASE)),
        };
        Ok(match Holder::of(lease.as_ref()) {
            Holder::Alive(_) => Self::Runs,
            Holder::Nobody => Self::Gone(format!("nobody holds Lease {namespace}/{name}")),
            Holder::Overdue(holder, seconds) => Self::Gone(format!(
                "{holder}, who holds Lease {namespace}/{name}, has not renewed it for {seconds} s"
            )),
        })
    }
}

/// The value of an argument of a Deployment's containers, by its name with `=`.
fn argument<'a>(deployment: &'a DynamicObject, name: &str) -> Option<&'a str> {
    let containers = deployment.data.pointer("/spec/template/spec/containers")?;
    let containers = containers.as_array()?.iter();
    let mut arguments = containers
        .filter_map(|container| container["args"].as_array())
        .flatten()
        .filter_map(Value::as_str);
    arguments.find_map(|argument| argument.strip_prefix(name))
}
