//! TLS of the publisher: both sides show a certificate of the controller's authority.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwapOption;
use rustls::{
    RootCertStore, ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier},
    version::TLS13,
};
use tokio_rustls::TlsAcceptor;

use crate::ca::{Identity, SpiffeId};

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
    config: ArcSwapOption<ServerConfig>,
}

impl PublisherTls {
    /// For data planes of `trust_domain`. Nobody is served before there is an identity.
    pub fn new(trust_domain: impl Into<String>) -> Self {
        Self {
            trust_domain: trust_domain.into(),
            config: ArcSwapOption::empty(),
        }
    }

    /// Uses `identity` for connections from now on, and believes the authorities that it trusts. An error leaves
    /// everything as it was.
    pub fn replace(&self, identity: &Identity) -> Result<(), TlsError> {
        self.config.store(Some(config(identity)?));
        Ok(())
    }

    /// Whether there is an identity.
    pub fn is_ready(&self) -> bool {
        self.config.load().is_some()
    }

    /// Whose data planes are served.
    pub(crate) fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.config.load_full().map(TlsAcceptor::from)
    }
}

impl fmt::Debug for PublisherTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherTls")
            .field("trust_domain", &self.trust_domain)
            .finish_non_exhaustive()
    }
}

fn config(identity: &Identity) -> Result<Arc<ServerConfig>, TlsError> {
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
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates("tls.crt", &identity.certificate)?, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would be that of a certificate checked long ago.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn certificates(field: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Pem {
            field,
            problem: error.to_string(),
        })
}

/// Who is at the other end.
#[derive(Debug)]
pub(super) struct Peer {
    /// The Gateway that the certificate names, or in words why there is none.
    pub(super) id: Result<SpiffeId, String>,
    /// When the certificate ceases to hold, and with it the connection.
    pub(super) not_after: SystemTime,
}

impl Peer {
    /// `None` without a certificate.
    pub(super) fn of(connection: &ServerConnection) -> Option<Self> {
        let certificate = connection.peer_certificates()?.first()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let seconds = parsed.validity().not_after.timestamp();
        Some(Self {
            id: SpiffeId::of_certificate(certificate),
            not_after: UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()),
        })
    }
}
