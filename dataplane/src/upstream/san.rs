//! Verifies backends by subject alternative names other than the server name. Chain, validity and signatures are the TLS
//! library's to check; here is only which name has to be there.

use std::sync::Arc;

use portcullis_routing::SubjectAltName;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor, verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    server::ParsedCertificate,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Accepts a certificate that a trusted CA has signed and that is valid for one of the names.
#[derive(Debug)]
pub(super) struct SanVerifier {
    roots: Arc<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
    names: Vec<Name>,
}

/// A name in the form in which it is looked for.
#[derive(Debug)]
enum Name {
    /// A whole DNS name.
    Host(ServerName<'static>),
    /// What stands behind the `*` of a wildcard, dot included.
    Suffix(String),
    Uri(String),
}

impl SanVerifier {
    /// An Err says in words which of the names no certificate can have.
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        algorithms: WebPkiSupportedAlgorithms,
        names: &[SubjectAltName],
    ) -> Result<Self, String> {
        let names = names.iter().map(Name::new).collect::<Result<_, _>>()?;
        Ok(Self {
            roots,
            algorithms,
            names,
        })
    }
}

impl Name {
    fn new(name: &SubjectAltName) -> Result<Self, String> {
        match name {
            SubjectAltName::Uri(uri) => Ok(Self::Uri(uri.clone())),
            SubjectAltName::Hostname(host) => match host.strip_prefix('*') {
                Some(suffix) => Ok(Self::Suffix(suffix.to_ascii_lowercase())),
                None => ServerName::try_from(host.clone())
                    .map(Self::Host)
                    .map_err(|_| format!("{host:?} is not a host name that TLS can verify")),
            },
        }
    }

    fn is_in(&self, certificate: &webpki::Cert<'_>, parsed: &ParsedCertificate<'_>) -> bool {
        match self {
            Self::Host(host) => verify_server_name(parsed, host).is_ok(),
            Self::Suffix(suffix) => certificate
                .valid_dns_names()
                .any(|name| is_one_label_before(name, suffix)),
            Self::Uri(uri) => certificate.valid_uri_names().any(|name| name == uri),
        }
    }
}

/// Whether `name` is one label, or `*`, and then `suffix`, which is in lower case.
fn is_one_label_before(name: &str, suffix: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.strip_suffix(suffix)
        .is_some_and(|label| !label.is_empty() && !label.contains('.'))
}

impl ServerCertVerifier for SanVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        let certificate = webpki::EndEntityCert::try_from(end_entity)
            .map_err(|_| CertificateError::BadEncoding)?;
        if self
            .names
            .iter()
            .any(|name| name.is_in(&certificate, &parsed))
        {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::NotValidForName.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
