//! How many proxies there are, and how many may be away.

use k8s_openapi::{
    api::autoscaling::v2::{HorizontalPodAutoscalerBehavior, MetricSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::foreign::undescribed;

/// How many proxies may be away on purpose.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodDisruptionBudgetParameters {
    /// Number or percentage that must be there. Not together with maxUnavailable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = undescribed)]
    pub min_available: Option<IntOrString>,
    /// Number or percentage that may be away. Not together with minAvailable. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = undescribed)]
    pub max_unavailable: Option<IntOrString>,
}

/// How the number of proxies follows the load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HorizontalPodAutoscalerParameters {
    /// The fewest. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub min_replicas: Option<u32>,
    /// The most. Required in the object of the Gateway or in that of its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: Option<u32>,
    /// CPU that proxies should use on average, in percent of what they request; `workload.resources.requests.cpu` has to be
    /// set. Of no effect with `metrics`. Default 80.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub target_cpu_utilization: Option<u32>,
    /// What the number follows instead of the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = undescribed)]
    pub metrics: Option<Vec<MetricSpec>>,
    /// How fast it grows and shrinks. Default: Kubernetes' own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = undescribed)]
    pub behavior: Option<HorizontalPodAutoscalerBehavior>,
}
