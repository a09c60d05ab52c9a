//! Clusters: backends, named by their own identity and shared by every route that uses them.

use serde::{Deserialize, Serialize};

use crate::{key::CertificateKey, time::Millis};

/// How to talk to one backend. Its endpoints are a resource of their own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// HTTP version towards the endpoints.
    #[serde(default)]
    pub protocol: ClusterProtocol,
    /// TLS towards the endpoints; `None` is clear text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClusterTls>,
    /// Time for one TCP (and TLS) connect. Default 5 s.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Millis,
    /// Most connections that requests have open at once per worker. Default 1,024. Tunnels are limited as the connections of
    /// clients are.
    #[serde(default = "default_max_connections")]
    pub max_connections: u32,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            protocol: ClusterProtocol::default(),
            tls: None,
            connect_timeout: default_connect_timeout(),
            max_connections: default_max_connections(),
        }
    }
}

const fn default_connect_timeout() -> Millis {
    Millis::from_secs(5)
}

const fn default_max_connections() -> u32 {
    1024
}

/// The HTTP version spoken to a backend. With TLS, `Http2` is offered by ALPN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ClusterProtocol {
    /// HTTP/1.1. WebSocket upgrades pass.
    #[default]
    Http1,
    /// HTTP/2: by prior knowledge in clear text (`kubernetes.io/h2c`), by ALPN over TLS.
    Http2,
}

/// TLS towards a backend. There is no "do not verify".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterTls {
    /// Sent as SNI. Without `subject_alt_names` also the name that the certificate must be valid for.
    pub server_name: String,
    /// Trusted CA certificates ([`ca`](crate::ca)). Empty means the system's trust store.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ca_pem: Vec<String>,
    /// If there are any, the certificate must be valid for one of them, and need not be for `server_name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<SubjectAltName>,
    /// Shown to a backend that asks for a certificate. One that the table does not hold is known to exist but cannot be
    /// read at present: a data plane that has an earlier one under its key shows that, else none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<CertificateKey>,
}

/// A name that a backend's certificate must carry (`validation.subjectAltNames` of a `BackendTLSPolicy`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SubjectAltName {
    /// A DNS name, lower case. `*.suffix` is any name with one label before the suffix, or that very wildcard.
    Hostname(String),
    /// A URI, compared byte by byte, such as a SPIFFE ID.
    Uri(String),
}
