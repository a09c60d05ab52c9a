//! The outside: sites, their names, and where DNS says that they are. A site has names whether or not an entry lists them.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use anyhow::Result;

use crate::support::dns::{DnsServer, Reply};

/// The range that policies open by `allowPrivate`. As all of loopback it is refused without.
pub(super) const OPENED: &str = "127.128.0.0/9";
/// Hosts that all callers are allowed by the Gateway's policies.
pub(super) const OPEN: &str = "open.example";
/// Hosts that some namespaces only are allowed by the Gateway's policies.
pub(super) const CLUB: &str = "club.example";
/// Groups that the sites of each suffix are in: `s17.g3.open.example` is in group 3.
pub(super) const GROUPS: usize = 50;
/// Each so many-th site leads inside: to an address that no policy opens.
const INSIDE: usize = 97;
/// How long an answer of DNS holds, in seconds: names do not move.
const TTL: u32 = 300;

/// The names, and the address of each.
pub(super) struct Names {
    sites: Vec<Site>,
    addresses: BTreeMap<String, Ipv4Addr>,
}

/// A site.
pub(super) struct Site {
    /// What entries list: a name, or `*.suffix`.
    pub(super) listed: String,
    /// Names that exist: the first is listed by it, the last is only near it.
    pub(super) names: Vec<String>,
}

/// The suffix of a group.
pub(super) fn group(number: usize, suffix: &str) -> String {
    format!("g{}.{suffix}", number % GROUPS)
}

impl Names {
    pub(super) fn new(sites: usize) -> Self {
        let sites: Vec<_> = (0..sites).map(site).collect();
        let mut addresses = BTreeMap::new();
        let mut count = 0;
        for (number, site) in sites.iter().enumerate() {
            // 127.64.0.0/10 is for sites that lead inside, 127.128.0.0/9 for all others.
            let second = if is_inside(number) { 64 } else { 128 };
            for name in &site.names {
                count += 1;
                addresses.insert(name.clone(), numbered(second, count));
            }
        }
        Self { sites, addresses }
    }

    pub(super) fn len(&self) -> usize {
        self.sites.len()
    }

    pub(super) fn site(&self, number: usize) -> &Site {
        &self.sites[number % self.sites.len()]
    }

    /// Where DNS says that a name is.
    pub(super) fn address(&self, name: &str) -> Option<Ipv4Addr> {
        self.addresses.get(name).copied()
    }

    /// Has `server` tell all of them.
    pub(super) fn tell(&self, server: &DnsServer) -> Result<()> {
        for (name, address) in &self.addresses {
            let reply = Reply {
                ttl: TTL,
                ..Reply::of([*address])
            };
            server.set(name, [reply])?;
        }
        Ok(())
    }
}

fn site(number: usize) -> Site {
    let suffix = if number % 4 == 3 { CLUB } else { OPEN };
    let group = group(number, suffix);
    if number % 5 == 4 {
        let suffix = format!("w{number}.{group}");
        return Site {
            listed: format!("*.{suffix}"),
            names: vec![format!("a.{suffix}"), format!("b.a.{suffix}"), suffix],
        };
    }
    let name = format!("s{number}.{group}");
    Site {
        names: vec![name.clone(), format!("www.{name}")],
        listed: name,
    }
}

fn is_inside(number: usize) -> bool {
    number % INSIDE == INSIDE - 1
}

/// The address number `count` behind 127.`second`.0.0.
pub(super) fn numbered(second: u32, count: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((127 << 24) + (second << 16) + count)
}

/// Whether [`OPENED`] has an address.
pub(super) fn is_opened(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 127 && second >= 128
}

/// The address as others call it.
pub(super) fn ip(address: Ipv4Addr) -> IpAddr {
    IpAddr::V4(address)
}
