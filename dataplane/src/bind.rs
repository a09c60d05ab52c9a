//! The addresses that ports are bound to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use portcullis_routing::Direction;

/// Every address of the host.
const EVERYWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    IpAddr::V6(Ipv6Addr::UNSPECIFIED),
];
/// Those that only this host reaches.
const LOOPBACK: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

/// The addresses that ports are bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindAddresses {
    named: Vec<IpAddr>,
    keeps_egress_local: bool,
}

impl BindAddresses {
    /// These addresses. None: every address of the host.
    pub const fn new(named: Vec<IpAddr>) -> Self {
        Self {
            named,
            keeps_egress_local: false,
        }
    }

    /// The same, but without any address that is named ports of egress are bound to loopback only. Outside of a cluster nobody
    /// means the whole network to go out by this host until they say so.
    #[must_use]
    pub fn with_local_egress(self) -> Self {
        Self {
            keeps_egress_local: true,
            ..self
        }
    }

    /// Whether somebody named the addresses. Else a host that lacks one of them does without it.
    pub const fn are_named(&self) -> bool {
        !self.named.is_empty()
    }

    /// The addresses of ports whose traffic goes this way. Never empty.
    pub fn of(&self, direction: Direction) -> &[IpAddr] {
        if self.are_named() {
            &self.named
        } else if self.keeps_egress_local && direction == Direction::Egress {
            &LOOPBACK
        } else {
            &EVERYWHERE
        }
    }

    /// Whether ports of egress are on loopback only, and nobody named that.
    pub const fn egress_is_local(&self) -> bool {
        self.keeps_egress_local && !self.are_named()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_goes_before_every_default() {
        use Direction::{Egress, Ingress};
        let everywhere = BindAddresses::default();
        assert_eq!(everywhere.of(Egress), EVERYWHERE);
        let local = everywhere.with_local_egress();
        assert_eq!(
            (local.of(Ingress), local.of(Egress)),
            (&EVERYWHERE[..], &LOOPBACK[..])
        );
        assert!(local.egress_is_local());
        let own = IpAddr::from([192, 0, 2, 1]);
        let named = BindAddresses::new(vec![own]).with_local_egress();
        assert_eq!(
            (named.of(Ingress), named.of(Egress)),
            (&[own][..], &[own][..])
        );
        assert!(!named.egress_is_local());
    }
}
