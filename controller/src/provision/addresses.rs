//! Where the clients of a Gateway reach it, as the Service in front of its proxies says.

use std::{collections::BTreeMap, net::IpAddr};

use gateway_api::apis::experimental::gateways::Gateway;
use k8s_openapi::api::core::v1::Service;

use super::{infrastructure_name, owner};
use crate::{
    resources::{ObjectKey, Resources},
    status::GatewayAddress,
};

/// The addresses of every Gateway that has any.
///
/// With a Service of type `LoadBalancer`: those that the load balancer gave, IP addresses and host names. With
/// `ClusterIP` and `NodePort`: the Service's own IP addresses. The port of a node leads to the same proxies, but nodes are
/// not watched, and a Gateway's address is joined with the listener's port, which is not that of the node.
pub fn addresses(resources: &Resources) -> BTreeMap<ObjectKey, Vec<GatewayAddress>> {
    let gateways = resources.gateways.iter();
    gateways
        .filter_map(|(key, gateway)| {
            let service = service(resources, key, gateway)?;
            Some((key.clone(), of_service(service)))
        })
        .filter(|(_, addresses)| !addresses.is_empty())
        .collect()
}

/// Why Gateways have no address, and what to do about it, where a load balancer is to give them one.
pub fn unaddressed(resources: &Resources) -> BTreeMap<ObjectKey, String> {
    let gateways = resources.gateways.iter();
    gateways
        .filter_map(|(key, gateway)| {
            let service = service(resources, key, gateway)?;
            Some((key.clone(), without_load_balancer(service)?))
        })
        .collect()
}

fn without_load_balancer(service: &Service) -> Option<String> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() != Some("LoadBalancer") || !of_service(service).is_empty() {
        return None;
    }
    let class = spec.load_balancer_class.as_deref().unwrap_or("not set");
    Some(format!(
        "No load balancer has given Service {} (type LoadBalancer, loadBalancerClass {class}) an address yet. If none ever does, \
         install a load-balancer controller, or set service.type of the GatewayParameters to NodePort or ClusterIP",
        ObjectKey::of(service)
    ))
}

/// The Service that was made for a Gateway.
pub fn service<'a>(
    resources: &'a Resources,
    key: &ObjectKey,
    gateway: &Gateway,
) -> Option<&'a Service> {
    let name = infrastructure_name(&key.name, &gateway.spec.gateway_class_name);
    let service = resources
        .services
        .get(&ObjectKey::new(&key.namespace, name))?;
    let owner = owner::reference(gateway)?;
    (owner::controller(&service.metadata) == Some(&owner.uid)).then_some(&**service)
}

/// The addresses of a Service, without repetitions, in its own order.
pub fn of_service(service: &Service) -> Vec<GatewayAddress> {
    let mut addresses: Vec<GatewayAddress> = Vec::new();
    let spec = service.spec.clone().unwrap_or_default();
    let found = if spec.type_.as_deref() == Some("LoadBalancer") {
        of_load_balancer(service)
    } else {
        let ips = spec.cluster_ips.unwrap_or_default().into_iter();
        ips.chain(spec.cluster_ip).filter_map(ip_address).collect()
    };
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn of_load_balancer(service: &Service) -> Vec<GatewayAddress> {
    let status = service.status.as_ref();
    let given = status.and_then(|it| it.load_balancer.as_ref()?.ingress.as_deref());
    let given = given.unwrap_or_default().iter().cloned();
    given
        .flat_map(|it| {
            let name = it.hostname.filter(|name| !name.is_empty());
            let name = name.map(|value| GatewayAddress {
                kind: "Hostname".into(),
                value,
            });
            it.ip.and_then(ip_address).into_iter().chain(name)
        })
        .collect()
}

/// `None` for a Service without an address, whose `clusterIP` is `None` or not set yet.
fn ip_address(value: String) -> Option<GatewayAddress> {
    value.parse::<IpAddr>().ok()?;
    Some(GatewayAddress {
        kind: "IPAddress".into(),
        value,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;

    /// The addresses of `shop/edge`, given the Service that is made for it with these changes.
    fn told(changes: &Value) -> Vec<String> {
        let told = addresses(&resources(changes))
            .pop_first()
            .map(|(_, told)| told);
        let text = |it: GatewayAddress| format!("{} {}", it.kind, it.value);
        told.unwrap_or_default().into_iter().map(text).collect()
    }

    /// Gateway `shop/edge` and the Service that is made for it with these changes.
    fn resources(changes: &Value) -> Resources {
        let mut service = json!({
            "metadata": {
                "name": "edge-portcullis", "namespace": "shop",
                "ownerReferences": [{
                    "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
                    "name": "edge", "uid": "1", "controller": true,
                }],
            },
            "spec": {
                "type": "LoadBalancer", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"],
            },
        });
        json_patch::merge(&mut service, changes);
        let gateway: Gateway = serde_json::from_value(json!({
            "metadata": { "name": "edge", "namespace": "shop", "uid": "1" },
            "spec": { "gatewayClassName": "portcullis", "listeners": [] },
        }))
        .unwrap();
        let key = ObjectKey::new("shop", "edge");
        let mut resources = Resources::default();
        resources.gateways.insert(key, Arc::new(gateway));
        let service: Service = serde_json::from_value(service).unwrap();
        resources
            .services
            .insert(ObjectKey::of(&service), Arc::new(service));
        resources
    }

    #[test]
    fn a_load_balancer_gives_addresses_and_names() {
        assert!(told(&json!({})).is_empty(), "none yet");
        let ingress = json!([
            { "ip": "192.0.2.1" }, { "hostname": "lb.example" }, { "ip": "192.0.2.1", "hostname": "" },
        ]);
        assert_eq!(
            told(&json!({ "status": { "loadBalancer": { "ingress": ingress } } })),
            ["IPAddress 192.0.2.1", "Hostname lb.example"]
        );
    }

    #[test]
    fn who_waits_for_a_load_balancer_is_told_of_which_and_what_else_there_is() {
        let why = |changes: &Value| {
            let why = unaddressed(&resources(changes)).pop_first();
            why.map(|(_, why)| why)
        };
        let waits = why(&json!({})).unwrap();
        assert!(
            waits.contains(
                "Service shop/edge-portcullis (type LoadBalancer, loadBalancerClass not set)"
            ) && waits.contains("NodePort or ClusterIP"),
            "{waits}"
        );
        let of_class = why(&json!({ "spec": { "loadBalancerClass": "example.com/lb" } })).unwrap();
        assert!(
            of_class.contains("loadBalancerClass example.com/lb"),
            "{of_class}"
        );
        let given = json!({ "status": { "loadBalancer": { "ingress": [{ "ip": "192.0.2.1" }] } } });
        assert_eq!(why(&given), None);
        assert_eq!(why(&json!({ "spec": { "type": "NodePort" } })), None);
    }

    #[test]
    fn without_a_load_balancer_it_is_the_services_own() {
        for kind in ["ClusterIP", "NodePort"] {
            let cluster = told(&json!({ "spec": { "type": kind } }));
            assert_eq!(cluster, ["IPAddress 10.96.0.9", "IPAddress fd00::9"]);
        }
        let headless = json!({ "type": "ClusterIP", "clusterIP": "None", "clusterIPs": ["None"] });
        assert!(told(&json!({ "spec": headless })).is_empty());
    }

    #[test]
    fn somebody_elses_service_says_nothing() {
        let cluster = json!({ "type": "ClusterIP" });
        for owners in [
            json!(null),
            json!([{ "apiVersion": "v1", "kind": "Gateway", "name": "edge", "uid": "2", "controller": true }]),
            json!([{ "apiVersion": "v1", "kind": "Gateway", "name": "edge", "uid": "1" }]),
        ] {
            let changes = json!({ "metadata": { "ownerReferences": owners }, "spec": cluster });
            assert!(told(&changes).is_empty(), "{owners}");
        }
    }
}
