//! TLS towards backends: one rustls client configuration per policy, kept with its session store.
//!
//! The name of the policy is sent as SNI and verified, or other names in its place; there is no way to switch verification
//! off.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use portcullis_routing::{Cluster, ClusterKey, ClusterTls, Rejection, ResourceKind, RoutingTable};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::WantsClientCert,
    crypto::aws_lc_rs,
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use super::san::SanVerifier;
use crate::state::Certificates;

/// Everything a handshake with a backend needs.
#[derive(Debug)]
pub(super) struct TlsPolicy {
    made_from: Arc<Cluster>,
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
    /// For the policy `tls` of `cluster`.
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        tls: &ClusterTls,
        client: Option<&Arc<CertifiedKey>>,
    ) -> Result<Self, String> {
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
            made_from: Arc::clone(cluster),
            server_name,
            http2: Arc::new(http2),
            http1: Arc::new(http1),
            client: client.cloned(),
        })
    }

    /// Whether this is the client certificate that it shows. Unchanged ones stay the same instance from table to table.
    fn shows(&self, client: Option<&Arc<CertifiedKey>>) -> bool {
        match (&self.client, client) {
            (Some(mine), Some(client)) => Arc::ptr_eq(mine, client),
            (mine, client) => mine.is_none() && client.is_none(),
        }
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

/// The TLS side of a table's clusters, or in words why a policy cannot be used. Made with the table, on the control thread.
/// Equal policies share a configuration, and so do all workers: what one session was opened with can be resumed by every one.
#[derive(Clone, Debug, Default)]
pub struct TlsPolicies(HashMap<ClusterKey, Result<Arc<TlsPolicy>, String>>);

impl TlsPolicies {
    /// Makes the configuration of every cluster that has a policy, with the client certificate that it names, if that is there,
    /// and says which policies cannot be used. Unchanged ones are shared with `previous`. A renewed certificate makes another
    /// configuration, with sessions of its own.
    pub fn build(
        previous: &Self,
        table: &RoutingTable,
        certificates: &Certificates,
    ) -> (Self, Vec<Rejection>) {
        let known = previous.0.values().flatten();
        let mut known: HashMap<&ClusterTls, Arc<TlsPolicy>> = known
            .filter_map(|policy| Some((policy.made_from.tls.as_ref()?, Arc::clone(policy))))
            .collect();
        let mut result = Self::default();
        let mut rejections = Vec::new();
        for (key, cluster) in &table.clusters {
            let Some(tls) = &cluster.tls else { continue };
            let client = tls.client_certificate.as_ref();
            let client = client.and_then(|key| certificates.get(key));
            let made = match known.get(tls).filter(|known| known.shows(client)) {
                Some(known) => Ok(Arc::clone(known)),
                None => TlsPolicy::new(cluster, tls, client).map(Arc::new),
            };
            match &made {
                Ok(made) => _ = known.insert(tls, Arc::clone(made)),
                Err(message) => rejections.push(Rejection {
                    kind: ResourceKind::Cluster,
                    key: key.to_string(),
                    message: message.clone(),
                }),
            }
            result.0.insert(key.clone(), made);
        }
        (result, rejections)
    }

    /// The policy of a cluster; `None` if it has none.
    pub(super) fn get(&self, cluster: &ClusterKey) -> Option<&Result<Arc<TlsPolicy>, String>> {
        self.0.get(cluster)
    }
}

/// Whether two policies are one and the same instance. Unchanged ones stay so from table to table.
pub(super) fn same(
    one: Option<&Result<Arc<TlsPolicy>, String>>,
    other: Option<&Result<Arc<TlsPolicy>, String>>,
) -> bool {
    match (one, other) {
        (Some(Ok(one)), Some(Ok(other))) => Arc::ptr_eq(one, other),
        (Some(Err(one)), Some(Err(other))) => one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{CertificateKey, GatewayKey};

    use super::*;
    use crate::state::fixtures::certificate;

    fn table(policies: Vec<ClusterTls>) -> RoutingTable {
        let mut table = RoutingTable::new(GatewayKey::of("ns", "gw"));
        for (port, tls) in (1..).zip(policies) {
            let cluster = Cluster {
                tls: Some(tls),
                ..Cluster::default()
            };
            table.clusters.insert(key(port), Arc::new(cluster));
        }
        table
    }

    fn key(port: u16) -> ClusterKey {
        ClusterKey::service("ns", "app", port)
    }

    fn policy(server_name: &str, ca_pem: &str) -> ClusterTls {
        ClusterTls {
            server_name: server_name.to_owned(),
            ca_pem: vec![ca_pem.to_owned()],
            ..ClusterTls::default()
        }
    }

    #[test]
    fn a_configuration_is_made_once_and_again_for_a_renewed_certificate() {
        let ca = certificate().chain_pem;
        let name = CertificateKey::secret("ns", "client");
        let shows = ClusterTls {
            client_certificate: Some(name.clone()),
            ..policy("up.internal", &ca)
        };
        let silent = policy("up.internal", &ca);
        let other = policy("other.internal", &ca);
        let mut table = table(vec![shows.clone(), shows, silent, other]);
        let made = |previous: &(TlsPolicies, Certificates), table: &RoutingTable| {
            let (certificates, rejected) = Certificates::decode(&previous.1, table);
            assert_eq!(rejected, []);
            let (policies, rejected) = TlsPolicies::build(&previous.0, table, &certificates);
            assert_eq!(rejected, []);
            (policies, certificates)
        };
        let renew = |table: &mut RoutingTable| {
            let certificates = &mut table.certificates;
            certificates.insert(name.clone(), Arc::new(certificate()));
        };
        renew(&mut table);
        let first = made(&Default::default(), &table);
        let kept = made(&first, &table);
        renew(&mut table);
        let renewed = made(&kept, &table);

        let is_same = |(one, port), (other, its_port)| {
            let get = |policies: &TlsPolicies, port| policies.get(&key(port)).cloned();
            let (one, other) = (get(one, port), get(other, its_port));
            assert!(one.as_ref().is_some_and(Result::is_ok));
            same(one.as_ref(), other.as_ref())
        };
        assert!(is_same((&first.0, 1), (&first.0, 2)));
        assert!(!is_same((&first.0, 1), (&first.0, 3)));
        assert!(!is_same((&first.0, 3), (&first.0, 4)));
        assert!((1..=4).all(|port| is_same((&first.0, port), (&kept.0, port))));
        assert!((1..=2).all(|port| !is_same((&kept.0, port), (&renewed.0, port))));
        assert!(is_same((&renewed.0, 1), (&renewed.0, 2)));
        assert!((3..=4).all(|port| is_same((&kept.0, port), (&renewed.0, port))));
    }

    #[test]
    fn a_policy_that_cannot_verify_is_rejected() {
        let ca = certificate().chain_pem;
        let bad = vec![
            policy("", &ca),
            policy("not a name", &ca),
            policy("up.internal", "no certificate in here"),
            policy(
                "up.internal",
                "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ),
        ];
        let count = bad.len();
        let (policies, rejected) = TlsPolicies::build(
            &TlsPolicies::default(),
            &table(bad),
            &Certificates::default(),
        );
        assert_eq!(rejected.len(), count, "{rejected:?}");
        assert!(policies.0.values().all(Result::is_err));
    }
}
