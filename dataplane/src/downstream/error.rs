//! What can go wrong between a client and the proxy.

use std::io;

use crate::{
    reason::Reason,
    stream::{ReadError, guard::Violation},
};

/// Why an exchange with a client cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum DownstreamError {
    /// The client closed the connection, or reset the stream.
    #[error("the client went away")]
    Gone,
    /// The client breaks the protocol.
    #[error(transparent)]
    Violation(#[from] Violation),
    /// Nothing was received (or taken) for the stream idle timeout.
    #[error("nothing moved for too long")]
    Idle,
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(io::Error),
    /// The HTTP/2 layer refused.
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
    /// A 101 to a client that asked for no upgrade, or on HTTP/2, which has none.
    #[error("101 to a client that did not ask for it")]
    Switching,
    /// The response cannot be sent like this: more or less body than announced, or a malformed head.
    #[error("the response cannot be sent: {0}")]
    Response(Box<pingora_error::Error>),
}

impl DownstreamError {
    /// The answer, if one can still be given, and what the log says.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Violation(violation) => violation.reason(),
            Self::Idle => Reason::StreamIdle,
            Self::Gone | Self::Io(_) | Self::Http2(_) => Reason::ClientGone,
            Self::Switching | Self::Response(_) => Reason::UpstreamProtocol,
        }
    }
}

impl From<io::Error> for DownstreamError {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof,
        };
        match error.kind() {
            BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof => {
                Self::Gone
            }
            _ => Self::Io(error),
        }
    }
}

impl From<ReadError> for DownstreamError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Io(error) => error.into(),
            ReadError::Violation(violation) => violation.into(),
            ReadError::Closed => Self::Gone,
        }
    }
}

impl From<Box<pingora_error::Error>> for DownstreamError {
    fn from(error: Box<pingora_error::Error>) -> Self {
        Self::Response(error)
    }
}
