//! The objects of the cluster as they are applied, one document each.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    names::OPENED,
    world::{Action, Entry, GATEWAY_NAMESPACE, Pod, Policy},
};

/// Name of the Gateway.
pub(super) const GATEWAY: &str = "egress";
/// Port of its listener.
pub(super) const PORT: u16 = 3128;

/// The Gateway and its parameters.
pub(super) fn gateway(dns: SocketAddr) -> [Value; 2] {
    let parameters = object(
        "portcullis.dev/v1alpha1",
        "GatewayParameters",
        GATEWAY_NAMESPACE,
        "settings",
        json!({ "proxy": { "egress": { "dnsServers": [dns], "decisionLog": "Never" } } }),
    );
    let gateway = object(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        GATEWAY_NAMESPACE,
        GATEWAY,
        json!({
            "gatewayClassName": "portcullis-egress",
            "listeners": [{ "name": "proxy", "port": PORT, "protocol": "HTTP" }],
            "infrastructure": {
                "parametersRef": { "group": "portcullis.dev", "kind": "GatewayParameters", "name": "settings" },
            },
        }),
    );
    [parameters, gateway]
}

pub(super) fn entry(entry: &Entry) -> Value {
    let ports = entry.ports.iter().map(|port| {
        json!({
            "name": format!("port-{}", port.number),
            "number": port.number,
            "protocol": port.protocol.as_str(),
            "targetPort": port.target,
        })
    });
    let has_wildcard = entry.hosts.iter().any(|host| host.starts_with('*'));
    let resolution = match entry.endpoint {
        Some(_) => "STATIC",
        None if has_wildcard => "NONE",
        None => "DNS",
    };
    let mut spec = json!({
        "hosts": entry.hosts,
        "ports": ports.collect::<Vec<_>>(),
        "resolution": resolution,
        "location": "MESH_EXTERNAL",
    });
    if let Some(endpoint) = entry.endpoint {
        spec["endpoints"] = json!([{ "address": endpoint }]);
    }
    if let Some(namespaces) = &entry.exported_to {
        spec["exportTo"] = json!(namespaces);
    }
    let (namespace, name) = (&entry.namespace, &entry.name);
    let mut entry_object = object(
        "networking.istio.io/v1",
        "ServiceEntry",
        namespace,
        name,
        spec,
    );
    let created = Timestamp::from_second(entry.created).unwrap_or_default();
    entry_object["metadata"]["creationTimestamp"] = json!(created.to_string());
    entry_object
}

pub(super) fn policy(policy: &Policy) -> Value {
    let mut spec = json!({
        "action": format!("{:?}", policy.action),
        "mode": if policy.reports { "Report" } else { "Enforce" },
    });
    if let Some(from) = &policy.from {
        let mut callers = json!({});
        if !from.namespaces.is_empty() {
            callers["namespaces"] = json!(from.namespaces);
        }
        if !from.accounts.is_empty() {
            let accounts = from.accounts.iter();
            let accounts: Vec<_> = accounts
                .map(|(namespace, name)| format!("{namespace}/{name}"))
                .collect();
            callers["serviceAccounts"] = json!(accounts);
        }
        if let Some(tier) = from.tier {
            callers["podSelector"] = json!({ "matchLabels": { "tier": tier } });
        }
        spec["from"] = json!([callers]);
    }
    let mut to = json!({});
    if !policy.hosts.is_empty() {
        to["hosts"] = json!(policy.hosts);
    }
    if !policy.ports.is_empty() {
        to["ports"] = json!(policy.ports);
    }
    spec["to"] = json!([to]);
    if policy.opens_private && policy.action == Action::Allow {
        spec["allowPrivate"] = json!([OPENED]);
    }
    let (namespace, name) = (&policy.namespace, &policy.name);
    object(
        "portcullis.dev/v1alpha1",
        "EgressPolicy",
        namespace,
        name,
        spec,
    )
}

pub(super) fn pod(pod: &Pod) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": pod.name, "namespace": pod.namespace, "labels": { "tier": pod.tier } },
        "spec": {
            "serviceAccountName": pod.account,
            "containers": [{ "name": "app", "image": "app" }],
        },
        "status": { "phase": "Running", "podIP": pod.address },
    })
}

fn object(version: &str, kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    let metadata = json!({ "name": name, "namespace": namespace });
    let mut object = json!({ "apiVersion": version, "kind": kind, "metadata": metadata });
    object["spec"] = spec;
    object
}
