//! The cluster's own addresses, which no name of the outside world may lead to.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::resources::Resources;

/// The Service of the API server, and the label that its EndpointSlices have.
const API_SERVER: (&str, &str) = ("default", "kubernetes");
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Addresses of nodes and their pods, of Services, and of the API server. A Service stands there by itself only if its address is
/// of no range that is known: there may be thousands, and each new one would change the settings of every egress Gateway.
pub(super) fn of_cluster(resources: &Resources) -> Vec<IpNet> {
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
    let services = resources
        .services
        .values()
        .filter_map(|service| service.spec.as_ref());
    let services = services.flat_map(|spec| {
        let addresses = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        // A headless Service has `None`.
        addresses.filter_map(|address| address.parse::<IpAddr>().ok())
    });
    let services = services
        .filter(|address| !is_known(address))
        .map(IpNet::from);
    let ranges = nodes.chain(services).chain(api_server(resources));
    let ranges: Vec<_> = ranges.chain(of_services.iter().copied()).collect();
    merged(ranges.iter())
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
pub(super) fn contain(ranges: &[IpNet], address: IpAddr) -> bool {
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
