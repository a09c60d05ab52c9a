//! A client of forward proxies that costs little itself: bytes over one connection, lengths as the heads say. It never waits
//! for the end of a connection, which some proxies put off.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
};

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{backend::ANSWER_LENGTH, table::MARK};

/// More than the head and the body of an ordinary answer.
const SMALL: usize = 8 * 1024;
/// What is read, or written, at once of a long body.
const LARGE: usize = 256 * 1024;
/// Header fields of an answer, at most.
const MAX_FIELDS: usize = 64;

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    /// The last answer as far as it was read; longer bodies are not kept.
    buffer: Vec<u8>,
}

/// The head of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Whether it has the header that the backend adds.
    pub(crate) marked: bool,
    /// Content-Length, in bytes.
    pub(crate) length: Option<usize>,
    /// Where the body begins in the buffer.
    end: usize,
}

impl Wire {
    pub(crate) async fn open(proxy: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(proxy).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(SMALL),
        })
    }

    /// Opens a tunnel to `authority` through `proxy`.
    pub(crate) async fn tunnel(proxy: SocketAddr, authority: &str) -> Result<Self> {
        let mut wire = Self::open(proxy).await?;
        let head = wire.head(&connect(authority)).await?;
        ensure!(head.status == 200, "CONNECT is answered {}", head.status);
        Ok(wire)
    }

    /// Sends `request` and reads the head of the answer.
    pub(crate) async fn head(&mut self, request: &[u8]) -> Result<Head> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                // Not an error of ours: a kept connection may end between two requests.
                return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
            }
            if let Some(head) = parse(&self.buffer)? {
                return Ok(head);
            }
            ensure!(
                self.buffer.len() < SMALL,
                "the head of an answer has no end"
            );
        }
    }

    /// The body behind `head`, which is a short one.
    pub(crate) async fn body(&mut self, head: &Head) -> Result<&[u8]> {
        let length = head.length.context("an answer without a length")?;
        ensure!(length <= SMALL, "{length} bytes in a short answer");
        let end = head.end + length;
        while self.buffer.len() < end {
            let count = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(count > 0, "the body ends too early");
        }
        ensure!(self.buffer.len() == end, "there is more than the body");
        Ok(&self.buffer[head.end..])
    }

    /// Sends `request`, whose answer must be the backend's ordinary one.
    pub(crate) async fn get(&mut self, request: &[u8]) -> Result<()> {
        let head = self.head(request).await?;
        expect_marked(&head)?;
        let length = self.body(&head).await?.len();
        ensure!(
            length == ANSWER_LENGTH,
            "{length} bytes instead of {ANSWER_LENGTH}"
        );
        Ok(())
    }

    /// Sends `request`, and reads `length` bytes of body past.
    pub(crate) async fn download(&mut self, request: &[u8], length: u64) -> Result<()> {
        let head = self.head(request).await?;
        ensure!(head.status == 200, "status {}", head.status);
        let mut left = usize::try_from(length)?;
        ensure!(head.length == Some(left), "length {:?}", head.length);
        left = left
            .checked_sub(self.buffer.len() - head.end)
            .context("there is more than the body")?;
        self.buffer.reserve(LARGE);
        while left > 0 {
            self.buffer.clear();
            let count = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(count > 0, "{left} bytes of {length} are missing");
            left = left
                .checked_sub(count)
                .context("there is more than the body")?;
        }
        Ok(())
    }

    /// Sends the head of a request and `length` bytes of body, which the answer must count.
    pub(crate) async fn upload(&mut self, request: &[u8], length: u64) -> Result<()> {
        self.stream.write_all(request).await?;
        let piece = vec![b'x'; LARGE];
        let mut left = usize::try_from(length)?;
        while left > 0 {
            let size = left.min(LARGE);
            self.stream.write_all(&piece[..size]).await?;
            left -= size;
        }
        let head = self.head(b"").await?;
        ensure!(head.status == 200, "status {}", head.status);
        let counted = self.body(&head).await?;
        ensure!(
            counted == length.to_string().as_bytes(),
            "{} bytes of {length} have arrived",
            String::from_utf8_lossy(counted)
        );
        Ok(())
    }
}

/// A request for a tunnel to `authority`.
pub(crate) fn connect(authority: &str) -> Vec<u8> {
    format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes()
}

/// `GET target` of `authority`. The target is a path inside a tunnel, and a URL for the proxy itself.
pub(crate) fn get(target: &str, authority: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: {authority}\r\n\r\n").into_bytes()
}

/// The head of `POST target` of `authority` with `length` bytes of body.
pub(crate) fn post(target: &str, authority: &str, length: u64) -> Vec<u8> {
    format!("POST {target} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: {length}\r\n\r\n")
        .into_bytes()
}

/// Whether `error` says that a kept connection was closed before it answered: then another may be tried.
pub(crate) fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref().is_some_and(|error: &io::Error| {
        matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
        )
    })
}

fn expect_marked(head: &Head) -> Result<()> {
    ensure!(head.status == 200, "status {}", head.status);
    ensure!(
        head.marked,
        "the answer is not the backend's: no {}",
        MARK.0
    );
    Ok(())
}

/// `None` if there is more to come.
fn parse(bytes: &[u8]) -> Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut fields);
    let httparse::Status::Complete(end) = answer.parse(bytes)? else {
        return Ok(None);
    };
    let Some(status) = answer.code else {
        bail!("an answer without a status");
    };
    let value = |name: &str| {
        let field = answer
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        field.and_then(|field| std::str::from_utf8(field.value).ok())
    };
    Ok(Some(Head {
        status,
        marked: value(MARK.0) == Some(MARK.1),
        length: value("content-length").map(str::parse).transpose()?,
        end,
    }))
}

#[cfg(test)]
mod tests {
    use super::{Head, parse};

    #[test]
    fn a_head_is_read_when_it_is_whole() {
        let answer = b"HTTP/1.0 200 Ok\r\nContent-length: 2\r\nX-Bench: 1\r\n\r\nab";
        let head = Head {
            status: 200,
            marked: true,
            length: Some(2),
            end: answer.len() - 2,
        };
        assert_eq!(parse(answer).unwrap(), Some(head));
        assert_eq!(parse(&answer[..answer.len() - 4]).unwrap(), None);
    }

    #[test]
    fn an_answer_of_somebody_else_is_not_marked() {
        let head = parse(b"HTTP/1.1 403 Forbidden\r\n\r\n").unwrap().unwrap();
        assert!(!head.marked && head.status == 403 && head.length.is_none());
        assert!(parse(b"nonsense\r\n\r\n").is_err());
    }
}
