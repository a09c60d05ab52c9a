//! The controller's own certificate authority: who may speak as the controller, and who as the data plane of which Gateway.
//!
//! Pure functions: time is an argument and nothing is stored here. What they make goes into the data of Secrets
//! ([`Identity::to_data`], [`Authority::to_data`]) and comes back from there. Whoever keeps those Secrets calls
//! [`Authority::advanced`] and [`Authority::renewed`] now and then, and writes what they return.
//!
//! Keys are ECDSA P-256. Everything is renewed after two thirds of its life. A new authority is trusted for a day before
//! it signs anything, and the old one until it expires, so that peers may learn of either at their own time.

mod authority;
mod identity;
mod spiffe;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::{certificate::X509Certificate, extensions::GeneralName, pem::Pem};

pub use self::{
    authority::{AUTHORITY_LIFETIME, Authority, HANDOVER, IDENTITY_LIFETIME, Subject},
    identity::Identity,
    spiffe::SpiffeId,
};

/// Why a certificate could not be made, or a stored one not be read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A certificate or key could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// The data of a Secret is not what it should be.
    #[error("{field} {problem}; delete the Secret to have a new one made")]
    Data {
        /// The key in the Secret's data.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

impl CaError {
    fn data(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Data {
            field,
            problem: problem.into(),
        }
    }
}

/// From when to when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Validity {
    fn of(certificate: &X509Certificate<'_>) -> Self {
        let time = |seconds: i64| {
            UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        };
        let validity = certificate.validity();
        Self {
            not_before: time(validity.not_before.timestamp()),
            not_after: time(validity.not_after.timestamp()),
        }
    }

    /// Two thirds of the life are over.
    fn is_due(self, now: SystemTime) -> bool {
        let life = self
            .not_after
            .duration_since(self.not_before)
            .unwrap_or_default();
        now >= self.not_before + life * 2 / 3
    }

    fn is_over(self, now: SystemTime) -> bool {
        now >= self.not_after
    }
}

/// The DNS names of a certificate; none if it has names of other kinds besides, or cannot be read.
pub fn dns_names(der: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(der) else {
        return Vec::new();
    };
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let names = names.iter().map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    names.collect::<Option<_>>().unwrap_or_default()
}

/// Reads every certificate of a PEM text and hands it to `read`.
fn each_certificate<T>(
    field: &'static str,
    pem: &str,
    mut read: impl FnMut(&X509Certificate<'_>) -> Result<T, CaError>,
) -> Result<Vec<T>, CaError> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(pem.as_bytes()) {
        let block = block.map_err(|error| CaError::data(field, format!("is not PEM: {error}")))?;
        let certificate = block
            .parse_x509()
            .map_err(|error| CaError::data(field, format!("holds no certificate: {error}")))?;
        found.push(read(&certificate)?);
    }
    if found.is_empty() {
        return Err(CaError::data(field, "holds no certificate"));
    }
    Ok(found)
}
