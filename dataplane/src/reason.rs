//! The one table of answers that the proxy gives by itself: status, machine-readable code, words for people.

use bytes::Bytes;
use http::{HeaderName, StatusCode};

/// Field of the answer that carries [`Reason::code`], so that a client need not read the body.
pub const REASON_HEADER: HeaderName = HeaderName::from_static("x-portcullis-reason");

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $text:literal;)*) => {
        /// Why the proxy answered (or ended) a request by itself. The code stands in the answer's body, in the access
        /// log and as the `reason` label of the metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in the order of declaration: `ALL[reason.index()] == reason`.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// Position in [`Reason::ALL`], for counters kept in an array.
            pub const fn index(self) -> usize {
                self as usize
            }

            /// The status of the answer. A request that ended after its response had begun keeps the status sent.
            pub const fn status(self) -> StatusCode {
                match self { $(Reason::$name => match StatusCode::from_u16($status) {
                    Ok(status) => status,
                    Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
                },)* }
            }

            /// Machine-readable, stable.
            pub const fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            /// One line for people.
            pub const fn text(self) -> &'static str {
                match self { $(Reason::$name => $text,)* }
            }
        }
    };
}

reasons! {
    /// The message breaks RFC 9112 or is ambiguous.
    BadRequest = 400 "bad_request" "the request is malformed or ambiguous";
    /// The token in `Proxy-Authorization` of an egress listener is not believed.
    BadToken = 407 "bad_token" "the token in Proxy-Authorization is not believed";
    /// Who calls is not known, and matters, and a token would say.
    TokenNeeded = 407 "token_needed" "who calls is not known, and a token in Proxy-Authorization would say";
    /// The request came without TLS on a port that speaks TLS.
    PlainHttp = 400 "plain_http" "plain HTTP was sent to a port that speaks TLS; ask with https";
    /// The path holds NUL, a backslash or a broken percent-encoding.
    BadPath = 400 "bad_path" "the path holds characters that are not accepted";
    /// The head did not arrive in time, or the body stopped for the stream idle timeout before an answer had begun.
    RequestTimeout = 408 "request_timeout" "the request did not arrive in time";
    /// What is to be reached from an egress listener is no host, or one that can be read in several ways.
    BadDestination = 400 "bad_destination" "the destination is not a host with one meaning";
    /// No entry lists the host.
    HostNotListed = 403 "host_not_listed" "no entry lists this host";
    /// Entries list the host, but not the port.
    PortNotListed = 403 "port_not_listed" "the host is listed, but not with this port";
    /// Entries list host and port, but for others.
    NotExported = 403 "not_exported" "the host is listed, but not for this caller";
    /// Who calls is not known, and matters.
    UnknownCaller = 403 "unknown_caller" "who calls is not known";
    /// The entry that lists host and port for the caller cannot be served.
    EntryShut = 403 "entry_shut" "the entry that lists host and port cannot be served, and no other takes its place";
    /// The port is listed for another protocol.
    ProtocolNotListed = 403 "protocol_not_listed" "the port is listed for another protocol";
    /// An egress policy denies it.
    DeniedByPolicy = 403 "denied_by_policy" "a policy denies it";
    /// Egress policies allow the caller other destinations only.
    NotAllowedByPolicy = 403 "not_allowed_by_policy" "policies allow the caller other destinations only";
    /// Egress policies allow the caller the destination, but not where an entry of others than the policies' leads it.
    LedElsewhere = 403 "led_elsewhere" "policies allow the host, but not where its ServiceEntry leads";
    /// The host leads to an address that is not outside.
    AddressRefused = 403 "address_refused" "the host leads to an address that is not outside";
    /// The host leads to a port that the proxy itself listens on.
    LeadsToProxy = 403 "leads_to_proxy" "the host leads back to the proxy itself";
    /// A request in a tunnel is for another destination than the tunnel.
    AuthorityMismatch = 403 "authority_mismatch" "the request is not for the destination of its tunnel";
    /// A tunnel for requests that could not be read in it.
    TunnelUnread = 403 "tunnel_unread" "requests for this port are read, and in this tunnel they could not be";
    /// What begins a tunnel is no TLS, or none that can be judged. Nothing can be answered.
    NotTls = 403 "not_tls" "the tunnel does not begin as TLS does";
    /// A TLS greeting without a name. Nothing can be answered but an alert.
    SniMissing = 403 "sni_missing" "the TLS greeting names no host";
    /// A TLS greeting with another name than that of the tunnel. Nothing can be answered but an alert.
    SniMismatch = 403 "sni_mismatch" "the TLS greeting names another host";
    /// A tunnel that was granted, and is no more.
    Revoked = 403 "revoked" "the tunnel is not allowed any more";
    /// No listener or route takes this request.
    NoRoute = 404 "no_route" "no route matches this host and path";
    /// CONNECT and TRACE are not served on ingress listeners.
    MethodNotAllowed = 405 "method_not_allowed" "this method is not served here";
    /// The body is longer than the limit.
    BodyTooLarge = 413 "body_too_large" "the request body is longer than the limit";
    /// The request target is longer than the limit.
    TargetTooLong = 414 "target_too_long" "the request target is longer than the limit";
    /// The SNI belongs to another listener than the host (RFC 9110 15.5.20).
    Misdirected = 421 "misdirected" "this connection was made for another host";
    /// The listener needs a client certificate that the connection was not made with.
    ClientCertificate = 421 "client_certificate" "this connection was made without a client certificate that is trusted here";
    /// Too many or too long header lines.
    HeadersTooLarge = 431 "headers_too_large" "the request headers are larger than the limit";
    /// The route's backendRef could not be resolved, or there is none.
    InvalidBackend = 500 "invalid_backend" "the route points to a backend that does not exist or may not be used";
    /// A rule of the route is malformed or asks for something that is not supported; the route's status says what.
    InvalidRule = 500 "invalid_rule" "the route has a rule that cannot be carried out";
    /// The transfer coding is not known.
    NotImplemented = 501 "not_implemented" "this transfer coding is not implemented";
    /// No endpoint could be connected to.
    ConnectFailed = 502 "connect_failed" "no connection to the backend could be made";
    /// The backend closed or reset the connection before its answer was complete.
    UpstreamReset = 502 "upstream_reset" "the backend closed the connection";
    /// The backend's answer breaks the protocol.
    UpstreamProtocol = 502 "upstream_protocol" "the backend sent a malformed answer";
    /// TLS towards the backend failed.
    UpstreamTls = 502 "upstream_tls" "the TLS handshake with the backend failed";
    /// The backend has no endpoint that takes traffic.
    NoEndpoint = 503 "no_endpoint" "the backend has no ready endpoint";
    /// The name of a host outside could not be resolved.
    DnsFailed = 503 "dns_failed" "the host's name could not be resolved";
    /// A connection limit towards the backend is reached.
    Overloaded = 503 "overloaded" "the limit of connections to the backend is reached";
    /// The worker's limit of connections is reached; the connection was closed without an answer.
    TooManyConnections = 503 "too_many_connections" "the limit of client connections is reached";
    /// The worker's limit of tunnels, which is that of connections, is reached.
    TooManyTunnels = 503 "too_many_tunnels" "the limit of tunnels is reached";
    /// Few tunnels, or hosts to talk to, are left, and the caller's namespace has its share of them; callers that are not known have one
    /// together.
    TooManyOfNamespace = 503 "too_many_of_namespace" "few tunnels or hosts are left, and callers of this namespace have their share";
    /// The process ended, and the time for what is under way then had passed.
    Shutdown = 503 "shutdown" "the proxy was shut down before the answer was complete";
    /// `timeouts.request` passed.
    RequestDeadline = 504 "request_deadline" "the request's timeout passed";
    /// `timeouts.backendRequest` passed on the last attempt.
    BackendDeadline = 504 "backend_deadline" "the backend did not answer within its timeout";
    /// Connecting took longer than the cluster's connect timeout.
    ConnectTimeout = 504 "connect_timeout" "no connection to the backend could be made in time";
    /// No byte moved either way for the stream idle timeout, and it was not the request's body that was waited for.
    StreamIdle = 504 "stream_idle" "nothing was sent or received for too long";
    /// Nothing moved in a tunnel for its idle timeout.
    TunnelIdle = 504 "tunnel_idle" "nothing moved in the tunnel for too long";
    /// A tunnel lasted for as long as it may.
    TunnelTooLong = 504 "tunnel_too_long" "the tunnel lasted for as long as it may";
    /// The HTTP version is not spoken here.
    VersionNotSupported = 505 "version_not_supported" "this HTTP version is not spoken here";
    /// The client went away before the exchange was complete; nothing can be answered.
    ClientGone = 499 "client_gone" "the client closed the connection";
}

impl Reason {
    /// The answer's body, plain text: code and text in one line.
    pub fn body(self) -> Bytes {
        format!("{}: {}\n", self.code(), self.text()).into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_and_indexed() {
        let codes: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
        }
        assert_eq!(Reason::ClientGone.status().as_u16(), 499);
    }
}
