//! The stream over real sockets.

use std::{future::poll_fn, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

async fn pair() -> (BufferedStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (ours, theirs) = tokio::join!(
        TcpStream::connect(listener.local_addr().unwrap()),
        listener.accept()
    );
    (BufferedStream::new(ours.unwrap()), theirs.unwrap().0)
}

/// So that a fault ends as a failed test and not as a hanging one.
async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .expect("in time")
}

#[tokio::test]
async fn corked_writes_leave_together() {
    let (mut ours, mut theirs) = pair().await;
    ours.set_corked(true);
    ours.write_all(b"head").await.unwrap();
    ours.flush().await.unwrap();
    ours.write_all(b"body").await.unwrap();
    let writer = ours.write_handle();
    assert_eq!(writer.buffered(), 8);
    poll_fn(|cx| writer.poll_drained(cx, 0)).await.unwrap();
    let mut got = [0; 8];
    in_time(theirs.read_exact(&mut got)).await.unwrap();
    assert_eq!(&got, b"headbody");
}

#[tokio::test]
async fn a_full_socket_does_not_block_the_writer_before_the_limit() {
    let (mut ours, mut theirs) = pair().await;
    let writer = ours.write_handle();
    let piece = vec![7u8; 32 * 1024];
    let mut sent = 0u64;
    while writer.has_room() {
        // Never waits, although nobody reads.
        in_time(ours.write_all(&piece)).await.unwrap();
        ours.flush().await.unwrap();
        sent += piece.len() as u64;
    }
    // What one write left over, and nothing more.
    assert!(writer.buffered() <= piece.len());
    let room = poll_fn(|cx| Poll::Ready(writer.poll_room(cx))).await;
    assert!(room.is_pending());
    let reader = async {
        let mut received = 0;
        let mut buf = vec![0; 1 << 16];
        while received < sent {
            received += theirs.read(&mut buf).await.unwrap() as u64;
        }
        received
    };
    let (received, drained) =
        in_time(async { tokio::join!(reader, poll_fn(|cx| writer.poll_drained(cx, 0))) }).await;
    drained.unwrap();
    assert_eq!(received, sent);
    assert_eq!(writer.buffered(), 0);
}

#[tokio::test]
async fn a_session_sees_one_head_and_the_handle_its_body() {
    let (mut ours, mut theirs) = pair().await;
    ours.set_guard(Guard::requests(guard::HeadLimits {
        bytes: 4096,
        fields: 10,
        target: 100,
    }));
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
    theirs.write_all(head).await.unwrap();
    theirs
        .write_all(b"abcGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let reader = ours.read_handle();
    assert!(in_time(poll_fn(|cx| reader.poll_head(cx))).await.unwrap());
    let mut buf = [0; 4096];
    let n = in_time(ours.read(&mut buf)).await.unwrap();
    assert_eq!(&buf[..n], head);
    assert_eq!(
        in_time(poll_fn(|cx| reader.poll_frame(cx))).await.unwrap(),
        BodyFrame::Data("abc".into())
    );
    assert_eq!(
        in_time(poll_fn(|cx| reader.poll_frame(cx))).await.unwrap(),
        BodyFrame::End
    );
    assert!(in_time(poll_fn(|cx| reader.poll_head(cx))).await.unwrap());
    let n = in_time(ours.read(&mut buf)).await.unwrap();
    assert_eq!(&buf[..n], b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    drop(theirs);
    assert!(matches!(
        in_time(poll_fn(|cx| reader.poll_closed(cx))).await,
        ReadError::Closed
    ));
    assert!(!in_time(poll_fn(|cx| reader.poll_head(cx))).await.unwrap());
}

#[tokio::test]
async fn a_violation_reaches_the_session_as_an_error() {
    let (mut ours, mut theirs) = pair().await;
    ours.set_guard(Guard::requests(guard::HeadLimits::RESPONSE));
    theirs.write_all(b"GET / HTTP/1.1\n\n").await.unwrap();
    let error = in_time(ours.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_peer_that_hangs_up_is_seen_behind_what_it_sent() {
    let (stream, mut peer) = pair().await;
    let reader = stream.read_handle();
    peer.write_all(b"unread").await.unwrap();
    assert!(!reader.has_hung_up());
    peer.shutdown().await.unwrap();
    in_time(async {
        while !reader.has_hung_up() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let frame = in_time(poll_fn(|cx| reader.poll_frame(cx))).await.unwrap();
    assert_eq!(frame, BodyFrame::Data("unread".into()));
}

#[tokio::test]
async fn the_connection_comes_out_again_when_nobody_else_holds_it() {
    let (stream, mut peer) = pair().await;
    let reader = stream.read_handle();
    peer.write_all(b"read ahead").await.unwrap();
    let differs = in_time(poll_fn(|cx| reader.poll_starts_with(cx, b"x"))).await;
    assert!(!differs.unwrap());
    let mut stream = stream.into_transport().unwrap_err();
    drop(reader);
    stream.set_corked(true);
    stream.write_all(b"last").await.unwrap();
    let stream = stream.into_transport().unwrap_err();
    poll_fn(|cx| stream.write_handle().poll_drained(cx, 0))
        .await
        .unwrap();
    let (transport, read) = stream.into_transport().unwrap();
    assert_eq!(read, b"read ahead"[..]);
    drop(transport);
    let mut got = Vec::new();
    in_time(peer.read_to_end(&mut got)).await.unwrap();
    assert_eq!(got, b"last");
}
