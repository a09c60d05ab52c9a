//! A connection beside the session that owns its stream: what is waited for between requests, and how it ends.

use std::{
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use pingora_core::protocols::Stream;
use portcullis_routing::settings::Limits;

use crate::{
    deadline::Deadline,
    downstream::{DownstreamError, refusal},
    reason::Reason,
    stream::{ReadError, ReadHandle, WriteHandle},
};

/// Time to take leave of a client that is idle: on TLS an end without a word could be an attack's.
const GOODBYE: Duration = Duration::from_secs(1);

/// How a connection is reached from beside the session that owns its stream.
#[derive(Clone, Debug)]
pub(super) struct Handles {
    pub(super) reader: ReadHandle,
    pub(super) writer: WriteHandle,
    pub(super) deadline: Rc<Deadline>,
    /// Time without progress after which an exchange is given up.
    pub(super) idle: Duration,
}

/// How far the client had read its last answer when it was last looked at.
struct LastAnswer {
    seen: u64,
    is_stuck: bool,
}

impl Handles {
    /// Waits for the next request, holding no buffer until it begins. `Ok(false)`: the connection is over.
    pub(super) async fn wait_for_head(
        &self,
        limits: &Limits,
        is_first: bool,
    ) -> Result<bool, Reason> {
        let mut begun = self.reader.has_unread();
        let timeout = if begun || is_first {
            limits.header_timeout
        } else {
            limits.idle_timeout
        };
        self.deadline.set(timeout.duration());
        let mut last = LastAnswer {
            seen: self.writer.progress(),
            is_stuck: false,
        };
        poll_fn(|cx| {
            match self.reader.poll_head(cx) {
                Poll::Ready(Ok(found)) => return Poll::Ready(Ok(found)),
                Poll::Ready(Err(ReadError::Violation(violation))) => {
                    return Poll::Ready(Err(violation.reason()));
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Ok(false)),
                Poll::Pending => {}
            }
            if !begun && self.reader.has_unread() {
                begun = true;
                // The time of a new connection runs from its beginning, unless it was cut short.
                if !is_first || self.deadline.closes_when_idle() {
                    self.deadline.set(limits.header_timeout.duration());
                }
            }
            // A client that has begun a request still gets its answer, and one that has only just connected may begin; one
            // that is still reading its last answer gets the rest of it.
            if self.deadline.closes_when_idle() && !begun {
                if is_first {
                    self.deadline.hurry();
                } else if self.writer.poll_drained(cx, 0).is_ready() {
                    return Poll::Ready(Ok(false));
                }
            }
            loop {
                ready!(self.deadline.poll_passed(cx));
                let is_between = !begun && !is_first;
                match self
                    .more_patience(cx, limits, &mut last)
                    .filter(|_| is_between)
                {
                    Some(patience) => self.deadline.set(patience),
                    None if self.reader.has_unread() => {
                        return Poll::Ready(Err(Reason::RequestTimeout));
                    }
                    None => return Poll::Ready(Ok(false)),
                }
            }
        })
        .await
    }

    /// Ends a connection without a request. A client that has not taken all of its last answer is cut off: a goodbye would be
    /// the end of that.
    pub(super) async fn part(&self, stream: Stream) {
        let drained = poll_fn(|cx| Poll::Ready(self.writer.poll_drained(cx, 0)));
        if drained.await.is_ready() {
            let progress = || self.writer.progress();
            let (reader, deadline) = (&self.reader, &self.deadline);
            refusal::close(stream, reader, progress, deadline, GOODBYE, false).await;
        }
    }

    /// More time for a client that has not asked for anything since: it was still reading its last answer, or is. Without
    /// progress it has the stream idle timeout for that, as within an exchange.
    fn more_patience(
        &self,
        cx: &mut Context<'_>,
        limits: &Limits,
        last: &mut LastAnswer,
    ) -> Option<Duration> {
        let progress = self.writer.progress();
        if progress != last.seen {
            *last = LastAnswer {
                seen: progress,
                is_stuck: false,
            };
            return Some(limits.idle_timeout.duration());
        }
        let is_stuck = std::mem::replace(&mut last.is_stuck, true);
        (!is_stuck && self.writer.poll_drained(cx, 0).is_pending()).then_some(self.idle)
    }

    /// `poll`, given up after the stream idle timeout.
    pub(super) async fn in_time<T, E: Into<DownstreamError>>(
        &self,
        mut poll: impl FnMut(&Self, &mut Context<'_>) -> Poll<Result<T, E>>,
    ) -> Result<T, DownstreamError> {
        self.deadline.set(self.idle);
        poll_fn(|cx| {
            if let Poll::Ready(result) = poll(self, cx) {
                return Poll::Ready(result.map_err(Into::into));
            }
            self.deadline
                .poll_passed(cx)
                .map(|()| Err(DownstreamError::Idle))
        })
        .await
    }
}
