//! HTTP/1 towards the client, over Pingora's server session.
//!
//! Pingora parses heads and writes responses. Where a request ends, and what its body is, the guard under the session
//! has decided; bodies are read past Pingora, from the guard.

mod handles;

use std::{future::poll_fn, rc::Rc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header, request, response};
use pingora_core::protocols::{Stream, http::v1::server::HttpSession};
use pingora_http::{RequestHeader, ResponseHeader};
use portcullis_routing::settings::Limits;

use self::handles::Handles;
use super::{Connection, Downstream, DownstreamError, refusal};
use crate::{
    deadline::Deadline,
    egress::tunnel::Passage,
    message::request_head,
    reason::Reason,
    stream::{
        BodyFrame, BufferedStream, ReadError, Transport,
        guard::{Guard, HeadLimits},
    },
};

/// Bytes of an unread request body that are thrown away so that the connection can be kept.
const MAX_DRAIN: usize = 64 * 1024;
/// Time for it.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked whether a client is still there of whom nothing can be read.
const LOOK: Duration = Duration::from_millis(250);
/// The answer to a CONNECT that succeeds.
const CONNECTED: &[u8] = b"HTTP/1.1 200 OK\r\n\r\n";

/// Serves the requests of a connection one after the other until it ends. A request that never becomes an exchange is
/// answered here and told to `refused`.
pub(crate) async fn serve(
    stream: BufferedStream,
    connection: &Connection,
    deadline: Rc<Deadline>,
    limits: &Limits,
    mut exchange: impl AsyncFnMut(&mut Downstream),
    refused: impl Fn(Reason),
) {
    stream.set_corked(true);
    let limits_of_head = head_limits(limits);
    stream.set_guard(if connection.egress {
        Guard::proxy_requests(limits_of_head)
    } else {
        Guard::requests(limits_of_head)
    });
    let handles = Handles {
        reader: stream.read_handle(),
        writer: stream.write_handle(),
        deadline,
        idle: limits.stream_idle_timeout.duration(),
    };
    let mut stream: Stream = Box::new(stream);
    let mut left = limits.max_requests_per_connection.unwrap_or(u32::MAX);
    let mut is_first = true;
    loop {
        match handles.wait_for_head(limits, is_first).await {
            Ok(true) => {}
            Ok(false) => return handles.part(stream).await,
            Err(reason) => {
                refused(reason);
                return refusal::refuse(stream, &handles.reader, reason, &handles.deadline).await;
            }
        }
        handles.deadline.clear();
        left = left.saturating_sub(1);
        is_first = false;
        let mut session = match H1::begin(stream, &handles).await {
            Ok(session) => session,
            Err(stream) => {
                tracing::debug!(client = %connection.client, "the parser refused a head that the guard had passed");
                refused(Reason::BadRequest);
                return refusal::refuse(
                    stream,
                    &handles.reader,
                    Reason::BadRequest,
                    &handles.deadline,
                )
                .await;
            }
        };
        if left == 0 {
            session.close_after();
        }
        let mut downstream = Downstream::H1(session);
        exchange(&mut downstream).await;
        let Downstream::H1(mut session) = downstream else {
            return;
        };
        if let Some(passage) = session.passage.take() {
            drop(handles);
            if let Some((client, read)) = session.into_transport().await {
                passage.run(client, read).await;
            }
            return;
        }
        match session.end().await {
            Some(kept) => stream = kept,
            None => return,
        }
    }
}

/// The guard's share of the limits.
fn head_limits(limits: &Limits) -> HeadLimits {
    let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
    HeadLimits {
        bytes: size(limits.max_header_bytes),
        fields: size(limits.max_headers),
        target: size(limits.max_target_bytes),
    }
}

/// One request of a connection, and its response.
pub struct H1 {
    /// Boxed: it is large, and we are moved a few times.
    session: Box<HttpSession>,
    handles: Handles,
    http_1_1: bool,
    trailers: Trailers,
    /// The client waits for `100 Continue`.
    expects_continue: bool,
    /// The client asked for an upgrade.
    asked_upgrade: bool,
    after: After,
    state: ResponseState,
    /// What the connection is handed to: it carries no more requests.
    passage: Option<Box<Passage>>,
}

/// What becomes of the connection after the exchange, as far as we are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    Keep,
    Close,
    /// Another protocol is spoken now.
    Tunnel,
    /// Requests, behind the answer to a CONNECT that the parser's session knows nothing of.
    Requests,
}

/// Whether trailers may follow the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trailers {
    NotTaken,
    /// The client said `TE: trailers`.
    Taken,
    /// And the response is chunked.
    Possible,
}

/// How far the response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseState {
    Waiting,
    Body,
    Complete,
    Broken,
}

impl H1 {
    /// Lets Pingora parse the head that the guard has approved. An error gives the stream back.
    async fn begin(stream: Stream, handles: &Handles) -> Result<Self, Stream> {
        let mut session = Box::new(HttpSession::new(stream));
        session.set_read_timeout(None);
        // What an unread body means for the connection is decided here.
        session.set_close_on_response_before_downstream_finish(false);
        // As it stands in the buffer: no read, and no copy.
        let Ok(head) = handles.reader.take_head() else {
            return Err(session.into_inner());
        };
        session.set_pipelined_prefix(head);
        if !matches!(session.read_request().await, Ok(Some(_))) {
            return Err(session.into_inner());
        }
        let head = session.req_header();
        let expects_continue = head
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let takes_trailers = head
            .headers
            .get_all(header::TE)
            .iter()
            .any(|value| names_trailers(value.as_bytes()));
        Ok(Self {
            trailers: if takes_trailers && head.version == Version::HTTP_11 {
                Trailers::Taken
            } else {
                Trailers::NotTaken
            },
            http_1_1: head.version == Version::HTTP_11,
            expects_continue: expects_continue && head.version == Version::HTTP_11,
            asked_upgrade: session.is_upgrade_req(),
            session,
            handles: handles.clone(),
            after: After::Keep,
            state: ResponseState::Waiting,
            passage: None,
        })
    }

    pub(super) fn head(&self) -> &request::Parts {
        self.session.req_header()
    }

    /// Leaves behind what the session looks at when it writes the response: the method, and whether an upgrade was asked
    /// for. Names lose the case the client wrote them in, as on HTTP/2: a map of it would have to be kept beside
    /// the fields, and grows with each that is added on the way.
    pub(super) fn take_head(&mut self) -> request::Parts {
        let method = self.session.req_header().method.clone();
        let mut rest = RequestHeader::from(request_head(method));
        if self.asked_upgrade {
            // The value is of no interest; the name alone cannot be refused.
            _ = rest.insert_header(header::UPGRADE, "asked");
        }
        let head = std::mem::replace(self.session.req_header_mut(), rest);
        let absolute = absolute_form(head.raw_path());
        let mut head: request::Parts = head.into();
        if let Some(target) = absolute {
            head.uri = target;
        }
        head
    }

    /// Answers a CONNECT with yes: RFC 9110 9.3.6 has neither content nor its framing in that answer.
    pub(super) fn connected(&mut self) -> Result<(), DownstreamError> {
        self.handles
            .writer
            .append(|buffer| buffer.extend_from_slice(CONNECTED))?;
        self.state = ResponseState::Complete;
        self.after = After::Requests;
        Ok(())
    }

    /// The same, and hands the connection over.
    pub(super) fn hand_over(&mut self, passage: Box<Passage>) -> Result<(), DownstreamError> {
        self.connected()?;
        self.passage = Some(passage);
        Ok(())
    }

    /// The connection by itself, once all that was sent has left us, and what was read ahead.
    async fn into_transport(self) -> Option<(Transport, BytesMut)> {
        let sent = self
            .handles
            .in_time(|handles, cx| handles.writer.poll_drained(cx, 0));
        sent.await.ok()?;
        let Self {
            session, handles, ..
        } = self;
        drop(handles);
        let stream = session.into_inner().into_any();
        let stream = stream.downcast::<BufferedStream>().ok()?;
        stream.into_transport().ok()
    }

    pub(super) fn body_is_empty(&self) -> bool {
        self.after != After::Tunnel && self.handles.reader.message_is_complete()
    }

    pub(super) async fn read_body(&mut self) -> Result<BodyFrame, DownstreamError> {
        if self.expects_continue
            && self.state == ResponseState::Waiting
            && !self.handles.reader.has_unread()
            && !self.body_is_empty()
        {
            self.expects_continue = false;
            self.session.write_continue_response().await?;
        }
        self.handles
            .in_time(|handles, cx| handles.reader.poll_frame(cx))
            .await
    }

    pub(super) fn release(&self) {
        self.handles.reader.release();
    }

    pub(super) async fn closed(&mut self) -> DownstreamError {
        if self.after == After::Tunnel {
            // That the client says no more does not mean that it hears no more: only writing can tell.
            return self.broken().await;
        }
        poll_fn(|cx| self.handles.reader.poll_closed(cx))
            .await
            .into()
    }

    /// Without reading: that the client has hung up is seen by looking from time to time.
    pub(super) async fn broken(&self) -> DownstreamError {
        let look = self.handles.deadline.another();
        look.set(LOOK);
        poll_fn(|cx| {
            if let Err(error) = self.handles.writer.try_flush(cx) {
                return Poll::Ready(error.into());
            }
            // One direction of a tunnel may end before the other.
            if self.after != After::Tunnel && self.handles.reader.has_hung_up() {
                return Poll::Ready(ReadError::Closed.into());
            }
            while look.poll_passed(cx).is_ready() {
                look.set(LOOK);
            }
            Poll::Pending
        })
        .await
    }

    pub(super) fn writer(&self) -> H1Writer {
        H1Writer {
            handles: self.handles.clone(),
        }
    }

    pub(super) async fn send_head(
        &mut self,
        mut head: response::Parts,
        end: bool,
    ) -> Result<(), DownstreamError> {
        head.version = Version::HTTP_11;
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            if !self.asked_upgrade {
                return Err(DownstreamError::Switching);
            }
            self.write_head(head).await?;
            self.handles.reader.begin_tunnel();
            (self.after, self.state) = (After::Tunnel, ResponseState::Body);
            return Ok(());
        }
        if head.status.is_informational() {
            // HTTP/1.0 knows none (RFC 9110 15.2).
            if self.http_1_1 {
                self.expects_continue &= head.status != StatusCode::CONTINUE;
                self.write_head(head).await?;
            }
            return Ok(());
        }
        self.delimit(&mut head, end);
        // A client that still waits for `100 Continue` may or may not send its body now.
        if self.handles.deadline.is_draining() || (self.expects_continue && !self.body_is_empty()) {
            self.after = After::Close;
        }
        if self.after == After::Close {
            self.session.set_server_keepalive(None);
        }
        self.write_head(head).await?;
        self.state = ResponseState::Body;
        if end { self.finish(None).await } else { Ok(()) }
    }

    async fn write_head(&mut self, head: response::Parts) -> Result<(), DownstreamError> {
        let head = Box::new(ResponseHeader::from(head));
        Ok(self.session.write_response_header(head).await?)
    }

    /// Decides how the response's body is delimited (RFC 9112 6.3).
    fn delimit(&mut self, head: &mut response::Parts, end: bool) {
        head.headers.remove(header::TRANSFER_ENCODING);
        let has_length = head.headers.contains_key(header::CONTENT_LENGTH);
        let is_bodyless = self.session.req_header().method == Method::HEAD
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        if head.status == StatusCode::NO_CONTENT {
            head.headers.remove(header::CONTENT_LENGTH);
        }
        if has_length || is_bodyless {
            return;
        }
        if end {
            head.headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        } else if self.http_1_1 {
            let chunked = HeaderValue::from_static("chunked");
            head.headers.insert(header::TRANSFER_ENCODING, chunked);
            if self.trailers == Trailers::Taken {
                self.trailers = Trailers::Possible;
            }
        } else {
            // HTTP/1.0 only knows the end of the connection.
            self.after = After::Close;
        }
    }

    pub(super) async fn send_body(&mut self, data: Bytes) -> Result<(), DownstreamError> {
        if !data.is_empty() {
            self.session.write_body(&data).await?;
        }
        Ok(())
    }

    pub(super) async fn finish(
        &mut self,
        trailers: Option<HeaderMap>,
    ) -> Result<(), DownstreamError> {
        if self.state == ResponseState::Complete {
            return Ok(());
        }
        self.state = ResponseState::Broken;
        if self.after == After::Tunnel {
            // The client may still have something to say.
            self.handles.writer.end();
        } else {
            match trailers.filter(|_| self.trailers == Trailers::Possible) {
                Some(trailers) => self
                    .handles
                    .writer
                    .append(|buffer| end_chunks(buffer, &trailers))?,
                // A client that did not ask for them might not expect them (RFC 9110 6.5.1).
                None => _ = self.session.finish_body().await?,
            }
        }
        self.state = ResponseState::Complete;
        poll_fn(|cx| Poll::Ready(self.handles.writer.try_flush(cx))).await?;
        Ok(())
    }

    pub(super) async fn flushed(&mut self) -> Result<(), DownstreamError> {
        self.handles
            .in_time(|handles, cx| handles.writer.poll_drained(cx, 0))
            .await
    }

    pub(super) fn close_after(&mut self) {
        self.after = After::Close;
    }

    pub(super) fn reset(&mut self) {
        self.state = ResponseState::Broken;
    }

    /// Ends the exchange. The stream comes back if the connection can take another request.
    async fn end(mut self) -> Option<Stream> {
        if self.state != ResponseState::Complete {
            // The client must not take the response for complete, and a TLS goodbye would say just that.
            return None;
        }
        if self.after == After::Requests {
            return Some(self.session.into_inner());
        }
        let still_sending = !self.discard_body().await;
        // Bytes behind an upgrade that was not confirmed could be anything.
        let stray = self.asked_upgrade && self.handles.reader.has_unread();
        if self.after != After::Keep || still_sending || stray || !self.session.will_keepalive() {
            let still_sending = still_sending || self.handles.reader.has_unread();
            refusal::close(
                self.session.into_inner(),
                &self.handles.reader,
                || self.handles.writer.progress(),
                &self.handles.deadline,
                self.handles.idle,
                still_sending,
            )
            .await;
            return None;
        }
        Some(self.session.into_inner())
    }

    /// Reads what is left of the request's body, if it is little. Tells whether the request is complete then.
    async fn discard_body(&mut self) -> bool {
        match self.after {
            After::Keep => {}
            After::Close => return self.handles.reader.message_is_complete(),
            After::Tunnel | After::Requests => return true,
        }
        let mut discarded = 0;
        self.handles.deadline.set(DRAIN_TIMEOUT);
        while discarded < MAX_DRAIN && !self.handles.reader.message_is_complete() {
            let frame = poll_fn(|cx| match self.handles.reader.poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(frame.ok()),
                Poll::Pending => self.handles.deadline.poll_passed(cx).map(|()| None),
            });
            match frame.await {
                Some(BodyFrame::Data(data)) => discarded += data.len(),
                Some(_) => {}
                None => return false,
            }
        }
        self.handles.reader.message_is_complete()
    }
}

/// A target that names its host, of which the parser leaves the path only.
fn absolute_form(target: &[u8]) -> Option<Uri> {
    match target {
        [b'/', ..] | b"*" => None,
        target => Uri::try_from(target).ok(),
    }
}

/// Whether a `TE` field has `trailers`.
fn names_trailers(te: &[u8]) -> bool {
    te.split(|byte| *byte == b',')
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

/// The end of a chunked body with trailers, which the session cannot write.
fn end_chunks(buffer: &mut BytesMut, trailers: &HeaderMap) {
    buffer.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            buffer.extend_from_slice(part);
        }
    }
    buffer.extend_from_slice(b"\r\n");
}

/// Back-pressure of a response on HTTP/1.
#[derive(Clone, Debug)]
pub struct H1Writer {
    handles: Handles,
}

impl H1Writer {
    pub(super) fn has_room(&self) -> bool {
        self.handles.writer.has_room()
    }

    pub(super) async fn room(&self) -> Result<(), DownstreamError> {
        self.handles
            .in_time(|handles, cx| handles.writer.poll_room(cx))
            .await
    }
}
