//! TLS towards backends: one rustls client configuration per policy, kept with its session store.
//!
//! The name of the policy is sent as SNI and verified; there is no way to switch verification off.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::{Rc, Weak},
    sync::{Arc, OnceLock},
};

use portcullis_routing::ClusterTls;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

/// Everything a handshake with a backend needs.
#[derive(Debug)]
pub(super) struct TlsPolicy {
    /// The name sent as SNI and verified.
    pub(super) server_name: ServerName<'static>,
    /// Offers `h2` and `http/1.1`.
    pub(super) http2: Arc<ClientConfig>,
    /// Offers `http/1.1` only.
    pub(super) http1: Arc<ClientConfig>,
}

impl TlsPolicy {
    fn new(tls: &ClusterTls) -> Result<Self, String> {
        let server_name = ServerName::try_from(tls.server_name.clone()).map_err(|_| {
            format!(
                "{:?} is not a host name that TLS can verify",
                tls.server_name
            )
        })?;
        let roots = if tls.ca_pem.is_empty() {
            system_roots()
        } else {
            given_roots(&tls.ca_pem)?
        };
        if roots.is_empty() {
            return Err("there is no trusted CA certificate".to_owned());
        }
        let mut http2 =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| error.to_string())?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let mut http1 = http2.clone();
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            server_name,
            http2: Arc::new(http2),
            http1: Arc::new(http1),
        })
    }
}

/// Whether a policy can be used at all; an error says in words why not.
pub(crate) fn check(tls: &ClusterTls) -> Result<(), String> {
    TlsPolicy::new(tls).map(drop)
}

/// The system's trust store, read once per process.
pub fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a part of the system's trust store cannot be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        Arc::new(roots)
    });
    Arc::clone(roots)
}

fn given_roots(pems: &[String]) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in pems
        .iter()
        .flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes()))
    {
        let certificate =
            certificate.map_err(|error| format!("a CA certificate is not valid PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("a CA certificate cannot be used: {error}"))?;
    }
    Ok(Arc::new(roots))
}

/// The policies in use, so that clusters with the same policy share its configuration.
#[derive(Default)]
pub(super) struct TlsPolicies {
    known: RefCell<HashMap<ClusterTls, Weak<TlsPolicy>>>,
}

impl TlsPolicies {
    /// The configuration of a policy; an Err says in words why the policy cannot be used.
    pub(super) fn get(&self, tls: &ClusterTls) -> Result<Rc<TlsPolicy>, String> {
        let mut known = self.known.borrow_mut();
        if let Some(policy) = known.get(tls).and_then(Weak::upgrade) {
            return Ok(policy);
        }
        known.retain(|_, policy| policy.strong_count() > 0);
        let policy = Rc::new(TlsPolicy::new(tls)?);
        known.insert(tls.clone(), Rc::downgrade(&policy));
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(server_name: &str, ca_pem: &[&str]) -> ClusterTls {
        ClusterTls {
            server_name: server_name.to_owned(),
            ca_pem: ca_pem.iter().map(|&pem| pem.to_owned()).collect(),
        }
    }

    #[test]
    fn equal_policies_share_a_configuration_and_unused_ones_are_dropped() {
        let ca = rcgen::generate_simple_self_signed(["ca".to_owned()])
            .expect("certificate")
            .cert
            .pem();
        let (policies, tls) = (TlsPolicies::default(), policy("up.internal", &[&ca]));
        let first = policies.get(&tls).expect("usable");
        assert!(Rc::ptr_eq(&first, &policies.get(&tls).expect("usable")));
        drop(first);
        policies
            .get(&policy("other.internal", &[&ca]))
            .expect("usable");
        assert_eq!(policies.known.borrow().len(), 1);
    }

    #[test]
    fn a_policy_that_cannot_verify_is_refused() {
        let policies = TlsPolicies::default();
        for bad in [
            policy("", &[]),
            policy("not a name", &[]),
            policy("up.internal", &["no certificate in here"]),
            policy(
                "up.internal",
                &["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"],
            ),
        ] {
            assert!(policies.get(&bad).is_err(), "{bad:?}");
        }
    }
}
