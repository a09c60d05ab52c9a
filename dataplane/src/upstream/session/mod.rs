//! One request and its answer on a connection to a backend, whatever the HTTP version.

mod codec;
pub(super) mod http1;
pub(super) mod http2;

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, request, response};

use self::{http1::Http1, http2::Http2};
use super::{cluster::Lease, error::UpstreamError};
use crate::stream::WriteHandle;

/// What a backend sends, in order: any number of `Informational`, one `Head`, then `Data`, and
/// `Trailers` or `End`.
#[derive(Debug)]
pub enum UpstreamEvent {
    /// A 1xx head other than 101.
    Informational(response::Parts),
    /// The head, and whether the answer is complete with it. `101` opens the tunnel: `Data` then carries its raw bytes.
    Head(response::Parts, bool),
    /// A piece of the body, never empty.
    Data(Bytes),
    /// In a tunnel: the backend says no more. `End` follows once our side has ended and left too.
    HalfClosed,
    /// Trailers: the answer is complete.
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

/// A session of either version.
// One lives for each request and is moved a few times: a box would cost more than the moves.
#[allow(clippy::large_enum_variant)]
pub(super) enum Session {
    Http1(Http1),
    Http2(Http2),
}

/// One request on one connection. Dropped without [`finish`](Self::finish) it cancels: HTTP/1 closes the connection,
/// HTTP/2 resets the stream (`CANCEL`).
pub struct Upstream {
    session: Session,
    lease: Lease,
    reused: bool,
    /// The connection serves no other request.
    is_bound: bool,
}

impl Upstream {
    pub(super) fn new(session: Session, lease: Lease, reused: bool) -> Self {
        Self {
            session,
            lease,
            reused,
            is_bound: false,
        }
    }

    /// The connection closes after this exchange: the endpoint may take whoever uses it for the client of now. HTTP/1 only:
    /// HTTP/2 has no authentication of connections.
    pub(crate) fn bind(&mut self) {
        self.is_bound = true;
    }

    /// The address connected to.
    pub fn endpoint(&self) -> SocketAddr {
        self.lease.peer().address()
    }

    /// Whether the connection had served a request before.
    pub fn reused(&self) -> bool {
        self.reused
    }

    /// Whether the endpoint speaks HTTP/2 on this connection.
    pub fn is_http2(&self) -> bool {
        matches!(self.session, Session::Http2(_))
    }

    /// Sends the request's head; `end` says that no body follows.
    ///
    /// The head is in HTTP/1.1's shape (`Host`, origin-form target) without connection-level fields, but for those of
    /// an upgrade. Version, framing and HTTP/2's pseudo-fields are set here.
    pub fn send_head(&mut self, head: &request::Parts, end: bool) -> Result<(), UpstreamError> {
        let sent = match &mut self.session {
            Session::Http1(session) => session.send_head(head, end),
            Session::Http2(session) => session.send_head(head.clone(), end),
        };
        sent.map_err(|error| self.locate(error))
    }

    /// Sends a piece of the request's body. Never waits for long if [`UpstreamWriter::has_room`] said yes. That the
    /// backend takes no more is no error: [`read_event`](Self::read_event) tells what it answered, or what broke.
    pub async fn send_body(&mut self, data: Bytes) -> Result<(), UpstreamError> {
        match &mut self.session {
            Session::Http1(session) => session
                .send_body(&data)
                .await
                .map_err(|error| self.locate(error)),
            Session::Http2(session) => {
                session.send_body(data);
                Ok(())
            }
        }
    }

    /// Ends the request's body, or our side of a tunnel. HTTP/1 drops the trailers (RFC 9110 6.5.1 allows it).
    pub async fn finish_body(&mut self, trailers: Option<HeaderMap>) -> Result<(), UpstreamError> {
        match &mut self.session {
            Session::Http1(session) => session
                .finish_body()
                .await
                .map_err(|error| self.locate(error)),
            Session::Http2(session) => {
                session.finish_body(trailers);
                Ok(())
            }
        }
    }

    /// A handle that tells whether there is room for more of the request's body.
    pub fn writer(&self) -> UpstreamWriter {
        UpstreamWriter(match &self.session {
            Session::Http1(session) => Writer::Http1(session.writer().clone()),
            Session::Http2(session) => Writer::Http2(session.body()),
        })
    }

    /// The next part of the answer. Cancel-safe. Moves buffered bytes of the request along while it waits.
    pub async fn read_event(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        let event = match &mut self.session {
            Session::Http1(session) => session.read_event().await,
            Session::Http2(session) => session.read_event().await,
        };
        event.map_err(|error| self.locate(error))
    }

    /// Gives an empty read buffer up: [`read_event`](Self::read_event) will not be called soon.
    pub fn release(&self) {
        if let Session::Http1(session) = &self.session {
            session.release();
        }
    }

    /// Tells the outlier detector how it ended.
    pub fn report(&mut self, outcome: Outcome) {
        if let (Outcome::TimedOut, Session::Http2(session)) = (outcome, &self.session) {
            // Perhaps the connection is dead: let it serve what it has, but nothing new.
            session.connection().retire();
        }
        self.lease.report(outcome);
    }

    /// The exchange is complete: the connection goes back to the pool if it may be used again.
    pub fn finish(self) {
        if !self.is_bound
            && let Session::Http1(session) = self.session
            && let Some(idle) = session.into_idle()
        {
            self.lease.peer().pool().put(idle);
        }
    }

    fn locate(&self, error: UpstreamError) -> UpstreamError {
        error.at(self.endpoint()).on(self.reused)
    }
}

/// Back-pressure of a request's body: cheap to clone, polled beside [`Upstream::read_event`].
#[derive(Clone)]
pub struct UpstreamWriter(Writer);

#[derive(Clone)]
enum Writer {
    Http1(WriteHandle),
    Http2(http2::Body),
}

impl UpstreamWriter {
    /// Whether the next piece can be taken without waiting.
    pub fn has_room(&self) -> bool {
        match &self.0 {
            Writer::Http1(handle) => handle.has_room(),
            Writer::Http2(body) => body.has_room(),
        }
    }

    /// Resolves when there is room, or when the backend takes no more. Cancel-safe.
    pub async fn room(&self) {
        match &self.0 {
            Writer::Http1(handle) => http1::room(handle).await,
            Writer::Http2(body) => body.room().await,
        }
    }
}
