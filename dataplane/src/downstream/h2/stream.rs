//! One stream of an HTTP/2 connection: a request and its response.

use std::{
    cell::RefCell,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, ext::Protocol, server::SendResponse};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header, request,
    response,
};

use super::{tail::Tails, tunnel::H2Tunnel};
use crate::{
    claims,
    deadline::{Deadline, Deadlines},
    downstream::{BodyFrame, DownstreamError},
    egress::tunnel::Passage,
    message::{request_head, response_head},
};

/// Fields that HTTP/2 does not have (RFC 9113 8.2.2).
const CONNECTION_FIELDS: [HeaderName; 5] = [
    header::CONNECTION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Interim heads (1xx) of one answer that are passed on. They are queued whatever the client takes, so those beyond are dropped.
const MAX_INTERIM: u8 = 8;
/// Bytes of them, as HTTP/2 counts header fields.
const MAX_INTERIM_BYTES: usize = 16 * 1024;

/// How a stream's exchange ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// On our side.
    Finished,
    /// The client reset the stream.
    Reset,
    /// The connection is of no further use.
    Retired,
}

/// A stream.
pub struct H2 {
    head: request::Parts,
    protocol: Option<Protocol>,
    body: RecvStream,
    /// The data is through, trailers may follow.
    data_is_over: bool,
    expects_continue: bool,
    interim: Interim,
    sender: Rc<RefCell<Sender>>,
    timer: Timer,
    /// Once we have broken the response off: whether the client had reset the stream before.
    broken_off: Option<bool>,
    retires: bool,
    /// What the stream is handed to.
    passage: Option<Box<Passage>>,
}

impl H2 {
    pub(super) fn new(
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        timer: Timer,
        tails: Tails,
    ) -> Self {
        let (mut parts, body) = request.into_parts();
        let protocol = parts.extensions.remove::<Protocol>();
        let expects_continue = parts
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let sender = Sender {
            respond,
            stream: None,
            pending: None,
            tails,
            is_reserved: false,
            is_over: false,
        };
        Self {
            head: parts,
            protocol,
            body,
            data_is_over: false,
            expects_continue,
            interim: Interim::default(),
            sender: Rc::new(RefCell::new(sender)),
            timer,
            broken_off: None,
            retires: false,
            passage: None,
        }
    }

    pub(in crate::downstream) fn head(&self) -> &request::Parts {
        &self.head
    }

    pub(in crate::downstream) fn take_head(&mut self) -> request::Parts {
        let mut rest = request_head(self.head.method.clone());
        rest.version = Version::HTTP_2;
        std::mem::replace(&mut self.head, rest)
    }

    pub(in crate::downstream) fn body_is_empty(&self) -> bool {
        self.body.is_end_stream()
    }

    pub(in crate::downstream) fn extended_connect(&self) -> Option<&str> {
        self.protocol.as_ref().map(Protocol::as_str)
    }

    pub(in crate::downstream) async fn read_body(&mut self) -> Result<BodyFrame, DownstreamError> {
        if self.expects_continue && !self.body_is_empty() {
            self.expects_continue = false;
            self.sender
                .borrow_mut()
                .inform(StatusCode::CONTINUE, HeaderMap::new())?;
        }
        let Self {
            body,
            data_is_over,
            sender,
            timer,
            ..
        } = self;
        timer
            .limit(|cx| {
                sender.borrow_mut().send_pending()?;
                poll_frame(body, data_is_over, cx)
            })
            .await
    }

    pub(in crate::downstream) async fn closed(&mut self) -> DownstreamError {
        poll_fn(|cx| {
            let mut sender = self.sender.borrow_mut();
            if let Err(error) = sender.send_pending() {
                return Poll::Ready(error);
            }
            sender.poll_reset(cx).map(|()| DownstreamError::Gone)
        })
        .await
    }

    pub(in crate::downstream) fn writer(&self) -> H2Writer {
        H2Writer {
            sender: Rc::clone(&self.sender),
            timer: self.timer.clone(),
        }
    }

    pub(in crate::downstream) fn send_head(
        &mut self,
        mut parts: response::Parts,
        end: bool,
    ) -> Result<(), DownstreamError> {
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(DownstreamError::Switching);
        }
        for field in CONNECTION_FIELDS {
            parts.headers.remove(field);
        }
        parts.version = Version::HTTP_2;
        let mut sender = self.sender.borrow_mut();
        if parts.status.is_informational() {
            self.expects_continue &= parts.status != StatusCode::CONTINUE;
            if !self.interim.takes(&parts.headers) {
                return Ok(());
            }
            return sender.inform(parts.status, parts.headers);
        }
        self.expects_continue = false;
        sender.stream = Some(
            sender
                .respond
                .send_response(Response::from_parts(parts, ()), end)?,
        );
        sender.is_over = end;
        Ok(())
    }

    /// Answers a CONNECT with yes, and hands the stream over.
    pub(in crate::downstream) fn hand_over(
        &mut self,
        passage: Box<Passage>,
    ) -> Result<(), DownstreamError> {
        self.send_head(response_head(StatusCode::OK), false)?;
        self.passage = Some(passage);
        Ok(())
    }

    /// Whether it was.
    pub(super) fn is_handed_over(&self) -> bool {
        self.passage.is_some()
    }

    /// What the stream was handed to, and its bytes.
    pub(super) fn into_passage(self) -> Option<(Box<Passage>, H2Tunnel)> {
        let stream = self.sender.borrow_mut().stream.take()?;
        Some((self.passage?, H2Tunnel::new(self.body, stream)))
    }

    pub(in crate::downstream) fn send_body(&mut self, data: Bytes) -> Result<(), DownstreamError> {
        let mut sender = self.sender.borrow_mut();
        sender.send_pending()?;
        if !data.is_empty() && !sender.is_over {
            sender.pending = Some(data);
        }
        Ok(())
    }

    pub(in crate::downstream) fn finish(
        &mut self,
        trailers: Option<HeaderMap>,
    ) -> Result<(), DownstreamError> {
        self.sender.borrow_mut().finish(trailers)
    }

    /// The connection sends what is buffered, whether the exchange waits for it or not.
    pub(in crate::downstream) fn flushed(&mut self) -> Result<(), DownstreamError> {
        self.sender.borrow_mut().send_pending()
    }

    pub(in crate::downstream) fn reset(&mut self) {
        self.broken_off = Some(self.was_reset());
        self.sender
            .borrow_mut()
            .respond
            .send_reset(Reason::INTERNAL_ERROR);
    }

    /// The connection takes no new streams after this one.
    pub(in crate::downstream) fn retire(&mut self) {
        self.retires = true;
    }

    /// How the exchange ended, once it has.
    pub(super) fn outcome(&self) -> Outcome {
        match (self.retires, self.was_reset()) {
            (true, _) => Outcome::Retired,
            (false, true) => Outcome::Reset,
            (false, false) => Outcome::Finished,
        }
    }

    /// Whether the client has reset the stream.
    fn was_reset(&self) -> bool {
        // Nobody waits for it any more.
        let mut cx = Context::from_waker(Waker::noop());
        self.broken_off
            .unwrap_or_else(|| self.sender.borrow_mut().poll_reset(&mut cx).is_ready())
    }
}

/// The next piece of a request's body. Its bytes count as consumed at once: the exchange takes no more than it can pass
/// on.
fn poll_frame(
    body: &mut RecvStream,
    data_is_over: &mut bool,
    cx: &mut Context<'_>,
) -> Poll<Result<BodyFrame, DownstreamError>> {
    while !*data_is_over {
        match ready!(body.poll_data(cx)) {
            Some(Ok(data)) => {
                body.flow_control().release_capacity(data.len())?;
                if !data.is_empty() {
                    return Poll::Ready(Ok(BodyFrame::Data(data)));
                }
            }
            Some(Err(error)) => return Poll::Ready(Err(received(error))),
            None => *data_is_over = true,
        }
    }
    Poll::Ready(match ready!(body.poll_trailers(cx)) {
        Ok(Some(mut trailers)) => {
            claims::strip_trailers(&mut trailers);
            Ok(BodyFrame::Trailers(trailers))
        }
        Ok(None) => Ok(BodyFrame::End),
        Err(error) => Err(received(error)),
    })
}

/// An error that came from the client's side.
fn received(error: h2::Error) -> DownstreamError {
    if error.is_reset() || error.is_io() || error.is_go_away() {
        DownstreamError::Gone
    } else {
        error.into()
    }
}

/// What of interim heads was passed on.
#[derive(Debug, Default)]
struct Interim {
    heads: u8,
    bytes: usize,
}

impl Interim {
    /// Whether another one may be, which then counts.
    fn takes(&mut self, headers: &HeaderMap) -> bool {
        let size =
            |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 32;
        let bytes = self.bytes + headers.iter().map(size).sum::<usize>();
        let fits = self.heads < MAX_INTERIM && bytes <= MAX_INTERIM_BYTES;
        if fits {
            self.heads += 1;
            self.bytes = bytes;
        }
        fits
    }
}

/// The response's side of a stream.
struct Sender {
    respond: SendResponse<Bytes>,
    /// Once the head is sent.
    stream: Option<SendStream<Bytes>>,
    /// Held back for a moment, so that the last piece of a body can carry the end of the stream.
    pending: Option<Bytes>,
    /// Told of an end that the client's windows hold back.
    tails: Tails,
    /// Capacity was asked for.
    is_reserved: bool,
    /// The end of the stream is sent.
    is_over: bool,
}

impl Sender {
    fn inform(&mut self, status: StatusCode, headers: HeaderMap) -> Result<(), DownstreamError> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(self.respond.send_informational(response)?)
    }

    fn send_pending(&mut self) -> Result<(), DownstreamError> {
        if let (Some(stream), Some(data)) = (&mut self.stream, self.pending.take()) {
            stream.send_data(data, false)?;
            // One byte more than is buffered: there is capacity for it when all of the buffered bytes may be sent.
            stream.reserve_capacity(1);
            self.is_reserved = true;
        }
        Ok(())
    }

    fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<(), DownstreamError> {
        if self.is_over {
            return Ok(());
        }
        self.is_over = true;
        let Some(stream) = &mut self.stream else {
            return Ok(());
        };
        let mut last = self.pending.take().unwrap_or_default();
        stream.reserve_capacity(last.len().max(1));
        let is_held_back = stream.capacity() < last.len().max(1);
        if is_held_back {
            last = self.tails.count(last);
        }
        match trailers {
            Some(trailers) => {
                if is_held_back || !last.is_empty() {
                    stream.send_data(last, false)?;
                }
                stream.send_trailers(trailers)?;
            }
            None => stream.send_data(last, true)?,
        }
        Ok(())
    }

    fn has_room(&self) -> bool {
        match &self.stream {
            // Behind the end nothing is waited for: the other direction of a tunnel goes on.
            Some(stream) => !self.is_reserved || self.is_over || stream.capacity() > 0,
            None => true,
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DownstreamError>> {
        self.send_pending()?;
        while !self.has_room() {
            let Some(stream) = &mut self.stream else {
                break;
            };
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(received(error))),
                None => return Poll::Ready(Err(DownstreamError::Gone)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.stream {
            Some(stream) => stream.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        };
        reset.map(drop)
    }
}

/// Gives up what makes no progress. Most streams never wait long enough to need a deadline, so it is made when one does.
#[derive(Clone)]
pub(super) struct Timer {
    deadlines: Rc<Deadlines>,
    deadline: Rc<RefCell<Option<Deadline>>>,
    idle: Duration,
}

impl Timer {
    pub(super) fn new(deadlines: &Rc<Deadlines>, idle: Duration) -> Self {
        Self {
            deadlines: Rc::clone(deadlines),
            deadline: Rc::default(),
            idle,
        }
    }

    /// The same for another stream.
    pub(super) fn fresh(&self) -> Self {
        Self::new(&self.deadlines, self.idle)
    }

    async fn limit<T>(
        &self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<Result<T, DownstreamError>>,
    ) -> Result<T, DownstreamError> {
        let mut is_set = false;
        poll_fn(|cx| {
            if let Poll::Ready(result) = poll(cx) {
                return Poll::Ready(result);
            }
            let mut deadline = self.deadline.borrow_mut();
            let deadline = deadline.get_or_insert_with(|| self.deadlines.register(None));
            if !is_set {
                is_set = true;
                deadline.set(self.idle);
            }
            deadline
                .poll_passed(cx)
                .map(|()| Err(DownstreamError::Idle))
        })
        .await
    }
}

/// Back-pressure of a response on HTTP/2.
#[derive(Clone)]
pub struct H2Writer {
    sender: Rc<RefCell<Sender>>,
    timer: Timer,
}

impl H2Writer {
    pub(in crate::downstream) fn has_room(&self) -> bool {
        self.sender.borrow().has_room()
    }

    pub(in crate::downstream) async fn room(&self) -> Result<(), DownstreamError> {
        self.timer
            .limit(|cx| self.sender.borrow_mut().poll_room(cx))
            .await
    }
}
