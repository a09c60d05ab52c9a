//! Hints about the validity of certificates: the translation knows no clock.

use std::time::SystemTime;

use portcullis_controller::{Finding, ObjectKey, ObjectRef};
use portcullis_routing::{Certificate, CertificateKey, RoutingTable};
use x509_parser::{pem::Pem, prelude::X509Certificate};

/// A certificate that ends within this many seconds deserves a warning: 14 days.
const SOON: i64 = 14 * 24 * 3600;

/// What is wrong with the certificates of a table at the time `now`.
pub(crate) fn hints(table: &RoutingTable, now: SystemTime) -> Vec<Finding> {
    table
        .certificates
        .iter()
        .filter_map(|(key, certificate)| hint(key, certificate, now))
        .collect()
}

/// What is wrong with the dates of a certificate.
pub(crate) fn hint(
    key: &CertificateKey,
    certificate: &Certificate,
    now: SystemTime,
) -> Option<Finding> {
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |age| age.as_secs().cast_signed());
    validity(key, &leaf(certificate)?.parse_x509().ok()?, now)
}

/// The certificate itself, before those of its issuers.
pub(crate) fn leaf(certificate: &Certificate) -> Option<Pem> {
    Pem::iter_from_buffer(certificate.chain_pem.as_bytes())
        .next()?
        .ok()
}

fn validity(key: &CertificateKey, leaf: &X509Certificate, now: i64) -> Option<Finding> {
    let (start, end) = (leaf.validity().not_before, leaf.validity().not_after);
    let secret = secret(key);
    if end.timestamp() < now {
        Some(secret.error(
            "CertificateExpired",
            "data[tls.crt]",
            format!("the certificate expired on {end}; clients refuse it"),
            "put a renewed certificate and its key into the Secret; it is taken over without a restart",
        ))
    } else if end.timestamp() < now + SOON {
        Some(secret.warning(
            "CertificateExpiresSoon",
            "data[tls.crt]",
            format!("the certificate expires on {end}"),
            "renew it; a changed Secret is taken over without a restart",
        ))
    } else if start.timestamp() > now {
        Some(secret.error(
            "CertificateNotYetValid",
            "data[tls.crt]",
            format!("the certificate is valid only from {start} on; clients refuse it until then"),
            "check the clock of this machine and of the one that issued the certificate",
        ))
    } else {
        None
    }
}

/// The Secret that a certificate is from.
pub(crate) fn secret(key: &CertificateKey) -> ObjectRef {
    let mut parts = key.as_str().splitn(3, '/').skip(1);
    let namespace = parts.next().unwrap_or_default();
    ObjectRef::new(
        "Secret",
        ObjectKey::new(namespace, parts.next().unwrap_or_default()),
    )
}
