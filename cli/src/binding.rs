//! Whether ports are free, asked before the proxy binds them.
//!
//! The proxy's workers share ports (`SO_REUSEPORT`), and so would a second proxy of the same user: half of the requests
//! would get lost in it without any error. Asking without that option tells.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
};

/// A port that cannot be bound.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) address: SocketAddr,
    pub(crate) error: io::Error,
}

impl Refused {
    /// What is wrong, and the half of a remedy that holds for every command.
    pub(crate) fn text(&self) -> String {
        let address = self.address;
        match self.error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("{address} is in use by another process (`ss -ltnp` says which); stop it")
            }
            io::ErrorKind::PermissionDenied => {
                format!("this user may not bind {address}; ports below 1024 need rights")
            }
            io::ErrorKind::AddrNotAvailable => {
                format!(
                    "{} is no address of this machine; correct --address",
                    address.ip()
                )
            }
            _ => format!("cannot bind {address}: {}; choose another", self.error),
        }
    }
}

/// Asks for every port on every address.
pub(crate) fn check(addresses: &[IpAddr], ports: &[u16]) -> Result<(), Refused> {
    for &ip in addresses {
        for &port in ports {
            let address = SocketAddr::new(ip, port);
            TcpListener::bind(address).map_err(|error| Refused { address, error })?;
        }
    }
    Ok(())
}

/// As many free ports as asked for. Somebody else may take one before it is bound, which then is an error as usual.
pub(crate) fn free_ports<const N: usize>(ip: IpAddr) -> io::Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((ip, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn a_taken_port_is_told_with_a_remedy() {
        let taken = TcpListener::bind((LOCAL, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let text = check(&[LOCAL], &[port]).unwrap_err().text();
        assert!(
            text.contains(&port.to_string()) && text.contains("in use"),
            "{text}"
        );
        drop(taken);
        assert!(check(&[LOCAL], &[port]).is_ok());
    }

    #[test]
    fn free_ports_are_different_and_free() {
        let [one, other] = free_ports(LOCAL).unwrap();
        assert_ne!(one, other);
        assert!(check(&[LOCAL], &[one, other]).is_ok());
    }
}
