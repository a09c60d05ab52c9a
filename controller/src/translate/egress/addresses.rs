//! Addresses of a Service: within the cluster, and those by which it is reached from beyond.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

/// Within the cluster, whatever type it has.
pub(super) fn of_cluster(service: &Service) -> impl Iterator<Item = IpAddr> {
    let spec = service.spec.iter();
    // A headless Service has `None`.
    good(spec.flat_map(|spec| {
        let several = spec.cluster_ips.iter().flatten();
        several.chain(&spec.cluster_ip)
    }))
}

/// Of its load balancer, as that says itself.
pub(super) fn of_balancer(service: &Service) -> impl Iterator<Item = IpAddr> {
    let status = service.status.as_ref();
    let balancer = status.and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer.and_then(|balancer| balancer.ingress.as_deref());
    let ingress = ingress.unwrap_or_default().iter();
    good(ingress.filter_map(|ingress| ingress.ip.as_ref()))
}

/// Those that it lists: nodes take what is sent there for it, and whoever writes a Service may list any. They take nothing for a
/// headless one, or one that is another name.
pub(super) fn listed(service: &Service) -> impl Iterator<Item = IpAddr> {
    let is_served = |spec: &&ServiceSpec| {
        spec.cluster_ip.as_deref() != Some("None") && spec.type_.as_deref() != Some("ExternalName")
    };
    let spec = service.spec.iter().filter(is_served);
    good(spec.flat_map(|spec| spec.external_ips.iter().flatten()))
}

/// All of these, and the one that a load balancer is asked for.
pub(super) fn all(service: &Service) -> impl Iterator<Item = IpAddr> {
    let spec = service.spec.iter();
    let wanted = good(spec.filter_map(|spec| spec.load_balancer_ip.as_ref()));
    let all = of_cluster(service).chain(of_balancer(service));
    all.chain(listed(service)).chain(wanted)
}

fn good<'s>(texts: impl Iterator<Item = &'s String>) -> impl Iterator<Item = IpAddr> {
    texts.filter_map(|text| Some(text.parse::<IpAddr>().ok()?.to_canonical()))
}
