//! The Service in front of the proxies.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service in front of the proxies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceParameters {
    /// How it is reached. Default LoadBalancer, and ClusterIP for Gateways of the class `portcullis-egress`.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "type")]
    pub kind: Option<ServiceType>,
    /// Whether a node passes connections from outside on to proxies of other nodes (Cluster), or only to its own (Local),
    /// so that they see the client's address. Of no effect with type ClusterIP. Default: Kubernetes' own, Cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// Which load balancer implementation is asked. Of effect with type LoadBalancer only. Kubernetes lets nobody change it
    /// afterwards. Default: that of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 316))]
    pub load_balancer_class: Option<String>,
    /// Networks, such as `203.0.113.0/24`, that the load balancer takes connections from. Of effect with type LoadBalancer
    /// only. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancer_source_ranges: Option<Vec<String>>,
    /// Ports of the nodes, by port of a listener. Of no effect with type ClusterIP. Default: Kubernetes chooses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_ports: Option<Vec<NodePort>>,
    /// Labels of the Service, besides those of the Gateway's `spec.infrastructure`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the Service, besides those of the Gateway's `spec.infrastructure`; many load balancers are
    /// configured by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

/// How a Service is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ServiceType {
    /// From outside, at an address that the cluster's load balancer gives.
    #[default]
    LoadBalancer,
    /// At a port of every node.
    NodePort,
    /// Within the cluster.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
}

/// Where a node passes connections from outside on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalTrafficPolicy {
    /// To any proxy.
    Cluster,
    /// To proxies on the node itself.
    Local,
}

/// The port of the nodes that leads to a listener's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodePort {
    /// Port of a listener.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// Port of the nodes.
    #[schemars(range(min = 1, max = 65_535))]
    pub node_port: u16,
}
