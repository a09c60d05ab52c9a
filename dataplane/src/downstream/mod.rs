//! The client's side of an exchange: one request and its response, whatever the HTTP version.
//!
//! What is sent is collected and leaves when the exchange next waits for the client ([`Downstream::read_body`],
//! [`Downstream::closed`], [`Downstream::broken`], [`Downstream::flushed`], [`DownstreamWriter::room`]) or has finished, so
//! that a head, its body and their end leave in one system call. An exchange therefore always polls one of these while it
//! waits for a backend.

pub mod error;
pub mod h1;
pub mod h2;
pub(crate) mod refusal;

use std::{cell::OnceCell, net::SocketAddr, rc::Rc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, request, response};
use portcullis_routing::{ListenerKey, ListenerProtocol};

pub use self::error::DownstreamError;
use self::{
    h1::{H1, H1Writer},
    h2::stream::{H2, H2Writer},
};
pub use crate::stream::BodyFrame;
use crate::{
    egress::{Identity, entrance::Entrance, tunnel::Passage},
    tls::client::ClientIdentity,
};

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    /// The port of the Gateway's spec that it came in on.
    pub port: u16,
    /// Whether the client speaks TLS to us.
    pub tls: bool,
    /// The name in the client's TLS greeting, lower case.
    pub sni: Option<Box<str>>,
    /// The listener that the SNI selected, and whose certificate was shown.
    pub sni_listener: Option<ListenerKey>,
    /// The certificate that the client got in with; `None` where none was needed.
    pub identity: Option<Rc<ClientIdentity>>,
    /// Whether the port is one of egress, as of when the connection was made.
    pub egress: bool,
    /// Where a CONNECT has led whose requests are read: they are for nobody else. HTTP/1 only.
    pub pinned: OnceCell<Pin>,
    /// Who calls, on a port of egress, as far as it was known when the connection was made.
    pub caller: Option<Rc<Identity>>,
    /// Address of the client, as the PROXY protocol says it if it is used.
    pub client: SocketAddr,
    /// The client's IP address as it is told to backends.
    pub client_text: HeaderValue,
    /// Address that the client connected to.
    pub local: SocketAddr,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
}

impl Connection {
    /// The way that a request for `host` came in by `listener`.
    pub(crate) fn entrance<'a>(&'a self, listener: &'a ListenerKey, host: &'a str) -> Entrance<'a> {
        let (protocol, name) = if self.tls {
            (
                ListenerProtocol::Https,
                self.sni.as_deref().unwrap_or_default(),
            )
        } else {
            (ListenerProtocol::Http, host)
        };
        Entrance {
            port: self.port,
            protocol,
            listener,
            name,
            identity: self.identity.as_deref(),
        }
    }
}

/// The destination of a CONNECT.
#[derive(Clone, Debug)]
pub struct Pin {
    /// The host, in normal form; an IPv6 address in brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
    /// Who has sent it, and sends what follows.
    pub caller: Option<Rc<Identity>>,
}

/// The client's side of one exchange.
#[expect(
    clippy::large_enum_variant,
    reason = "it is not moved, and a box per stream would be an allocation more"
)]
pub enum Downstream {
    /// HTTP/1.0 or HTTP/1.1.
    H1(H1),
    /// A stream of HTTP/2.
    H2(H2),
}

macro_rules! each {
    ($self:expr, $session:ident => $call:expr) => {
        match $self {
            Downstream::H1($session) => $call,
            Downstream::H2($session) => $call,
        }
    };
}

impl Downstream {
    /// The request's head. After [`take_head`](Self::take_head) only the method is meaningful.
    pub fn head(&self) -> &request::Parts {
        each!(self, session => session.head())
    }

    /// Moves the head out.
    pub fn take_head(&mut self) -> request::Parts {
        each!(self, session => session.take_head())
    }

    /// Whether this is a stream of HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self, Self::H2(_))
    }

    /// Whether no (more) request body will come.
    pub fn body_is_empty(&self) -> bool {
        each!(self, session => session.body_is_empty())
    }

    /// The `:protocol` of an extended CONNECT (RFC 8441).
    pub fn extended_connect(&self) -> Option<&str> {
        match self {
            Self::H1(_) => None,
            Self::H2(stream) => stream.extended_connect(),
        }
    }

    /// The next piece of the request's body, or of the tunnel once there is one. Cancel-safe. A client that waits for
    /// `100 Continue` gets it with the first call.
    pub async fn read_body(&mut self) -> Result<BodyFrame, DownstreamError> {
        each!(self, session => session.read_body().await)
    }

    /// Gives an empty read buffer up: [`read_body`](Self::read_body) will not be called soon.
    pub fn release(&self) {
        if let Self::H1(session) = self {
            session.release();
        }
    }

    /// Resolves when the client goes away. Cancel-safe.
    pub async fn closed(&mut self) -> DownstreamError {
        each!(self, session => session.closed().await)
    }

    /// As [`closed`](Self::closed), without listening: what HTTP/1 clients say is left where it is, so that only writing can
    /// tell. Cancel-safe.
    pub async fn broken(&mut self) -> DownstreamError {
        match self {
            Self::H1(session) => session.broken().await,
            Self::H2(stream) => stream.closed().await,
        }
    }

    /// A handle that tells whether there is room for more of the response.
    pub fn writer(&self) -> DownstreamWriter {
        match self {
            Self::H1(session) => DownstreamWriter::H1(session.writer()),
            Self::H2(stream) => DownstreamWriter::H2(stream.writer()),
        }
    }

    /// Sends a head; informational ones may come before the final one, and on HTTP/2 are dropped if they are many or long. `end` says that no body follows. How the body is
    /// delimited is decided here: `Content-Length` is kept, `Transfer-Encoding` and `Connection` are replaced.
    pub async fn send_head(
        &mut self,
        head: response::Parts,
        end: bool,
    ) -> Result<(), DownstreamError> {
        match self {
            Self::H1(session) => session.send_head(head, end).await,
            Self::H2(stream) => stream.send_head(head, end),
        }
    }

    /// Sends a piece of the body. Never waits for long if [`DownstreamWriter::has_room`] said yes.
    pub async fn send_body(&mut self, data: Bytes) -> Result<(), DownstreamError> {
        match self {
            Self::H1(session) => session.send_body(data).await,
            Self::H2(stream) => stream.send_body(data),
        }
    }

    /// Ends the response. HTTP/1 sends trailers to a client that said `TE: trailers`, if the body is chunked, and drops them
    /// otherwise (RFC 9110 6.5.1).
    pub async fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), DownstreamError> {
        match self {
            Self::H1(session) => session.finish(trailers).await,
            Self::H2(stream) => stream.finish(trailers),
        }
    }

    /// Waits until everything that was sent has left us. Cancel-safe.
    pub async fn flushed(&mut self) -> Result<(), DownstreamError> {
        match self {
            Self::H1(session) => session.flushed().await,
            Self::H2(stream) => stream.flushed(),
        }
    }

    /// Answers a CONNECT with yes; requests follow on the connection. HTTP/1 only.
    pub(crate) fn connected(&mut self) -> Result<(), DownstreamError> {
        match self {
            Self::H1(session) => session.connected(),
            Self::H2(_) => Err(DownstreamError::Switching),
        }
    }

    /// Answers a CONNECT with yes, and hands what follows to `passage`, which takes over once this exchange is over.
    pub(crate) fn hand_over(&mut self, passage: Box<Passage>) -> Result<(), DownstreamError> {
        each!(self, session => session.hand_over(passage))
    }

    /// The connection closes after this exchange. HTTP/1 only: streams of HTTP/2 do not hinder each other.
    pub fn close_after(&mut self) {
        if let Self::H1(session) = self {
            session.close_after();
        }
    }

    /// The connection takes no new request: HTTP/1 closes it after this exchange, HTTP/2 says GOAWAY.
    pub fn retire(&mut self) {
        match self {
            Self::H1(session) => session.close_after(),
            Self::H2(stream) => stream.retire(),
        }
    }

    /// Breaks the response off, so that the client cannot take it for complete.
    pub fn reset(&mut self) {
        each!(self, session => session.reset());
    }
}

/// Back-pressure of a response: cheap to clone, polled beside everything else.
#[derive(Clone)]
pub enum DownstreamWriter {
    /// HTTP/1.
    H1(H1Writer),
    /// HTTP/2.
    H2(H2Writer),
}

impl DownstreamWriter {
    /// Whether the next piece can be taken without waiting.
    pub fn has_room(&self) -> bool {
        match self {
            Self::H1(writer) => writer.has_room(),
            Self::H2(writer) => writer.has_room(),
        }
    }

    /// Resolves when there is room, or when the client takes no more. Cancel-safe.
    pub async fn room(&self) -> Result<(), DownstreamError> {
        match self {
            Self::H1(writer) => writer.room().await,
            Self::H2(writer) => writer.room().await,
        }
    }
}

#[cfg(test)]
mod tests;
