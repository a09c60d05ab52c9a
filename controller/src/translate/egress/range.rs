//! Addresses and ranges of them, as objects of egress write both.

use std::net::IpAddr;

use ipnet::IpNet;

/// `10.1.0.0/16`, or `10.1.0.7` for that address alone. Bits behind the prefix are of no account.
pub(super) fn parse(text: &str) -> Option<IpNet> {
    let address = text.parse().map(|address: IpAddr| IpNet::from(address));
    let range = address.or_else(|_| text.parse::<IpNet>());
    range.ok().map(|range| range.trunc())
}
