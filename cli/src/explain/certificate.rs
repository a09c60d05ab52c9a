//! The certificate that a client is shown, and whether it refuses it: by its names and its dates. Whether the client trusts who
//! issued it, nobody else knows.

use std::{net::IpAddr, time::SystemTime};

use portcullis_controller::Severity;
use portcullis_routing::{Certificate, CertificateKey, Listener, RoutingTable};
use serde::Serialize;
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::Answer;
use crate::{analyze::certificates, request::Request};

/// What a client sees of a certificate.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    /// The Secret that it is from.
    from: String,
    /// DNS names and addresses that it is for.
    names: Vec<String>,
    /// Its last moment.
    valid_until: String,
    /// Why clients refuse it.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl Shown {
    /// The certificate of a listener that the proxy shows for this request: the first whose names cover the handshake's, else
    /// the first of all, as for a handshake that names nobody.
    pub(super) fn of(listener: &Listener, table: &RoutingTable, request: &Request) -> Option<Self> {
        let host = request.sni.as_deref().or_else(|| request.url.host())?;
        let keys = &listener.tls.as_ref()?.certificates;
        let known = keys.iter().filter_map(|key| {
            let certificate = table.certificates.get(key)?;
            Some((key, Self::read(key, certificate)?))
        });
        let mut known: Vec<_> = known.collect();
        if known.is_empty() {
            return None;
        }
        let named = request.sni.as_deref();
        let fitting = named.and_then(|name| known.iter().position(|(_, it)| it.covers(name)));
        let (key, shown) = known.swap_remove(fitting.unwrap_or_default());
        let certificate = table.certificates.get(key)?;
        let of_dates = certificates::hint(key, certificate, SystemTime::now());
        let of_dates = of_dates.filter(|it| it.severity == Severity::Error);
        let refused = match of_dates {
            Some(finding) => Some(finding.message),
            None if !shown.covers(host) => Some(format!("the certificate is not for {host}")),
            None => None,
        };
        Some(Self { refused, ..shown })
    }

    fn read(key: &CertificateKey, certificate: &Certificate) -> Option<Self> {
        let pem = certificates::leaf(certificate)?;
        let leaf = pem.parse_x509().ok()?;
        Some(Self {
            from: certificates::secret(key).to_string(),
            names: names(&leaf),
            valid_until: leaf.validity().not_after.to_string(),
            refused: None,
        })
    }

    /// Whether it is for a host. A wildcard stands for one label (RFC 9525, 6.3).
    fn covers(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']);
        let parent = host.split_once('.').map(|(_, parent)| parent);
        let is_address = host.parse::<IpAddr>().is_ok();
        self.names.iter().any(|name| {
            let suffix = name.strip_prefix("*.").filter(|_| !is_address);
            name == host || suffix.is_some_and(|suffix| Some(suffix) == parent)
        })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let Self {
            from,
            names,
            valid_until,
            refused,
        } = self;
        let names = match names[..] {
            [] => "no name at all".to_owned(),
            _ => names.join(", "),
        };
        let verdict = if refused.is_some() {
            "clients refuse it"
        } else {
            "a client that trusts its issuer accepts it"
        };
        format!("the certificate of {from} is for {names}, until {valid_until}: {verdict}")
    }
}

impl Answer {
    /// What comes of this certificate before anything else.
    pub(super) fn shows(self, certificate: Option<Shown>) -> Self {
        let refused = certificate.as_ref().and_then(|it| it.refused.as_ref());
        let outcome = refused.map(|why| {
            format!(
                "no answer: {why}; for a client that does not check it (`curl -k`): {}",
                self.outcome
            )
        });
        Self {
            is_error: self.is_error || outcome.is_some(),
            outcome: outcome.unwrap_or(self.outcome),
            certificate,
            ..self
        }
    }
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
        _ => None,
    };
    names.filter_map(name).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
