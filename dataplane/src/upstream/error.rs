//! What can go wrong on the way to a backend, and what that means for a repeat.

use std::{fmt, net::SocketAddr};

use super::session::Outcome;
use crate::{reason::Reason, telemetry::ConnectResult};

/// How far an attempt came before it failed: the base of every retry decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// No byte of the request left the proxy.
    NothingSent,
    /// The request was sent, and the backend says that it did not process it (RFC 9113 8.7: `REFUSED_STREAM`, or a
    /// GOAWAY below the stream).
    NotProcessed,
    /// The request was sent, at least in part; no byte of an answer came.
    Sent,
    /// The answer had begun.
    Answered,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamErrorKind {
    /// The table has no such cluster.
    NoCluster,
    /// The cluster has no endpoint that takes traffic.
    NoEndpoint,
    /// The cluster has endpoints, and the request may have none of them.
    FencedOut,
    /// The cluster's `max_connections` is reached and too many requests wait already.
    Overloaded,
    /// Little room is left, and the callers of this namespace have their share of it.
    TooManyOfNamespace,
    /// The backend's DNS name could not be resolved, or only to addresses that are refused.
    Dns,
    /// The endpoint refused the connection, or there is no way to it.
    Refused,
    /// No connection within the cluster's `connect_timeout`.
    ConnectTimeout,
    /// The TLS handshake failed: certificate, name, version or ALPN; or the cluster's TLS policy cannot be used.
    Tls,
    /// The connection was closed before the answer was complete.
    Closed,
    /// The connection or stream was reset.
    Reset,
    /// The backend breaks the protocol.
    Protocol,
    /// The request cannot be written in this protocol.
    Request,
}

/// What a failed connect is counted as.
impl From<UpstreamErrorKind> for ConnectResult {
    fn from(kind: UpstreamErrorKind) -> Self {
        match kind {
            UpstreamErrorKind::Refused => ConnectResult::Refused,
            UpstreamErrorKind::ConnectTimeout => ConnectResult::Timeout,
            UpstreamErrorKind::Tls => ConnectResult::Tls,
            _ => ConnectResult::Other,
        }
    }
}

/// Why the proxy answers by itself when all attempts have failed.
impl From<UpstreamErrorKind> for Reason {
    fn from(kind: UpstreamErrorKind) -> Self {
        match kind {
            UpstreamErrorKind::NoCluster => Reason::InvalidBackend,
            UpstreamErrorKind::NoEndpoint => Reason::NoEndpoint,
            UpstreamErrorKind::FencedOut => Reason::AddressRefused,
            UpstreamErrorKind::Overloaded => Reason::Overloaded,
            UpstreamErrorKind::TooManyOfNamespace => Reason::TooManyOfNamespace,
            UpstreamErrorKind::Dns | UpstreamErrorKind::Refused => Reason::ConnectFailed,
            UpstreamErrorKind::ConnectTimeout => Reason::ConnectTimeout,
            UpstreamErrorKind::Tls => Reason::UpstreamTls,
            UpstreamErrorKind::Closed | UpstreamErrorKind::Reset => Reason::UpstreamReset,
            UpstreamErrorKind::Protocol => Reason::UpstreamProtocol,
            UpstreamErrorKind::Request => Reason::BadRequest,
        }
    }
}

/// A failed attempt at a backend.
#[derive(Debug)]
pub struct UpstreamError {
    /// What failed.
    pub kind: UpstreamErrorKind,
    /// How far it came.
    pub progress: Progress,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// The endpoint, where one was chosen.
    pub endpoint: Option<SocketAddr>,
    detail: Box<str>,
}

impl UpstreamError {
    /// A failure before anything was sent.
    pub(crate) fn new(kind: UpstreamErrorKind, detail: impl fmt::Display) -> Self {
        Self {
            kind,
            progress: Progress::NothingSent,
            reused: false,
            endpoint: None,
            detail: detail.to_string().into(),
        }
    }

    /// The same failure, of this endpoint.
    pub(crate) fn at(mut self, endpoint: SocketAddr) -> Self {
        self.endpoint = Some(endpoint);
        self
    }

    /// The same failure, of a session that had come this far.
    pub(crate) fn after(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// The same failure, on a connection that had served a request before or not.
    pub(crate) fn on(mut self, reused: bool) -> Self {
        self.reused = reused;
        self
    }

    /// Whether the backend cannot have acted on the request, so that repeating it is safe for every method
    /// (RFC 9110 9.2.2).
    pub fn is_unprocessed(&self) -> bool {
        self.progress <= Progress::NotProcessed
    }

    /// Whether this is the race that keep-alive always has: a pooled connection that the backend closed while the
    /// request was on its way. No failure of the endpoint; an idempotent request belongs on a
    /// [fresh](super::OpenRequest::fresh) connection.
    pub fn is_stale(&self) -> bool {
        self.reused
            && self.progress < Progress::Answered
            && matches!(
                self.kind,
                UpstreamErrorKind::Closed | UpstreamErrorKind::Reset
            )
    }
}

impl UpstreamError {
    /// What the endpoint has to answer for. Connects that failed are known already.
    pub fn blame(&self) -> Option<Outcome> {
        let is_broken = matches!(
            self.kind,
            UpstreamErrorKind::Closed | UpstreamErrorKind::Reset | UpstreamErrorKind::Protocol
        );
        let is_excused = self.progress == Progress::NotProcessed
            || (self.progress == Progress::Sent && self.is_stale());
        (is_broken && !is_excused).then_some(Outcome::Broken)
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.endpoint {
            Some(endpoint) => write!(f, "{endpoint}: {}", self.detail),
            None => f.write_str(&self.detail),
        }
    }
}

impl std::error::Error for UpstreamError {}
