//! The addresses behind a destination, as far as they are known, and whether proxies would connect to them.

use std::{fmt::Write as _, net::IpAddr};

use anyhow::bail;
use portcullis_routing::{
    EndpointHost,
    egress::{
        CompiledEgress, Decision, Destination, Inside, Question, Resolution, address::AddressClass,
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
    /// The entry has endpoints of its own, which were not judged: the name is not looked up.
    Endpoints {
        /// Hosts and addresses.
        endpoints: Vec<String>,
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

/// The addresses that were said to be behind this destination. Some that are only for others are a mistake.
pub(super) fn told(
    resolved: &[Resolved],
    host: &Host,
    port: u16,
) -> anyhow::Result<Option<Vec<IpAddr>>> {
    let is_meant = |one: &&Resolved| {
        let place = one.place.as_ref();
        place.is_none_or(|(named, number)| (named, *number) == (host, port))
    };
    let addresses: Vec<IpAddr> = resolved
        .iter()
        .filter(is_meant)
        .flat_map(|one| one.addresses.iter().copied())
        .collect();
    if addresses.is_empty() && !resolved.is_empty() {
        bail!("no --resolve is for {host}:{port}, which is what is asked about");
    }
    Ok((!addresses.is_empty()).then_some(addresses))
}

impl Addresses {
    /// Those of a decision that lets pass.
    pub(super) fn of(
        question: &Question<'_>,
        decision: &Decision<'_>,
        egress: &CompiledEgress,
        told: Option<&[IpAddr]>,
    ) -> Self {
        let entry = decision.opened.map(|opened| opened.entry);
        let own = entry
            .filter(|entry| entry.resolution == Resolution::Static || !entry.endpoints.is_empty());
        if let Some(entry) = own {
            let endpoints = entry.endpoints.iter().map(|endpoint| match &endpoint.host {
                EndpointHost::Ip(address) => address.to_string(),
                EndpointHost::Name(name) => name.clone(),
            });
            return Self::Endpoints {
                endpoints: endpoints.collect(),
            };
        }
        let asked = match question.destination {
            Destination::Address(address) => vec![address],
            Destination::Name(_) => match told {
                Some(told) => told.to_vec(),
                None => return Self::Unknown,
            },
        };
        let judge = |address: IpAddr| {
            let class = AddressClass::of(address);
            let inside = egress.refuses(question, (address, class), |_| false);
            Judged {
                address,
                refused: inside.as_ref().map(Inside::to_string),
            }
        };
        Self::Judged {
            addresses: asked.into_iter().map(judge).collect(),
        }
    }

    /// The first that proxies do not connect to: then they connect to none.
    pub(super) fn refused(&self) -> Option<&Judged> {
        match self {
            Self::Judged { addresses } => addresses.iter().find(|it| it.refused.is_some()),
            Self::Unknown | Self::Endpoints { .. } => None,
        }
    }

    /// In words.
    pub(super) fn write(&self, text: &mut String) {
        match self {
            Self::Judged { addresses } => {
                for Judged { address, refused } in addresses {
                    let words = match refused {
                        Some(what) => styled(BAD, format!("refused, {what}")),
                        None => "may be connected to".to_owned(),
                    };
                    writeln!(text, "Address  {address}: {words}").ok();
                }
            }
            Self::Unknown => {
                *text += "Address  not judged: proxies look the name up and refuse it if one address of it is of the inside; \
                          --resolve ADDRESS says which it has\n";
            }
            Self::Endpoints { endpoints } => {
                let endpoints = endpoints.join(", ");
                writeln!(
                    text,
                    "Address  not judged: the name is not looked up, for the entry has endpoints: {endpoints}"
                )
                .ok();
            }
        }
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
        let found = |all: &[Resolved]| told(all, &host, 443).unwrap();
        let addresses = [1, 3].map(|last| IpAddr::from([192, 0, 2, last]));
        assert_eq!(found(&all).unwrap(), addresses);
        assert_eq!(found(&[]), None);
        let error = told(&all[1..2], &host, 443).unwrap_err().to_string();
        assert!(error.contains("a.example:443"), "{error}");
        assert!(told(&all[..1], &host, 80).is_err());
    }
}
