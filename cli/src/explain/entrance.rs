//! Where clients connect to reach a port of a Gateway: what the Service in front of its proxies says.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use kube::api::DynamicObject;
use portcullis_controller::{ObjectKey, provision::addresses_of};

/// Where the port of the request is reached; `None` if the Service does not have it.
pub(super) fn text(service: &Service, gateway: &DynamicObject, port: u16) -> Option<String> {
    let ports = ports(service);
    let own = ports.iter().find(|it| it.port == i32::from(port))?;
    let spec = service.spec.as_ref()?;
    let kind = spec.type_.as_deref().unwrap_or("ClusterIP");
    let key = ObjectKey::of(service);
    let addresses = addresses(service, gateway);
    let place = match (kind, addresses.is_empty()) {
        (_, true) => "an address that is not given yet".to_owned(),
        ("LoadBalancer", false) => addresses.join(" and "),
        (_, false) => format!("{} within the cluster", addresses.join(" and ")),
    };
    let mut text = format!("Clients reach port {port} at {place} (Service {key}, {kind})");
    if let Some(node_port) = own.node_port {
        let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let nodes = if is_local {
            "the nodes that run a proxy of it"
        } else {
            "every node"
        };
        write!(
            text,
            ", and at port {node_port} of {nodes}: give curl `--connect-to ::NODE:{node_port}`"
        )
        .ok();
    }
    Some(text)
}

/// Those that the Gateway's status names; before a controller has written any, what the Service asks for. What load balancers
/// give stands only in statuses, and objects are read without these.
fn addresses(service: &Service, gateway: &DynamicObject) -> Vec<String> {
    let stated = gateway.data["status"]["addresses"].as_array();
    let stated = stated.into_iter().flatten();
    let stated = stated.filter_map(|it| it["value"].as_str().map(ToOwned::to_owned));
    let stated: Vec<_> = stated.collect();
    if stated.is_empty() {
        let asked = addresses_of(service).into_iter();
        asked.map(|it| it.value).collect()
    } else {
        stated
    }
}

/// The port of the Gateway that is reached by this port of the nodes.
pub(super) fn meant(service: &Service, node_port: u16) -> Option<i32> {
    let ports = ports(service);
    let meant = ports
        .iter()
        .find(|it| it.node_port == Some(node_port.into()))?;
    Some(meant.port)
}

fn ports(service: &Service) -> &[ServicePort] {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref());
    ports.unwrap_or_default()
}
