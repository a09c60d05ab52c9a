//! What is known about a request, or a connection of TLS that passes through, when it is over: the one input of request metrics
//! and of the access log.

use std::{net::SocketAddr, time::Duration};

use portcullis_routing::{ClusterKey, ListenerKey, RouteKey};

use crate::reason::Reason;

/// A finished request. It borrows everything, so building one costs nothing when the log is off.
#[derive(Clone, Copy, Debug)]
pub struct RequestRecord<'a> {
    /// Address of the client, after PROXY protocol and trusted hops.
    pub client: SocketAddr,
    /// Whether the client spoke TLS.
    pub tls: bool,
    /// Whether the client spoke HTTP/2.
    pub http2: bool,
    /// Request method.
    pub method: &'a str,
    /// Host asked for, lower case and without port; empty if there was none.
    pub host: &'a str,
    /// Normalised path, without query.
    pub path: &'a str,
    /// `User-Agent` as it came.
    pub user_agent: Option<&'a [u8]>,
    /// `X-Request-Id` as it was forwarded; empty if the request failed before it got one.
    pub request_id: &'a str,
    /// Listener that took the request.
    pub listener: Option<&'a ListenerKey>,
    /// Route rule that won.
    pub route: Option<&'a RouteKey>,
    /// Cluster of the last attempt.
    pub cluster: Option<&'a ClusterKey>,
    /// Endpoint of the last attempt.
    pub endpoint: Option<SocketAddr>,
    /// Status sent to the client; 0 if none was sent.
    pub status: u16,
    /// Why the proxy answered (or gave up) by itself; `None` for a complete answer of the backend or a redirect.
    pub reason: Option<Reason>,
    /// From the complete request head to the last byte of the response.
    pub duration: Duration,
    /// From the first attempt to the head of the backend's final response.
    pub upstream_duration: Option<Duration>,
    /// Bytes of the request body that were received.
    pub bytes_in: u64,
    /// Bytes of the response body that were sent.
    pub bytes_out: u64,
    /// Attempts at a backend; 0 if none was made.
    pub attempts: u32,
    /// Whether the last attempt used a pooled connection.
    pub upstream_reused: bool,
}

/// A connection of TLS that passed through, or was to, and is over.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionRecord<'a> {
    /// Address of the client, after PROXY protocol.
    pub client: SocketAddr,
    /// The name in its greeting; empty if there was none.
    pub name: &'a str,
    /// Listener that took it.
    pub listener: Option<&'a ListenerKey>,
    /// Route rule that won.
    pub route: Option<&'a RouteKey>,
    /// Cluster that was chosen.
    pub cluster: Option<&'a ClusterKey>,
    /// Endpoint that was connected to, or tried last.
    pub endpoint: Option<SocketAddr>,
    /// Why the proxy refused or ended it; `None` if both ends ended it.
    pub reason: Option<Reason>,
    /// The particulars, in words.
    pub detail: Option<&'a str>,
    /// From its acceptance to its end.
    pub duration: Duration,
    /// Bytes from the client that the backend has taken.
    pub bytes_in: u64,
    /// Bytes from the backend that the client has taken.
    pub bytes_out: u64,
}
