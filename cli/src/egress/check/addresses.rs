//! The addresses behind a destination, as far as they are known, and whether proxies would connect to them.

use std::{
    cell::Cell,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use anyhow::bail;
use portcullis_dataplane::{egress::meets, reason::Reason};
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
    refused: Option<String>,
    /// The place, if the proxy itself listens there: then nothing opens it.
    #[serde(skip)]
    proxy: Option<SocketAddr>,
    /// Of what is refused.
    #[serde(skip)]
    pub(super) reason: Reason,
}

impl Judged {
    /// `inside` is why the table refuses an address.
    fn new(to: SocketAddr, inside: Option<Inside>, told: &Told<'_>) -> Self {
        let proxy = told.listens_at(to).then_some(to);
        let reason = match (&inside, proxy) {
            (None, Some(_)) => Reason::LeadsToProxy,
            _ => Reason::AddressRefused,
        };
        let inside = inside.as_ref().map(Inside::to_string);
        Self {
            address: to.ip(),
            refused: inside.or_else(|| proxy.map(|_| "where the proxy itself listens".to_owned())),
            proxy,
            reason,
        }
    }

    /// Why proxies do not connect to it, in words.
    pub(super) fn why(&self) -> String {
        let what = self.refused.as_deref().unwrap_or_default();
        match self.proxy {
            Some(place) if self.reason == Reason::LeadsToProxy => {
                format!("it leads to {place}, {what}")
            }
            _ => format!("it leads to {}, {what}", self.address),
        }
    }
}

/// What the command line says of the addresses that names have, and where proxies listen.
pub(super) struct Told<'a> {
    resolved: &'a [Resolved],
    listening: Vec<SocketAddr>,
    is_used: Cell<bool>,
}

impl<'a> Told<'a> {
    pub(super) const fn new(resolved: &'a [Resolved], listening: Vec<SocketAddr>) -> Self {
        Self {
            resolved,
            listening,
            is_used: Cell::new(false),
        }
    }

    /// Whether a proxy would meet itself there. Addresses of its interfaces are not known, and are refused anyway.
    fn listens_at(&self, to: SocketAddr) -> bool {
        self.listening.iter().any(|bound| meets(to, *bound, &[]))
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
        let judge = |to: SocketAddr| {
            let asked_of = (to.ip(), AddressClass::of(to.ip()));
            let inside = egress.refuses(question, decision.opened, asked_of, |_| false);
            Judged::new(to, inside, told)
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
        let port = decision
            .opened
            .map_or(question.port, |opened| opened.port.target());
        let places = addresses.into_iter().map(|ip| SocketAddr::new(ip, port));
        Self::Judged {
            addresses: places.map(judge).collect(),
        }
    }

    fn of_endpoints(
        question: &Question<'_>,
        opened: Opened<'_>,
        egress: &CompiledEgress,
        told: &Told<'_>,
        judge: impl Fn(SocketAddr) -> Judged,
    ) -> Self {
        let entry = opened.entry;
        let is_listed = entry.resolution == Resolution::Static;
        let (mut addresses, mut unknown) = (Vec::new(), Vec::new());
        for endpoint in entry.endpoints.iter().filter(|it| it.weight > 0) {
            let port = endpoint.target(opened.port);
            let place = |ip: IpAddr| SocketAddr::new(ip, port);
            match &endpoint.host {
                EndpointHost::Ip(ip) if is_listed => {
                    let inside = egress.refuses_endpoint(question, opened, *ip, |_| false);
                    addresses.push(Judged::new(place(*ip), inside, told));
                }
                EndpointHost::Ip(ip) => addresses.push(judge(place(*ip))),
                EndpointHost::Name(name) => match told.of(name, question.port) {
                    Some(told) => addresses.extend(told.into_iter().map(place).map(&judge)),
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
    pub(super) fn remedy(&self, refused: &Judged, gateway_namespace: &str) -> String {
        if refused.proxy.is_some() {
            return "lead the host to the port of the server that is meant, by targetPort or endpoints of its ServiceEntry, or by its DNS: \
                    nothing opens a port that the proxy itself listens on"
                .to_owned();
        }
        let address = refused.address;
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

fn write(text: &mut String, heading: &str, addresses: &[Judged]) {
    for Judged {
        address, refused, ..
    } in addresses
    {
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
        assert_eq!(
            Told::new(&all, Vec::new()).of("a.example", 443).unwrap(),
            addresses
        );
        assert_eq!(Told::new(&[], Vec::new()).of("a.example", 443), None);
        let of_another = Told::new(&all[1..2], Vec::new());
        let error = of_another.ensure_meant(&host, 443).unwrap_err().to_string();
        assert!(error.contains("a.example:443"), "{error}");
        // A route led there.
        of_another.of("b.example", 443).unwrap();
        assert!(of_another.ensure_meant(&host, 443).is_ok());
        assert!(
            Told::new(&all[..1], Vec::new())
                .ensure_meant(&host, 80)
                .is_err()
        );
        assert!(Told::new(&all, Vec::new()).ensure_meant(&host, 80).is_ok());
    }

    fn verdict(is_listed: bool, refused: &[bool], unknown: &[&str]) -> bool {
        let told = Told::new(&[], Vec::new());
        let place = SocketAddr::from(([192, 0, 2, 1], 80));
        let judged = refused.iter().map(|is_refused| Judged {
            refused: is_refused.then(|| "a private address".to_owned()),
            ..Judged::new(place, None, &told)
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
