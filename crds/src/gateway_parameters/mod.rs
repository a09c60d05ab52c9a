//! `GatewayParameters`: what `parametersRef` of a GatewayClass or of a Gateway's `infrastructure` points to.

mod availability;
mod egress;
mod proxy;
mod service;
mod workload;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    availability::{HorizontalPodAutoscalerParameters, PodDisruptionBudgetParameters},
    egress::{DecisionLogMode, EgressMode, EgressParameters, SOCKET, TRUST_DOMAIN},
    proxy::{AccessLog, AccessLogMode, ClientAddress, Limits, ProxyParameters},
    service::{ExternalTrafficPolicy, NodePort, ServiceParameters, ServiceType},
    workload::{ImagePullPolicy, LogLevel, WorkloadKind, WorkloadParameters},
};

/// Settings of the proxies of a GatewayClass, or of one Gateway. What a Gateway's own object sets goes before what its
/// class' object sets, field by field; what neither sets has the default that stands at the field.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "GatewayParameters",
    plural = "gatewayparameters",
    shortname = "gwp",
    category = "gateway-api",
    doc = "Settings of the proxies of a GatewayClass, or of one Gateway.",
    namespaced,
    derive = "Default",
    derive = "PartialEq"
)]
#[serde(rename_all = "camelCase")]
pub struct GatewayParametersSpec {
    /// How the proxy treats connections and requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyParameters>,
    /// The Service in front of the proxies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceParameters>,
    /// The Deployment or DaemonSet of the proxies, and their pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<WorkloadParameters>,
    /// How many proxies may be away on purpose, such as while a node is drained. Without it there is no
    /// PodDisruptionBudget; `{}` is one with maxUnavailable 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_disruption_budget: Option<PodDisruptionBudgetParameters>,
    /// How the number of proxies follows the load. Without it there is no HorizontalPodAutoscaler.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizontal_pod_autoscaler: Option<HorizontalPodAutoscalerParameters>,
}
