//! The cluster's own addresses, which no name of the outside world may lead to.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::addresses;
use crate::{finding::ObjectRef, resources::Resources, translate::Context};

/// The Service of the API server, and the label that its EndpointSlices have.
const API_SERVER: (&str, &str) = ("default", "kubernetes");
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// So many `externalIPs` of the Services of a namespace count. Whoever writes Services may list any, and every table has them.
const MAX_LISTED: usize = 256;

/// The cluster's own addresses, each kind in order and apart.
#[derive(Debug, Default)]
pub(super) struct Protected {
    /// Of nodes and their pods, of Services, and of the API server.
    pub(super) inside: Vec<IpNet>,
    /// By which Services are reached from beyond the cluster, as far as they are none of the former.
    pub(super) external: Vec<IpNet>,
}

impl Protected {
    /// Finds them out.
    pub(super) fn collect(ctx: &Context<'_>) -> Self {
        let inside = inside(ctx.resources);
        let mut external = external(ctx);
        external.retain(|address| !contain(&inside, *address));
        let external: Vec<_> = external.into_iter().map(IpNet::from).collect();
        Self {
            external: merged(external.iter()),
            inside,
        }
    }

    /// Whether an address is one of them.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        self.is_inside(address) || contain(&self.external, address)
    }

    /// Whether it is, and an endpoint of a Service may have it.
    pub(super) fn is_inside(&self, address: IpAddr) -> bool {
        contain(&self.inside, address)
    }
}

/// A Service stands there by itself only if its address is of no range that is known: there may be thousands, and each new one would
/// change the settings of every egress Gateway.
fn inside(resources: &Resources) -> Vec<IpNet> {
    let nodes = resources.nodes.values();
    let nodes = nodes.flat_map(|node| {
        let ranges = node.pod_cidrs.iter().filter_map(|range| range.parse().ok());
        ranges.chain(node.addresses.iter().copied().map(IpNet::from))
    });
    let of_services: Vec<IpNet> = resources
        .service_cidrs
        .values()
        .filter_map(|range| range.spec.as_ref()?.cidrs.as_ref())
        .flatten()
        .filter_map(|range| range.parse().ok())
        .collect();
    let is_known = |address: &IpAddr| of_services.iter().any(|range| range.contains(address));
    let services = resources.services.values();
    let services = services
        .flat_map(|service| addresses::of_cluster(service))
        .filter(|address| !is_known(address))
        .map(IpNet::from);
    let ranges = nodes.chain(services).chain(api_server(resources));
    let ranges: Vec<_> = ranges.chain(of_services.iter().copied()).collect();
    merged(ranges.iter())
}

/// Addresses that a load balancer is only asked for lead nowhere yet.
fn external(ctx: &Context<'_>) -> Vec<IpAddr> {
    let mut all = Vec::new();
    let mut room = BTreeMap::new();
    for (key, service) in &ctx.resources.services {
        all.extend(addresses::of_balancer(service));
        let listed: Vec<_> = addresses::listed(service).collect();
        let room = room.entry(&key.namespace).or_insert(MAX_LISTED);
        let counted = listed.len().min(*room);
        *room -= counted;
        if counted < listed.len() {
            ctx.report(ObjectRef::new("Service", key.clone()).warning(
                "TooManyAddresses",
                "spec.externalIPs",
                format!(
                    "for egress Gateways {counted} of the {} count as the cluster's own: {MAX_LISTED} are the most of the Services of a namespace",
                    listed.len()
                ),
                "list fewer, or have whoever runs the Gateways name them in protectedCIDRs of the GatewayParameters",
            ));
        }
        all.extend(listed.into_iter().take(counted));
    }
    all
}

fn api_server(resources: &Resources) -> impl Iterator<Item = IpNet> {
    let (namespace, name) = API_SERVER;
    let slices = resources
        .endpoint_slices
        .iter()
        .filter(move |(key, slice)| {
            let labels = slice.metadata.labels.as_ref();
            let service = labels.and_then(|labels| labels.get(SERVICE_NAME));
            key.namespace == namespace && service.is_some_and(|service| service == name)
        });
    let endpoints = slices.flat_map(|(_, slice)| &slice.endpoints);
    let addresses = endpoints.flat_map(|endpoint| &endpoint.addresses);
    addresses.filter_map(|address| address.parse::<IpAddr>().ok().map(IpNet::from))
}

/// Whether one of these ranges, which are in order and apart, has an address.
fn contain(ranges: &[IpNet], address: IpAddr) -> bool {
    let behind = ranges.partition_point(|range| range.network() <= address);
    let before = behind.checked_sub(1).and_then(|index| ranges.get(index));
    before.is_some_and(|range| range.contains(&address))
}

/// As few ranges as say the same, in order.
pub(super) fn merged<'r>(ranges: impl Iterator<Item = &'r IpNet>) -> Vec<IpNet> {
    let ranges = ranges.map(IpNet::trunc).collect();
    let mut ranges = IpNet::aggregate(&ranges);
    ranges.sort_unstable();
    ranges
}
