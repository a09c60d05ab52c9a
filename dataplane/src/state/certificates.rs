//! Certificates in the form that TLS needs them: decoded once, on the control thread.

use std::{collections::BTreeMap, sync::Arc};

use portcullis_routing::{Certificate, CertificateKey, Rejection, ResourceKind, RoutingTable};
use rustls::{
    crypto::{CryptoProvider, aws_lc_rs},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// The decoded certificates of a table.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    by_key: BTreeMap<CertificateKey, Decoded>,
}

/// A certificate, with the resource it was decoded from to recognise an unchanged one.
#[derive(Clone, Debug)]
struct Decoded {
    resource: Arc<Certificate>,
    key: Arc<CertifiedKey>,
}

impl Certificates {
    /// Decodes the certificates of `table`, and says which are not usable. Those that are unchanged since `previous` are
    /// shared with it.
    pub fn decode(previous: &Self, table: &RoutingTable) -> (Self, Vec<Rejection>) {
        let provider = aws_lc_rs::default_provider();
        let mut decoded = Self::default();
        let mut rejections = Vec::new();
        for (key, resource) in &table.certificates {
            let known = previous
                .by_key
                .get(key)
                .filter(|known| known.resource == *resource);
            let result = match known {
                Some(known) => Ok(Arc::clone(&known.key)),
                None => decode(resource, &provider).map(Arc::new),
            };
            match result {
                Ok(certified) => {
                    let resource = Arc::clone(resource);
                    decoded.by_key.insert(
                        key.clone(),
                        Decoded {
                            resource,
                            key: certified,
                        },
                    );
                }
                Err(message) => {
                    let kind = ResourceKind::Certificate;
                    rejections.push(Rejection {
                        kind,
                        key: key.to_string(),
                        message,
                    });
                }
            }
        }
        (decoded, rejections)
    }

    /// A usable certificate. Unchanged certificates keep their `Arc` from snapshot to snapshot.
    pub fn get(&self, key: &CertificateKey) -> Option<&Arc<CertifiedKey>> {
        self.by_key.get(key).map(|decoded| &decoded.key)
    }
}

/// Reads chain and key, and checks that they belong together. The message never quotes the key.
fn decode(certificate: &Certificate, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| format!("the certificate chain is not PEM: {error}"))?;
    if chain.is_empty() {
        return Err("the chain holds no certificate".to_owned());
    }
    let key =
        PrivateKeyDer::from_pem_slice(certificate.key_pem.expose().as_bytes()).map_err(|_| {
            "the private key is not PEM of a kind that is known (PKCS#8, PKCS#1, SEC1)".to_owned()
        })?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| format!("chain and key cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{GatewayKey, Secret};

    use super::*;
    use crate::state::fixtures::certificate;

    fn table(certificates: Vec<(&str, Certificate)>) -> RoutingTable {
        let mut table = RoutingTable::new(GatewayKey::of("ns", "gw"));
        let certificates = certificates.into_iter();
        table.certificates = certificates
            .map(|(name, certificate)| (CertificateKey::new(name), Arc::new(certificate)))
            .collect();
        table
    }

    #[test]
    fn a_bad_certificate_is_rejected_alone() {
        let [good, other] = [certificate(), certificate()];
        let crossed = Certificate {
            chain_pem: good.chain_pem.clone(),
            key_pem: other.key_pem,
        };
        let no_key = Certificate {
            key_pem: Secret::new("top secret"),
            ..good.clone()
        };
        let no_chain = Certificate {
            chain_pem: String::new(),
            ..good.clone()
        };
        let table = table(vec![
            ("good", good),
            ("crossed", crossed),
            ("no-key", no_key),
            ("no-chain", no_chain),
        ]);

        let (decoded, rejections) = Certificates::decode(&Certificates::default(), &table);
        assert!(decoded.get(&CertificateKey::new("good")).is_some());
        let rejected: Vec<_> = rejections
            .iter()
            .map(|rejection| rejection.key.as_str())
            .collect();
        assert_eq!(rejected, ["crossed", "no-chain", "no-key"]);
        assert!(
            rejections
                .iter()
                .all(|rejection| !rejection.message.contains("top secret"))
        );
    }

    #[test]
    fn an_unchanged_certificate_is_shared() {
        let certificate = certificate();
        let key = CertificateKey::new("a");
        let (first, _) = Certificates::decode(
            &Certificates::default(),
            &table(vec![("a", certificate.clone())]),
        );
        let (second, _) = Certificates::decode(&first, &table(vec![("a", certificate)]));
        assert!(Arc::ptr_eq(
            first.get(&key).unwrap(),
            second.get(&key).unwrap()
        ));
    }
}
