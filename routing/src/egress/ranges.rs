//! Ranges of addresses, found by halves: a cluster of thousands of Services has as many.

use std::net::IpAddr;

use ipnet::IpNet;

/// Ranges that do not touch one another, in order: first and last address of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranges(Box<[(IpAddr, IpAddr)]>);

impl Ranges {
    pub(super) fn new(nets: &[IpNet]) -> Self {
        let nets = IpNet::aggregate(&nets.to_vec());
        let mut ranges: Vec<_> = nets
            .iter()
            .map(|net| (net.network(), net.broadcast()))
            .collect();
        ranges.sort_unstable();
        Self(ranges.into())
    }

    /// Whether one of them has `address`, which may come from a socket of both families.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let behind = self.0.partition_point(|(first, _)| *first <= address);
        let before = behind.checked_sub(1).and_then(|index| self.0.get(index));
        before.is_some_and(|(_, last)| address <= *last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn net() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (any::<[u8; 2]>(), 20..=32_u8).prop_map(|([a, b], length)| {
                IpNet::new([10, 0, a % 4, b].into(), length).unwrap()
            }),
            (any::<u16>(), 112..=128_u8).prop_map(|(last, length)| {
                IpNet::new([0xfd00, 0, 0, 0, 0, 0, 0, last].into(), length).unwrap()
            }),
        ]
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 2]>().prop_map(|[a, b]| IpAddr::from([10, 0, a % 5, b])),
            any::<u16>().prop_map(|last| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last])),
        ]
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_asking_each(nets in vec(net(), 0..12), asked in vec(address(), 32)) {
            let ranges = Ranges::new(&nets);
            for address in asked {
                let each = nets.iter().any(|net| net.contains(&address));
                prop_assert_eq!(ranges.contain(address), each, "{}", address);
                if let IpAddr::V4(v4) = address {
                    prop_assert_eq!(ranges.contain(v4.to_ipv6_mapped().into()), each);
                }
            }
        }
    }
}
