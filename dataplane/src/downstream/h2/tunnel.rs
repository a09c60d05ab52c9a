//! The bytes of a stream that has become a tunnel (RFC 9113 8.5).

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::tunnel::end::End;

/// One end of a tunnel. A client's window is given back as its bytes are taken, and what is sent keeps to the window that the
/// client gives.
pub(crate) struct H2Tunnel {
    body: RecvStream,
    /// Received, and not taken.
    received: Bytes,
    stream: RefCell<SendStream<Bytes>>,
}

impl H2Tunnel {
    pub(super) fn new(body: RecvStream, stream: SendStream<Bytes>) -> Self {
        Self {
            body,
            received: Bytes::new(),
            stream: RefCell::new(stream),
        }
    }
}

impl End for H2Tunnel {
    fn socket(&self) -> Option<&TcpStream> {
        None
    }

    fn abort(&self) {
        self.stream.borrow_mut().send_reset(Reason::CONNECT_ERROR);
    }
}

impl AsyncRead for H2Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.received.is_empty() {
            match ready!(this.body.poll_data(cx)) {
                Some(Ok(data)) => this.received = data,
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let taken = this.received.len().min(buf.remaining());
        buf.put_slice(this.received.get(..taken).unwrap_or_default());
        this.received.advance(taken);
        let released = this.body.flow_control().release_capacity(taken);
        Poll::Ready(released.map_err(broken))
    }
}

impl AsyncWrite for H2Tunnel {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let stream = self.get_mut().stream.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        stream.reserve_capacity(buf.len());
        while stream.capacity() == 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let taken = stream.capacity().min(buf.len());
        let data = Bytes::copy_from_slice(buf.get(..taken).unwrap_or_default());
        Poll::Ready(match stream.send_data(data, false) {
            Ok(()) => Ok(taken),
            Err(error) => Err(broken(error)),
        })
    }

    /// The connection sends what is buffered by itself.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self
            .get_mut()
            .stream
            .get_mut()
            .send_data(Bytes::new(), true);
        Poll::Ready(ended.map_err(broken))
    }
}

fn broken(error: h2::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, error)
}
