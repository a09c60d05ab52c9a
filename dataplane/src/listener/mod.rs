//! Ports: bound, shared by the workers, and given up, as the table says.

mod accept;
mod connection;
mod passthrough;
mod socket;

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
};

use portcullis_routing::Direction;
use tokio::sync::mpsc::UnboundedSender;

pub(crate) use self::accept::AcceptLoops;
use crate::{bind::BindAddresses, ports::PortMap, worker::Command};

/// Binds the ports of the table for all workers. Lives on the control thread.
#[derive(Debug)]
pub(crate) struct ListenerManager {
    addresses: BindAddresses,
    ports: PortMap,
    workers: Vec<UnboundedSender<Command>>,
    bound: BTreeMap<u16, Vec<SocketAddr>>,
    failed: BTreeMap<u16, String>,
}

impl ListenerManager {
    /// Without any port.
    pub(crate) fn new(
        addresses: BindAddresses,
        ports: PortMap,
        workers: Vec<UnboundedSender<Command>>,
    ) -> Self {
        Self {
            addresses,
            ports,
            workers,
            bound: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Binds what is wanted and not bound, gives up what is bound and not wanted, leaves the rest alone. A port that
    /// cannot be bound hinders no other one; the next call tries it again. One whose traffic goes the other way now may have to
    /// be bound elsewhere.
    pub(crate) fn reconcile(&mut self, wanted: &BTreeMap<u16, Direction>) {
        let is_wanted = |port: &u16, bound: &[SocketAddr]| {
            let places = wanted
                .get(port)
                .map(|direction| self.addresses.of(*direction));
            places.is_some_and(|places| bound.iter().all(|it| places.contains(&it.ip())))
        };
        let gone: Vec<u16> = self
            .bound
            .iter()
            .filter(|(port, bound)| !is_wanted(port, bound))
            .map(|(port, _)| *port)
            .collect();
        for port in gone {
            self.bound.remove(&port);
            tracing::info!(port, "port closed");
            self.tell(|| Command::Close { port });
        }
        self.failed.clear();
        for (&port, &direction) in wanted {
            if self.bound.contains_key(&port) {
                continue;
            }
            match self.open(port, self.addresses.of(direction)) {
                Ok(addresses) => {
                    tracing::info!(port, ?addresses, "port open");
                    self.bound.insert(port, addresses);
                }
                Err(error) => {
                    tracing::error!(port, %error, "port cannot be bound");
                    self.failed.insert(port, error.to_string());
                }
            }
        }
    }

    /// Tells every worker.
    pub(crate) fn tell(&self, command: impl Fn() -> Command) {
        for worker in &self.workers {
            // A worker that is gone has nothing left to do.
            _ = worker.send(command());
        }
    }

    /// Ports of the spec with the addresses they are bound to.
    pub(crate) fn bound(&self) -> &BTreeMap<u16, Vec<SocketAddr>> {
        &self.bound
    }

    /// Ports of the spec that could not be bound, and why.
    pub(crate) fn failed(&self) -> &BTreeMap<u16, String> {
        &self.failed
    }

    /// Binds one port on all of these addresses, one socket per worker: all or none.
    fn open(&self, port: u16, places: &[IpAddr]) -> io::Result<Vec<SocketAddr>> {
        let mut number = self.ports.bound(port);
        if let Some((other, _)) = self
            .bound
            .iter()
            .find(|(_, taken)| taken.iter().any(|taken| taken.port() == number))
        {
            let message = format!("port {number} is bound for port {other} of the Gateway already");
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        let mut sockets = Vec::new();
        let mut addresses = Vec::new();
        for &ip in places {
            for _ in &self.workers {
                let socket = match socket::bind((ip, number).into()) {
                    Ok(socket) => socket,
                    // A host without IPv6, where nobody asked for it.
                    Err(error)
                        if !self.addresses.are_named()
                            && ip.is_ipv6()
                            && socket::is_unsupported(&error) =>
                    {
                        break;
                    }
                    Err(error) => {
                        let message = format!("{}: {error}", SocketAddr::from((ip, number)));
                        return Err(io::Error::new(error.kind(), message));
                    }
                };
                let address = socket.local_addr()?;
                // The first socket chooses for all if the port is 0.
                number = address.port();
                if addresses.last() != Some(&address) {
                    addresses.push(address);
                }
                sockets.push(socket);
            }
        }
        for (socket, worker) in sockets.into_iter().zip(self.workers.iter().cycle()) {
            _ = worker.send(Command::Open { port, socket });
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "as the server does")]
    fn manager_at(
        places: BindAddresses,
        ports: &[(u16, u16)],
    ) -> (ListenerManager, UnboundedReceiver<Command>) {
        let (worker, commands) = unbounded_channel();
        let ports = ports.iter().copied().collect();
        (ListenerManager::new(places, ports, vec![worker]), commands)
    }

    fn manager(ports: &[(u16, u16)]) -> (ListenerManager, UnboundedReceiver<Command>) {
        manager_at(
            BindAddresses::new(vec!["127.0.0.1".parse().unwrap()]),
            ports,
        )
    }

    fn ingress<const N: usize>(ports: [u16; N]) -> BTreeMap<u16, Direction> {
        ports.map(|port| (port, Direction::Ingress)).into()
    }

    #[test]
    fn ports_come_and_go_alone() {
        let (mut manager, mut commands) = manager(&[(80, 0), (443, 0)]);
        manager.reconcile(&ingress([80]));
        assert!(matches!(
            commands.try_recv(),
            Ok(Command::Open { port: 80, .. })
        ));
        let before = manager.bound().clone();
        assert_ne!(before[&80][0].port(), 0);
        manager.reconcile(&ingress([80, 443]));
        assert!(matches!(
            commands.try_recv(),
            Ok(Command::Open { port: 443, .. })
        ));
        assert_eq!(manager.bound()[&80], before[&80]);
        manager.reconcile(&ingress([80]));
        assert!(matches!(
            commands.try_recv(),
            Ok(Command::Close { port: 443 })
        ));
        assert!(commands.try_recv().is_err());
        assert!(manager.failed().is_empty());
    }

    #[test]
    fn a_port_that_cannot_be_bound_hinders_no_other_and_is_tried_again() {
        // Without SO_REUSEPORT, so that nobody can share it.
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let number = taken.local_addr().unwrap().port();
        let (mut manager, _commands) = manager(&[(80, number), (81, 0)]);
        let wanted = ingress([80, 81]);
        manager.reconcile(&wanted);
        assert_eq!(manager.bound().keys().collect::<Vec<_>>(), [&81]);
        assert!(manager.failed()[&80].contains(&number.to_string()));
        drop(taken);
        manager.reconcile(&wanted);
        assert!(manager.failed().is_empty());
        assert_eq!(manager.bound().len(), 2);
    }

    #[test]
    fn a_port_of_egress_is_for_this_host_where_no_address_is_named() {
        let places = BindAddresses::default().with_local_egress();
        let (mut manager, mut commands) = manager_at(places, &[(80, 0), (3128, 0)]);
        let egress = (3128, Direction::Egress);
        manager.reconcile(&[(80, Direction::Ingress), egress].into());
        let is_at = |manager: &ListenerManager, port, place: fn(&IpAddr) -> bool| {
            manager.bound()[&port].iter().all(|it| place(&it.ip()))
        };
        assert!(is_at(&manager, 80, IpAddr::is_unspecified));
        assert!(is_at(&manager, 3128, IpAddr::is_loopback));
        while commands.try_recv().is_ok() {}
        // The port of something else by now.
        manager.reconcile(&ingress([80, 3128]));
        assert!(is_at(&manager, 3128, IpAddr::is_unspecified));
        assert!(matches!(
            commands.try_recv(),
            Ok(Command::Close { port: 3128 })
        ));
        assert!(matches!(
            commands.try_recv(),
            Ok(Command::Open { port: 3128, .. })
        ));
        manager.reconcile(&[(80, Direction::Ingress), egress].into());
        assert!(is_at(&manager, 3128, IpAddr::is_loopback));
    }

    #[test]
    fn two_ports_cannot_share_a_number() {
        let (mut manager, _commands) = manager(&[(80, 0)]);
        manager.reconcile(&ingress([80]));
        let number = manager.bound()[&80][0].port();
        manager.reconcile(&ingress([80, number]));
        assert!(manager.failed()[&number].contains("port 80 of the Gateway"));
    }
}
