//! Listeners: where connections are accepted, and for which hostnames.

use serde::{Deserialize, Serialize};

use crate::key::CertificateKey;

/// One listener of a Gateway. Several may share a port; a request belongs to the one whose hostname matches most
/// specifically (HTTP listener isolation) and never falls through to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The port of the Gateway's spec. The data plane may bind another one (port map).
    pub port: u16,
    /// What is spoken on the port.
    pub protocol: ListenerProtocol,
    /// The hostname it serves, lower case: exact or `*.suffix`; `None` serves every host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Present exactly when `protocol` is HTTPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// Which way its traffic goes.
    #[serde(default, skip_serializing_if = "Direction::is_ingress")]
    pub direction: Direction,
}

/// Which way the traffic of a listener goes. All listeners of a port agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// From clients to backends that routes name.
    #[default]
    Ingress,
    /// From workloads to hosts of the outside world that they name, if an entry lists them.
    Egress,
}

impl Direction {
    /// Whether it is [`Self::Ingress`].
    pub const fn is_ingress(&self) -> bool {
        matches!(self, Self::Ingress)
    }
}

impl Listener {
    /// Whether nobody may be served without a client certificate that is trusted.
    pub fn needs_client_certificate(&self) -> bool {
        let validation = self
            .tls
            .as_ref()
            .and_then(|tls| tls.client_validation.as_ref());
        validation.is_some_and(|validation| validation.mode == ClientValidationMode::AllowValidOnly)
    }
}

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ListenerProtocol {
    /// HTTP/1.1, and HTTP/2 by prior knowledge, in clear text.
    Http,
    /// TLS terminated here; HTTP/2 or HTTP/1.1 by ALPN.
    Https,
    /// TLS that passes through: only the name in its greeting is read.
    Tls,
}

/// How a listener terminates TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerTls {
    /// Certificates, in the order of `certificateRefs`. The first one whose names cover the SNI is presented, else the
    /// first. One that the table does not hold is known to exist but cannot be read at present: a data plane that has an
    /// earlier one under its key shows that, and a listener without any is not served.
    pub certificates: Vec<CertificateKey>,
    /// Lowest version accepted; TLS 1.2 unless told otherwise.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// What clients have to show; `None` asks for no certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_validation: Option<ClientValidation>,
}

/// Client certificates (GEP-91): whose are trusted, and whether one is needed. A data plane that cannot carry this out must not
/// serve the listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClientValidation {
    /// Trusted CA certificates ([`ca`](crate::ca)); each entry may hold several. Never empty.
    pub ca_pem: Vec<String>,
    /// What happens without a trusted certificate. The connection is refused unless told otherwise.
    #[serde(default)]
    pub mode: ClientValidationMode,
}

/// See [`ClientValidation::mode`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClientValidationMode {
    /// A connection needs a certificate that a trusted CA has issued for clients, and that is valid now.
    #[default]
    AllowValidOnly,
    /// A certificate is asked for; whatever comes, or nothing, is accepted, and nothing of it is believed.
    AllowInsecureFallback,
}

/// A TLS protocol version.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V1_3,
}
