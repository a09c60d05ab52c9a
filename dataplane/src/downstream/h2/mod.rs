//! HTTP/2 towards the client, over the h2 crate: one task drives the connection and all of its streams.
//!
//! Everything that the streams produce in one turn is collected in the stream's write buffer and leaves in one system
//! call (and few TLS records) at the end of the turn.

mod request;
pub(super) mod stream;
mod tail;
mod tunnel;

use std::{
    future::poll_fn,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use futures::{Stream as _, stream::FuturesUnordered};
use h2::{Reason, RecvStream, server};
use http::Request;
use portcullis_routing::settings::Limits;

use self::{
    stream::{H2, Outcome, Timer},
    tail::Tails,
};
use super::Downstream;
use crate::{
    deadline::{Deadline, Deadlines},
    reason,
    stream::{BufferedStream, WriteHandle},
};

/// Bytes that a client may send on one stream before the exchange has taken them.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The same for a whole connection.
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// The same for one on which streams may be tunnels: some of these may take nothing for as long as they like, and the others go on.
/// Enough for as many as 256 of them.
const MAX_CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
/// Bytes of one response that wait for the client's window or socket.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams reset by the client before anybody looked at them (rapid reset, CVE-2023-44487).
const MAX_PENDING_RESETS: usize = 20;
/// Streams that the client made us reset (`MadeYouReset`, CVE-2025-8671).
const MAX_PROVOKED_RESETS: usize = 100;
/// Streams that a client may cancel beyond those that it lets finish.
const MAX_CANCELLED: u32 = 100;
/// Time for the client to follow a GOAWAY when it has nothing left to read.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves the streams of a connection until it ends. A request that never becomes an exchange is answered here and told
/// to `refused`. `connect` says that CONNECT is served (RFC 9113 8.5).
pub(crate) async fn serve(
    stream: BufferedStream,
    deadline: Rc<Deadline>,
    deadlines: &Rc<Deadlines>,
    limits: &Limits,
    connect: bool,
    exchange: impl AsyncFn(&mut Downstream),
    refused: impl Fn(reason::Reason),
) {
    let writer = stream.write_handle();
    // Boxed for the time it takes, so that a connection does not hold its room for as long as it is open.
    let Some(connection) = Box::pin(handshake(stream, &deadline, limits, connect)).await else {
        return;
    };
    deadline.set(limits.idle_timeout.duration());
    let max_streams = usize::try_from(limits.max_concurrent_streams).unwrap_or(usize::MAX);
    let mut connection = H2Connection {
        connection,
        writer,
        deadline,
        limits,
        tails: Tails::default(),
        accepted: 0,
        cancelled: 0,
        finished: 0,
        work: Work::None,
        progress: 0,
        is_last_call: false,
        is_retired: false,
        is_closing: false,
    };
    let tails = connection.tails.clone();
    let timer = Timer::new(deadlines, limits.stream_idle_timeout.duration());
    connection
        .run(max_streams, |request, respond| {
            let (exchange, refused) = (&exchange, &refused);
            let (timer, tails) = (timer.fresh(), tails.clone());
            async move {
                match request::check(&request, limits, connect) {
                    Ok(()) => {
                        let mut downstream =
                            Downstream::H2(H2::new(request, respond, timer, tails));
                        exchange(&mut downstream).await;
                        match downstream {
                            Downstream::H2(stream) if stream.is_handed_over() => {
                                if let Some((passage, client)) = stream.into_passage() {
                                    passage.run(client, BytesMut::new()).await;
                                }
                                Outcome::Finished
                            }
                            Downstream::H2(stream) => stream.outcome(),
                            Downstream::H1(_) => Outcome::Finished,
                        }
                    }
                    Err(reason) => {
                        refused(reason);
                        request::refuse(respond, reason);
                        Outcome::Finished
                    }
                }
            }
        })
        .await;
}

/// The client's preface and settings, within the header timeout.
async fn handshake(
    stream: BufferedStream,
    deadline: &Deadline,
    limits: &Limits,
    connect: bool,
) -> Option<server::Connection<BufferedStream, Bytes>> {
    stream.set_corked(true);
    let writer = stream.write_handle();
    deadline.set(limits.header_timeout.duration());
    let mut handshake = pin!(options(limits, connect).handshake(stream));
    poll_fn(|cx| {
        let progress = handshake.as_mut().poll(cx);
        if writer.try_flush(cx).is_err() || deadline.poll_passed_before_request(cx).is_ready() {
            return Poll::Ready(None);
        }
        progress.map(Result::ok)
    })
    .await
}

fn options(limits: &Limits, connect: bool) -> server::Builder {
    let mut options = server::Builder::new();
    let of_all = STREAM_WINDOW.saturating_mul(limits.max_concurrent_streams);
    let window = if connect {
        of_all.clamp(CONNECTION_WINDOW, MAX_CONNECTION_WINDOW)
    } else {
        CONNECTION_WINDOW
    };
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(window)
        .max_concurrent_streams(limits.max_concurrent_streams)
        .max_header_list_size(limits.max_header_bytes)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_reset_streams(MAX_PENDING_RESETS)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(Some(MAX_PROVOKED_RESETS))
        .enable_connect_protocol();
    options
}

/// Changes when the client takes something. While its windows hold answers back only their ends count: bytes also leave in
/// answer to a client's PING.
fn taken(writer: &WriteHandle, tails: &Tails) -> u64 {
    if tails.are_held_back() {
        tails.released()
    } else {
        writer.progress()
    }
}

/// What a connection has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    /// Exchanges are under way; each has its own deadlines.
    Exchanges,
    /// Answers are complete on our side, but the client has not taken all of them.
    Answers,
    /// Nothing.
    None,
}

/// The state of a connection.
struct H2Connection<'a> {
    connection: server::Connection<BufferedStream, Bytes>,
    writer: WriteHandle,
    deadline: Rc<Deadline>,
    limits: &'a Limits,
    /// Answers that the client's windows hold back.
    tails: Tails,
    accepted: u32,
    /// Streams that the client has reset, and those that it has not.
    cancelled: u32,
    finished: u32,
    /// What the deadline is set for.
    work: Work,
    /// How much the client had taken when the deadline last passed.
    progress: u64,
    /// Draining has begun, and the deadline is that of the first request.
    is_last_call: bool,
    /// An exchange has found that the connection is of no further use.
    is_retired: bool,
    /// GOAWAY is sent.
    is_closing: bool,
}

impl H2Connection<'_> {
    /// Drives the connection and the futures that `begin` makes of its requests; each tells how it ended.
    async fn run<F: Future<Output = Outcome>>(
        &mut self,
        max_streams: usize,
        begin: impl Fn(Request<RecvStream>, server::SendResponse<Bytes>) -> F,
    ) {
        let mut streams = pin!(FuturesUnordered::new());
        poll_fn(|cx| {
            // What the streams send wakes this task, so that the next turn passes it to the connection.
            loop {
                match self.connection.poll_accept(cx) {
                    Poll::Ready(Some(Ok((request, mut respond)))) => {
                        self.accepted = self.accepted.saturating_add(1);
                        if streams.len() < max_streams {
                            streams.push(begin(request, respond));
                        } else {
                            // Streams that were reset may still be at work here.
                            respond.send_reset(Reason::REFUSED_STREAM);
                        }
                    }
                    Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                    Poll::Pending => break,
                }
            }
            while let Poll::Ready(Some(outcome)) = streams.as_mut().poll_next(cx) {
                self.is_retired |= outcome == Outcome::Retired;
                self.count(outcome == Outcome::Reset);
            }
            if self.writer.try_flush(cx).is_err() {
                return Poll::Ready(());
            }
            self.poll_end(streams.is_empty(), cx)
        })
        .await;
    }

    /// Takes note of a finished stream.
    fn count(&mut self, cancelled: bool) {
        if cancelled {
            self.cancelled = self.cancelled.saturating_add(1);
            if self.cancelled > self.finished.saturating_add(MAX_CANCELLED) {
                self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            }
        } else {
            self.finished = self.finished.saturating_add(1);
        }
    }

    /// Whether the connection is over: idle for too long, or draining and without anything left to send.
    fn poll_end(&mut self, without_streams: bool, cx: &mut Context<'_>) -> Poll<()> {
        let work = match without_streams {
            false => Work::Exchanges,
            true if self.tails.are_held_back() || self.writer.buffered() > 0 => Work::Answers,
            true => Work::None,
        };
        if self.work != work {
            self.work = work;
            self.set_deadline();
        }
        let is_over = match self.work {
            Work::Answers => {
                let patience = self.limits.stream_idle_timeout.duration();
                let (writer, tails) = (&self.writer, &self.tails);
                self.deadline
                    .poll_stalled(cx, patience, &mut self.progress, || taken(writer, tails))
            }
            Work::Exchanges | Work::None => self.deadline.poll_passed(cx),
        };
        if self.is_closing {
            return is_over;
        }
        let is_used_up = self
            .limits
            .max_requests_per_connection
            .is_some_and(|most| self.accepted >= most);
        if is_used_up || self.is_retired || is_over.is_ready() || self.is_leaving() {
            self.close(cx);
        }
        Poll::Pending
    }

    /// Whether draining ends the connection. As on HTTP/1 a client that has only just connected still gets an answer: it
    /// may not have anywhere else to go yet.
    fn is_leaving(&mut self) -> bool {
        if !self.deadline.is_draining() {
            return false;
        }
        if self.accepted == 0 && !self.is_last_call {
            self.is_last_call = true;
            self.deadline.set(self.limits.header_timeout.duration());
        }
        if self.accepted == 0 && self.deadline.closes_when_idle() {
            self.deadline.hurry();
        }
        self.accepted > 0
    }

    /// Exchanges have deadlines of their own; a client that reads may take nothing for as long as within an exchange.
    fn set_deadline(&mut self) {
        match self.work {
            Work::Exchanges => self.deadline.clear(),
            Work::Answers => {
                self.progress = taken(&self.writer, &self.tails);
                self.deadline
                    .set(self.limits.stream_idle_timeout.duration());
            }
            Work::None if self.is_closing => self.deadline.set(GOODBYE),
            Work::None => self.deadline.set(self.limits.idle_timeout.duration()),
        }
    }

    /// Sends GOAWAY; streams in flight finish, and are read by the client as long as it goes on reading.
    fn close(&mut self, cx: &Context<'_>) {
        self.is_closing = true;
        self.connection.graceful_shutdown();
        if self.work == Work::None {
            self.set_deadline();
        }
        // So that the connection gets its turn, and the deadline its waker.
        cx.waker().wake_by_ref();
    }
}
