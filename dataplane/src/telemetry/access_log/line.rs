//! The fields of an access log line. `docs/access-log.md` describes them for users.

use std::{borrow::Cow, fmt, net::SocketAddr, time::Duration};

use portcullis_routing::{ClusterKey, ListenerKey, RouteKey};
use serde::{Serialize, Serializer};

use crate::{
    reason::Reason,
    telemetry::{cells::micros, record::RequestRecord},
};

/// Longest path in a line, bytes. The rest is cut.
const MAX_PATH: usize = 4096;

/// Longest user agent in a line, bytes. The rest is cut.
const MAX_USER_AGENT: usize = 512;

/// Longest host and request id in a line, bytes. The rest is cut.
pub(super) const MAX_NAME: usize = 256;

/// One line. Absent fields are left out, so a line says only what is known.
#[derive(Debug, Serialize)]
pub struct Line<'a> {
    /// When the response was complete: RFC 3339, UTC, milliseconds.
    pub time: Time,
    /// `X-Request-Id`, as the backend saw it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub request_id: &'a str,
    /// Client address and port, after PROXY protocol and trusted hops.
    pub client: SocketAddr,
    /// `HTTP/1.1` or `HTTP/2`, as spoken with the client.
    pub protocol: &'static str,
    /// Whether the client spoke TLS.
    pub tls: bool,
    /// Request method.
    pub method: &'a str,
    /// Host asked for, lower case, without port.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub host: &'a str,
    /// Normalised path without the query, which may hold secrets; at most 4,096 bytes.
    pub path: &'a str,
    /// `User-Agent`; at most 512 bytes, what is not UTF-8 is replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Cow<'a, str>>,
    /// Status sent to the client; 0 if none was sent.
    pub status: u16,
    /// Why the proxy answered or ended the request by itself: a code of the error table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Listener, by its key: `<namespace>/<gateway>/<listener>` if it is the Gateway's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listener: Option<&'a str>,
    /// Route rule: `<kind>/<namespace>/<name>/<rule index>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<&'a str>,
    /// Backend of the last attempt: `service/<namespace>/<name>/<port>` or `external/<host>/<port>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<&'a str>,
    /// Address and port of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<SocketAddr>,
    /// Attempts at a backend; more than 1 means retries, 0 that none was made.
    pub attempts: u32,
    /// Whether the last attempt used a connection from the pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_reused: Option<bool>,
    /// Milliseconds from the first attempt to the head of the backend's final response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<Millis>,
    /// Milliseconds from the request's head to the last byte of the response.
    pub duration_ms: Millis,
    /// Bytes of the request's body that were received.
    pub bytes_in: u64,
    /// Bytes of the response's body that were sent.
    pub bytes_out: u64,
}

impl<'a> Line<'a> {
    /// The line of a request that is over now.
    pub fn of(record: &RequestRecord<'a>) -> Self {
        Self {
            time: Time::now(),
            request_id: cut(record.request_id, MAX_NAME),
            client: record.client,
            protocol: if record.http2 { "HTTP/2" } else { "HTTP/1.1" },
            tls: record.tls,
            method: record.method,
            host: cut(record.host, MAX_NAME),
            path: cut(record.path, MAX_PATH),
            user_agent: record
                .user_agent
                .map(|bytes| String::from_utf8_lossy(bytes.get(..MAX_USER_AGENT).unwrap_or(bytes))),
            status: record.status,
            reason: record.reason.map(Reason::code),
            listener: record.listener.map(ListenerKey::as_str),
            route: record.route.map(RouteKey::as_str),
            cluster: record.cluster.map(ClusterKey::as_str),
            endpoint: record.endpoint,
            attempts: record.attempts,
            upstream_reused: (record.attempts > 0).then_some(record.upstream_reused),
            upstream_ms: record.upstream_duration.map(Millis),
            duration_ms: Millis(record.duration),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
        }
    }
}

/// Appends a line with its line break.
pub fn append(line: &impl Serialize, out: &mut Vec<u8>) {
    let start = out.len();
    if let Err(error) = serde_json::to_writer(&mut *out, line) {
        // Half a line would spoil its neighbours too.
        out.truncate(start);
        tracing::debug!(%error, "a line could not be logged");
        return;
    }
    out.push(b'\n');
}

/// `text` without what is beyond `max` bytes, cut between characters.
pub fn cut(text: &str, max: usize) -> &str {
    let end = (0..=max.min(text.len()))
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

/// A moment, written as `2026-01-31T12:34:56.789Z`.
#[derive(Clone, Copy, Debug)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// The present.
    pub fn now() -> Self {
        Self(jiff::Timestamp::now())
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A duration, written as milliseconds with three decimals at most.
#[derive(Clone, Copy, Debug)]
pub struct Millis(pub Duration);

impl Serialize for Millis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // One division, so that the nearest number of three decimals comes out and is written as such.
        let micros = Duration::from_micros(micros(self.0));
        serializer.serialize_f64(micros.div_duration_f64(Duration::from_millis(1)))
    }
}
