//! The name of a Gateway's data plane in its certificate.

use std::{fmt, str::FromStr};

use x509_parser::{certificate::X509Certificate, extensions::GeneralName};

use crate::resources::ObjectKey;

/// `spiffe://<trust domain>/ns/<namespace>/gateway/<name>`, the one URI among the certificate's names (SPIFFE X.509-SVID,
/// section 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpiffeId {
    /// Whose word it is: the cluster's, such as `cluster.local`.
    pub trust_domain: String,
    /// The Gateway.
    pub gateway: ObjectKey,
}

impl SpiffeId {
    /// The name in a certificate, or in words why there is none.
    pub fn of_certificate(der: &[u8]) -> Result<Self, String> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der)
            .map_err(|error| format!("the certificate cannot be read: {error}"))?;
        Self::of(&certificate)
    }

    pub(super) fn of(certificate: &X509Certificate<'_>) -> Result<Self, String> {
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| format!("the certificate's names cannot be read: {error}"))?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let mut uris = names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => uri.parse(),
            (None, _) => Err("the certificate has no URI among its names".to_owned()),
            (Some(_), Some(_)) => {
                Err("the certificate has more than one URI among its names".to_owned())
            }
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            gateway,
        } = self;
        write!(
            f,
            "spiffe://{trust_domain}/ns/{}/gateway/{}",
            gateway.namespace, gateway.name
        )
    }
}

impl FromStr for SpiffeId {
    type Err = String;

    fn from_str(uri: &str) -> Result<Self, String> {
        let parts = uri.strip_prefix("spiffe://").map(|rest| rest.split('/'));
        let parts: Vec<&str> = parts.map(Iterator::collect).unwrap_or_default();
        match parts[..] {
            [trust_domain, "ns", namespace, "gateway", name]
                if ![trust_domain, namespace, name].contains(&"") =>
            {
                Ok(Self {
                    trust_domain: trust_domain.to_owned(),
                    gateway: ObjectKey::new(namespace, name),
                })
            }
            _ => Err(format!(
                "the certificate is for {uri}, not for a Gateway \
                 (spiffe://<trust domain>/ns/<namespace>/gateway/<name>)"
            )),
        }
    }
}
