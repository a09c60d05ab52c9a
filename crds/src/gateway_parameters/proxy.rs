//! How the proxy treats connections and requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::EgressParameters;

/// The form of every duration of this kind (GEP-2257), such as `1m30s` or `250ms`.
pub(super) const DURATION: &str = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$";

/// How the proxy treats connections and requests.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyParameters {
    /// Bounds on what a client may send or hold open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// Whose word about the client's address is believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_address: Option<ClientAddress>,
    /// One JSON line per request on standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_log: Option<AccessLog>,
    /// Time that requests in flight get to finish when the proxy shuts down, such as `25s`. Default 25s. The
    /// pods get as long as this takes, and the ten seconds around it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub drain_timeout: Option<String>,
    /// How traffic is let out of the cluster. Of effect for egress Gateways only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<EgressParameters>,
}

/// Bounds on what a client may send or hold open.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Bytes of a request's head (request line and header lines). A longer one is answered with 431. Default 65536.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub max_header_bytes: Option<u32>,
    /// Header lines of a request. More are answered with 431. Default 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub max_headers: Option<u32>,
    /// Bytes of the request target. A longer one is answered with 414. Default 16384.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 1_048_576))]
    pub max_target_bytes: Option<u32>,
    /// Bytes of a request's body. A longer one is answered with 413. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_body_bytes: Option<u64>,
    /// Time for a complete request head, and for a TLS handshake. Beyond it: 408 and close. Default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub header_timeout: Option<String>,
    /// Time that an HTTP/1 connection may stay idle between requests, and an HTTP/2 connection without streams.
    /// Default 1m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub idle_timeout: Option<String>,
    /// Time that a body or stream may stay without any progress in either direction. Default 5m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = DURATION))]
    pub stream_idle_timeout: Option<String>,
    /// Streams at once per HTTP/2 connection. Default 128.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub max_concurrent_streams: Option<u32>,
    /// Connections at once per worker thread; further ones are refused. Default 20000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
    /// Requests per connection, after which it is closed gracefully. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_requests_per_connection: Option<u32>,
}

/// Whose word about the client's address is believed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientAddress {
    /// Number of proxies in front of this one whose X-Forwarded-For entries are trusted, counted from the right.
    /// Default 0: the peer is the client, and X-Forwarded-* headers that it sends are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 32))]
    pub trusted_hops: Option<u32>,
    /// Whether every connection starts with a PROXY protocol header, version 1 or 2. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<bool>,
}

/// One JSON line per request on standard output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// Which requests are logged. Default Always.
    pub mode: AccessLogMode,
    /// With mode Sampled: one in this many requests is logged, besides every one that was answered with 5xx. Default
    /// 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub one_in: Option<u32>,
}

/// Which requests are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum AccessLogMode {
    /// None.
    Never,
    /// Every request answered with 5xx, and one in `oneIn` of the others.
    Sampled,
    /// Every request.
    Always,
}
