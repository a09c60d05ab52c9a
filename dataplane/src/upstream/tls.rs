//! TLS towards backends: one rustls client configuration per policy, kept with its session store.
//!
//! The name of the policy is sent as SNI and verified, or other names in its place; there is no way to switch verification
//! off.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::{Rc, Weak},
    sync::{Arc, OnceLock},
};

use portcullis_routing::ClusterTls;
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::WantsClientCert,
    crypto::aws_lc_rs,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use super::san::SanVerifier;

/// Everything a handshake with a backend needs.
#[derive(Debug)]
pub(super) struct TlsPolicy {
    /// The name sent as SNI and verified.
    pub(super) server_name: ServerName<'static>,
    /// Offers `h2` and `http/1.1`.
    pub(super) http2: Arc<ClientConfig>,
    /// Offers `http/1.1` only.
    pub(super) http1: Arc<ClientConfig>,
    /// Shown to a backend that asks for a certificate.
    client: Option<Arc<CertifiedKey>>,
}

impl TlsPolicy {
    fn new(tls: &ClusterTls, client: Option<&Arc<CertifiedKey>>) -> Result<Self, String> {
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
        let builder = verifying(tls, roots)?;
        let mut http2 = match client {
            None => builder.with_no_client_auth(),
            Some(client) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(client)))),
        };
        let mut http1 = http2.clone();
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            server_name,
            http2: Arc::new(http2),
            http1: Arc::new(http1),
            client: client.cloned(),
        })
    }
}

/// A configuration that trusts `roots` for the names of the policy.
fn verifying(
    tls: &ClusterTls,
    roots: Arc<RootCertStore>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let provider = aws_lc_rs::default_provider();
    let algorithms = provider.signature_verification_algorithms;
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
    if tls.subject_alt_names.is_empty() {
        return Ok(builder.with_root_certificates(roots));
    }
    let verifier = SanVerifier::new(roots, algorithms, &tls.subject_alt_names)?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier)))
}

/// Whether a policy can be used at all; an error says in words why not.
pub(crate) fn check(tls: &ClusterTls) -> Result<(), String> {
    TlsPolicy::new(tls, None).map(drop)
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
    /// The configuration of a policy with the client certificate that it names, if that is there; an Err says in words
    /// why the policy cannot be used. A renewed certificate makes another configuration, with sessions of its own.
    pub(super) fn get(
        &self,
        tls: &ClusterTls,
        client: Option<&Arc<CertifiedKey>>,
    ) -> Result<Rc<TlsPolicy>, String> {
        let mut known = self.known.borrow_mut();
        if let Some(policy) = known.get(tls).and_then(Weak::upgrade)
            && same(policy.client.as_ref(), client)
        {
            return Ok(policy);
        }
        known.retain(|_, policy| policy.strong_count() > 0);
        let policy = Rc::new(TlsPolicy::new(tls, client)?);
        known.insert(tls.clone(), Rc::downgrade(&policy));
        Ok(policy)
    }
}

/// Whether two client certificates are one and the same. Unchanged ones stay so from table to table.
pub(super) fn same(one: Option<&Arc<CertifiedKey>>, other: Option<&Arc<CertifiedKey>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(server_name: &str, ca_pem: &[&str]) -> ClusterTls {
        ClusterTls {
            server_name: server_name.to_owned(),
            ca_pem: ca_pem.iter().map(|&pem| pem.to_owned()).collect(),
            ..ClusterTls::default()
        }
    }

    #[test]
    fn equal_policies_share_a_configuration_and_unused_ones_are_dropped() {
        let ca = rcgen::generate_simple_self_signed(["ca".to_owned()])
            .expect("certificate")
            .cert
            .pem();
        let (policies, tls) = (TlsPolicies::default(), policy("up.internal", &[&ca]));
        let first = policies.get(&tls, None).expect("usable");
        assert!(Rc::ptr_eq(
            &first,
            &policies.get(&tls, None).expect("usable")
        ));
        drop(first);
        policies
            .get(&policy("other.internal", &[&ca]), None)
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
            assert!(policies.get(&bad, None).is_err(), "{bad:?}");
        }
    }
}
