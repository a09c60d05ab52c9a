//! One request and its answer on a connection to a backend, whatever the HTTP version.

use std::net::SocketAddr;

use bytes::Bytes;
use http::HeaderMap;
use pingora_http::{RequestHeader, ResponseHeader};

use super::error::{UpstreamError, UpstreamErrorKind};

/// What a backend sends, in order: any number of `Informational`, one `Head`, then `Data`, at most one `Trailers`, `End`.
#[derive(Debug)]
pub enum UpstreamEvent {
    /// A 1xx head other than 101.
    Informational(ResponseHeader),
    /// The head, and whether the answer is complete with it. `101` opens the tunnel: `Data` then carries its raw bytes.
    Head(ResponseHeader, bool),
    /// A piece of the body, never empty.
    Data(Bytes),
    /// Trailers; `End` follows.
    Trailers(HeaderMap),
    /// The answer is complete.
    End,
}

/// How an attempt ended, for the endpoint's health. Not reported at all (the client went away) is neutral.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint answered, with whatever status.
    Answered,
    /// The connection broke before the answer was complete.
    Broken,
    /// No answer within the attempt's deadline.
    TimedOut,
}

/// One request on one connection. Dropped without [`finish`](Self::finish) it cancels: HTTP/1 closes the connection,
/// HTTP/2 resets the stream.
pub struct Upstream {
    endpoint: SocketAddr,
}

impl Upstream {
    /// The address connected to.
    pub fn endpoint(&self) -> SocketAddr {
        self.endpoint
    }

    /// Whether the connection had served a request before.
    pub fn reused(&self) -> bool {
        false
    }

    /// Whether the endpoint speaks HTTP/2 on this connection.
    pub fn is_http2(&self) -> bool {
        false
    }

    /// Sends the request's head; `end` says that no body follows.
    pub async fn send_head(&mut self, head: RequestHeader, end: bool) -> Result<(), UpstreamError> {
        let _ = (head, end);
        Err(unfinished())
    }

    /// Sends a piece of the request's body. Never waits for long if [`UpstreamWriter::has_room`] said yes.
    pub async fn send_body(&mut self, data: Bytes) -> Result<(), UpstreamError> {
        let _ = data;
        Err(unfinished())
    }

    /// Ends the request's body. HTTP/1 drops the trailers (RFC 9110 6.5.1 allows it).
    pub async fn finish_body(&mut self, trailers: Option<HeaderMap>) -> Result<(), UpstreamError> {
        let _ = trailers;
        Err(unfinished())
    }

    /// A handle that tells whether there is room for more of the request's body.
    pub fn writer(&self) -> UpstreamWriter {
        UpstreamWriter {}
    }

    /// The next part of the answer. Cancel-safe.
    pub async fn read_event(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        Err(unfinished())
    }

    /// Tells the outlier detector how it ended.
    pub fn report(&mut self, outcome: Outcome) {
        let _ = outcome;
    }

    /// The exchange is complete: the connection goes back to the pool if it may be used again.
    pub fn finish(self) {}
}

/// Back-pressure of a request's body: cheap to clone, polled beside [`Upstream::read_event`].
#[derive(Clone)]
pub struct UpstreamWriter {}

impl UpstreamWriter {
    /// Whether the next piece can be taken without waiting.
    pub fn has_room(&self) -> bool {
        true
    }

    /// Resolves when there is room, or when the backend takes no more. Cancel-safe.
    pub async fn room(&self) -> Result<(), UpstreamError> {
        Ok(())
    }
}

fn unfinished() -> UpstreamError {
    UpstreamError::new(UpstreamErrorKind::NoCluster, "no session")
}
