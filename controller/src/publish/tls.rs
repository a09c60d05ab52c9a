//! TLS of the publisher: both sides show a certificate of the controller's authority.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, ServerConnection,
    client::Resumption,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::ca::{Identity, SpiffeId, dns_names};

/// Why an identity cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A part of it cannot be read.
    #[error("{field} cannot be read: {problem}")]
    Pem {
        /// `tls.crt`, `tls.key` or `ca.crt`.
        field: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The parts do not fit together.
    #[error("the certificate cannot be used: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authorities cannot be used to check clients.
    #[error("ca.crt cannot be used: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The controller's side of TLS 1.3. It can be replaced while connections are open: they go on, new ones use the new one.
pub struct PublisherTls {
    trust_domain: String,
    configs: ArcSwapOption<Configs>,
}

/// What is made of an identity.
struct Configs {
    server: Arc<ServerConfig>,
    /// Towards other replicas.
    client: Arc<ClientConfig>,
    /// The controller's names, which every replica's certificate has.
    names: Vec<String>,
}

impl PublisherTls {
    /// For data planes of `trust_domain`. Nobody is served before there is an identity.
    pub fn new(trust_domain: impl Into<String>) -> Self {
        Self {
            trust_domain: trust_domain.into(),
            configs: ArcSwapOption::empty(),
        }
    }

    /// Uses `identity` for connections from now on, and believes the authorities that it trusts. An error leaves
    /// everything as it was.
    pub fn replace(&self, identity: &Identity) -> Result<(), TlsError> {
        self.configs.store(Some(Arc::new(configs(identity)?)));
        Ok(())
    }

    /// Whether there is an identity.
    pub fn is_ready(&self) -> bool {
        self.configs.load().is_some()
    }

    /// Whose data planes are served.
    pub(crate) fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        let configs = self.configs.load();
        configs
            .as_ref()
            .map(|configs| TlsAcceptor::from(Arc::clone(&configs.server)))
    }

    /// For a connection to another replica, and the name that its certificate must have.
    pub(super) fn connector(&self) -> Option<(TlsConnector, ServerName<'static>)> {
        let configs = self.configs.load();
        let configs = configs.as_ref()?;
        let name = ServerName::try_from(configs.names.first()?.clone()).ok()?;
        Some((TlsConnector::from(Arc::clone(&configs.client)), name))
    }

    /// Whether a certificate is a replica's.
    fn is_replica(&self, certificate: &CertificateDer<'_>) -> bool {
        let configs = self.configs.load();
        let own = configs.as_ref().map_or(&[][..], |configs| &configs.names);
        dns_names(certificate).iter().any(|name| own.contains(name))
    }
}

impl fmt::Debug for PublisherTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherTls")
            .field("trust_domain", &self.trust_domain)
            .finish_non_exhaustive()
    }
}

fn configs(identity: &Identity) -> Result<Configs, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in certificates("ca.crt", &identity.authorities)? {
        roots.add(authority)?;
    }
    let key = PrivateKeyDer::from_pem_slice(identity.key.expose().as_bytes());
    let key = key.map_err(|error| TlsError::Pem {
        field: "tls.key",
        problem: error.to_string(),
    })?;
    let roots = Arc::new(roots);
    let chain = certificates("tls.crt", &identity.certificate)?;
    let names = chain.first().map(|own| dns_names(own));
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key.clone_key())?;
    server.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would be that of a certificate checked long ago.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    client.alpn_protocols = vec![b"h2".to_vec()];
    client.resumption = Resumption::disabled();
    Ok(Configs {
        server: Arc::new(server),
        client: Arc::new(client),
        names: names.unwrap_or_default(),
    })
}

fn certificates(field: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem {
            field,
            problem: error.to_string(),
        })
}

/// Whom a certificate names.
#[derive(Debug)]
pub(super) enum PeerName {
    /// A data plane.
    DataPlane(SpiffeId),
    /// A replica of this controller.
    Replica,
}

/// Who is at the other end.
#[derive(Debug)]
pub(super) struct Peer {
    /// Whom the certificate names, or in words why nobody who is known.
    pub(super) name: Result<PeerName, String>,
    /// When the certificate ceases to hold, and with it the connection.
    pub(super) not_after: SystemTime,
}

impl Peer {
    /// `None` without a certificate.
    pub(super) fn of(connection: &ServerConnection, tls: &PublisherTls) -> Option<Self> {
        let certificate = connection.peer_certificates()?.first()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let seconds = parsed.validity().not_after.timestamp();
        let name = match SpiffeId::of_certificate(certificate) {
            Ok(id) => Ok(PeerName::DataPlane(id)),
            Err(_) if tls.is_replica(certificate) => Ok(PeerName::Replica),
            Err(why) => Err(why),
        };
        Some(Self {
            name,
            not_after: UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
        })
    }
}
