//! Which port is bound for which port of a Gateway's spec.

use std::{collections::BTreeMap, str::FromStr};

/// Ports of the spec that are bound under another number, such as 8080 for 80. Others are bound as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortMap(BTreeMap<u16, u16>);

impl PortMap {
    /// The port that is bound for `spec`.
    pub fn bound(&self, spec: u16) -> u16 {
        self.0.get(&spec).copied().unwrap_or(spec)
    }

    /// The port of the spec that `bound` stands for.
    pub fn spec(&self, bound: u16) -> u16 {
        self.0
            .iter()
            .find(|(_, candidate)| **candidate == bound)
            .map_or(bound, |(spec, _)| *spec)
    }
}

impl FromIterator<(u16, u16)> for PortMap {
    fn from_iter<I: IntoIterator<Item = (u16, u16)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

/// Reads `80=8080,443=8443`. Each bound port stands for one port of the spec.
impl FromStr for PortMap {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut map = BTreeMap::new();
        for pair in text
            .split(',')
            .map(str::trim)
            .filter(|pair| !pair.is_empty())
        {
            let (spec, bound) = pair
                .split_once('=')
                .and_then(|(spec, bound)| Some((port(spec)?, port(bound)?)))
                .ok_or_else(|| {
                    format!("'{pair}' is no pair of ports; write SPEC=BIND, such as 80=8080")
                })?;
            if let Some((other, _)) = map
                .iter()
                .find(|(other, taken)| **taken == bound && **other != spec)
            {
                return Err(format!(
                    "ports {other} and {spec} cannot both be bound as {bound}"
                ));
            }
            if map.insert(spec, bound).is_some() {
                return Err(format!("port {spec} is mapped twice"));
            }
        }
        Ok(Self(map))
    }
}

fn port(text: &str) -> Option<u16> {
    text.trim().parse().ok().filter(|port| *port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_both_ways_and_leaves_others_alone() {
        let map: PortMap = "80=8080, 443=8443".parse().unwrap();
        assert_eq!(
            (map.bound(80), map.bound(443), map.bound(9000)),
            (8080, 8443, 9000)
        );
        assert_eq!(
            (map.spec(8080), map.spec(8443), map.spec(9000)),
            (80, 443, 9000)
        );
        assert_eq!("".parse(), Ok(PortMap::default()));
    }

    #[test]
    fn refuses_nonsense_and_clashes() {
        for text in [
            "80",
            "80=",
            "a=b",
            "80=0",
            "80=70000",
            "80=8080,80=8081",
            "80=8080,81=8080",
        ] {
            assert!(text.parse::<PortMap>().is_err(), "{text}");
        }
    }
}
