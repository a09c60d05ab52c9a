//! HTTP/1.1 towards a backend: one request and its answer on a connection. The stream's guard decides where messages end
//! and gives head and body out without a copy.

use std::{fmt, future::poll_fn, io, task::Poll, time::Duration};

use bytes::Bytes;
use http::{HeaderName, Method, StatusCode, header, request, response};
use tokio::io::AsyncWriteExt as _;

use super::{
    UpstreamEvent,
    codec::{self, BodyFraming},
};
use crate::{
    stream::{
        BodyFrame, BufferedStream, ReadError, ReadHandle, Transport, WriteHandle, guard::Guard,
    },
    upstream::{
        error::{Progress, UpstreamError, UpstreamErrorKind},
        limit::Slot,
        pool::Idle,
    },
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// One request on a connection of its own. Dropped before its end, it closes the connection.
pub(crate) struct Http1 {
    stream: Box<BufferedStream>,
    reader: ReadHandle,
    writer: WriteHandle,
    slot: Slot,
    progress: Progress,
    request: Request,
    answer: Answer,
    framing: BodyFraming,
    /// The request asked for an upgrade.
    asked_upgrade: bool,
    /// The response lets the connection be kept.
    is_kept: bool,
    /// For how long the backend says that it keeps it.
    keep_alive: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Request {
    /// Head or body are not complete.
    Open,
    Complete,
    /// The backend takes no more of it. What it had to say before is still read.
    Broken,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Head,
    Body,
    Tunnel,
    /// The backend's side of the tunnel is over.
    TunnelEnded,
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
            stream,
            slot,
            framing: BodyFraming::None,
            asked_upgrade: false,
            is_kept: false,
            keep_alive: None,
            progress: Progress::NothingSent,
            request: Request::Open,
            answer: Answer::Head,
        }
    }

    pub(crate) fn writer(&self) -> &WriteHandle {
        &self.writer
    }

    pub(crate) fn send_head(
        &mut self,
        head: &request::Parts,
        end: bool,
    ) -> Result<(), UpstreamError> {
        let framing = codec::framing(head, end).map_err(misfit)?;
        self.reader.expect_response(head.method == Method::HEAD);
        self.asked_upgrade = head.headers.contains_key(header::UPGRADE);
        let mut written = Ok(());
        let appended = self
            .writer
            .append(|buffer| written = codec::write_head(buffer, head, framing));
        written.map_err(misfit)?;
        appended.map_err(|error| self.failure(&error))?;
        self.progress = Progress::Sent;
        self.framing = framing;
        if end {
            self.request = Request::Complete;
        }
        Ok(())
    }

    pub(crate) async fn send_body(&mut self, data: &Bytes) -> Result<(), UpstreamError> {
        if data.is_empty() || self.request != Request::Open {
            return Ok(());
        }
        if let BodyFraming::Length(left) = &mut self.framing {
            *left = left.checked_sub(data.len() as u64).ok_or_else(|| {
                misfit("the body is longer than its content-length").after(self.progress)
            })?;
        }
        if self.write_piece(data).await.is_err() || self.flush().await.is_err() {
            // That the backend takes no more is no failure yet: it may have answered already.
            self.request = Request::Broken;
        }
        Ok(())
    }

    async fn write_piece(&mut self, data: &Bytes) -> io::Result<()> {
        match self.framing {
            BodyFraming::None => Ok(()),
            BodyFraming::Length(_) | BodyFraming::Raw => self.stream.write_all(data).await,
            BodyFraming::Chunked => {
                self.writer
                    .append(|buffer| codec::chunk_line(buffer, data.len()))?;
                self.stream.write_all(data).await?;
                self.writer
                    .append(|buffer| buffer.extend_from_slice(b"\r\n"))
            }
        }
    }

    /// One terminator, once.
    pub(crate) async fn finish_body(&mut self) -> Result<(), UpstreamError> {
        if self.request != Request::Open {
            return Ok(());
        }
        let ended = match self.framing {
            BodyFraming::Length(left) if left > 0 => {
                return Err(
                    misfit("the body is shorter than its content-length").after(self.progress)
                );
            }
            BodyFraming::Chunked => self
                .writer
                .append(|buffer| buffer.extend_from_slice(b"0\r\n\r\n")),
            BodyFraming::Raw => {
                self.writer.end();
                Ok(())
            }
            BodyFraming::Length(_) | BodyFraming::None => Ok(()),
        };
        let flushed = ended.is_ok() && self.flush().await.is_ok();
        self.request = if flushed {
            Request::Complete
        } else {
            Request::Broken
        };
        Ok(())
    }

    async fn flush(&self) -> io::Result<()> {
        poll_fn(|cx| self.writer.try_flush(cx).into()).await
    }

    pub(crate) async fn read_event(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        match self.answer {
            Answer::Head => self.read_head().await,
            Answer::Body => self.read_frame().await,
            Answer::Tunnel => self.read_tunnel().await,
            Answer::TunnelEnded => self.finish_tunnel().await,
            Answer::Complete => Ok(UpstreamEvent::End),
        }
    }

    pub(crate) fn release(&self) {
        self.reader.release();
    }

    async fn read_head(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        let head = poll_fn(|cx| self.reader.poll_response(cx)).await;
        if !matches!(head, Err(ReadError::Io(_) | ReadError::Closed)) || self.reader.has_unread() {
            self.progress = Progress::Answered;
        }
        let head = head.map_err(|error| self.unreadable(&error))?;
        self.take_head(head)
    }

    fn take_head(&mut self, head: response::Parts) -> Result<UpstreamEvent, UpstreamError> {
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if !self.asked_upgrade {
                let error = UpstreamError::new(
                    UpstreamErrorKind::Protocol,
                    "101 to a request that asked for no upgrade",
                );
                return Err(error.after(self.progress));
            }
            self.framing = BodyFraming::Raw;
            self.reader.begin_tunnel();
            self.answer = Answer::Tunnel;
            self.request = Request::Open;
            return Ok(UpstreamEvent::Head(head, false));
        }
        if head.status.is_informational() {
            return Ok(UpstreamEvent::Informational(head));
        }
        let end = self.reader.message_is_complete();
        self.is_kept = codec::keeps_alive(&head);
        self.keep_alive = promised_keep_alive(&head);
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

    /// Raw bytes. What we send, and the end of it, leaves with the wait for them.
    async fn read_tunnel(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        let frame = poll_fn(|cx| self.reader.poll_frame(cx)).await;
        match frame.map_err(|error| self.unreadable(&error))? {
            BodyFrame::Data(data) => Ok(UpstreamEvent::Data(data)),
            BodyFrame::Trailers(_) | BodyFrame::End => {
                self.answer = Answer::TunnelEnded;
                Ok(UpstreamEvent::HalfClosed)
            }
        }
    }

    /// Waits until our side of the tunnel is over as well. That the backend takes no more ends it too: it has said what it
    /// had to say.
    async fn finish_tunnel(&mut self) -> Result<UpstreamEvent, UpstreamError> {
        poll_fn(|cx| match self.writer.poll_drained(cx, 0) {
            Poll::Ready(Ok(())) if self.request == Request::Open => Poll::Pending,
            drained => drained.map(drop),
        })
        .await;
        self.answer = Answer::Complete;
        Ok(UpstreamEvent::End)
    }

    /// The connection for the pool, if both messages are complete, nothing is left over and both sides keep it.
    pub(crate) fn into_idle(self) -> Option<Idle> {
        let reusable = self.is_kept
            && self.request == Request::Complete
            && self.answer == Answer::Complete
            && self.reader.message_is_complete()
            && !self.reader.has_unread()
            && self.writer.buffered() == 0;
        reusable.then(|| self.into_connection())
    }

    /// The connection for the pool if no request was sent on it.
    pub(crate) fn into_unused(self) -> Option<Idle> {
        (self.progress == Progress::NothingSent).then(|| self.into_connection())
    }

    fn into_connection(self) -> Idle {
        Idle {
            stream: self.stream,
            slot: self.slot,
            keep_alive: self.keep_alive,
        }
    }

    fn failure(&self, error: &io::Error) -> UpstreamError {
        UpstreamError::new(io_kind(error), error).after(self.progress)
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

/// `Keep-Alive: timeout=5` (RFC 2068 19.7.1.1, which servers still send).
fn promised_keep_alive(head: &response::Parts) -> Option<Duration> {
    let fields = head.headers.get(&KEEP_ALIVE)?.to_str().ok()?;
    let seconds = fields
        .split(',')
        .find_map(|field| field.trim().strip_prefix("timeout="))?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Waits until there is room for more of the request's body, or until none can be sent.
pub(super) async fn room(writer: &WriteHandle) {
    // What went wrong is told by reading.
    let _ = poll_fn(|cx| writer.poll_room(cx)).await;
}

fn misfit(reason: impl fmt::Display) -> UpstreamError {
    UpstreamError::new(UpstreamErrorKind::Request, reason)
}

/// What an I/O error of an established connection means.
pub(super) fn io_kind(error: &io::Error) -> UpstreamErrorKind {
    // In TLS 1.3 a backend refuses the client certificate only after the handshake.
    let is_tls = match error.get_ref() {
        Some(inner) => inner.is::<rustls::Error>(),
        None => false,
    };
    match error.kind() {
        _ if is_tls => UpstreamErrorKind::Tls,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => UpstreamErrorKind::Closed,
        io::ErrorKind::InvalidData => UpstreamErrorKind::Protocol,
        _ => UpstreamErrorKind::Reset,
    }
}
