//! A certificate with its key and the authorities that its owner trusts, as one Secret of type `kubernetes.io/tls` holds it.

use std::{collections::BTreeMap, time::SystemTime};

use k8s_openapi::ByteString;
use portcullis_routing::Secret;
use rcgen::{KeyPair, PublicKeyData};

use super::{CaError, Validity, each_certificate};

/// Keys of a Secret's data.
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";
pub(super) const AUTHORITIES: &str = "ca.crt";

/// Who one is, and whom one trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM (PKCS #8).
    pub key: Secret,
    /// Certificates of the authorities to trust, PEM.
    pub authorities: String,
}

impl Identity {
    /// For a Secret: `tls.crt`, `tls.key`, `ca.crt`.
    pub fn to_data(&self) -> BTreeMap<String, ByteString> {
        [
            (CERTIFICATE, self.certificate.as_str()),
            (KEY, self.key.expose()),
            (AUTHORITIES, self.authorities.as_str()),
        ]
        .into_iter()
        .map(|(field, text)| (field.to_owned(), ByteString(text.as_bytes().to_vec())))
        .collect()
    }

    /// From a Secret. An error if a field is missing, is not what it should be, or the key is not the certificate's.
    pub fn from_data(data: &BTreeMap<String, ByteString>) -> Result<Self, CaError> {
        let identity = Self {
            certificate: text(data, CERTIFICATE)?,
            key: Secret::new(text(data, KEY)?),
            authorities: text(data, AUTHORITIES)?,
        };
        check_key(CERTIFICATE, &identity.certificate, KEY, &identity.key)?;
        each_certificate(AUTHORITIES, &identity.authorities, |_| Ok(()))?;
        Ok(identity)
    }

    /// When the certificate ceases to hold.
    pub fn not_after(&self) -> Result<SystemTime, CaError> {
        let validities = each_certificate(CERTIFICATE, &self.certificate, |certificate| {
            Ok(Validity::of(certificate))
        })?;
        let first = validities.first().map(|validity| validity.not_after);
        first.ok_or_else(|| CaError::data(CERTIFICATE, "holds no certificate"))
    }
}

/// A field of a Secret's data, which must be there and be text.
pub(super) fn text(
    data: &BTreeMap<String, ByteString>,
    field: &'static str,
) -> Result<String, CaError> {
    let bytes = data
        .get(field)
        .ok_or_else(|| CaError::data(field, "is missing"))?;
    String::from_utf8(bytes.0.clone()).map_err(|_| CaError::data(field, "is not PEM"))
}

/// The key, if it is that of the first certificate.
pub(super) fn check_key(
    certificate_field: &'static str,
    certificate: &str,
    key_field: &'static str,
    key: &Secret,
) -> Result<KeyPair, CaError> {
    let pair = KeyPair::from_pem(key.expose())
        .map_err(|error| CaError::data(key_field, format!("holds no private key: {error}")))?;
    let keys = each_certificate(certificate_field, certificate, |certificate| {
        Ok(certificate.public_key().raw.to_vec())
    })?;
    if keys.first() == Some(&pair.subject_public_key_info()) {
        Ok(pair)
    } else {
        Err(CaError::data(
            key_field,
            format!("is not the key of {certificate_field}"),
        ))
    }
}
