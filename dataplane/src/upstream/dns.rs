//! DNS names of backends: resolved beside the requests, cached within bounds, filtered.
//!
//! A name is text that a tenant wrote and an outside server answers. Addresses that lead back to the proxy itself or to
//! its node (loopback, link-local, the cloud's metadata service, unspecified, multicast) are never connected to.

use std::{cell::OnceCell, net::IpAddr, time::Duration};

#[cfg(test)]
use hickory_resolver::config::{ResolverConfig, ResolverOpts};
use portcullis_routing::egress::address::AddressClass;

use crate::dns::{self, Found, Servers};

/// An answer is asked again no sooner than this, whatever its TTL.
const MIN_TTL: Duration = Duration::from_secs(5);
/// And no later than this.
const MAX_TTL: Duration = Duration::from_mins(5);

/// What a name stands for at present.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Addresses that may be connected to, at least one.
    pub(super) addresses: Vec<IpAddr>,
    /// How long they hold.
    pub(super) ttl: Duration,
}

/// Why a name stands for nothing, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// Nobody said what it stands for.
    Unresolved(String),
    /// It stands for addresses that are never connected to, and for no others.
    Refused(String),
}

impl NoAnswer {
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Unresolved(text) | Self::Refused(text) => text,
        }
    }
}

/// A resolver of one worker, made when the first name is asked for.
#[derive(Default)]
pub(super) struct Dns {
    servers: OnceCell<Result<Servers, String>>,
}

impl Dns {
    /// Asks these servers instead of the system's.
    #[cfg(test)]
    pub(super) fn with_config(config: ResolverConfig) -> Self {
        Self {
            servers: OnceCell::from(Servers::new(config, ResolverOpts::default())),
        }
    }

    /// The IPv4 and IPv6 addresses of an absolute `name` that may be connected to.
    pub(super) async fn resolve(&self, name: &str) -> Result<Answer, NoAnswer> {
        let servers = self.servers.get_or_init(from_system).as_ref();
        let servers = servers.map_err(|why| NoAnswer::Unresolved(why.clone()))?;
        let (found, ttl) = match servers.ask(name).await {
            Found::Addresses(found, ttl) => (found, ttl),
            Found::Nothing(why, _) | Found::Failed(why) => {
                return Err(NoAnswer::Unresolved(format!("{name}: {why}")));
            }
        };
        let (mut addresses, refused): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|&address| may_connect(address));
        if addresses.is_empty() {
            return Err(NoAnswer::Refused(format!(
                "{name}: no address that may be connected to (refused: {refused:?})"
            )));
        }
        addresses.sort_unstable();
        addresses.dedup();
        Ok(Answer {
            addresses,
            ttl: ttl.clamp(MIN_TTL, MAX_TTL),
        })
    }
}

fn from_system() -> Result<Servers, String> {
    let (config, options) = dns::system()?;
    Servers::new(config, options)
}

/// Whether an address that a DNS server gave may be connected to.
pub(super) fn may_connect(address: IpAddr) -> bool {
    let class = match AddressClass::of(address) {
        AddressClass::Embedded { inner } => AddressClass::of(inner.into()),
        plain => plain,
    };
    // Private ones stay: backends stand in private networks as a rule.
    let leads_back = matches!(
        class,
        AddressClass::Loopback
            | AddressClass::Unspecified
            | AddressClass::LinkLocal
            | AddressClass::Metadata
            | AddressClass::Multicast
            | AddressClass::Broadcast
    );
    !leads_back
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::testing::dns::FakeDns;

    #[test]
    fn addresses_of_the_proxy_and_its_node_are_refused() {
        let refused = [
            "127.0.0.1",
            "127.8.8.8",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "2002:7f00:1::1",
            "64:ff9b:1::7f00:1",
            "2001:0:7f00:1::1",
            "2001:db8::5efe:127.0.0.1",
            "fe80::5efe:10.0.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "::ffff:192.0.0.192",
        ];
        for address in refused {
            assert!(!may_connect(address.parse().expect("address")), "{address}");
        }
        let accepted = [
            "10.0.0.1",
            "172.16.0.1",
            "192.168.1.1",
            "203.0.113.7",
            "2001:db8::1",
            "fd00::1",
            "::ffff:10.0.0.1",
            "64:ff9b::cb00:7107",
            "64:ff9b:1::10.0.0.1",
            "2001:db8::5efe:10.0.0.1",
            "100.64.0.1",
            "240.0.0.1",
        ];
        for address in accepted {
            assert!(may_connect(address.parse().expect("address")), "{address}");
        }
    }

    #[tokio::test]
    async fn both_families_are_asked_and_the_ttl_is_bounded() {
        let addresses =
            ["203.0.113.7", "2001:db8::7"].map(|address| address.parse().expect("address"));
        for (ttl, bounded) in [(0, MIN_TTL), (86_400, MAX_TTL)] {
            let server = FakeDns::start(&addresses, ttl).await;
            let answer = Dns::with_config(server.config())
                .resolve("up.example.com")
                .await
                .expect("answer");
            assert_eq!(answer.addresses, addresses);
            assert!(
                answer.ttl <= bounded && answer.ttl >= MIN_TTL,
                "{:?}",
                answer.ttl
            );
            assert!(
                answer.ttl > bounded.saturating_sub(Duration::from_secs(2)),
                "{:?}",
                answer.ttl
            );
        }
    }

    #[tokio::test]
    async fn refused_addresses_are_left_out_and_none_left_is_an_error() {
        let mixed = ["169.254.169.254", "203.0.113.7", "::1"]
            .map(|address| address.parse().expect("address"));
        let server = FakeDns::start(&mixed, 60).await;
        let answer = Dns::with_config(server.config())
            .resolve("mixed.example.com")
            .await
            .expect("answer");
        assert_eq!(answer.addresses, [mixed[1]]);

        let server = FakeDns::start(&["127.0.0.1".parse().expect("address")], 60).await;
        let error = Dns::with_config(server.config())
            .resolve("rebind.example.com")
            .await
            .expect_err("refused");
        let NoAnswer::Refused(error) = error else {
            panic!("{error:?}");
        };
        assert!(
            error.contains("127.0.0.1") && error.contains("rebind.example.com"),
            "{error}"
        );
    }
}
