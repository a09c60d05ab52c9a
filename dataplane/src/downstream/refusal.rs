//! Answers to clients whose request never became an exchange, and the polite end of a connection.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Poll, ready},
    time::Duration,
};

use pingora_core::protocols::Stream;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use crate::{
    deadline::Deadline,
    reason::{REASON_HEADER, Reason},
    stream::{BodyFrame, ReadHandle},
};

/// Bytes that are read and thrown away after the last response, so that the client gets to see it.
const LINGER_BYTES: usize = 256 * 1024;
/// Time for what the client still sends, and for a refusal to be taken.
const LINGER: Duration = Duration::from_secs(2);

/// Answers a request that cannot be served at all, and closes.
pub(crate) async fn refuse(
    mut stream: Stream,
    reader: &ReadHandle,
    reason: Reason,
    deadline: &Deadline,
) {
    let body = reason.body();
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{REASON_HEADER}: {}\r\n\
         Connection: close\r\n\r\n",
        reason.status().as_str(),
        reason.status().canonical_reason().unwrap_or("Refused"),
        body.len(),
        reason.code(),
    );
    let mut answer = head.into_bytes();
    answer.extend_from_slice(&body);
    // If it cannot be sent there is nobody to read it.
    if stream.write_all(&answer).await.is_ok() {
        close(stream, reader, || 0, deadline, LINGER, true).await;
    }
}

/// Sends what is buffered and closes. A client has `patience` for it, and as much again whenever `progress` has changed.
/// One that may be `still_sending` is listened to for a moment: closing over
/// unread bytes resets the connection, and the client might lose the response (RFC 9112 9.6).
pub(super) async fn close(
    mut stream: Stream,
    reader: &ReadHandle,
    progress: impl Fn() -> u64,
    deadline: &Deadline,
    patience: Duration,
    still_sending: bool,
) {
    let mut seen = progress();
    deadline.set(patience);
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = Pin::new(&mut stream).poll_shutdown(cx) {
            return Poll::Ready(ended);
        }
        deadline
            .poll_stalled(cx, patience, &mut seen, &progress)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    });
    if ended.await.is_err() || !still_sending {
        return;
    }
    deadline.set(LINGER);
    // Whatever comes now is no message any more.
    reader.begin_tunnel();
    let mut left = LINGER_BYTES;
    poll_fn(|cx| {
        while left > 0 && deadline.poll_passed(cx).is_pending() {
            match ready!(reader.poll_frame(cx)) {
                Ok(BodyFrame::Data(data)) => left = left.saturating_sub(data.len()),
                Ok(_) | Err(_) => break,
            }
        }
        Poll::Ready(())
    })
    .await;
}
