//! On request: how many proxies there are, and how many may be away.

use k8s_openapi::{
    api::{
        autoscaling::v2::{
            CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
            MetricSpec, MetricTarget, ResourceMetricSource,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Blueprint, Kind};
use crate::provision::Object;

/// Percent of the requested CPU that proxies should use.
const CPU_UTILIZATION: u32 = 80;

/// The PodDisruptionBudget, if one is asked for.
pub(super) fn budget(blueprint: &Blueprint) -> Option<Object> {
    let asked = blueprint.infrastructure().budget.as_ref()?;
    let max_unavailable = match (&asked.min_available, &asked.max_unavailable) {
        (None, None) => Some(IntOrString::Int(1)),
        (_, most) => most.clone(),
    };
    let budget = PodDisruptionBudget {
        metadata: blueprint.metadata(),
        spec: Some(PodDisruptionBudgetSpec {
            min_available: asked.min_available.clone(),
            max_unavailable,
            selector: Some(blueprint.label_selector()),
            // A proxy that serves nobody must not keep a node from being drained.
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".into()),
        }),
        status: None,
    };
    Some(blueprint.object(Kind::PodDisruptionBudget, budget))
}

/// The HorizontalPodAutoscaler, if one is asked for.
pub(super) fn autoscaler(blueprint: &Blueprint) -> Option<Object> {
    let asked = blueprint.infrastructure().autoscaler.as_ref()?;
    let number = |it: u32| i32::try_from(it).unwrap_or(i32::MAX);
    let cpu = || MetricSpec {
        type_: "Resource".into(),
        resource: Some(ResourceMetricSource {
            name: "cpu".into(),
            target: MetricTarget {
                type_: "Utilization".into(),
                average_utilization: Some(number(
                    asked.target_cpu_utilization.unwrap_or(CPU_UTILIZATION),
                )),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    };
    let autoscaler = HorizontalPodAutoscaler {
        metadata: blueprint.metadata(),
        spec: Some(HorizontalPodAutoscalerSpec {
            behavior: asked.behavior.clone(),
            max_replicas: number(asked.max_replicas?),
            metrics: Some(asked.metrics.clone().unwrap_or_else(|| vec![cpu()])),
            min_replicas: Some(number(asked.min_replicas.unwrap_or(1))),
            scale_target_ref: CrossVersionObjectReference {
                api_version: Some("apps/v1".into()),
                kind: Kind::Deployment.name().into(),
                name: blueprint.name(),
            },
        }),
        status: None,
    };
    Some(blueprint.object(Kind::HorizontalPodAutoscaler, autoscaler))
}
