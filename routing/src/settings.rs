//! Settings of the proxy as a whole: limits, client address, access log, shutdown. From GatewayParameters.

use serde::{Deserialize, Serialize};

use crate::{egress::EgressSettings, time::Millis};

/// Everything that is set per Gateway and not per listener or route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProxySettings {
    /// Bounds on what a client may send or hold open.
    pub limits: Limits,
    /// Whose word about the client's address is believed.
    pub client_address: ClientAddress,
    /// One line per request.
    pub access_log: AccessLog,
    /// Time that requests in flight get after SIGTERM. Default 25 s (a pod has 30 s).
    pub drain_timeout: DrainTimeout,
    /// What makes it an egress Gateway, which lets nothing out that is not allowed. `None` is an ingress Gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressSettings>,
}

/// Bounds on what a client may send or hold open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of a request's head (request line and headers). Beyond: 431. Default 64 KiB.
    pub max_header_bytes: u32,
    /// Number of header lines. Beyond: 431. Default 128, at most 256.
    pub max_headers: u32,
    /// Bytes of the request target. Beyond: 414. Default 16 KiB.
    pub max_target_bytes: u32,
    /// Bytes of a request body; `None` is no limit. Beyond: 413.
    pub max_body_bytes: Option<u64>,
    /// Time for a complete head, and for a TLS handshake. Beyond: 408 and close. Default 10 s.
    pub header_timeout: Millis,
    /// Time an HTTP/1 connection may idle between requests, and an HTTP/2 connection without streams. Default 60 s.
    pub idle_timeout: Millis,
    /// Time without any progress of a body or stream, either way. Default 5 min.
    pub stream_idle_timeout: Millis,
    /// Streams at once per HTTP/2 connection. Default 128.
    pub max_concurrent_streams: u32,
    /// Connections at once per worker. Beyond: new ones are refused. Default 20,000.
    pub max_connections: u32,
    /// Requests per connection before it is closed gracefully; `None` is no limit.
    pub max_requests_per_connection: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_header_bytes: 64 * 1024,
            max_headers: 128,
            max_target_bytes: 16 * 1024,
            max_body_bytes: None,
            header_timeout: Millis::from_secs(10),
            idle_timeout: Millis::from_secs(60),
            stream_idle_timeout: Millis::from_secs(300),
            max_concurrent_streams: 128,
            max_connections: 20_000,
            max_requests_per_connection: None,
        }
    }
}

/// Whose word about the client's address is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientAddress {
    /// Number of proxies in front whose `X-Forwarded-For` entries are trusted, counted from the right. Default 0: the
    /// peer is the client, and incoming `X-Forwarded-*`, `Forwarded`, `X-Real-IP` and `True-Client-IP` are removed before our
    /// own are set.
    pub trusted_hops: u32,
    /// Whether every connection starts with a PROXY protocol header (v1 or v2). Default no.
    pub proxy_protocol: bool,
}

/// Access log: JSON, one line per request, on standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccessLog {
    /// No access log.
    Off,
    /// Every request that failed (5xx), and one in `n` of the others.
    Sampled(u32),
    /// Every request.
    #[default]
    On,
}

/// See [`ProxySettings::drain_timeout`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DrainTimeout(pub Millis);

impl Default for DrainTimeout {
    fn default() -> Self {
        Self(Millis::from_secs(25))
    }
}
