//! Client certificates: what a listener asks for, and what a connection has shown.
//!
//! A session that is resumed shows no certificate, and one table's sessions outlive it. So listeners that ask for certificates
//! give no tickets and take none, and every request on them is held against what its connection has shown.

use std::{cell::RefCell, sync::Arc};

use portcullis_routing::listener::{ClientValidation, ClientValidationMode};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::aws_lc_rs,
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};

/// What listeners with the same validation ask of clients.
#[derive(Debug)]
pub struct ClientAuthentication {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientAuthentication {
    /// An error says in words why nobody could be verified.
    pub(super) fn new(wanted: &ClientValidation) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(wanted)?, provider)
            .build()
            .map_err(|error| format!("the CAs of client certificates cannot be used: {error}"))?;
        let verifier = match wanted.mode {
            ClientValidationMode::AllowValidOnly => verifier,
            ClientValidationMode::AllowInsecureFallback => Arc::new(Fallback(verifier)),
        };
        Ok(Self { verifier })
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.verifier)
    }

    /// Whether nobody gets in without a certificate that is trusted.
    pub(super) fn is_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        chain.split_first().is_some_and(|(leaf, intermediates)| {
            let verified = self
                .verifier
                .verify_client_cert(leaf, intermediates, UnixTime::now());
            verified.is_ok()
        })
    }
}

fn roots(wanted: &ClientValidation) -> Result<Arc<RootCertStore>, String> {
    let mut roots = RootCertStore::empty();
    let pems = wanted.ca_pem.iter();
    for certificate in pems.flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes())) {
        let certificate = certificate
            .map_err(|error| format!("a CA of client certificates is not valid PEM: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("a CA of client certificates cannot be used: {error}"))?;
    }
    Ok(Arc::new(roots))
}

/// The certificate with which a client got in, and whose private key it has proved to have.
#[derive(Debug)]
pub struct ClientIdentity {
    chain: Vec<CertificateDer<'static>>,
    /// Who trusted it last.
    trusted_by: RefCell<Arc<ClientAuthentication>>,
}

impl ClientIdentity {
    /// What the handshake has verified.
    pub(super) fn new(
        chain: &[CertificateDer<'_>],
        verified_by: &Arc<ClientAuthentication>,
    ) -> Self {
        Self {
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
            trusted_by: RefCell::new(Arc::clone(verified_by)),
        }
    }

    /// The certificate itself.
    pub(crate) fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.chain.first()
    }

    /// Whether it gets in where `wanted` is asked for: a table may have changed the CAs since the handshake. Looked at once
    /// per change.
    pub fn satisfies(&self, wanted: &Arc<ClientAuthentication>) -> bool {
        if Arc::ptr_eq(&self.trusted_by.borrow(), wanted) {
            return true;
        }
        let is_trusted = wanted.trusts(&self.chain);
        if is_trusted {
            self.trusted_by.replace(Arc::clone(wanted));
        }
        is_trusted
    }
}

/// Asks for a certificate of the CAs and takes whatever comes, or nothing: the signature of the handshake too, since nothing
/// of it is believed.
#[derive(Debug)]
struct Fallback(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Fallback {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}
