//! The addresses behind a destination, as far as they are known, and whether proxies would connect to them.

use std::{cell::Cell, fmt::Write as _, net::IpAddr};

use anyhow::bail;
use portcullis_routing::{
    EndpointHost,
    egress::{
        CompiledEgress, Decision, Destination, Inside, Opened, Question, Resolution,
        address::{AddressClass, EndpointRule},
        host::Host,
    },
};
use serde::Serialize;

use crate::{
    args::Resolved,
    output::{BAD, styled},
};

/// What is known of the addresses.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", tag = "known")]
pub(super) enum Addresses {
    /// Each of them was judged.
    Judged {
        /// In the order in which they were named.
        addresses: Vec<Judged>,
    },
    /// Nobody said which they are, so they were not judged.
    Unknown,
    /// The entry has endpoints of its own, so the name is not looked up.
    Endpoints {
        /// Those that are known.
        addresses: Vec<Judged>,
        /// Endpoints that are looked up, and nobody said which addresses they have.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        unknown: Vec<String>,
        /// Whether they were written one by one, so that the bad ones are passed over. Else one bad one refuses all.
        #[serde(skip)]
        is_listed: bool,
    },
}

/// An address.
#[derive(Clone, Debug, Serialize, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) address: IpAddr,
    /// Why proxies do not connect to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refused: Option<String>,
}

/// What the command line says of the addresses that names have.
pub(super) struct Told<'a> {
    resolved: &'a [Resolved],
    is_used: Cell<bool>,
}

impl<'a> Told<'a> {
    pub(super) const fn new(resolved: &'a [Resolved]) -> Self {
        Self {
            resolved,
            is_used: Cell::new(false),
        }
    }

    /// The addresses that were said to be behind this destination.
    fn of(&self, name: &str, port: u16) -> Option<Vec<IpAddr>> {
        let is_meant = |one: &&Resolved| {
            let place = one.place.as_ref();
            place.is_none_or(|(named, number)| is_name(named, name) && *number == port)
        };
        let meant = self.resolved.iter().filter(is_meant);
        let addresses: Vec<IpAddr> = meant.flat_map(|it| it.addresses.iter().copied()).collect();
        (!addresses.is_empty()).then(|| {
            self.is_used.set(true);
            addresses
        })
    }

    /// Some that are only for what nobody looks up are a mistake.
    pub(super) fn ensure_meant(&self, host: &Host, port: u16) -> anyhow::Result<()> {
        let is_meant = |one: &Resolved| {
            let place = one.place.as_ref();
            place.is_none_or(|place| *place == (host.clone(), port))
        };
        if self.resolved.is_empty() || self.is_used.get() || self.resolved.iter().any(is_meant) {
            return Ok(());
        }
        bail!(
            "no --resolve is for {host}:{port}, which is what is asked about, or for what it leads to"
        )
    }
}

fn is_name(host: &Host, name: &str) -> bool {
    matches!(host, Host::Name(own) if **own == *name)
}

impl Addresses {
    /// Those of a decision that lets pass.
    pub(super) fn of(
        question: &Question<'_>,
        decision: &Decision<'_>,
        egress: &CompiledEgress,
        told: &Told<'_>,
    ) -> Self {
        let judge = |address: IpAddr| {
            let class = AddressClass::of(address);
            judged(
                address,
                egress.refuses(question, decision.opened, (address, class), |_| false),
            )
        };
        let own = decision.opened.filter(|Opened { entry, .. }| {
            entry.resolution == Resolution::Static || !entry.endpoints.is_empty()
        });
        if let Some(opened) = own {
            return Self::of_endpoints(question, opened, egress, told, judge);
        }
        let addresses = match question.destination {
            Destination::Address(address) => vec![address],
            Destination::Name(name) => match told.of(name, question.port) {
                Some(told) => told,
                None => return Self::Unknown,
            },
        };
        Self::Judged {
            addresses: addresses.into_iter().map(judge).collect(),
        }
    }

    fn of_endpoints(
        question: &Question<'_>,
        opened: Opened<'_>,
        egress: &CompiledEgress,
        told: &Told<'_>,
        judge: impl Fn(IpAddr) -> Judged,
    ) -> Self {
        let entry = opened.entry;
        let is_listed = entry.resolution == Resolution::Static;
        let (mut addresses, mut unknown) = (Vec::new(), Vec::new());
        for endpoint in entry.endpoints.iter().filter(|it| it.weight > 0) {
            match &endpoint.host {
                EndpointHost::Ip(ip) if is_listed => {
                    let inside = egress.refuses_endpoint(question, opened, *ip, |_| false);
                    addresses.push(judged(*ip, inside));
                }
                EndpointHost::Ip(ip) => addresses.push(judge(*ip)),
                EndpointHost::Name(name) => match told.of(name, question.port) {
                    Some(told) => addresses.extend(told.into_iter().map(&judge)),
                    None => unknown.push(name.clone()),
                },
            }
        }
        Self::Endpoints {
            addresses,
            unknown,
            is_listed,
        }
    }

    /// One that proxies do not connect to, if because of it they connect to none.
    pub(super) fn refused(&self) -> Option<&Judged> {
        let is_refused = |it: &&Judged| it.refused.is_some();
        match self {
            Self::Endpoints {
                addresses,
                unknown,
                is_listed: true,
            } => {
                let is_left = !unknown.is_empty() || addresses.iter().any(|it| !is_refused(&it));
                addresses.last().filter(|_| !is_left)
            }
            Self::Judged { addresses } | Self::Endpoints { addresses, .. } => {
                addresses.iter().find(is_refused)
            }
            Self::Unknown => None,
        }
    }

    /// What opens an address that is refused, in words.
    pub(super) fn remedy(&self, address: IpAddr, gateway_namespace: &str) -> String {
        let is_listed = matches!(
            self,
            Self::Endpoints {
                is_listed: true,
                ..
            }
        );
        let rule = AddressClass::of(address).endpoint_rule();
        let by_entry = if is_listed && rule != EndpointRule::Nobody {
            format!("list it in a ServiceEntry of namespace {gateway_namespace}, or ")
        } else {
            String::new()
        };
        let length = if address.is_ipv4() { 32 } else { 128 };
        format!(
            "if that is meant, {by_entry}name {address}/{length} in allowPrivate of an EgressPolicy in namespace {gateway_namespace}; whom an \
             Allow there selects reaches nothing but what such policies name"
        )
    }

    /// In words.
    pub(super) fn write(&self, text: &mut String) {
        match self {
            Self::Judged { addresses } => write(text, "Address ", addresses),
            Self::Unknown => {
                *text += "Address  not judged: proxies look the name up and refuse it if one address of it is of the inside; \
                          --resolve ADDRESS says which it has\n";
            }
            Self::Endpoints {
                addresses, unknown, ..
            } => {
                write(text, "Endpoint", addresses);
                for name in unknown {
                    writeln!(
                        text,
                        "Endpoint {name}: not judged, proxies look it up; --resolve HOST:PORT:ADDRESS says which addresses it has"
                    )
                    .ok();
                }
            }
        }
    }
}

fn judged(address: IpAddr, inside: Option<Inside>) -> Judged {
    Judged {
        address,
        refused: inside.as_ref().map(Inside::to_string),
    }
}

fn write(text: &mut String, heading: &str, addresses: &[Judged]) {
    for Judged { address, refused } in addresses {
        let words = match refused {
            Some(what) => styled(BAD, format!("refused, {what}")),
            None => "may be connected to".to_owned(),
        };
        writeln!(text, "{heading} {address}: {words}").ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(place: Option<(&str, u16)>, last: u8) -> Resolved {
        Resolved {
            place: place.map(|(host, port)| (Host::Name(host.into()), port)),
            addresses: vec![[192, 0, 2, last].into()],
        }
    }

    #[test]
    fn addresses_are_for_a_place_or_for_whatever_is_asked() {
        let host = Host::Name("a.example".into());
        let all = [
            resolved(Some(("a.example", 443)), 1),
            resolved(Some(("b.example", 443)), 2),
            resolved(None, 3),
        ];
        let addresses = [1, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        assert_eq!(Told::new(&all).of("a.example", 443).unwrap(), addresses);
        assert_eq!(Told::new(&[]).of("a.example", 443), None);
        let of_another = Told::new(&all[1..2]);
        let error = of_another.ensure_meant(&host, 443).unwrap_err().to_string();
        assert!(error.contains("a.example:443"), "{error}");
        // A route led there.
        of_another.of("b.example", 443).unwrap();
        assert!(of_another.ensure_meant(&host, 443).is_ok());
        assert!(Told::new(&all[..1]).ensure_meant(&host, 80).is_err());
        assert!(Told::new(&all).ensure_meant(&host, 80).is_ok());
    }

    fn verdict(is_listed: bool, refused: &[bool], unknown: &[&str]) -> bool {
        let judged = refused.iter().map(|is_refused| Judged {
            address: [192, 0, 2, 1].into(),
            refused: is_refused.then(|| "a private address".to_owned()),
        });
        let addresses = Addresses::Endpoints {
            addresses: judged.collect(),
            unknown: unknown.iter().map(ToString::to_string).collect(),
            is_listed,
        };
        addresses.refused().is_some()
    }

    #[test]
    fn listed_endpoints_are_passed_over_one_by_one() {
        assert!(!verdict(true, &[true, false], &[]));
        assert!(verdict(true, &[true, true], &[]));
        assert!(!verdict(true, &[true], &["a.example"]));
        assert!(verdict(false, &[false, true], &[]));
        assert!(!verdict(false, &[false], &["a.example"]));
    }
}
