//! What makes a message unacceptable.

use crate::reason::Reason;

/// A breach of RFC 9112, or of a limit: the message is refused and its connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A byte where the grammar has no place for it: controls, NUL, bare CR, obs-fold, a space before the colon.
    #[error("malformed head: {0}")]
    Syntax(&'static str),
    /// A line that ends in LF without CR (RFC 9112 2.2).
    #[error("a line ends without CR")]
    BareLf,
    /// Not `HTTP/1.0` or `HTTP/1.1`.
    #[error("this HTTP version is not spoken here")]
    Version,
    /// A target in none of the forms of RFC 9112 3.2, or with bytes that no target may have.
    #[error("malformed request target")]
    Target,
    /// `CONNECT` or `TRACE`.
    #[error("this method is not served here")]
    Method,
    /// HTTP/1.1 without `Host` (RFC 9112 3.2).
    #[error("no Host field")]
    HostMissing,
    /// More than one `Host`.
    #[error("more than one Host field")]
    HostRepeated,
    /// A `Host` that is no authority, or with userinfo.
    #[error("malformed Host field")]
    HostMalformed,
    /// The absolute-form target names another host than `Host`.
    #[error("Host differs from the request target")]
    HostMismatch,
    /// A `Connection` that is no list of names (RFC 9110 7.6.1): who knows what it wanted to be removed here.
    #[error("malformed Connection field")]
    Connection,
    /// `Content-Length` repeated, a list, or not just digits.
    #[error("malformed or repeated Content-Length")]
    ContentLength,
    /// `Transfer-Encoding` repeated, on HTTP/1.0, or not ending in one `chunked`.
    #[error("malformed or repeated Transfer-Encoding")]
    TransferEncoding,
    /// A transfer coding besides `chunked` (RFC 9112 6.1).
    #[error("unknown transfer coding")]
    TransferCoding,
    /// `Content-Length` together with `Transfer-Encoding` (RFC 9112 6.1).
    #[error("both Content-Length and Transfer-Encoding")]
    LengthAndCoding,
    /// A chunk size that is not 1 to 16 hexadecimal digits, or beyond reason.
    #[error("malformed chunk size")]
    ChunkSize,
    /// A chunk extension with a control character, or too long.
    #[error("malformed or too long chunk extension")]
    ChunkExtension,
    /// A chunk that does not end in CRLF.
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    /// Trailer fields that are malformed or too many.
    #[error("malformed or too long trailer section")]
    Trailers,
    /// A CONNECT with content, or with an upgrade.
    #[error("CONNECT with content or an upgrade")]
    ConnectContent,
    /// Bytes behind a request for an upgrade that nobody has confirmed.
    #[error("bytes sent before the upgrade was confirmed")]
    EarlyUpgrade,
    /// The target is longer than the limit.
    #[error("the request target is too long")]
    TargetTooLong,
    /// The head is longer than the limit.
    #[error("the head is too long")]
    HeadTooLong,
    /// The head has more fields than the limit.
    #[error("too many header fields")]
    TooManyFields,
}

impl Violation {
    /// The answer that a request with this fault gets.
    pub fn reason(self) -> Reason {
        match self {
            Self::Version => Reason::VersionNotSupported,
            Self::Method => Reason::MethodNotAllowed,
            Self::TransferCoding => Reason::NotImplemented,
            Self::TargetTooLong => Reason::TargetTooLong,
            Self::HeadTooLong | Self::TooManyFields => Reason::HeadersTooLarge,
            _ => Reason::BadRequest,
        }
    }
}

impl From<Violation> for std::io::Error {
    fn from(violation: Violation) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, violation)
    }
}
