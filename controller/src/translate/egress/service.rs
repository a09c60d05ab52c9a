//! Endpoints of Services that proxies of egress lead no request to are told before anybody calls: what leaves needs an entry.

use std::fmt;

use portcullis_routing::{
    ClusterEndpoints, EndpointHost, WorkloadKey,
    egress::address::{AddressClass, EndpointRule},
};

use super::{Egress, claim::Tally};
use crate::{
    finding::{Finding, ObjectRef},
    resources::ObjectKey,
};

/// An endpoint, and what is wrong with it.
struct Outside<'a>(&'a EndpointHost, Option<AddressClass>);

impl fmt::Display for Outside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(EndpointHost::Name(name), _) => write!(f, "{name} is a name"),
            Self(EndpointHost::Ip(address), Some(class)) => {
                write!(f, "{address} is a {class} address")
            }
            Self(EndpointHost::Ip(address), None) => {
                write!(f, "{address} is outside of the cluster")
            }
        }
    }
}

impl Egress {
    /// What is told of the endpoints of a port of a Service that a route of an egress Gateway leads to, if there is anything.
    pub(crate) fn judge_endpoints(
        &self,
        service: &ObjectKey,
        port: u16,
        ClusterEndpoints { endpoints }: &ClusterEndpoints,
    ) -> Option<Finding> {
        let mut outside = Tally::default();
        for endpoint in endpoints {
            if let Some(one) = self.outside(&endpoint.host) {
                outside.add(one);
            }
        }
        outside.first()?;
        Some(ObjectRef::new("Service", service.clone()).warning(
            "EndpointOutside",
            "spec.ports",
            format!("egress Gateways lead no request to some endpoints of port {port}: {outside}"),
            "for a host beyond the cluster lead the route to a ServiceEntry; an address that is meant all the same needs an \
             EgressPolicy in the Gateway's namespace that names it in allowPrivate, and a route there",
        ))
    }

    /// Nothing is said of what a policy opens, be it to some callers only.
    fn outside<'e>(&self, host: &'e EndpointHost) -> Option<Outside<'e>> {
        let EndpointHost::Ip(address) = host else {
            return Some(Outside(host, None));
        };
        let class = AddressClass::of(*address);
        let what = match class.endpoint_rule() {
            EndpointRule::Nobody | EndpointRule::Gateway => Some(class),
            EndpointRule::Anybody => {
                let is_here = self.protected.is_inside(*address)
                    || self.workloads.contains_key(&WorkloadKey::of(*address));
                if is_here || !class.inner().is_public() {
                    return None;
                }
                None
            }
        };
        let is_open = self.opened.iter().any(|range| range.contains(address));
        (!is_open).then_some(Outside(host, what))
    }
}
