//! Certificates with their private keys.

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

/// A certificate chain and its key, from a Secret of type `kubernetes.io/tls`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The chain, PEM, leaf first.
    pub chain_pem: String,
    /// The private key, PEM (PKCS#8, PKCS#1 or SEC1).
    pub key_pem: Secret,
}
