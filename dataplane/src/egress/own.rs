//! The proxy's own addresses. A connection to one of them would come back to the proxy: to its admin port, or to a listener.

use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};

/// The addresses of the interfaces as they are now, but for loopback, which has a class of its own. None if the system does
/// not tell them; then only the address that a caller connected to is known.
pub(crate) fn addresses() -> Box<[IpAddr]> {
    match getifaddrs() {
        Ok(interfaces) => interfaces
            .filter_map(|interface| address(&interface))
            .filter(|address| !address.is_loopback())
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "the addresses of the interfaces cannot be read");
            Box::default()
        }
    }
}

fn address(interface: &InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address.as_ref()?;
    let v4 = address
        .as_sockaddr_in()
        .map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| {
        let v6 = address.as_sockaddr_in6()?;
        Some(IpAddr::V6(v6.ip()))
    })
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn has_the_address_by_which_the_outside_is_reached_and_no_loopback() {
        let own = addresses();
        assert!(!own.iter().any(IpAddr::is_loopback), "{own:?}");
        // Nothing is sent: the system only says from where it would be. Without a route it does not.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        let from = socket
            .connect("192.0.2.1:9")
            .and_then(|()| socket.local_addr());
        let from = from.into_iter().map(|from| from.ip());
        for ip in from.filter(|ip| !ip.is_loopback() && !ip.is_unspecified()) {
            assert!(own.contains(&ip), "{ip}: {own:?}");
        }
    }
}
