//! The Deployment or DaemonSet of the proxies.

use k8s_openapi::{
    api::apps::v1::{
        DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, Deployment, DeploymentSpec,
        DeploymentStrategy, RollingUpdateDaemonSet, RollingUpdateDeployment,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};
use portcullis_crds::gateway_parameters::WorkloadKind;

use super::{Blueprint, Kind, pod};
use crate::provision::Object;

const ROLLING_UPDATE: &str = "RollingUpdate";

/// Old ReplicaSets that are kept to go back to.
const REVISIONS: i32 = 3;

/// What runs the proxies. A new proxy takes traffic before an old one stops.
pub(super) fn workload(blueprint: &Blueprint) -> Object {
    match blueprint.infrastructure().workload.kind.unwrap_or_default() {
        WorkloadKind::Deployment => blueprint.object(Kind::Deployment, deployment(blueprint)),
        WorkloadKind::DaemonSet => blueprint.object(Kind::DaemonSet, daemon_set(blueprint)),
    }
}

fn deployment(blueprint: &Blueprint) -> Deployment {
    let infrastructure = blueprint.infrastructure();
    // The autoscaler's number, if there is one, and nobody's else.
    let replicas = match infrastructure.autoscaler {
        Some(_) => None,
        None => infrastructure.workload.replicas,
    };
    Deployment {
        metadata: blueprint.metadata(),
        spec: Some(DeploymentSpec {
            replicas: replicas.and_then(|it| it.try_into().ok()),
            revision_history_limit: Some(REVISIONS),
            selector: blueprint.label_selector(),
            strategy: Some(DeploymentStrategy {
                type_: Some(ROLLING_UPDATE.into()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::String("25%".into())),
                }),
            }),
            template: pod::template(blueprint),
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

fn daemon_set(blueprint: &Blueprint) -> DaemonSet {
    DaemonSet {
        metadata: blueprint.metadata(),
        spec: Some(DaemonSetSpec {
            revision_history_limit: Some(REVISIONS),
            selector: blueprint.label_selector(),
            update_strategy: Some(DaemonSetUpdateStrategy {
                type_: Some(ROLLING_UPDATE.into()),
                rolling_update: Some(RollingUpdateDaemonSet {
                    max_unavailable: Some(IntOrString::Int(0)),
                    max_surge: Some(IntOrString::Int(1)),
                }),
            }),
            template: pod::template(blueprint),
            ..DaemonSetSpec::default()
        }),
        status: None,
    }
}
