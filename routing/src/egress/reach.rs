//! Whether an address may be connected to, whatever name led there.

use std::{fmt, net::IpAddr, sync::Arc};

use super::{
    address::{AddressClass, EndpointRule},
    decide::{CompiledEgress, Question},
    entry::Entry,
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
        let plain = plain(address, AddressClass::of(address));
        let found = self.workloads.get(address);
        found.or_else(|| self.workloads.get(plain))
    }

    /// Why an address, which is of this class, is refused; `None` if it may be connected to. It is one that a name leads to, or that
    /// a caller names. `is_own` tells the proxy's own addresses, as far as they are known.
    pub fn refuses(
        &self,
        question: &Question<'_>,
        (address, class): (IpAddr, AddressClass),
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Option<Inside> {
        let inside = if is_own(address) || is_own(plain(address, class)) {
            Inside::Proxy
        } else if !class.is_public() {
            Inside::Range(class)
        } else if self.is_protected(address) {
            Inside::Cluster
        } else {
            return None;
        };
        self.unless_opened(question, address, inside)
    }

    /// The same of an address that an entry lists as an endpoint. Private ones are connected to as they are listed, but nobody
    /// leads others to what is not his: the proxy, its node, the cluster.
    pub fn refuses_endpoint(
        &self,
        question: &Question<'_>,
        entry: &Entry,
        address: IpAddr,
        is_own: impl Fn(IpAddr) -> bool,
    ) -> Option<Inside> {
        let class = AddressClass::of(address);
        let plain = plain(address, class);
        let inside = match class.endpoint_rule() {
            _ if is_own(address) || is_own(plain) => Inside::Proxy,
            EndpointRule::Nobody => Inside::Range(class),
            _ if self.is_of_gateway(entry) => return None,
            EndpointRule::Gateway => Inside::Range(class),
            EndpointRule::Anybody if self.is_protected(plain) => Inside::Cluster,
            EndpointRule::Anybody => return None,
        };
        self.unless_opened(question, address, inside)
    }

    /// Nothing opens the proxy itself: behind its own addresses are ports that are not for callers.
    fn unless_opened(
        &self,
        question: &Question<'_>,
        address: IpAddr,
        inside: Inside,
    ) -> Option<Inside> {
        let opened = inside != Inside::Proxy && self.opens_private(question, address);
        (!opened).then_some(inside)
    }
}

/// The address that packets may end at.
fn plain(address: IpAddr, class: AddressClass) -> IpAddr {
    match class {
        AddressClass::Embedded { inner } => inner.into(),
        _ => address,
    }
}
