//! What an address leads to: IANA's special-purpose registries (RFC 6890), the metadata services of the clouds, and IPv4
//! addresses inside of IPv6 ones.
//!
//! What is not known to be public is not: of IPv6 only `2000::/3` is given out.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};

use AddressClass::{
    Benchmarking, Broadcast, Cgnat, Documentation, Embedded, Global, LinkLocal, Loopback, Metadata,
    Multicast, Private, Reserved, UniqueLocal, Unspecified,
};

/// What an address is for. The order is that of danger: what comes later leads closer to the node that connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressClass {
    /// A public address.
    Global,
    /// For examples in texts (RFC 5737, 3849, 9637). Nobody answers there.
    Documentation,
    /// For tests of network equipment (RFC 2544, 5180).
    Benchmarking,
    /// Kept back by the IETF: protocol assignments, future use, discarded traffic, and IPv6 that is not given out.
    Reserved,
    /// Shared by a provider's customers (RFC 6598), and by the pods of some clouds.
    Cgnat,
    /// RFC 1918, and the site-local addresses that IPv6 once had (RFC 3879).
    Private,
    /// IPv6's counterpart of private addresses (RFC 4193).
    UniqueLocal,
    /// To a group (RFC 5771, RFC 4291 2.7).
    Multicast,
    /// To everyone on the link (RFC 919).
    Broadcast,
    /// `0.0.0.0/8` ("this network", RFC 791) and `::`. A connection to it reaches the host that makes it.
    Unspecified,
    /// Of one link: the node's own (RFC 3927, RFC 4291 2.5.6).
    LinkLocal,
    /// The host itself (RFC 1122, RFC 4291 2.5.3).
    Loopback,
    /// Where a cloud hands out an instance's configuration and credentials, whatever range that is in.
    Metadata,
    /// An IPv6 address with an IPv4 address in it, where packets may end. Never public: who means a public IPv4 address
    /// has its plain form.
    Embedded {
        /// The IPv4 address inside; the most dangerous one if there may be several.
        inner: Ipv4Addr,
    },
}

/// Whose word it takes to lead connections to an address that an entry lists as an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointRule {
    /// That of whoever wrote the entry.
    Anybody,
    /// That of the Gateway's namespace: the entry stands there, or a policy of it opens the range.
    Gateway,
    /// No entry's. A policy of the Gateway's namespace has to open the range.
    Nobody,
}

/// The first that holds the address counts; an address in none of them is public.
const V4: &[(Ipv4Net, AddressClass)] = &[
    // Microsoft Azure: a public address by itself.
    (v4([168, 63, 129, 16], 32), Metadata),
    // Alibaba Cloud.
    (v4([100, 100, 100, 200], 32), Metadata),
    // Oracle Cloud, classic.
    (v4([192, 0, 0, 192], 32), Metadata),
    // Nearly all others.
    (v4([169, 254, 169, 254], 32), Metadata),
    // Amazon ECS and EKS: credentials of tasks and pods.
    (v4([169, 254, 170, 2], 32), Metadata),
    (v4([169, 254, 170, 23], 32), Metadata),
    // Scaleway and Tencent Cloud.
    (v4([169, 254, 42, 42], 32), Metadata),
    (v4([169, 254, 0, 23], 32), Metadata),
    (v4([0, 0, 0, 0], 8), Unspecified),
    (v4([10, 0, 0, 0], 8), Private),
    (v4([100, 64, 0, 0], 10), Cgnat),
    (v4([127, 0, 0, 0], 8), Loopback),
    (v4([169, 254, 0, 0], 16), LinkLocal),
    (v4([172, 16, 0, 0], 12), Private),
    (v4([192, 0, 0, 0], 24), Reserved),
    (v4([192, 0, 2, 0], 24), Documentation),
    // The relays of 6to4 that were (RFC 7526).
    (v4([192, 88, 99, 0], 24), Reserved),
    (v4([192, 168, 0, 0], 16), Private),
    (v4([198, 18, 0, 0], 15), Benchmarking),
    (v4([198, 51, 100, 0], 24), Documentation),
    (v4([203, 0, 113, 0], 24), Documentation),
    (v4([224, 0, 0, 0], 4), Multicast),
    (v4([255, 255, 255, 255], 32), Broadcast),
    (v4([240, 0, 0, 0], 4), Reserved),
];

/// The first that holds the address counts; an address in none of them is reserved.
const V6: &[(Ipv6Net, AddressClass)] = &[
    // Amazon: instances, and pods of EKS.
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), Metadata),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23], 128), Metadata),
    // Google Cloud.
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), Metadata),
    // Oracle Cloud.
    (
        v6([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128),
        Metadata,
    ),
    // Akamai.
    (v6([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128), Metadata),
    // Alibaba Cloud.
    (v6([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128), Metadata),
    // Scaleway.
    (v6([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128), Metadata),
    // OpenStack.
    (v6([0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128), Metadata),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Loopback),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Benchmarking),
    // The IETF's protocol assignments. Some are reachable from everywhere, but nothing one would call stands there.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Reserved),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Documentation),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Documentation),
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), Global),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), UniqueLocal),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Private),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Multicast),
];

const fn v4(octets: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from_octets(octets), length)
}

const fn v6(segments: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_segments(segments), length)
}

impl AddressClass {
    /// The class of an address.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => Self::of_v6(address),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let found = V4.iter().find(|(net, _)| net.contains(&address));
        found.map_or(Global, |(_, class)| *class)
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if let Some(inner) = by_prefix(address) {
            return Embedded { inner };
        }
        let found = V6.iter().find(|(net, _)| net.contains(&address));
        let class = found.map_or(Reserved, |(_, class)| *class);
        match isatap(address) {
            // Behind a prefix that is more telling, the lower half is any number.
            Some(inner) if class == Global || Self::of_v4(inner) > class => Embedded { inner },
            _ => class,
        }
    }

    /// That of the address that packets may end at.
    #[must_use]
    pub fn inner(self) -> Self {
        match self {
            Embedded { inner } => Self::of_v4(inner),
            class => class,
        }
    }

    /// The address that packets may end at, of one that is of this class.
    #[must_use]
    pub fn plain(self, address: IpAddr) -> IpAddr {
        match self {
            Embedded { inner } => inner.into(),
            _ => address,
        }
    }

    /// Whose word it takes to lead connections there. An address in an address counts as the one inside.
    pub fn endpoint_rule(self) -> EndpointRule {
        match self {
            Global | Documentation | Benchmarking | Cgnat | Private | UniqueLocal => {
                EndpointRule::Anybody
            }
            LinkLocal | Metadata => EndpointRule::Gateway,
            Reserved | Multicast | Broadcast | Unspecified | Loopback => EndpointRule::Nobody,
            Embedded { inner } => Self::of_v4(inner).endpoint_rule(),
        }
    }

    /// Whether it is an address of the public internet, in its plain form.
    pub fn is_public(self) -> bool {
        self == Global
    }
}

/// In words that stand between "a" and "address".
impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Global => "public",
            Documentation => "documentation",
            Benchmarking => "benchmarking",
            Reserved => "reserved",
            Cgnat => "carrier-grade NAT",
            Private => "private",
            UniqueLocal => "unique local",
            Multicast => "multicast",
            Broadcast => "broadcast",
            Unspecified => "this-network",
            LinkLocal => "link-local",
            Loopback => "loopback",
            Metadata => "cloud metadata",
            Embedded { inner } => {
                return write!(f, "wrapped ({inner}, {})", Self::of_v4(*inner));
            }
        })
    }
}

/// The IPv4 address behind the well-known prefix of translators, `64:ff9b::/96` (RFC 6052 2.1).
pub fn nat64(address: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(address) = address else {
        return None;
    };
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(joined(high, low)),
        _ => None,
    }
}

/// The IPv4 address in an IPv6 address whose prefix says that there is one.
fn by_prefix(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        // IPv6's own: unspecified and loopback.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible and IPv4-mapped (RFC 4291 2.5.5), IPv4-translated (RFC 2765), NAT64 (RFC 6052), 6to4 (RFC 3056).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(joined(high, low)),
        [0x64, 0xff9b, 1, ..] => local_nat64(address),
        // Teredo (RFC 4380 4): the server, and the client with its bits turned over.
        [0x2001, 0, server_high, server_low, _, _, high, low] => {
            most_dangerous([joined(server_high, server_low), joined(!high, !low)])
        }
        _ => None,
    }
}

/// The IPv4 address in an interface identifier of ISATAP (RFC 5214 6.1), which stands behind any prefix.
fn isatap(address: Ipv6Addr) -> Option<Ipv4Addr> {
    match address.segments() {
        [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => Some(joined(high, low)),
        _ => None,
    }
}

/// The IPv4 address behind `64:ff9b:1::/48` (RFC 8215). Its place depends on a prefix length that only the network knows
/// (RFC 6052 2.2), so all places count. Byte 8 is never part of it.
fn local_nat64(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., b6, b7, _, b9, b10, b11, b12, b13, b14, b15] = address.octets();
    let places = [
        [b6, b7, b9, b10],
        [b7, b9, b10, b11],
        [b9, b10, b11, b12],
        [b12, b13, b14, b15],
    ];
    let addresses = places.map(Ipv4Addr::from).into_iter();
    // Zeros are what stands beside an address. No translator takes 0.0.0.0/8 for one.
    most_dangerous(addresses.filter(|inner| AddressClass::of_v4(*inner) != Unspecified))
}

fn most_dangerous(addresses: impl IntoIterator<Item = Ipv4Addr>) -> Option<Ipv4Addr> {
    addresses
        .into_iter()
        .max_by_key(|address| AddressClass::of_v4(*address))
}

fn joined(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_hides_a_later_one() {
        for (index, (net, _)) in V4.iter().enumerate() {
            let hidden = V4[..index]
                .iter()
                .find(|(earlier, _)| earlier.contains(net));
            assert_eq!(hidden, None, "{net}");
        }
        for (index, (net, _)) in V6.iter().enumerate() {
            let hidden = V6[..index]
                .iter()
                .find(|(earlier, _)| earlier.contains(net));
            assert_eq!(hidden, None, "{net}");
        }
    }

    #[test]
    fn prefixes_have_no_bits_beyond_their_length() {
        for (net, _) in V4 {
            assert_eq!(net.addr(), net.network(), "{net}");
        }
        for (net, _) in V6 {
            assert_eq!(net.addr(), net.network(), "{net}");
        }
    }
}
