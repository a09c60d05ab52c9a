//! Certificates. Only the frame is checked here; the data plane's TLS library reads the content.

use super::{Check, ensure};
use crate::certificate::Certificate;

pub(crate) fn check(certificate: &Certificate) -> Check {
    ensure(is_certificate(&certificate.chain_pem), || {
        "the chain holds no PEM certificate".to_owned()
    })?;
    let has_key = certificate.key_pem.expose().contains("PRIVATE KEY-----");
    ensure(has_key, || "the key holds no PEM private key".to_owned())
}

/// Whether a text has a PEM certificate (RFC 7468) in it.
pub(crate) fn is_certificate(pem: &str) -> bool {
    pem.contains("-----BEGIN CERTIFICATE-----")
}
