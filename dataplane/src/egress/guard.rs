//! From a destination that may be reached to addresses that may be connected to.
//!
//! The name is resolved once and every answer is checked: one bad address refuses all of them, since a name that leads inside
//! at times leads there by intent. What was checked is what is connected to; nobody looks the name up again.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::Range,
    rc::Rc,
};

use portcullis_routing::{
    EndpointHost, RouteKey,
    egress::{
        CompiledEgress, Destination, EntryEndpoint, Inside, Opened, Question, Resolution,
        address::{self, AddressClass},
    },
};

use super::{
    own::Own,
    resolver::{Answer, NoAnswer, Resolver},
};
use crate::reason::Reason;

/// Addresses of each family that are used of those that a name has, once all of them were checked.
const MAX_USED: usize = 16;
/// Addresses that are used in all: those of endpoints that stand behind are for nobody.
const MAX_ADDRESSES: usize = 256;

/// What checks addresses, for one request or tunnel.
#[derive(Clone, Copy)]
pub(crate) struct Guard<'a> {
    pub(crate) egress: &'a CompiledEgress,
    pub(crate) resolver: &'a Resolver,
    /// What is the proxy's own.
    pub(crate) own: &'a Own,
    /// The address that the caller connected to.
    pub(crate) local: IpAddr,
}

/// A question that was answered with yes, and what opens its destination.
#[derive(Clone, Copy)]
struct Asked<'a> {
    question: &'a Question<'a>,
    opened: Option<Opened<'a>>,
}

/// Addresses that may be connected to, at least one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) addresses: Vec<SocketAddr>,
    /// Each is used only if none before it can be; else they share the connections.
    pub(crate) in_order: bool,
    origins: Origins,
}

/// What the addresses are of.
#[derive(Debug, PartialEq, Eq)]
enum Origins {
    /// The host that was asked for.
    Host,
    /// Endpoints of the entry: those of these names, each with the places of its addresses, and such as are addresses.
    Endpoints(Vec<(Rc<str>, Range<usize>)>),
}

/// An address that may be connected to.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) address: SocketAddr,
    pub(crate) origin: Origin,
}

/// What an address is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The host that was asked for.
    Host,
    /// The endpoints of these names, all that led there; and itself, which may be one too.
    Endpoints(Vec<Rc<str>>),
}

impl Origin {
    /// Nothing but itself.
    pub(crate) const LISTED: Self = Self::Endpoints(Vec::new());
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    #[error("{name} cannot be resolved: {why}")]
    Unresolved { name: Box<str>, why: NoAnswer },
    #[error("{given} {} {address}, {what}", given.verb())]
    Refused {
        given: Given,
        address: IpAddr,
        what: Inside,
    },
    #[error("{given} leads to {address}, where the proxy itself listens")]
    Itself { given: Given, address: SocketAddr },
    #[error("the entry has no endpoint that takes connections")]
    NoEndpoint,
}

/// What gave an address that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// The answer of DNS about this name.
    Name(Box<str>),
    /// An endpoint of the entry.
    Endpoint,
    /// The caller.
    Caller,
}

impl Given {
    /// What it has to do with the address.
    const fn verb(&self) -> &'static str {
        match self {
            Self::Name(_) => "leads to",
            Self::Endpoint | Self::Caller => "is",
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Name(name) => name,
            Self::Endpoint => "an endpoint of its ServiceEntry",
            Self::Caller => "the address asked for",
        })
    }
}

impl Guard<'_> {
    /// Where a question that was answered with yes leads. `opened` is the entry that opens it; without one (a host that is only
    /// reported) it is the host itself.
    pub(crate) async fn check(
        &self,
        question: &Question<'_>,
        opened: Option<Opened<'_>>,
    ) -> Result<Checked, Obstacle> {
        let mut addresses = Vec::new();
        let asked = Asked { question, opened };
        let Some(opened @ Opened { entry, port, .. }) = opened else {
            self.requested(&asked, question.port, &mut addresses)
                .await?;
            return Ok(Checked::of_host(addresses, false));
        };
        let by_name = matches!(
            entry.resolution,
            Resolution::None | Resolution::Dns | Resolution::DnsRoundRobin
        );
        if by_name && entry.endpoints.is_empty() {
            self.requested(&asked, port.target(), &mut addresses)
                .await?;
            let in_order = entry.resolution == Resolution::DnsRoundRobin;
            return Ok(Checked::of_host(addresses, in_order));
        }
        let (endpoints, drawn) = in_turn(&entry.endpoints);
        let (mut refused, mut named) = (None, Vec::new());
        for endpoint in endpoints {
            if addresses.len() >= MAX_ADDRESSES {
                break;
            }
            let port = endpoint.target(port);
            match &endpoint.host {
                // Unlike answers of DNS these were written one by one: the others are as good as they were.
                EndpointHost::Ip(ip) if entry.resolution == Resolution::Static => {
                    let address = SocketAddr::new(*ip, port);
                    match self.allow_listed(question, opened, address) {
                        Ok(()) => addresses.push(address),
                        Err(obstacle) => refused = Some(obstacle),
                    }
                }
                EndpointHost::Ip(ip) => {
                    let address = SocketAddr::new(*ip, port);
                    let class = AddressClass::of(*ip);
                    self.allow(&asked, || Given::Endpoint, address, class)?;
                    addresses.push(address);
                }
                EndpointHost::Name(name) => {
                    let before = addresses.len();
                    self.named(&asked, name, port, &mut addresses).await?;
                    named.push((name.as_str().into(), before..addresses.len()));
                }
            }
        }
        if addresses.is_empty() {
            return Err(refused.unwrap_or(Obstacle::NoEndpoint));
        }
        Ok(Checked {
            addresses,
            in_order: drawn || entry.resolution == Resolution::DnsRoundRobin,
            origins: Origins::Endpoints(named),
        })
    }

    /// Whether a route may lead to an endpoint of a Service there.
    pub(crate) fn admits_backend(
        &self,
        question: &Question<'_>,
        route: &RouteKey,
        address: SocketAddr,
    ) -> bool {
        let by_gateway = self.egress.is_of_gateway(route.namespace());
        admits_backend(
            self.egress,
            question,
            by_gateway,
            address,
            (self.own, self.local),
        )
    }

    /// Whether an address that was connected to may stay so, by what the table says now. That DNS says something else by now is no
    /// reason against it.
    pub(crate) fn may_stay(
        &self,
        question: &Question<'_>,
        opened: Option<Opened<'_>>,
        found: &Found,
    ) -> bool {
        let address = found.address;
        if let Some(opened @ Opened { entry, .. }) = opened
            && entry.resolution == Resolution::Static
        {
            return leads_to(opened, question, found)
                && self.allow_listed(question, opened, address).is_ok();
        }
        let is_led_to = match opened {
            Some(opened) => leads_to(opened, question, found),
            None => address.port() == question.port,
        };
        let class = AddressClass::of(address.ip());
        let asked = Asked { question, opened };
        is_led_to && self.allow(&asked, || Given::Caller, address, class).is_ok()
    }

    /// The addresses of the host that was asked for.
    async fn requested(
        &self,
        asked: &Asked<'_>,
        port: u16,
        addresses: &mut Vec<SocketAddr>,
    ) -> Result<(), Obstacle> {
        match asked.question.destination {
            Destination::Name(name) => self.named(asked, name, port, addresses).await,
            Destination::Address(ip) => {
                let address = SocketAddr::new(ip, port);
                let class = AddressClass::of(ip);
                self.allow(asked, || Given::Caller, address, class)?;
                addresses.push(address);
                Ok(())
            }
        }
    }

    /// The addresses of a name.
    async fn named(
        &self,
        asked: &Asked<'_>,
        name: &str,
        port: u16,
        addresses: &mut Vec<SocketAddr>,
    ) -> Result<(), Obstacle> {
        let namespace = asked.question.caller.map_or("", |caller| caller.namespace);
        let answer = self.resolver.resolve(name, namespace).await;
        let answer = answer.map_err(|why| Obstacle::Unresolved {
            name: name.into(),
            why,
        })?;
        addresses.reserve(answer.addresses.len().min(2 * MAX_USED));
        let (mut v4, mut v6) = (0, 0);
        for (ip, class) in &answer.addresses {
            let address = SocketAddr::new(*ip, port);
            match self.allow(asked, || Given::Name(name.into()), address, *class) {
                Ok(()) => {}
                Err(_) if is_translated(*ip, &answer) => continue,
                Err(refused) => return Err(refused),
            }
            let used = if ip.is_ipv4() { &mut v4 } else { &mut v6 };
            if *used < MAX_USED {
                *used += 1;
                addresses.push(address);
            }
        }
        Ok(())
    }

    /// An address that a name leads to, or that a caller names.
    fn allow(
        &self,
        asked: &Asked<'_>,
        given: impl FnOnce() -> Given,
        address: SocketAddr,
        class: AddressClass,
    ) -> Result<(), Obstacle> {
        let Asked { question, opened } = *asked;
        let is_own = |address| self.own.has(address, self.local);
        let asked_of = (address.ip(), class);
        let inside = self.egress.refuses(question, opened, asked_of, is_own);
        self.judged(inside, given, address)
    }

    /// An address that an entry lists as an endpoint.
    fn allow_listed(
        &self,
        question: &Question<'_>,
        opened: Opened<'_>,
        address: SocketAddr,
    ) -> Result<(), Obstacle> {
        let is_own = |address| self.own.has(address, self.local);
        let egress = self.egress;
        let inside = egress.refuses_endpoint(question, opened, address.ip(), is_own);
        self.judged(inside, || Given::Endpoint, address)
    }

    /// `inside` is why the table refuses an address. What it opens is refused all the same where the proxy would meet itself.
    fn judged(
        &self,
        inside: Option<Inside>,
        given: impl FnOnce() -> Given,
        address: SocketAddr,
    ) -> Result<(), Obstacle> {
        match inside {
            Some(what) => Err(Obstacle::Refused {
                given: given(),
                address: address.ip(),
                what,
            }),
            None if self.own.listens_at(address) => Err(Obstacle::Itself {
                given: given(),
                address,
            }),
            None => Ok(()),
        }
    }
}

/// Whether an entry leads there, as far as it says so itself: to this port, and to this address or what that was found as.
fn leads_to(
    Opened { entry, port, .. }: Opened<'_>,
    question: &Question<'_>,
    Found { address, origin }: &Found,
) -> bool {
    let was_found_as = |name: &str| match (origin, question.destination) {
        (Origin::Host, Destination::Name(host)) => name == host,
        (Origin::Host, Destination::Address(_)) => false,
        (Origin::Endpoints(names), _) => names.iter().any(|it| **it == *name),
    };
    if entry.endpoints.is_empty() {
        let is_host = match question.destination {
            Destination::Name(host) => was_found_as(host),
            Destination::Address(ip) => ip == address.ip(),
        };
        let is_static = entry.resolution == Resolution::Static;
        return !is_static && is_host && port.target() == address.port();
    }
    let mut endpoints = entry.endpoints.iter();
    endpoints.any(|endpoint| {
        let is_it = match &endpoint.host {
            EndpointHost::Ip(ip) => *ip == address.ip(),
            EndpointHost::Name(listed) => was_found_as(listed),
        };
        is_it && endpoint.target(port) == address.port()
    })
}

/// Whether a route may lead to an endpoint of a Service there. `own` is what is the proxy's, and its address as the caller has it.
pub(crate) fn admits_backend(
    egress: &CompiledEgress,
    question: &Question<'_>,
    by_gateway: bool,
    address: SocketAddr,
    (own, local): (&Own, IpAddr),
) -> bool {
    let is_own = |address| own.has(address, local);
    egress.admits_backend(question, by_gateway, address.ip(), is_own) && !own.listens_at(address)
}

impl Obstacle {
    /// What it is called.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Unresolved { .. } => Reason::DnsFailed,
            Self::Refused { .. } => Reason::AddressRefused,
            Self::Itself { .. } => Reason::LeadsToProxy,
            Self::NoEndpoint => Reason::NoEndpoint,
        }
    }

    /// Whether somebody decided so. Else what was allowed goes wrong.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. } | Self::Itself { .. })
    }
}

/// Whether an address is what a DNS64 server (RFC 6147) makes of a public one that the name has as well: then that is used, and
/// this is nobody's trick.
fn is_translated(address: IpAddr, answer: &Answer) -> bool {
    address::nat64(address).is_some_and(|plain| {
        let is_public = AddressClass::of(plain.into()).is_public();
        is_public && answer.addresses.iter().any(|(ip, _)| *ip == plain)
    })
}

impl Checked {
    fn of_host(addresses: Vec<SocketAddr>, in_order: bool) -> Self {
        Self {
            addresses,
            in_order,
            origins: Origins::Host,
        }
    }

    /// One of the addresses, with what it is of.
    pub(crate) fn found(&self, address: SocketAddr) -> Found {
        let origin = match &self.origins {
            Origins::Host => Origin::Host,
            Origins::Endpoints(named) => {
                let has_it = |its: &Range<usize>| {
                    let its = self.addresses.get(its.clone());
                    its.is_some_and(|its| its.contains(&address))
                };
                let named = named.iter().filter(|(_, its)| has_it(its));
                Origin::Endpoints(named.map(|(name, _)| Rc::clone(name)).collect())
            }
        };
        Found { address, origin }
    }
}

/// The endpoints that get connections. If their shares differ one is drawn and comes first, which is told.
fn in_turn(endpoints: &[EntryEndpoint]) -> (Vec<&EntryEndpoint>, bool) {
    let mut taking: Vec<_> = endpoints.iter().filter(|it| it.weight > 0).collect();
    let first = taking.first().map(|it| it.weight);
    let differ = taking.iter().any(|it| Some(it.weight) != first);
    if differ {
        let sum = taking.iter().map(|it| u64::from(it.weight)).sum();
        let draw = fastrand::u64(0..sum);
        let mut upto = 0;
        let drawn = taking.iter().position(|it| {
            upto += u64::from(it.weight);
            draw < upto
        });
        taking.swap(0, drawn.unwrap_or_default());
    }
    (taking, differ)
}

#[cfg(test)]
mod tests;
