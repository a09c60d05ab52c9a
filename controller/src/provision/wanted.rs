//! Which Gateways get infrastructure, and of what sort: objects and tables in, wanted objects out. Pure.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use portcullis_routing::{GatewayKey, RoutingTable};

use super::{
    ProvisionOptions, addresses, infrastructure_name, label_value,
    namesake::{self, namesakes},
    objects::{Blueprint, Made},
    owner,
};
use crate::{
    resources::{ObjectKey, Resources},
    translate::{ParametersInForce, Ports},
};

/// Everything that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What is wanted for each Gateway. What was made for one that is not here stays as it is.
    pub gateways: BTreeMap<ObjectKey, Wanted>,
    /// The labels of our classes: what carries none of these is not ours to delete.
    pub classes: BTreeSet<String>,
}

/// What is wanted for one Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// UID of the Gateway: what it owns is what was made for it.
    pub owner: String,
    /// The name of everything that is made for it.
    pub name: String,
    /// The GatewayParameters that fix ports of the nodes.
    pub node_ports_of: Option<ObjectKey>,
    /// The objects, or why what is there has to stay as it is.
    pub objects: Result<Arc<Made>, String>,
}

/// The objects that are wanted for every Gateway that has a table, and none for those of somebody else's classes.
///
/// A Gateway of ours without a table, or with one that has nothing to serve, is not in the plan: a mistake must not take
/// away the proxies, which serve on with the table that they have. Nor is one whose class does not exist, or one that is
/// being deleted.
///
/// What is made of the same things as in the plan `before` is the same allocation. That saves time, and changes nothing else.
pub fn wanted(
    before: &Plan,
    resources: &Resources,
    tables: &BTreeMap<GatewayKey, impl Borrow<RoutingTable>>,
    ports: &Ports,
    parameters: &ParametersInForce,
    controller_name: &str,
    options: &ProvisionOptions,
) -> Plan {
    let prefers_ipv6 = prefers_ipv6(resources);
    let namesakes = namesakes(resources);
    let mut plan = Plan::default();
    for (key, class) in &resources.gateway_classes {
        if class.spec.controller_name == controller_name {
            plan.classes.insert(label_value(&key.name));
        }
    }
    for (key, gateway) in &resources.gateways {
        let class = gateway.spec.gateway_class_name.as_str();
        let known = resources.gateway_classes.get(&ObjectKey::cluster(class));
        let (Some(known), Some(owner)) = (known, owner::reference(gateway)) else {
            continue;
        };
        let uid = owner.uid.clone();
        let served = GatewayKey::of(&key.namespace, &key.name);
        // Whatever has a table has ports and parameters.
        let table = tables.get(&served).zip(ports.get(&served));
        let objects = match table.zip(parameters.get(key)) {
            _ if gateway.metadata.deletion_timestamp.is_some() => continue,
            _ if known.spec.controller_name != controller_name => Ok(Arc::default()),
            // Proxies have nothing to do before there is something to serve; those that are there serve on what they have.
            None => continue,
            Some(((table, _), _)) if !is_servable(table.borrow()) => continue,
            Some(((_, ports), parameters)) => {
                let service = addresses::service(resources, key, gateway);
                let blueprint = Blueprint {
                    key: key.clone(),
                    gateway: Arc::clone(gateway),
                    owner,
                    ports: ports.clone(),
                    parameters: Arc::clone(parameters),
                    given: service.map(addresses::of_service).unwrap_or_default(),
                    prefers_ipv6,
                    options: options.clone(),
                };
                let before = before.gateways.get(key);
                let before = before.and_then(|it| it.objects.as_ref().ok());
                let holder = namesakes.get(key);
                holder.map_or_else(
                    || Ok(Made::of(blueprint, before)),
                    |holder| Err(namesake::problem(holder)),
                )
            }
        };
        let parameters = parameters.get(key);
        let wanted = Wanted {
            owner: uid,
            name: infrastructure_name(&key.name, class),
            node_ports_of: parameters.and_then(|it| it.node_ports_of.clone()),
            objects,
        };
        plan.gateways.insert(key.clone(), wanted);
    }
    plan
}

/// Whether there is a listener that can be served.
fn is_servable(table: &RoutingTable) -> bool {
    let mut listeners = table.listeners.values();
    listeners.any(|listener| table.has_certificate(listener))
}

/// Whether the first address of pods, which probes are sent to, is one of IPv6: that of the API server's own Service is.
fn prefers_ipv6(resources: &Resources) -> bool {
    let service = resources
        .services
        .get(&ObjectKey::new("default", "kubernetes"));
    let address = service.and_then(|it| it.spec.as_ref()?.cluster_ip.as_deref());
    address.is_some_and(|it| it.parse::<IpAddr>().is_ok_and(|it| it.is_ipv6()))
}
