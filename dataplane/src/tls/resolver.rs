//! Which of a listener's certificates a client gets.

use std::sync::Arc;

use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

/// Shows the first certificate whose names cover the SNI, else the first one; of these the first that the client can
/// verify.
#[derive(Debug)]
pub(super) struct CertificateResolver {
    first: Candidate,
    others: Vec<Candidate>,
}

#[derive(Debug)]
struct Candidate {
    key: Arc<CertifiedKey>,
    /// DNS names of the certificate, lower case; a wildcard as `*.suffix`.
    names: Vec<Box<str>>,
}

impl CertificateResolver {
    /// `None` without certificates.
    pub(super) fn new(certificates: &[Arc<CertifiedKey>]) -> Option<Self> {
        let mut candidates = certificates.iter().map(Candidate::new);
        let first = candidates.next()?;
        Some(Self {
            first,
            others: candidates.collect(),
        })
    }
}

impl Candidate {
    fn new(key: &Arc<CertifiedKey>) -> Self {
        let leaf = key
            .cert
            .first()
            .and_then(|leaf| webpki::EndEntityCert::try_from(leaf).ok());
        let names = leaf
            .iter()
            .flat_map(|leaf| leaf.valid_dns_names())
            .map(|name| name.to_ascii_lowercase().into())
            .collect();
        Self {
            key: Arc::clone(key),
            names,
        }
    }

    fn covers(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.names.iter().any(|name| {
            **name == *host
                || name
                    .strip_prefix("*.")
                    .is_some_and(|suffix| Some(suffix) == parent)
        })
    }
}

impl ResolvesServerCert for CertificateResolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let all = || std::iter::once(&self.first).chain(&self.others);
        let fits = |candidate: &&Candidate| {
            candidate
                .key
                .key
                .choose_scheme(hello.signature_schemes())
                .is_some()
        };
        let named = hello
            .server_name()
            .and_then(|host| all().filter(fits).find(|candidate| candidate.covers(host)));
        let chosen = named.or_else(|| all().find(fits)).unwrap_or(&self.first);
        Some(Arc::clone(&chosen.key))
    }
}
