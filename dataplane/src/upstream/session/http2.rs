//! HTTP/2 towards a backend: connections shared by many requests, one stream for each.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{
    HeaderMap, Request, StatusCode, Uri, Version, header, request, response,
    uri::{Authority, PathAndQuery, Scheme},
};
use tokio::time::Instant;

use super::UpstreamEvent;
use crate::{
    claims,
    stream::Transport,
    upstream::{
        error::{Progress, UpstreamError, UpstreamErrorKind},
        limit::{ConnectionLimit, Slot},
    },
};

/// Most streams at once on one connection; a backend may allow fewer.
const MAX_STREAMS: u32 = 100;
/// Stands for the backend's limit until its SETTINGS have come; not a value that they can have.
const UNKNOWN: usize = usize::MAX - 1;
/// What a backend may send ahead on one stream: the bound of memory per request, and what comes in one round trip (2.6 MB/s
/// where that takes 50 ms).
const STREAM_WINDOW: u32 = 128 * 1024;
/// And on all streams of a connection: as much for each, so that those whose clients take nothing hold back no others.
const CONNECTION_WINDOW: u32 = MAX_STREAMS * STREAM_WINDOW;
/// Bytes of a request's body that may wait for the backend's window.
const SEND_BUFFER: usize = 64 * 1024;
/// Bytes of a response's head, as the RFC counts them.
const MAX_HEAD: u32 = 64 * 1024;

/// An HTTP/2 connection of a pool.
pub(crate) struct Http2Connection {
    send: SendRequest<Bytes>,
    tls: bool,
    streams: Cell<usize>,
    retired: Cell<bool>,
    idle_since: Cell<Instant>,
    limit: Rc<ConnectionLimit>,
}

impl Http2Connection {
    /// Begins HTTP/2 on a connection and leaves it to a task of its own, which ends with it. The backend's SETTINGS are
    /// awaited: only then is it sure that it speaks HTTP/2, and how many streams it allows.
    pub(crate) async fn start(
        transport: Transport,
        slot: Slot,
        limit: Rc<ConnectionLimit>,
    ) -> Result<Rc<Self>, UpstreamError> {
        let tls = transport.is_tls();
        let (send, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(MAX_HEAD)
            .initial_max_send_streams(UNKNOWN)
            .handshake::<_, Bytes>(transport)
            .await
            .map_err(|error| failure(&error, Progress::NothingSent))?;
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(end) => Poll::Ready(Err(ended_early(end))),
            Poll::Pending if send.current_max_send_streams() == UNKNOWN => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(())),
        })
        .await?;
        slot.opened();
        let freed = Rc::clone(&limit);
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a backend ended");
            }
            drop(slot);
            freed.notify();
        });
        Ok(Rc::new(Self {
            send,
            tls,
            streams: Cell::new(0),
            retired: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            limit,
        }))
    }

    /// A new stream, if the connection takes one.
    pub(crate) fn stream(self: &Rc<Self>) -> Option<Http2> {
        let most = (MAX_STREAMS as usize).min(self.send.current_max_send_streams());
        if self.streams.get() >= most {
            return None;
        }
        let send = self.usable()?;
        self.streams.set(self.streams.get() + 1);
        Some(Http2 {
            send,
            stream: StreamSlot(Rc::clone(self)),
            body: Body::default(),
            answer: Answer::NotAsked,
            progress: Progress::NothingSent,
        })
    }

    /// Whether new streams may still be opened: no GOAWAY came, no end, no error.
    pub(crate) fn is_usable(&self) -> bool {
        self.usable().is_some()
    }

    fn usable(&self) -> Option<SendRequest<Bytes>> {
        if self.retired.get() {
            return None;
        }
        let mut send = self.send.clone();
        let ready = send.poll_ready(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Ok(()))).then_some(send)
    }

    /// Takes no new streams.
    pub(crate) fn retire(&self) {
        self.retired.set(true);
    }

    /// Since when there has been no stream, if there is none.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.streams.get() == 0).then(|| self.idle_since.get())
    }
}

/// One stream's place on its connection.
struct StreamSlot(Rc<Http2Connection>);

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let connection = &self.0;
        connection
            .streams
            .set(connection.streams.get().saturating_sub(1));
        connection.idle_since.set(Instant::now());
        connection.limit.notify();
    }
}

/// One request on a stream. Dropped before its end, it resets the stream.
pub(crate) struct Http2 {
    send: SendRequest<Bytes>,
    body: Body,
    answer: Answer,
    progress: Progress,
    // Last: the place is free only after the handles above are gone.
    stream: StreamSlot,
}

enum Answer {
    NotAsked,
    Awaited(ResponseFuture),
    Body(RecvStream),
    Complete,
}

impl Http2 {
    pub(crate) fn connection(&self) -> &Http2Connection {
        &self.stream.0
    }

    pub(crate) fn body(&self) -> Body {
        self.body.clone()
    }

    pub(crate) fn send_head(
        &mut self,
        head: request::Parts,
        end: bool,
    ) -> Result<(), UpstreamError> {
        let request = to_request(head, self.connection().tls)?;
        let (answer, body) = self
            .send
            .send_request(request, end)
            .map_err(|error| failure(&error, Progress::NothingSent))?;
        self.progress = Progress::Sent;
        self.answer = Answer::Awaited(answer);
        if !end {
            self.body.open(body);
        }
        Ok(())
    }

    pub(crate) fn send_body(&self, data: Bytes) {
        self.body.send(data);
    }

    pub(crate) fn finish_body(&self, trailers: Option<HeaderMap>) {
        self.body.finish(trailers);
    }

    pub(crate) async fn read_event(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        let event = poll_fn(|cx| self.answer.poll_event(cx)).await;
        if matches!(
            event,
            Ok(UpstreamEvent::Informational(_) | UpstreamEvent::Head(..))
        ) {
            self.progress = Progress::Answered;
        }
        let malformed =
            |what| Err(UpstreamError::new(UpstreamErrorKind::Protocol, what).after(self.progress));
        match event {
            Ok(UpstreamEvent::Informational(head))
                if head.status == StatusCode::SWITCHING_PROTOCOLS =>
            {
                malformed("101, which HTTP/2 does not have")
            }
            Ok(UpstreamEvent::Head(head, _)) if has_two_lengths(&head) => {
                malformed("content-length is repeated")
            }
            event => event.map_err(|error| failure(&error, self.progress)),
        }
    }
}

impl Answer {
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Result<UpstreamEvent, h2::Error>> {
        loop {
            match self {
                Answer::NotAsked | Answer::Complete => return Poll::Ready(Ok(UpstreamEvent::End)),
                Answer::Awaited(answer) => {
                    if let Poll::Ready(Some(head)) = answer.poll_informational(cx) {
                        return Poll::Ready(
                            head.map(|head| UpstreamEvent::Informational(head.into_parts().0)),
                        );
                    }
                    let (head, body) = ready!(Pin::new(answer).poll(cx))?.into_parts();
                    let end = body.is_end_stream();
                    *self = if end {
                        Answer::Complete
                    } else {
                        Answer::Body(body)
                    };
                    return Poll::Ready(Ok(UpstreamEvent::Head(head, end)));
                }
                Answer::Body(body) => {
                    let Some(data) = ready!(body.poll_data(cx)).transpose()? else {
                        let trailers = ready!(body.poll_trailers(cx))?;
                        *self = Answer::Complete;
                        return Poll::Ready(Ok(match trailers {
                            Some(mut trailers) => {
                                claims::strip_trailers(&mut trailers);
                                UpstreamEvent::Trailers(trailers)
                            }
                            None => UpstreamEvent::End,
                        }));
                    };
                    // The caller reads on only when it can pass this piece on.
                    body.flow_control().release_capacity(data.len())?;
                    if !data.is_empty() {
                        return Poll::Ready(Ok(UpstreamEvent::Data(data)));
                    }
                }
            }
        }
    }
}

fn ended_early(end: Result<(), h2::Error>) -> UpstreamError {
    match end {
        Ok(()) => UpstreamError::new(UpstreamErrorKind::Closed, "closed before HTTP/2 began"),
        Err(error) => failure(&error, Progress::NothingSent),
    }
}

/// The h2 crate compares the first length with the data; a client might believe another one (RFC 9110 8.6).
fn has_two_lengths(head: &response::Parts) -> bool {
    let lengths = head.headers.get_all(header::CONTENT_LENGTH);
    lengths.iter().nth(1).is_some()
}

/// A request in HTTP/1.1's shape as one of HTTP/2: the pseudo-fields come from target, `Host` and the connection.
fn to_request(mut parts: request::Parts, tls: bool) -> Result<Request<()>, UpstreamError> {
    let path = parts.uri.path_and_query().cloned();
    let host = parts.headers.remove(header::HOST);
    let authority = match (parts.uri.authority(), &host) {
        (Some(authority), _) => authority.clone(),
        (None, Some(host)) => Authority::try_from(host.as_bytes()).map_err(unfit)?,
        (None, None) => return Err(unfit("no authority")),
    };
    let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
    parts.uri = Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")))
        .build()
        .map_err(unfit)?;
    parts.version = Version::HTTP_2;
    Ok(Request::from_parts(parts, ()))
}

fn unfit(reason: impl std::fmt::Display) -> UpstreamError {
    UpstreamError::new(
        UpstreamErrorKind::Request,
        format_args!("the request cannot be sent in HTTP/2: {reason}"),
    )
}

/// What an error of the h2 crate means for the request of a stream that had come this far.
fn failure(error: &h2::Error, progress: Progress) -> UpstreamError {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    // A stream sees a remote GOAWAY as its own error only if its number is above the last one processed.
    let not_processed = error.is_remote() && (refused || error.is_go_away());
    let kind = match error.get_io() {
        // Of what a transport reads, only TLS can be invalid; the h2 crate keeps nothing else of the error.
        Some(io) if io.kind() == io::ErrorKind::InvalidData => UpstreamErrorKind::Tls,
        Some(io) => super::http1::io_kind(io),
        None if error.is_go_away() && error.is_remote() => UpstreamErrorKind::Closed,
        None if error.is_reset() && error.is_remote() => UpstreamErrorKind::Reset,
        None if error.reason().is_some() => UpstreamErrorKind::Protocol,
        None if progress == Progress::NothingSent => UpstreamErrorKind::Request,
        None => UpstreamErrorKind::Closed,
    };
    let progress = if not_processed {
        progress.min(Progress::NotProcessed)
    } else {
        progress
    };
    UpstreamError::new(kind, error).after(progress)
}

/// The sending half of a stream, shared with the writer that waits for room.
#[derive(Clone, Default)]
pub(crate) struct Body(Rc<RefCell<Option<SendStream<Bytes>>>>);

impl Body {
    /// Asks for one byte more than is buffered: there is room when all of the buffered bytes may be sent. What is reserved is taken
    /// from the connection's window, and the client may have nothing to send.
    fn open(&self, mut stream: SendStream<Bytes>) {
        stream.reserve_capacity(1);
        *self.0.borrow_mut() = Some(stream);
    }

    /// A failure is told by reading: the backend may have answered before it stopped to listen.
    fn send(&self, data: Bytes) {
        let sent = self.0.borrow_mut().as_mut().map_or(Ok(()), |stream| {
            stream.send_data(data, false)?;
            stream.reserve_capacity(1);
            Ok::<(), h2::Error>(())
        });
        if sent.is_err() {
            self.close();
        }
    }

    fn finish(&self, trailers: Option<HeaderMap>) {
        let Some(mut stream) = self.0.borrow_mut().take() else {
            return;
        };
        let _ = match trailers {
            Some(trailers) => stream.send_trailers(trailers),
            None => stream.send_data(Bytes::new(), true),
        };
    }

    fn close(&self) {
        self.0.borrow_mut().take();
    }

    pub(super) fn has_room(&self) -> bool {
        self.0
            .borrow()
            .as_ref()
            .is_none_or(|stream| stream.capacity() > 0)
    }

    /// Waits until there is room for more of the request's body, or until none can be sent.
    pub(super) async fn room(&self) {
        let open = poll_fn(|cx| self.poll_open(cx)).await;
        if !open {
            // What went wrong is told by reading.
            self.close();
        }
    }

    fn poll_open(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut stream = self.0.borrow_mut();
        let Some(stream) = stream.as_mut() else {
            return Poll::Ready(false);
        };
        while stream.capacity() == 0 {
            if !matches!(ready!(stream.poll_capacity(cx)), Some(Ok(_))) {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    }
}
