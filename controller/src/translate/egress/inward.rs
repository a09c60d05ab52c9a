//! Endpoints that lead inside: those that no proxy would connect to are told before anybody calls.

use std::{collections::BTreeSet, net::IpAddr};

use ipnet::IpNet;
use portcullis_routing::egress::address::{AddressClass, EndpointRule};

use super::{
    faults::Fault,
    policies::{EgressGateways, Policies},
    protected::Protected,
};

/// What opens addresses of the inside.
#[derive(Debug)]
pub(super) struct Inward<'a> {
    gateways: &'a EgressGateways<'a>,
    /// Ranges that a policy opens somewhere.
    opened: Vec<IpNet>,
    protected: &'a Protected,
}

impl<'a> Inward<'a> {
    pub(super) fn new(
        gateways: &'a EgressGateways<'a>,
        policies: &Policies,
        protected: &'a Protected,
    ) -> Self {
        Self {
            gateways,
            opened: policies.opened(),
            protected,
        }
    }

    /// The namespaces of egress Gateways.
    pub(super) fn namespaces(&self) -> BTreeSet<String> {
        let gateways = self.gateways.0.iter();
        gateways.map(|key| key.namespace.clone()).collect()
    }

    /// Whether some Gateway may connect to an endpoint of an entry of `namespace`.
    pub(super) fn check(&self, address: IpAddr, namespace: &str) -> Result<(), Fault> {
        let class = AddressClass::of(address);
        let by_gateway = self.gateways.inside(namespace).next().is_some();
        let what = match class.endpoint_rule() {
            EndpointRule::Nobody => format!("a {class} address, which no entry leads to"),
            _ if by_gateway => return Ok(()),
            EndpointRule::Gateway => {
                format!("a {class} address, which entries of the Gateway's namespace alone lead to")
            }
            EndpointRule::Anybody if self.protected.contain(address) => {
                "the cluster's own, which entries of the Gateway's namespace alone lead to"
                    .to_owned()
            }
            EndpointRule::Anybody => return Ok(()),
        };
        if self.opened.iter().any(|range| range.contains(&address)) {
            return Ok(());
        }
        Err(Fault::unsupported(
            format!("{address} is {what}; the endpoint is left out"),
            format!(
                "list an address outside of the cluster, or ask whoever runs the Gateway for an EgressPolicy there that names {} in allowPrivate",
                IpNet::from(address)
            ),
        ))
    }
}
