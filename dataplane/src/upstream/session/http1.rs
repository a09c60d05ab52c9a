//! HTTP/1.1 towards a backend: Pingora's session writes the request and reads the answer's head; the stream's guard
//! decides where messages end and gives the body out without a copy.

use std::{fmt, future::poll_fn, io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, Version, header};
use pingora_core::protocols::http::v1::client::HttpSession;
use pingora_error::{Error, ErrorType};
use pingora_http::{RequestHeader, ResponseHeader};

use super::UpstreamEvent;
use crate::{
    stream::{
        BodyFrame, BufferedStream, ReadError, ReadHandle, Transport, WRITE_ROOM, WriteHandle,
        guard::Guard,
    },
    upstream::{
        error::{Progress, UpstreamError, UpstreamErrorKind},
        limit::Slot,
        pool::Idle,
    },
};

/// One request on a connection of its own. Dropped before its end, it closes the connection.
pub(crate) struct Http1 {
    session: HttpSession,
    reader: ReadHandle,
    writer: WriteHandle,
    slot: Slot,
    progress: Progress,
    request: Request,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// Head or body are not complete.
    Open,
    Complete,
    /// Our side of a tunnel is over, which the backend has yet to be told.
    Closing,
    /// The backend takes no more of it. What it had to say before is still read.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Head,
    Body,
    Tunnel,
    Complete,
}

impl Http1 {
    /// The first session on a connection.
    pub(crate) fn begin(transport: Transport, slot: Slot) -> Self {
        let stream = BufferedStream::new(transport);
        stream.set_guard(Guard::responses());
        // The head waits for the body's first piece or for the wait for the answer: one system call.
        stream.set_corked(true);
        Self::new(Box::new(stream), slot)
    }

    /// The next session on a pooled connection.
    pub(crate) fn new(stream: Box<BufferedStream>, slot: Slot) -> Self {
        Self {
            reader: stream.read_handle(),
            writer: stream.write_handle(),
            session: HttpSession::new(stream),
            slot,
            progress: Progress::NothingSent,
            request: Request::Open,
            answer: Answer::Head,
        }
    }

    pub(crate) fn writer(&self) -> &WriteHandle {
        &self.writer
    }

    pub(crate) async fn send_head(
        &mut self,
        mut head: RequestHeader,
        end: bool,
    ) -> Result<(), UpstreamError> {
        frame(&mut head, end).map_err(misfit)?;
        self.reader.expect_response(head.method == Method::HEAD);
        let sent = self.session.write_request_header(Box::new(head)).await;
        sent.map_err(|error| match error.etype() {
            ErrorType::InvalidHTTPHeader => misfit(error),
            _ => self.failure(&error),
        })?;
        self.progress = Progress::Sent;
        if end {
            self.request = Request::Complete;
        }
        Ok(())
    }

    pub(crate) async fn send_body(&mut self, data: &Bytes) -> Result<(), UpstreamError> {
        if data.is_empty() || self.request != Request::Open {
            return Ok(());
        }
        let written = self.session.write_body(data).await;
        match written {
            Ok(Some(length)) if length == data.len() => {}
            Ok(_) => return Err(misfit("the body is longer than its content-length")),
            Err(error) => return self.give_up(&error),
        }
        if self.flush().await.is_err() {
            self.request = Request::Broken;
        }
        Ok(())
    }

    /// One terminator, once.
    pub(crate) async fn finish_body(&mut self) -> Result<(), UpstreamError> {
        if self.request != Request::Open {
            return Ok(());
        }
        if self.answer == Answer::Tunnel {
            self.request = Request::Closing;
            return Ok(());
        }
        let written = self.session.finish_body().await;
        if let Err(error) = written {
            return self.give_up(&error);
        }
        let flushed = self.flush().await.is_ok();
        self.request = if flushed {
            Request::Complete
        } else {
            Request::Broken
        };
        Ok(())
    }

    /// Sends nothing more. That the backend takes no more is no failure yet: it may have answered already.
    fn give_up(&mut self, error: &Error) -> Result<(), UpstreamError> {
        self.request = Request::Broken;
        if io_cause(error).is_some() {
            Ok(())
        } else {
            Err(misfit(error).after(self.progress))
        }
    }

    async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.writer.try_flush(cx).into()).await
    }

    pub(crate) async fn read_event(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        match self.answer {
            Answer::Head => self.read_head().await,
            Answer::Body => self.read_frame().await,
            Answer::Tunnel => self.read_tunnel().await,
            Answer::Complete => Ok(UpstreamEvent::End),
        }
    }

    async fn read_head(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        let arrived = poll_fn(|cx| self.reader.poll_head(cx)).await;
        if self.reader.has_unread() {
            self.progress = Progress::Answered;
        }
        if !arrived.map_err(|error| self.unreadable(&error))? {
            return Err(self.unreadable(&ReadError::Closed));
        }
        // The whole head has arrived and is checked, so this does not wait.
        self.session
            .read_response()
            .await
            .map_err(|error| self.failure(&error))?;
        let Some(head) = self.session.resp_header().cloned() else {
            return Err(self.unreadable(&ReadError::Closed));
        };
        self.take_head(head)
    }

    fn take_head(&mut self, head: ResponseHeader) -> Result<UpstreamEvent, UpstreamError> {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if !self.session.was_upgraded() {
                let error = UpstreamError::new(
                    UpstreamErrorKind::Protocol,
                    "101 to a request that asked for no upgrade",
                );
                return Err(error.after(self.progress));
            }
            self.session.maybe_upgrade_body_writer();
            self.reader.begin_tunnel();
            self.answer = Answer::Tunnel;
            self.request = Request::Open;
            return Ok(UpstreamEvent::Head(head, false));
        }
        if head.status.is_informational() {
            return Ok(UpstreamEvent::Informational(head));
        }
        let end = self.reader.message_is_complete();
        self.answer = if end { Answer::Complete } else { Answer::Body };
        Ok(UpstreamEvent::Head(head, end))
    }

    async fn read_frame(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        let frame = poll_fn(|cx| self.reader.poll_frame(cx)).await;
        Ok(match frame.map_err(|error| self.unreadable(&error))? {
            BodyFrame::Data(data) => UpstreamEvent::Data(data),
            BodyFrame::Trailers(trailers) => {
                self.answer = Answer::Complete;
                UpstreamEvent::Trailers(trailers)
            }
            BodyFrame::End => {
                self.answer = Answer::Complete;
                UpstreamEvent::End
            }
        })
    }

    /// Raw bytes; meanwhile the end of our side, if it has come, is passed on behind the last of its bytes.
    async fn read_tunnel(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        while self.request == Request::Closing {
            tokio::select! {
                biased;
                frame = poll_fn(|cx| self.reader.poll_frame(cx)) => return self.tunnelled(frame),
                () = self.session.shutdown() => self.request = Request::Complete,
            }
        }
        let frame = poll_fn(|cx| self.reader.poll_frame(cx)).await;
        self.tunnelled(frame)
    }

    fn tunnelled(
        &mut self,
        frame: Result<BodyFrame, ReadError>,
    ) -> Result<UpstreamEvent, UpstreamError> {
        match frame.map_err(|error| self.unreadable(&error))? {
            BodyFrame::Data(data) => Ok(UpstreamEvent::Data(data)),
            BodyFrame::Trailers(_) | BodyFrame::End => {
                self.answer = Answer::Complete;
                Ok(UpstreamEvent::End)
            }
        }
    }

    /// The connection for the pool, if both messages are complete, nothing is left over and both sides keep it.
    pub(crate) fn into_idle(mut self) -> Option<Idle> {
        self.session.respect_keepalive();
        let reusable = self.request == Request::Complete
            && self.answer == Answer::Complete
            && self.session.will_keepalive()
            && self.reader.message_is_complete()
            && !self.reader.has_unread()
            && self.writer.buffered() == 0;
        if !reusable {
            return None;
        }
        let keep_alive = self.session.resp_header().and_then(promised_keep_alive);
        self.into_connection(keep_alive)
    }

    /// The connection for the pool if no request was sent on it.
    pub(crate) fn into_unused(self) -> Option<Idle> {
        if self.progress == Progress::NothingSent {
            self.into_connection(None)
        } else {
            None
        }
    }

    fn into_connection(self, keep_alive: Option<Duration>) -> Option<Idle> {
        let stream = self.session.into_inner().into_any().downcast().ok()?;
        Some(Idle {
            stream,
            slot: self.slot,
            keep_alive,
        })
    }

    fn failure(&self, error: &Error) -> UpstreamError {
        let kind = match (io_cause(error), error.etype()) {
            (Some(io), _) => io_kind(io),
            (None, ErrorType::ConnectionClosed) => UpstreamErrorKind::Closed,
            (None, _) => UpstreamErrorKind::Protocol,
        };
        UpstreamError::new(kind, error).after(self.progress)
    }

    fn unreadable(&self, error: &ReadError) -> UpstreamError {
        let kind = match error {
            ReadError::Io(error) => io_kind(error),
            ReadError::Violation(_) => UpstreamErrorKind::Protocol,
            ReadError::Closed => UpstreamErrorKind::Closed,
        };
        UpstreamError::new(kind, error).after(self.progress)
    }
}

/// Sets version and framing (RFC 9112 6). Upgrade requests keep theirs: they have no body.
fn frame(head: &mut RequestHeader, end: bool) -> Result<(), Box<Error>> {
    head.set_version(Version::HTTP_11);
    if end {
        head.remove_header(&header::TRANSFER_ENCODING);
        let expects_length = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        if expects_length && !head.headers.contains_key(header::CONTENT_LENGTH) {
            head.insert_header(header::CONTENT_LENGTH, HeaderValue::from_static("0"))?;
        }
    } else if !head.headers.contains_key(header::CONTENT_LENGTH)
        && !head.headers.contains_key(header::UPGRADE)
    {
        head.insert_header(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        )?;
    }
    Ok(())
}

/// `Keep-Alive: timeout=5` (RFC 2068 19.7.1.1, which servers still send).
fn promised_keep_alive(head: &ResponseHeader) -> Option<Duration> {
    let fields = head.headers.get("keep-alive")?.to_str().ok()?;
    let seconds = fields
        .split(',')
        .find_map(|field| field.trim().strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Waits until there is room for more of the request's body, or until none can be sent.
pub(super) async fn room(writer: &WriteHandle) {
    // What went wrong is told by reading.
    let _ = poll_fn(|cx| writer.poll_drained(cx, WRITE_ROOM / 2)).await;
}

fn misfit(reason: impl fmt::Display) -> UpstreamError {
    UpstreamError::new(UpstreamErrorKind::Request, reason)
}

fn io_cause(error: &Error) -> Option<&io::Error> {
    error.cause.as_deref()?.downcast_ref()
}

/// What an I/O error of an established connection means.
pub(super) fn io_kind(error: &io::Error) -> UpstreamErrorKind {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => UpstreamErrorKind::Closed,
        io::ErrorKind::InvalidData => UpstreamErrorKind::Protocol,
        _ => UpstreamErrorKind::Reset,
    }
}
