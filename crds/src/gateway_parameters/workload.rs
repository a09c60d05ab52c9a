//! The Deployment or DaemonSet of the proxies, and their pods.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, ResourceRequirements, Toleration, TopologySpreadConstraint,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::foreign::undescribed;

/// The Deployment or DaemonSet of the proxies, and their pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadParameters {
    /// What runs the proxies. Default Deployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<WorkloadKind>,
    /// Number of proxies of a Deployment. Without it the number is not Portcullis' business: Kubernetes starts with 1, and
    /// `kubectl scale` or an autoscaler of your own may change it. Of no effect with a horizontalPodAutoscaler, or with
    /// kind DaemonSet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub replicas: Option<u32>,
    /// Image of the proxy. Default: the controller's `--proxy-image`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1))]
    pub image: Option<String>,
    /// When a node pulls the image. Default: Kubernetes' own, Always for the tag `latest` and IfNotPresent for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,
    /// Secrets of the Gateway's namespace that the image is pulled with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = undescribed)]
    pub image_pull_secrets: Option<Vec<LocalObjectReference>>,
    /// What a proxy asks for and may use. It starts a worker per whole core of its CPU limit, or of the node. Default:
    /// requests of 10m of CPU and 32Mi of memory, and no limits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = undescribed)]
    pub resources: Option<ResourceRequirements>,
    /// Labels of the nodes that proxies may run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<BTreeMap<String, String>>,
    /// Taints of nodes that do not keep proxies away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = undescribed)]
    pub tolerations: Option<Vec<Toleration>>,
    /// Which nodes, and which other pods' company, proxies seek or shun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = undescribed)]
    pub affinity: Option<Affinity>,
    /// How proxies are spread over nodes and zones. A constraint without a labelSelector counts the Gateway's own proxies.
    /// Default: evenly over nodes as far as that is possible.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(transform = undescribed)]
    pub topology_spread_constraints: Option<Vec<TopologySpreadConstraint>>,
    /// How important the pods are. Default: the cluster's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,
    /// What the proxy logs about itself. Default Info.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
}

/// What runs the proxies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// A number of them, somewhere.
    #[default]
    Deployment,
    /// One on every node.
    DaemonSet,
}

/// When a node pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// Whenever a pod starts.
    Always,
    /// If the node does not have it.
    IfNotPresent,
    /// Never: it has to be there.
    Never,
}

/// What the proxy logs about itself: this and what is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LogLevel {
    /// What has failed.
    Error,
    /// What may become a failure.
    Warn,
    /// What happens to the proxy as a whole.
    Info,
    /// What happens to connections.
    Debug,
    /// Everything.
    Trace,
}
