//! What is the proxy's own: its addresses, and the ports that it listens on. A connection there would come back to the proxy: to a
//! listener, or to its admin port.

use std::{
    cell::RefCell,
    net::{IpAddr, SocketAddr},
};

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use portcullis_routing::egress::address::AddressClass;

/// What one worker knows of that.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// The addresses of the interfaces as they were when the worker began, but for loopback, which has a class of its own. None if
    /// the system does not tell them; then only the address that a caller connected to is known.
    addresses: Box<[IpAddr]>,
    admin: Option<SocketAddr>,
    /// Where listeners are bound, each with its port in the table.
    listeners: RefCell<Vec<(u16, SocketAddr)>>,
}

impl Own {
    /// The addresses of this host, without any listener.
    pub(crate) fn new(admin: Option<SocketAddr>) -> Self {
        Self {
            addresses: addresses(),
            admin,
            listeners: RefCell::default(),
        }
    }

    /// The listener port `port` of the table is bound to this address too.
    pub(crate) fn opened(&self, port: u16, address: SocketAddr) {
        self.listeners.borrow_mut().push((port, address));
    }

    /// The listener port `port` of the table is given up.
    pub(crate) fn closed(&self, port: u16) {
        self.listeners
            .borrow_mut()
            .retain(|(open, _)| *open != port);
    }

    /// Whether an address is one of the proxy's, or `local`, the one that the caller connected to.
    pub(crate) fn has(&self, address: IpAddr, local: IpAddr) -> bool {
        self.addresses.contains(&address)
            || (address == local.to_canonical() && !address.is_loopback())
    }

    /// Whether the proxy would meet itself there.
    pub(crate) fn listens_at(&self, to: SocketAddr) -> bool {
        let meets = |bound: SocketAddr| meets(to, bound, &self.addresses);
        let listeners = self.listeners.borrow();
        self.admin.is_some_and(meets) || listeners.iter().any(|(_, bound)| meets(*bound))
    }
}

/// Whether a connection to `to` meets what is bound to `bound` on this host, whose interfaces have the addresses `own`.
pub fn meets(to: SocketAddr, bound: SocketAddr, own: &[IpAddr]) -> bool {
    let ip = AddressClass::of(to.ip()).plain(to.ip());
    // The system takes a connection to no address in particular for one to this host.
    let is_here = ip.is_loopback() || ip.is_unspecified() || own.contains(&ip);
    let is_any = bound.ip().is_unspecified() || ip.is_unspecified();
    bound.port() == to.port() && (bound.ip().to_canonical() == ip || (is_any && is_here))
}

fn addresses() -> Box<[IpAddr]> {
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
impl Own {
    /// These addresses, and nothing that listens.
    pub(crate) fn at(addresses: &[IpAddr]) -> Self {
        Self {
            addresses: addresses.into(),
            ..Self::default()
        }
    }
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

    #[test]
    fn the_proxy_meets_itself_where_it_listens_and_nowhere_else() {
        let own = Own {
            admin: Some("127.0.0.1:9901".parse().unwrap()),
            ..Own::at(&["10.9.9.9".parse().unwrap()])
        };
        own.opened(80, "0.0.0.0:8080".parse().unwrap());
        own.opened(80, "[::]:8080".parse().unwrap());
        own.opened(443, "127.0.0.7:8443".parse().unwrap());
        for (to, wanted) in [
            // Bound to every address.
            ("127.0.0.1:8080", true),
            ("127.1.2.3:8080", true),
            ("[::1]:8080", true),
            ("[::ffff:127.0.0.1]:8080", true),
            ("0.0.0.0:8080", true),
            ("[::]:8080", true),
            ("10.9.9.9:8080", true),
            ("10.9.9.8:8080", false),
            // The port that the table has for it is another one.
            ("127.0.0.1:80", false),
            // Bound to one address, of which others may have neighbours.
            ("127.0.0.7:8443", true),
            ("[::ffff:127.0.0.7]:8443", true),
            ("0.0.0.0:8443", true),
            ("127.0.0.1:8443", false),
            ("127.0.0.1:9901", true),
            ("0.0.0.0:9901", true),
            ("127.0.0.2:9901", false),
            ("[::1]:9901", false),
        ] {
            assert_eq!(own.listens_at(to.parse().unwrap()), wanted, "{to}");
        }
        own.closed(80);
        assert!(!own.listens_at("127.0.0.1:8080".parse().unwrap()));
        assert!(own.listens_at("127.0.0.7:8443".parse().unwrap()));
    }
}
