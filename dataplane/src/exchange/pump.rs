//! The two directions of an attempt, polled independently: neither waits for the other, each holds a bounded buffer.

use std::{future::poll_fn, task::Poll};

use bytes::Bytes;
use http::{StatusCode, header, response};

use super::{
    Exchange,
    forward::{Attempt, Failure, response_head},
    head::Upgrade,
    retry::Replay,
    timeouts::Timeouts,
};
use crate::{
    downstream::{BodyFrame, Downstream, DownstreamError},
    reason::Reason,
    upstream::{Outcome, Upstream, UpstreamError, UpstreamEvent},
};

/// One attempt under way.
pub(super) struct Pump<'p, 's> {
    pub(super) exchange: &'p mut Exchange<'s>,
    pub(super) downstream: &'p mut Downstream,
    pub(super) upstream: &'p mut Upstream,
    pub(super) replay: &'p mut Replay,
    pub(super) attempt: &'p Attempt<'p>,
    pub(super) timeouts: &'p mut Timeouts,
    /// The request's direction has ended.
    pub(super) request_done: bool,
}

enum Step {
    Answer(Result<UpstreamEvent, UpstreamError>),
    Body(Result<BodyFrame, DownstreamError>),
    Gone(DownstreamError),
    UpstreamRoom,
    DownstreamRoom(Result<(), DownstreamError>),
    /// Time is up.
    Late(Reason),
}

impl Pump<'_, '_> {
    /// Moves bytes until the answer is complete. Returns whether the request was complete as well, so that the
    /// backend's connection may serve another one.
    pub(super) async fn run(&mut self) -> Result<bool, Failure> {
        self.replay().await?;
        // Then the backend has had all of the request's time.
        let is_whole = self.request_done && self.attempt.attempts.made() == 1;
        let idle = self
            .exchange
            .snapshot
            .settings()
            .limits
            .stream_idle_timeout
            .duration();
        let silence = self.exchange.worker.deadlines.register(None);
        let (up, down) = (self.upstream.writer(), self.downstream.writer());
        let mut has_moved = true;
        loop {
            if has_moved {
                silence.set(idle);
            }
            let (up_room, down_room) = (up.has_room(), down.has_room());
            // Of who cannot be listened to now no empty buffer is held either.
            if !down_room {
                self.upstream.release();
            }
            if !up_room {
                self.downstream.release();
            }
            let step = tokio::select! {
                biased;
                answer = self.upstream.read_event(), if down_room => Step::Answer(answer),
                room = down.room(), if !down_room => Step::DownstreamRoom(room),
                () = up.room(), if !up_room => Step::UpstreamRoom,
                step = client(self.downstream, self.request_done, up_room) => step,
                reason = poll_fn(|cx| match silence.poll_passed(cx) {
                    Poll::Ready(()) => Poll::Ready(Reason::StreamIdle),
                    Poll::Pending => self.timeouts.poll_passed(cx),
                }) => Step::Late(reason),
            };
            // A backend could say for ever that it is at work.
            has_moved = !matches!(step, Step::Answer(Ok(UpstreamEvent::Informational(_))));
            match step {
                Step::Answer(Ok(event)) => {
                    if self.answer(event).await? {
                        return Ok(self.request_done);
                    }
                }
                Step::Answer(Err(error)) => {
                    return Err(self.upstream_failed(&error));
                }
                Step::Body(Ok(frame)) => self.body(frame).await?,
                Step::Body(Err(error)) => return Err(self.body_failed(&error)),
                Step::DownstreamRoom(Err(error)) | Step::Gone(error) => {
                    return Err(client_failed(&error));
                }
                Step::DownstreamRoom(Ok(())) | Step::UpstreamRoom => {}
                Step::Late(Reason::RequestDeadline) if !is_whole => {
                    return Err(Failure::last(Reason::RequestDeadline));
                }
                Step::Late(reason) => return Err(self.timed_out(reason, up_room)),
            }
        }
    }

    /// Sends what an earlier attempt had read already: no more than fits the buffer.
    async fn replay(&mut self) -> Result<(), Failure> {
        if !self.replay.kept().is_empty() {
            let kept = Bytes::copy_from_slice(self.replay.kept());
            self.upstream
                .send_body(kept)
                .await
                .map_err(|error| self.upstream_failed(&error))?;
        }
        match self.replay.ended().cloned() {
            Some(end) if !self.request_done => {
                self.request_done = true;
                self.upstream
                    .finish_body(end.trailers)
                    .await
                    .map_err(|error| self.upstream_failed(&error))
            }
            _ => Ok(()),
        }
    }

    /// Takes the next part of the answer; says whether it was the last.
    async fn answer(&mut self, event: UpstreamEvent) -> Result<bool, Failure> {
        match event {
            UpstreamEvent::Informational(mut head) => {
                super::hop::strip_response(&mut head);
                // 100 Continue is ours to send: with the first read of the body.
                if head.status != StatusCode::CONTINUE {
                    self.downstream
                        .send_head(head, false)
                        .await
                        .map_err(|error| client_failed(&error))?;
                }
                Ok(false)
            }
            UpstreamEvent::Head(head, end) => {
                self.head(head, end).await?;
                Ok(end)
            }
            UpstreamEvent::Data(data) => {
                self.exchange.record.sent(data.len());
                self.downstream
                    .send_body(data)
                    .await
                    .map_err(|error| client_failed(&error))?;
                Ok(false)
            }
            UpstreamEvent::Trailers(trailers) => {
                self.downstream
                    .finish(Some(trailers))
                    .await
                    .map_err(|error| client_failed(&error))?;
                Ok(true)
            }
            UpstreamEvent::HalfClosed => {
                self.downstream
                    .finish(None)
                    .await
                    .map_err(|error| client_failed(&error))?;
                Ok(false)
            }
            UpstreamEvent::End => {
                self.downstream
                    .finish(None)
                    .await
                    .map_err(|error| client_failed(&error))?;
                Ok(true)
            }
        }
    }

    async fn head(&mut self, mut head: response::Parts, end: bool) -> Result<(), Failure> {
        if self.is_retried(head.status) {
            self.upstream.report(Outcome::Answered);
            return Err(Failure::retried_status(self.upstream.endpoint()));
        }
        self.replay.release();
        // The retry was worth it. How long its answer takes is no reason to retry less.
        self.exchange.retry = None;
        self.exchange.record.upstream_answered();
        let request = self.attempt.request;
        if self
            .attempt
            .towards
            .binds(&head.headers, &header::WWW_AUTHENTICATE)
        {
            self.upstream.bind();
        }
        let switched = head.status == StatusCode::SWITCHING_PROTOCOLS;
        if switched && request.upgrade == Upgrade::None {
            // Nobody asked for another protocol.
            return Err(Failure::last(Reason::UpstreamProtocol));
        }
        if let Some(handshake) = self.attempt.handshake {
            handshake.complete(&mut head).map_err(Failure::last)?;
        }
        response_head(&mut head, request);
        self.exchange.record.status(head.status);
        self.downstream
            .send_head(head, end)
            .await
            .map_err(|error| client_failed(&error))?;
        if switched {
            // The client's side of the tunnel opens only now: nothing it sent before reached the backend.
            self.request_done = false;
            self.timeouts.lift();
        }
        Ok(())
    }

    /// Whether an answer is thrown away for another attempt that will be allowed.
    fn is_retried(&self, status: StatusCode) -> bool {
        self.attempt.attempts.retries_status(status.as_u16())
            && self.replay.can_replay()
            && self.exchange.worker.retry_budget.has_room()
    }

    async fn body(&mut self, frame: BodyFrame) -> Result<(), Failure> {
        match frame {
            BodyFrame::Data(data) => self.data(data).await,
            BodyFrame::Trailers(trailers) => self.end(Some(trailers)).await,
            BodyFrame::End => self.end(None).await,
        }
    }

    async fn data(&mut self, data: Bytes) -> Result<(), Failure> {
        let received = self.exchange.record.received(data.len());
        let limit = self.exchange.snapshot.settings().limits.max_body_bytes;
        let tunnel = self.attempt.request.upgrade != Upgrade::None;
        if !tunnel && limit.is_some_and(|limit| received > limit) {
            return Err(Failure::last(Reason::BodyTooLarge));
        }
        if !tunnel {
            self.replay.push(&data);
            self.attempt.mirrors.data(&data);
        }
        self.upstream
            .send_body(data)
            .await
            .map_err(|error| self.upstream_failed(&error))
    }

    async fn end(&mut self, trailers: Option<http::HeaderMap>) -> Result<(), Failure> {
        self.request_done = true;
        self.attempt.mirrors.end();
        self.replay.end(trailers.clone());
        self.upstream
            .finish_body(trailers)
            .await
            .map_err(|error| self.upstream_failed(&error))
    }

    /// A body that stops is the client's fault, unless an answer has begun: then perhaps it waits for more of that.
    fn body_failed(&self, error: &DownstreamError) -> Failure {
        match error {
            DownstreamError::Idle if !self.exchange.record.answered() => {
                Failure::last(Reason::RequestTimeout)
            }
            _ => client_failed(error),
        }
    }

    /// A backend is blamed only for an answer that it could have given: a client may be as slow as it likes.
    fn timed_out(&self, reason: Reason, up_room: bool) -> Failure {
        let owed = !self.exchange.record.answered() && (self.request_done || !up_room);
        Failure::timed_out(reason, self.upstream.endpoint(), owed)
    }

    fn upstream_failed(&self, error: &UpstreamError) -> Failure {
        Failure::upstream(error, self.exchange.record.answered())
    }
}

/// The client's side: its body while there is one and room for it, else only whether it is still there. Whichever it is, what
/// was sent moves along.
async fn client(downstream: &mut Downstream, request_done: bool, up_room: bool) -> Step {
    if request_done {
        Step::Gone(downstream.closed().await)
    } else if up_room {
        Step::Body(downstream.read_body().await)
    } else {
        Step::Gone(downstream.broken().await)
    }
}

fn client_failed(error: &DownstreamError) -> Failure {
    Failure::last(error.reason())
}
