//! Pods and nodes, cut down to what egress has to know: who calls from which address, and which addresses are the cluster's.
//!
//! A cluster may have thousands, and each changes all the time. What is not kept here costs no memory, and its change is no
//! change of the object.

use std::net::IpAddr;

use k8s_openapi::{
    api::core::v1::{self, Container, ContainerStatus},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Deserialize;

/// The service account of a pod that names none.
const DEFAULT_SERVICE_ACCOUNT: &str = "default";

/// Who calls from the addresses of a pod.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Resource)]
#[serde(from = "v1::Pod")]
#[resource(inherit = v1::Pod)]
pub struct Pod {
    /// Namespace, name, UID and labels; nothing else.
    pub metadata: ObjectMeta,
    /// Name of its service account.
    pub service_account: String,
    /// Whether it has the addresses of its node, and shares them with whatever else is there.
    pub host_network: bool,
    /// Its addresses, in the order in which Kubernetes has them.
    pub addresses: Vec<IpAddr>,
    /// Whether every container of it has ended, so that its addresses may be another pod's by now.
    pub has_ended: bool,
}

impl From<v1::Pod> for Pod {
    fn from(pod: v1::Pod) -> Self {
        let spec = pod.spec.unwrap_or_default();
        let status = pod.status.unwrap_or_default();
        let phase = status.phase.unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let initial = status.init_container_statuses.unwrap_or_default();
        let sidecars = spec.init_containers.unwrap_or_default();
        let mut sidecars = sidecars.iter().filter(|container| is_sidecar(container));
        let is_over = |sidecar: &Container| {
            let mut of_it = initial.iter().filter(|status| status.name == sidecar.name);
            of_it.next().is_some_and(is_terminated)
        };
        let has_ended = ["Succeeded", "Failed"].contains(&phase.as_str())
            || (!containers.is_empty()
                && containers.iter().all(is_terminated)
                && sidecars.all(is_over));
        let several = status.pod_ips.unwrap_or_default();
        let mut addresses: Vec<_> = several.iter().filter_map(|it| it.ip.parse().ok()).collect();
        if addresses.is_empty() {
            addresses.extend(
                status
                    .pod_ip
                    .and_then(|address| address.parse::<IpAddr>().ok()),
            );
        }
        Self {
            metadata: trimmed(pod.metadata),
            service_account: spec
                .service_account_name
                .filter(|name| !name.is_empty())
                .unwrap_or_else(|| DEFAULT_SERVICE_ACCOUNT.to_owned()),
            host_network: spec.host_network.unwrap_or_default(),
            addresses,
            has_ended,
        }
    }
}

/// Whether it runs beside the containers, and beyond their end: an init container that is always begun anew.
fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

fn is_terminated(container: &ContainerStatus) -> bool {
    let state = container.state.as_ref();
    state.is_some_and(|state| state.terminated.is_some())
}

/// The addresses of a node, and those that its pods have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Resource)]
#[serde(from = "v1::Node")]
#[resource(inherit = v1::Node)]
pub struct Node {
    /// Name and UID; nothing else.
    pub metadata: ObjectMeta,
    /// Ranges that the addresses of its pods are of, as they stand there.
    pub pod_cidrs: Vec<String>,
    /// Its addresses; its names are none.
    pub addresses: Vec<IpAddr>,
}

impl From<v1::Node> for Node {
    fn from(node: v1::Node) -> Self {
        let spec = node.spec.unwrap_or_default();
        let status = node.status.unwrap_or_default();
        let mut pod_cidrs = spec.pod_cidrs.unwrap_or_default();
        if pod_cidrs.is_empty() {
            pod_cidrs.extend(spec.pod_cidr.filter(|range| !range.is_empty()));
        }
        let addresses = status.addresses.unwrap_or_default();
        let addresses = addresses.iter().filter_map(|it| it.address.parse().ok());
        Self {
            metadata: ObjectMeta {
                labels: None,
                ..trimmed(node.metadata)
            },
            pod_cidrs,
            addresses: addresses.collect(),
        }
    }
}

fn trimmed(metadata: ObjectMeta) -> ObjectMeta {
    ObjectMeta {
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        labels: metadata.labels,
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(changes: &Value) -> Pod {
        let mut pod = json!({
            "metadata": {
                "name": "web-1", "namespace": "shop", "uid": "u", "labels": {"app": "web"},
                "annotations": {"large": "text"}, "ownerReferences": [],
            },
            "spec": {"containers": [{"name": "web", "image": "web"}], "nodeName": "one"},
            "status": {
                "phase": "Running", "podIP": "10.1.0.7",
                "podIPs": [{"ip": "10.1.0.7"}, {"ip": "2001:db8::7"}],
                "containerStatuses": [
                    {"name": "web", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                     "state": {"running": {}}},
                ],
            },
        });
        json_patch::merge(&mut pod, changes);
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn a_pod_is_who_calls_from_its_addresses() {
        let read = pod(&json!({}));
        let addresses: Vec<_> = read.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.1.0.7", "2001:db8::7"]);
        assert_eq!(read.service_account, "default");
        assert!(!read.host_network && !read.has_ended);
        assert_eq!(read.metadata.annotations, None);

        let named = json!({"spec": {"serviceAccountName": "shop", "hostNetwork": true},
            "status": {"podIPs": null}});
        let read = pod(&named);
        assert_eq!(
            (read.service_account.as_str(), read.host_network),
            ("shop", true)
        );
        assert_eq!(read.addresses, ["10.1.0.7".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn what_egress_need_not_know_is_no_change() {
        let changes = json!({
            "metadata": {
                "annotations": {"large": "other"}, "resourceVersion": "8",
                "deletionTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"containers": [{"name": "web", "image": "other"}], "nodeName": "two"},
            "status": {"phase": "Pending", "conditions": [{"type": "Ready", "status": "True"}], "startTime": "2026-01-01T00:00:00Z"},
        });
        assert_eq!(pod(&json!({})), pod(&changes));
        assert_ne!(
            pod(&json!({})),
            pod(&json!({"metadata": {"labels": {"app": "x"}}}))
        );
    }

    #[test]
    fn a_pod_has_ended_with_its_last_container() {
        let container = |state: Value| json!({"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let over = container(json!({"terminated": {"exitCode": 0}}));
        let runs = container(json!({"running": {}}));
        let of = |containers: Value| pod(&json!({"status": {"containerStatuses": containers}}));
        assert!(of(json!([over, over])).has_ended);
        assert!(!of(json!([over, runs])).has_ended);
        assert!(!of(json!([])).has_ended);
        let beside = |state: Value| {
            pod(&json!({
                "spec": {"initContainers": [
                    {"name": "before", "image": ""}, {"name": "beside", "image": "", "restartPolicy": "Always"},
                ]},
                "status": {"containerStatuses": [over], "initContainerStatuses": [
                    {"name": "beside", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state},
                ]},
            }))
        };
        assert!(!beside(json!({"running": {}})).has_ended);
        assert!(beside(json!({"terminated": {"exitCode": 0}})).has_ended);
        for phase in ["Succeeded", "Failed"] {
            assert!(pod(&json!({"status": {"phase": phase}})).has_ended);
        }
    }

    #[test]
    fn a_node_has_addresses_and_those_of_its_pods() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "one"},
            "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "2001:db8:1::/64"]},
            "status": {"addresses": [
                {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "Hostname", "address": "one"},
            ]},
        }))
        .unwrap();
        assert_eq!(node.pod_cidrs, ["10.1.0.0/24", "2001:db8:1::/64"]);
        assert_eq!(node.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        let old = json!({"metadata": {"name": "one"}, "spec": {"podCIDR": "10.1.0.0/24"}});
        let old: Node = serde_json::from_value(old).unwrap();
        assert_eq!(old.pod_cidrs, ["10.1.0.0/24"]);
    }
}
