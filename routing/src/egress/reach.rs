//! Whether an address may be connected to, whatever name led there.

use std::{fmt, net::IpAddr, sync::Arc};

use super::{
    address::{AddressClass, EndpointRule},
    decide::{CompiledEgress, Question},
    opened::Opened,
    workload::Workload,
};

/// Where an address leads that nobody outside has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// By its range.
    Range(AddressClass),
    /// It is the cluster's own.
    Cluster,
    /// It is the proxy's own.
    Proxy,
}

impl fmt::Display for Inside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(class) => write!(f, "a {class} address"),
            Self::Cluster => f.write_str("an address of the cluster"),
            Self::Proxy => f.write_str("an address of the proxy"),
        }
    }
}

impl CompiledEgress {
    /// The pod at which packets to an address may end, whoever it is.
    pub fn workload_behind(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        let plain = AddressClass::of(address).plain(address);
        let found = self.workloads.get(address);
        found.or_else(|| self.workloads.get(plain))
    }

    /// Why an address, which is of this class, is refused; `None` if it may be connected to. It is one that a name leads to, or that
    /// a caller names. `opened` is what opens the destination, if anything does; `is_own` tells the proxy's own addresses, as far as
    /// they are known.
    pub fn refuses(
        &self,
        question: &Question<'_>,
        opened: Option<Opened<'_>>,
        (address, class): (IpAddr, AddressClass),
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Option<Inside> {
        let is_own = |address| is_own(address) || self.is_proxy(address);
        let inside = if is_own(address) || is_own(class.plain(address)) {
            Inside::Proxy
        } else if !class.is_public() {
            Inside::Range(class)
        } else if self.is_protected(address) {
            Inside::Cluster
        } else {
            return None;
        };
        self.unless_opened(question, opened, address, inside)
    }

    /// The same of an address that an entry lists as an endpoint. Private ones are connected to as they are listed, but nobody
    /// leads others to what is not his: the proxy, its node, the cluster.
    pub fn refuses_endpoint(
        &self,
        question: &Question<'_>,
        opened: Opened<'_>,
        address: IpAddr,
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Option<Inside> {
        let class = AddressClass::of(address);
        let plain = class.plain(address);
        let is_own = |address| is_own(address) || self.is_proxy(address);
        let inside = match class.endpoint_rule() {
            _ if is_own(address) || is_own(plain) => Inside::Proxy,
            EndpointRule::Nobody => Inside::Range(class),
            _ if self.is_of_gateway(&opened.entry.order.namespace) => return None,
            EndpointRule::Gateway => Inside::Range(class),
            EndpointRule::Anybody if self.is_protected(plain) => Inside::Cluster,
            EndpointRule::Anybody => return None,
        };
        self.unless_opened(question, Some(opened), address, inside)
    }

    /// Whether a route may lead a request to an endpoint of a Service there. What EndpointSlices list may be anything: it must be of the
    /// cluster, or private, and nothing that no endpoint of a Service is. `by_gateway` tells that the route stands in the Gateway's
    /// namespace: then policies open other addresses too.
    pub fn admits_backend(
        &self,
        question: &Question<'_>,
        by_gateway: bool,
        address: IpAddr,
        is_own: impl Fn(IpAddr) -> bool,
    ) -> bool {
        let class = AddressClass::of(address);
        let plain = class.plain(address);
        let is_own = |address| is_own(address) || self.is_proxy(address);
        if is_own(address) || is_own(plain) {
            return false;
        }
        let is_public = class.inner().is_public();
        let is_usual =
            class.endpoint_rule() == EndpointRule::Anybody && (!is_public || self.is_inside(plain));
        is_usual || (by_gateway && self.opens_private(question, None, address))
    }

    /// Nothing opens the proxy itself: behind its own addresses are ports that are not for callers.
    fn unless_opened(
        &self,
        question: &Question<'_>,
        opened: Option<Opened<'_>>,
        address: IpAddr,
        inside: Inside,
    ) -> Option<Inside> {
        let is_open = inside != Inside::Proxy && self.opens_private(question, opened, address);
        (!is_open).then_some(inside)
    }
}
