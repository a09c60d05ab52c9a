//! TLS towards backends and hosts outside: one rustls client configuration per policy, with sessions of its own.
//!
//! The name of the policy is sent as SNI and verified, or other names in its place; there is no way to switch verification
//! off.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, OnceLock},
};

use portcullis_routing::{
    CertificateKey, Cluster, ClusterKey, ClusterTls, EntryKey, Rejection, ResourceKind,
    RoutingTable, SubjectAltName,
    egress::{Entry, EntryTls},
};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    client::WantsClientCert,
    crypto::{CryptoProvider, aws_lc_rs},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};

use super::{resumption::resumption, san::SanVerifier};
use crate::state::Certificates;

/// Everything a handshake with a backend needs.
#[derive(Debug)]
pub(super) struct TlsPolicy {
    /// The name sent as SNI and verified.
    pub(super) server_name: ServerName<'static>,
    pub(super) configs: Arc<TlsConfigs>,
}

impl TlsPolicy {
    /// For a backend of this name.
    pub(super) fn new(server_name: &str, configs: Arc<TlsConfigs>) -> Result<Self, String> {
        let name = ServerName::try_from(server_name.to_owned());
        let name =
            name.map_err(|_| format!("{server_name:?} is not a host name that TLS can verify"))?;
        Ok(Self {
            server_name: name,
            configs,
        })
    }
}

/// What backends of any name may share: whom is trusted, what is shown to them, and the sessions with them.
#[derive(Debug)]
pub(crate) struct TlsConfigs {
    /// Offers `h2` and `http/1.1`.
    pub(super) http2: Arc<ClientConfig>,
    /// Offers `http/1.1` only.
    pub(super) http1: Arc<ClientConfig>,
    /// Shown to a backend that asks for a certificate.
    client: Option<Arc<CertifiedKey>>,
}

/// The same, or in words why there is none.
pub(crate) type MadeConfigs = Result<Arc<TlsConfigs>, String>;

/// What they are made of, but for the client certificate itself. No CA certificate means the system's; if there are names, a
/// backend must have one of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Parts<'a> {
    ca_pem: &'a [String],
    names: &'a [SubjectAltName],
    client: Option<&'a CertificateKey>,
}

impl<'a> Parts<'a> {
    fn of_cluster(tls: &'a ClusterTls) -> Self {
        Self {
            ca_pem: &tls.ca_pem,
            names: &tls.subject_alt_names,
            client: tls.client_certificate.as_ref(),
        }
    }

    fn of_entry(tls: &'a EntryTls) -> Self {
        Self {
            ca_pem: &tls.ca_pem,
            names: &tls.subject_alt_names,
            client: tls.client_certificate.as_ref(),
        }
    }
}

impl TlsConfigs {
    fn new(parts: Parts<'_>, client: Option<&Arc<CertifiedKey>>) -> MadeConfigs {
        let roots = if parts.ca_pem.is_empty() {
            system_roots()
        } else {
            given_roots(parts.ca_pem)?
        };
        if roots.is_empty() {
            return Err("there is no trusted CA certificate".to_owned());
        }
        let builder = verifying(parts.names, roots)?;
        let mut http2 = match client {
            None => builder.with_no_client_auth(),
            Some(client) => builder
                .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(client)))),
        };
        http2.resumption = resumption();
        let mut http1 = http2.clone();
        http2.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        http1.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(Self {
            http2: Arc::new(http2),
            http1: Arc::new(http1),
            client: client.cloned(),
        }))
    }

    /// Whether this is the client certificate that they show. Unchanged ones stay the same instance from table to table.
    fn shows(&self, client: Option<&Arc<CertifiedKey>>) -> bool {
        match (&self.client, client) {
            (Some(mine), Some(client)) => Arc::ptr_eq(mine, client),
            (mine, client) => mine.is_none() && client.is_none(),
        }
    }
}

/// For hosts of which nothing is said: those that the system trusts, and no certificate is shown. Made once per process.
pub(crate) fn usual() -> &'static MadeConfigs {
    static USUAL: OnceLock<MadeConfigs> = OnceLock::new();
    USUAL.get_or_init(|| TlsConfigs::new(Parts::of_entry(&EntryTls::default()), None))
}

/// A configuration that trusts `roots`, for these names if there are any.
fn verifying(
    names: &[SubjectAltName],
    roots: Arc<RootCertStore>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    let algorithms = PROVIDER.signature_verification_algorithms;
    let builder: ConfigBuilder<ClientConfig, WantsVerifier> =
        ClientConfig::builder_with_provider(Arc::clone(&PROVIDER))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
    if names.is_empty() {
        return Ok(builder.with_root_certificates(roots));
    }
    let verifier = SanVerifier::new(roots, algorithms, names)?;
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

/// What each of the texts holds: with a part of them, some would be verified by fewer than are trusted, and nobody would know.
fn given_roots(pems: &[String]) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    for pem in pems {
        let known = roots.len();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate
                .map_err(|error| format!("a CA certificate is not valid PEM: {error}"))?;
            roots
                .add(certificate)
                .map_err(|error| format!("a CA certificate cannot be used: {error}"))?;
        }
        if roots.len() == known {
            return Err("a CA holds no certificate".to_owned());
        }
    }
    Ok(Arc::new(roots))
}

/// The TLS side of a table's clusters and of its entries, or in words why it cannot be used. Made with the table, on the control
/// thread. Equal policies share a configuration, and so do all workers: what one session was opened with can be resumed by every
/// one.
#[derive(Clone, Debug, Default)]
pub struct TlsPolicies {
    clusters: HashMap<ClusterKey, OfCluster>,
    entries: HashMap<EntryKey, OfEntry>,
}

#[derive(Clone, Debug)]
struct OfCluster {
    from: Arc<Cluster>,
    policy: Result<Arc<TlsPolicy>, String>,
}

#[derive(Clone, Debug)]
struct OfEntry {
    from: Arc<Entry>,
    /// Of each of its [`Entry::tls`].
    made: Box<[MadeConfigs]>,
}

impl TlsPolicies {
    /// Makes the configurations of every cluster and entry that has a policy, with the client certificate that it names, if that
    /// is there, and says which policies of clusters cannot be used. Unchanged ones are shared with `previous`. A renewed
    /// certificate makes another configuration, with sessions of its own.
    pub fn build(
        previous: &Self,
        table: &RoutingTable,
        certificates: &Certificates,
    ) -> (Self, Vec<Rejection>) {
        let (clusters, rejections) = Self::of_clusters(previous, table, certificates);
        if table.settings.egress.is_some() {
            // Here, and not where requests wait for it.
            if let Err(message) = usual() {
                tracing::warn!(message, "no TLS with hosts that no policy is for");
            }
        }
        let entries = Self::of_entries(previous, table, certificates);
        (Self { clusters, entries }, rejections)
    }

    fn of_clusters(
        previous: &Self,
        table: &RoutingTable,
        certificates: &Certificates,
    ) -> (HashMap<ClusterKey, OfCluster>, Vec<Rejection>) {
        let known = previous.clusters.values();
        let mut known: HashMap<&ClusterTls, Arc<TlsPolicy>> = known
            .filter_map(|known| {
                let policy = known.policy.as_ref().ok()?;
                Some((known.from.tls.as_ref()?, Arc::clone(policy)))
            })
            .collect();
        let (mut clusters, mut rejections) = (HashMap::new(), Vec::new());
        for (key, cluster) in &table.clusters {
            let Some(tls) = &cluster.tls else { continue };
            let client = tls.client_certificate.as_ref();
            let client = client.and_then(|key| certificates.get(key));
            let policy = match known.get(tls).filter(|known| known.configs.shows(client)) {
                Some(known) => Ok(Arc::clone(known)),
                None => TlsConfigs::new(Parts::of_cluster(tls), client)
                    .and_then(|configs| TlsPolicy::new(&tls.server_name, configs))
                    .map(Arc::new),
            };
            match &policy {
                Ok(made) => _ = known.insert(tls, Arc::clone(made)),
                Err(message) => rejections.push(Rejection {
                    kind: ResourceKind::Cluster,
                    key: key.to_string(),
                    message: message.clone(),
                }),
            }
            let from = Arc::clone(cluster);
            clusters.insert(key.clone(), OfCluster { from, policy });
        }
        (clusters, rejections)
    }

    fn of_entries(
        previous: &Self,
        table: &RoutingTable,
        certificates: &Certificates,
    ) -> HashMap<EntryKey, OfEntry> {
        let known = previous.entries.values();
        let known = known.flat_map(|known| known.from.tls.iter().zip(&known.made));
        let mut known: HashMap<Parts<'_>, Arc<TlsConfigs>> = known
            .filter_map(|(tls, made)| Some((Parts::of_entry(tls), made.clone().ok()?)))
            .collect();
        let mut entries = HashMap::new();
        for (key, entry) in &table.entries {
            let made = entry.tls.iter().map(|tls| {
                let parts = Parts::of_entry(tls);
                let client = parts.client.and_then(|key| certificates.get(key));
                if let Some(known) = known.get(&parts).filter(|known| known.shows(client)) {
                    return Ok(Arc::clone(known));
                }
                let made = TlsConfigs::new(parts, client)?;
                known.insert(parts, Arc::clone(&made));
                Ok(made)
            });
            let made: Box<[_]> = made.collect();
            if !made.is_empty() {
                let from = Arc::clone(entry);
                entries.insert(key.clone(), OfEntry { from, made });
            }
        }
        entries
    }

    /// The policy of a cluster; `None` if it has none.
    pub(super) fn get(&self, cluster: &ClusterKey) -> Option<&Result<Arc<TlsPolicy>, String>> {
        self.clusters.get(cluster).map(|found| &found.policy)
    }

    /// What the hosts of an entry share at ports with the TLS at this place of it.
    pub(crate) fn of_entry(&self, entry: &EntryKey, place: u16) -> &MadeConfigs {
        // Never clear text instead.
        static MISSING: LazyLock<MadeConfigs> =
            LazyLock::new(|| Err("it was not made with the table".to_owned()));
        let found = self.entries.get(entry);
        let found = found.and_then(|found| found.made.get(usize::from(place)));
        found.unwrap_or(&MISSING)
    }
}

/// Whether two of these are one and the same instance. Unchanged ones stay so from table to table.
pub(super) fn same<T>(
    one: Option<&Result<Arc<T>, String>>,
    other: Option<&Result<Arc<T>, String>>,
) -> bool {
    match (one, other) {
        (Some(Ok(one)), Some(Ok(other))) => Arc::ptr_eq(one, other),
        (Some(Err(one)), Some(Err(other))) => one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use portcullis_routing::{CertificateKey, GatewayKey, ca::named, validate::syntax};

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

    /// What the controller accepts must not be rejected here.
    #[test]
    fn a_name_that_a_table_may_have_can_be_verified() {
        let long = "a".repeat(63);
        let names = [
            "a",
            "a_b.c",
            "_a.b",
            "a_.b",
            "a-_b.c",
            "1.a",
            "a.1b",
            "a.0x",
            "xn--a.b",
            &long,
            "1",
            "a.1",
            "192.0.2.1",
            "192.0.2",
            "192.0.2.01",
            "2001:db8::1",
        ];
        for name in names {
            let is_name = ServerName::try_from(name).is_ok();
            assert!(syntax::server_name(name).is_err() || is_name, "{name}");
            assert!(syntax::certificate_host(name).is_err() || is_name, "{name}");
        }
    }

    #[test]
    fn a_policy_that_cannot_verify_is_rejected() {
        let ca = certificate().chain_pem;
        let mut one_of_two = policy("up.internal", &ca);
        one_of_two.ca_pem.push(named("ConfigMap ns/ca", ""));
        let bad = vec![
            one_of_two,
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
        assert!(policies.clusters.values().all(|it| it.policy.is_err()));
    }

    #[test]
    fn hosts_of_entries_share_what_was_made_with_the_table() {
        let ca = certificate().chain_pem;
        let name = CertificateKey::secret("ns", "client");
        let entry = |tls: serde_json::Value| {
            let entry = serde_json::json!({
                "hosts": ["*.example.com"], "ports": [], "tls": tls,
                "order": {"namespace": "ns", "name": "e", "rule": 0},
            });
            Arc::new(serde_json::from_value::<Entry>(entry).unwrap())
        };
        let trust = serde_json::json!({"ca_pem": [ca]});
        let shows = serde_json::json!({"ca_pem": [ca], "client_certificate": name});
        let bad = serde_json::json!({"ca_pem": ["no certificate in here"]});
        let mut table = table(vec![]);
        let (one, other) = (EntryKey::of("ns", "one"), EntryKey::of("ns", "other"));
        let of_one = serde_json::json!([trust, shows, bad]);
        table.entries.insert(one.clone(), entry(of_one));
        let of_other = serde_json::json!([trust]);
        table.entries.insert(other.clone(), entry(of_other));
        let renew = |table: &mut RoutingTable| {
            let certificates = &mut table.certificates;
            certificates.insert(name.clone(), Arc::new(certificate()));
        };
        renew(&mut table);
        let made = |previous: &(TlsPolicies, Certificates), table: &RoutingTable| {
            let (certificates, _) = Certificates::decode(&previous.1, table);
            let (policies, rejected) = TlsPolicies::build(&previous.0, table, &certificates);
            assert_eq!(rejected, []);
            (policies, certificates)
        };
        let first = made(&Default::default(), &table);
        let kept = made(&first, &table);
        renew(&mut table);
        let renewed = made(&kept, &table);

        let get =
            |(policies, _): &(TlsPolicies, _), key, place| policies.of_entry(key, place).clone();
        // Neither of which there is none nor of which nothing can be made.
        for (key, place) in [(&one, 3), (&other, 1), (&one, 2)] {
            assert!(get(&first, key, place).is_err(), "{place}");
        }
        let is_same = |one: MadeConfigs, other: MadeConfigs| {
            assert!(one.is_ok());
            same(Some(&one), Some(&other))
        };
        assert!(is_same(get(&first, &one, 0), get(&first, &other, 0)));
        assert!(!is_same(get(&first, &one, 0), get(&first, &one, 1)));
        for place in [0, 1] {
            assert!(is_same(get(&first, &one, place), get(&kept, &one, place)));
        }
        assert!(is_same(get(&kept, &one, 0), get(&renewed, &one, 0)));
        assert!(!is_same(get(&kept, &one, 1), get(&renewed, &one, 1)));
    }
}
