//! The Service in front of the proxies.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};
use portcullis_crds::gateway_parameters::{ExternalTrafficPolicy, ServiceType};
use portcullis_routing::ListenerProtocol;

use super::{Blueprint, Kind};
use crate::{provision::Object, status::programmed::requested_addresses, translate::EGRESS_CLASS};

/// The Service of a Gateway.
pub(super) fn service(blueprint: &Blueprint) -> Object {
    let parameters = &blueprint.infrastructure().service;
    let kind = parameters
        .kind
        .unwrap_or_else(|| default_type(blueprint.class()));
    let ports = ports(blueprint, kind);
    let mut metadata = blueprint.metadata();
    if let Some(labels) = &mut metadata.labels {
        labels.extend(parameters.labels.clone().unwrap_or_default());
        labels.extend(blueprint.own_labels());
    }
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.extend(parameters.annotations.clone().unwrap_or_default());
    annotations.remove(super::APPLIED);
    let mut spec = ServiceSpec {
        type_: Some(
            match kind {
                ServiceType::LoadBalancer => "LoadBalancer",
                ServiceType::NodePort => "NodePort",
                ServiceType::ClusterIp => "ClusterIP",
            }
            .into(),
        ),
        selector: Some(blueprint.selector()),
        ports: Some(ports),
        ..ServiceSpec::default()
    };
    // What does not go with the type is left out: the type may come from another object than the rest.
    if kind != ServiceType::ClusterIp {
        let policy = parameters.external_traffic_policy;
        spec.external_traffic_policy = policy.map(|policy| {
            match policy {
                ExternalTrafficPolicy::Cluster => "Cluster",
                ExternalTrafficPolicy::Local => "Local",
            }
            .into()
        });
    }
    if kind == ServiceType::LoadBalancer {
        spec.load_balancer_class
            .clone_from(&parameters.load_balancer_class);
        spec.load_balancer_source_ranges
            .clone_from(&parameters.load_balancer_source_ranges);
        spec.load_balancer_ip = load_balancer_ip(blueprint);
    }
    let service = Service {
        metadata,
        spec: Some(spec),
        status: None,
    };
    blueprint.object(Kind::Service, service)
}

/// How Gateways of a class are reached unless their parameters say otherwise. Nobody outside has business with egress.
fn default_type(class: &str) -> ServiceType {
    match class {
        EGRESS_CLASS => ServiceType::ClusterIp,
        _ => ServiceType::default(),
    }
}

/// One per port of the listeners, leading to the same port of the pods. There is no `appProtocol`: some load balancers
/// take it as a wish to ask for `/`, and whether a Gateway answers that is for its routes to say.
fn ports(blueprint: &Blueprint, kind: ServiceType) -> Vec<ServicePort> {
    let fixed = blueprint
        .infrastructure()
        .service
        .node_ports
        .iter()
        .flatten();
    let fixed: BTreeMap<_, _> = fixed
        .filter(|_| kind != ServiceType::ClusterIp)
        .map(|it| (it.port, it.node_port))
        .collect();
    let ports = blueprint.ports.iter();
    ports
        .map(|(&port, protocol)| {
            let name = match protocol {
                ListenerProtocol::Http => "http",
                ListenerProtocol::Https => "https",
                ListenerProtocol::Tls => "tls",
            };
            ServicePort {
                name: Some(format!("{name}-{port}")),
                protocol: Some("TCP".into()),
                port: port.into(),
                target_port: Some(IntOrString::Int(port.into())),
                node_port: fixed.get(&port).copied().map(Into::into),
                app_protocol: None,
            }
        })
        .collect()
}

/// The address to ask the load balancer for. A Service can ask for one: of several that the Gateway wants, the one that it
/// has, else the first.
fn load_balancer_ip(blueprint: &Blueprint) -> Option<String> {
    let wanted = requested_addresses(&blueprint.gateway);
    let wanted: Vec<_> = wanted
        .into_iter()
        .filter(|it| it.kind == "IPAddress")
        .collect();
    let had = wanted.iter().find(|it| blueprint.given.contains(it));
    had.or(wanted.first()).map(|it| it.value.clone())
}
