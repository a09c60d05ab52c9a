//! From a destination that may be reached to addresses that may be connected to.
//!
//! The name is resolved once and every answer is checked: one bad address refuses all of them, since a name that leads inside
//! at times leads there by intent. What was checked is what is connected to; nobody looks the name up again.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use portcullis_routing::{
    EndpointHost,
    egress::{
        CompiledEgress, Destination, EntryEndpoint, Opened, Question, Resolution,
        address::AddressClass,
    },
};

use super::resolver::{NoAnswer, Resolver};

/// What checks addresses, for one request or tunnel.
#[derive(Clone, Copy)]
pub(crate) struct Guard<'a> {
    pub(crate) egress: &'a CompiledEgress,
    pub(crate) resolver: &'a Resolver,
    /// The proxy's own address, as the caller has it.
    pub(crate) local: IpAddr,
}

/// Addresses that may be connected to, at least one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    pub(crate) addresses: Vec<SocketAddr>,
    /// Each is used only if none before it can be; else they share the connections.
    pub(crate) in_order: bool,
}

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    #[error("{name} cannot be resolved: {why}")]
    Unresolved { name: Box<str>, why: NoAnswer },
    #[error("{name} leads to {address}, {what}")]
    Refused {
        name: Box<str>,
        address: IpAddr,
        what: Inside,
    },
    #[error("the entry has no endpoint that takes connections")]
    NoEndpoint,
}

/// Where an address leads that nobody outside has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inside {
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

impl Guard<'_> {
    /// Where a question that was answered with yes leads. `opened` is the entry that opens it; without one (a host that is only
    /// reported) it is the host itself.
    pub(crate) async fn check(
        &self,
        question: &Question<'_>,
        opened: Option<Opened<'_>>,
    ) -> Result<Checked, Obstacle> {
        let mut addresses = Vec::new();
        let Some(Opened { entry, port, .. }) = opened else {
            let port = question.port;
            self.requested(question, port, &mut addresses).await?;
            return Ok(Checked::shared(addresses));
        };
        let by_name = matches!(
            entry.resolution,
            Resolution::None | Resolution::Dns | Resolution::DnsRoundRobin
        );
        if by_name && entry.endpoints.is_empty() {
            self.requested(question, port.target(), &mut addresses)
                .await?;
            return Ok(Checked {
                addresses,
                in_order: entry.resolution == Resolution::DnsRoundRobin,
            });
        }
        let (endpoints, drawn) = in_turn(&entry.endpoints);
        for endpoint in endpoints {
            let ports = endpoint.ports.iter();
            let own = ports.copied().find(|(named, _)| *named == question.port);
            let port = own.map_or(port.target(), |(_, port)| port);
            match &endpoint.host {
                // Whoever wrote the entry has written the address.
                EndpointHost::Ip(ip) if entry.resolution == Resolution::Static => {
                    addresses.push(SocketAddr::new(*ip, port));
                }
                EndpointHost::Ip(ip) => {
                    let class = AddressClass::of(*ip);
                    self.allow(question, None, *ip, class)?;
                    addresses.push(SocketAddr::new(*ip, port));
                }
                EndpointHost::Name(name) => {
                    self.named(question, name, port, &mut addresses).await?;
                }
            }
        }
        if addresses.is_empty() {
            return Err(Obstacle::NoEndpoint);
        }
        Ok(Checked {
            addresses,
            in_order: drawn || entry.resolution == Resolution::DnsRoundRobin,
        })
    }

    /// Whether an address that was connected to may stay so, by what the table says now.
    pub(crate) fn may_stay(
        &self,
        question: &Question<'_>,
        opened: Option<Opened<'_>>,
        address: IpAddr,
    ) -> bool {
        let is_listed = |opened: Opened<'_>| {
            let mut endpoints = opened.entry.endpoints.iter();
            opened.entry.resolution == Resolution::Static
                && endpoints.any(|endpoint| endpoint.host == EndpointHost::Ip(address))
        };
        let class = AddressClass::of(address);
        opened.is_some_and(is_listed) || self.allow(question, None, address, class).is_ok()
    }

    /// The addresses of the host that was asked for.
    async fn requested(
        &self,
        question: &Question<'_>,
        port: u16,
        addresses: &mut Vec<SocketAddr>,
    ) -> Result<(), Obstacle> {
        match question.destination {
            Destination::Name(name) => self.named(question, name, port, addresses).await,
            Destination::Address(ip) => {
                self.allow(question, None, ip, AddressClass::of(ip))?;
                addresses.push(SocketAddr::new(ip, port));
                Ok(())
            }
        }
    }

    /// The addresses of a name.
    async fn named(
        &self,
        question: &Question<'_>,
        name: &str,
        port: u16,
        addresses: &mut Vec<SocketAddr>,
    ) -> Result<(), Obstacle> {
        let answer = self.resolver.resolve(name).await;
        let answer = answer.map_err(|why| Obstacle::Unresolved {
            name: name.into(),
            why,
        })?;
        addresses.reserve_exact(answer.addresses.len());
        for (ip, class) in &answer.addresses {
            self.allow(question, Some(name), *ip, *class)?;
            addresses.push(SocketAddr::new(*ip, port));
        }
        Ok(())
    }

    fn allow(
        &self,
        question: &Question<'_>,
        name: Option<&str>,
        address: IpAddr,
        class: AddressClass,
    ) -> Result<(), Obstacle> {
        let what = if !class.is_public() {
            Inside::Range(class)
        } else if address == self.local.to_canonical() {
            Inside::Proxy
        } else if self.egress.is_protected(address) {
            Inside::Cluster
        } else {
            return Ok(());
        };
        if self.egress.opens_private(question, address) {
            return Ok(());
        }
        Err(Obstacle::Refused {
            name: name.map_or_else(|| address.to_string().into(), Into::into),
            address,
            what,
        })
    }
}

impl Checked {
    fn shared(addresses: Vec<SocketAddr>) -> Self {
        Self {
            addresses,
            in_order: false,
        }
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
mod tests {
    use super::*;

    #[test]
    fn weights_are_shares_and_whoever_is_drawn_comes_first() {
        fastrand::seed(7);
        let endpoint = |last: u8, weight| EntryEndpoint {
            host: EndpointHost::Ip([192, 0, 2, last].into()),
            ports: Vec::new(),
            weight,
        };
        let endpoints = [endpoint(1, 0), endpoint(2, 1), endpoint(3, 9)];
        let mut first = 0;
        for _ in 0..10_000 {
            let (taking, drawn) = in_turn(&endpoints);
            assert!(drawn && taking.len() == 2);
            first += u32::from(taking[0] == &endpoints[2]);
        }
        assert!((8_800..9_200).contains(&first), "{first}");
        let equal = [endpoint(1, 2), endpoint(2, 2)];
        assert_eq!(in_turn(&equal), (equal.iter().collect(), false));
        assert_eq!(in_turn(&endpoints[..1]), (vec![], false));
    }
}
