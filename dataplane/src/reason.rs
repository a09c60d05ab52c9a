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
    /// The request came without TLS on a port that speaks TLS.
    PlainHttp = 400 "plain_http" "plain HTTP was sent to a port that speaks TLS; ask with https";
    /// The path holds NUL, a backslash or a broken percent-encoding.
    BadPath = 400 "bad_path" "the path holds characters that are not accepted";
    /// The head did not arrive in time, or the body stopped for the stream idle timeout before an answer had begun.
    RequestTimeout = 408 "request_timeout" "the request did not arrive in time";
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
    /// A connection limit towards the backend is reached.
    Overloaded = 503 "overloaded" "the limit of connections to the backend is reached";
    /// The worker's limit of connections is reached; the connection was closed without an answer.
    TooManyConnections = 503 "too_many_connections" "the limit of client connections is reached";
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
