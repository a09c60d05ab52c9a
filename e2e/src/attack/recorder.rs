//! A backend that keeps every byte it is sent, and answers a request only when it is whole.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// How every answer ends.
pub(crate) const ANSWER_END: &[u8] = b"\r\n\r\nok";

/// What the backend was sent.
#[derive(Clone)]
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    records: Arc<Mutex<Vec<Record>>>,
}

/// One request, or the beginning of one.
#[derive(Clone, Default)]
pub(crate) struct Record {
    pub(crate) bytes: Vec<u8>,
    pub(crate) whole: bool,
}

impl Record {
    /// Whether it asks for `path`.
    pub(crate) fn asks_for(&self, path: &str) -> bool {
        String::from_utf8_lossy(&self.bytes).split(' ').nth(1) == Some(path)
    }
}

impl Recorder {
    pub(crate) async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let recorder = Self {
            address: listener.local_addr()?,
            records: Arc::default(),
        };
        let shared = recorder.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(shared.clone().record(stream));
            }
        });
        Ok(recorder)
    }

    /// Everything since the last call.
    pub(crate) fn take(&self) -> Vec<Record> {
        self.records
            .lock()
            .map(|mut records| std::mem::take(&mut *records))
            .unwrap_or_default()
    }

    async fn record(self, mut stream: TcpStream) -> Result<()> {
        let mut open = Record::default();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                if !open.bytes.is_empty() {
                    self.push(open);
                }
                return Ok(());
            }
            open.bytes.extend_from_slice(&buffer[..count]);
            while let Some(length) = whole_request(&open.bytes) {
                let rest = open.bytes.split_off(length);
                self.push(Record {
                    bytes: std::mem::replace(&mut open.bytes, rest),
                    whole: true,
                });
                stream.write_all(ANSWER).await?;
            }
        }
    }

    fn push(&self, record: Record) {
        if let Ok(mut records) = self.records.lock() {
            records.push(record);
        }
    }
}

/// Length of the request that `bytes` begin with, once it is whole.
fn whole_request(bytes: &[u8]) -> Option<usize> {
    let head = find(bytes, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    if text.contains("\r\ntransfer-encoding:") {
        // From the line end before the last chunk's size to the empty line behind the trailers.
        let last = head - 2 + find(&bytes[head - 2..], b"\r\n0\r\n")?;
        let trailers = last + 3;
        return Some(trailers + find(&bytes[trailers..], b"\r\n\r\n")? + 4);
    }
    let length = text.lines().find_map(|line| {
        line.strip_prefix("content-length:")?
            .trim()
            .parse::<usize>()
            .ok()
    });
    let end = head + length.unwrap_or(0);
    (bytes.len() >= end).then_some(end)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::whole_request;

    #[test]
    fn requests_end_where_they_end() {
        let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        assert_eq!(whole_request(get), Some(get.len()));
        let sized = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET";
        assert_eq!(whole_request(sized), Some(sized.len() - 3));
        let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        assert_eq!(whole_request(chunked), Some(chunked.len()));
        assert_eq!(whole_request(&chunked[..chunked.len() - 2]), None);
        let empty = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(whole_request(empty), Some(empty.len()));
        let trailers =
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nt: u\r\n\r\n";
        assert_eq!(whole_request(trailers), Some(trailers.len()));
    }
}
