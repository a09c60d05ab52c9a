//! Answers to clients whose request never became an exchange, and the polite end of a connection.

use std::{future::poll_fn, io, pin::Pin, task::Poll, time::Duration};

use pingora_core::protocols::Stream;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::{
    deadline::Deadline,
    reason::{REASON_HEADER, Reason},
};

/// Bytes that are read and thrown away after the last response, so that the client gets to see it.
const LINGER_BYTES: usize = 256 * 1024;
/// Time for the last response to be taken, and for what the client still sends.
const LINGER: Duration = Duration::from_secs(2);

/// Answers a request that cannot be served at all, and closes.
pub(super) async fn refuse(mut stream: Stream, reason: Reason, deadline: &Deadline) {
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
        close(stream, deadline, true).await;
    }
}

/// Sends what is buffered and closes. A client that may be `still_sending` is listened to for a moment: closing over
/// unread bytes resets the connection, and the client might lose the response (RFC 9112 9.6).
pub(super) async fn close(mut stream: Stream, deadline: &Deadline, still_sending: bool) {
    deadline.set(LINGER);
    let ended = poll_fn(|cx| {
        if deadline.poll_passed(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut stream).poll_shutdown(cx)
    });
    if ended.await.is_err() || !still_sending {
        return;
    }
    let mut left = LINGER_BYTES;
    let mut scrap = [0; 4096];
    poll_fn(|cx| {
        while left > 0 && deadline.poll_passed(cx).is_pending() {
            let mut scrap = ReadBuf::new(&mut scrap);
            match Pin::new(&mut stream).poll_read(cx, &mut scrap) {
                Poll::Ready(Ok(())) if !scrap.filled().is_empty() => {
                    left = left.saturating_sub(scrap.filled().len())
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(())
    })
    .await;
}
