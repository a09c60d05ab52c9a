//! A body that goes out and comes back at the same time, checked byte by byte.

use std::{convert::Infallible, fmt, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::{HeaderMap, body::Frame, header::HeaderValue};
use tokio::{process::Command, time::timeout};

use crate::support::{
    backend::pattern,
    binaries::installed,
    certificate::Authority,
    client::{Client, Target, Version},
    process::output_of,
    proxy::Proxy,
};

/// How long an echo may stand still.
const PATIENCE: Duration = Duration::from_secs(20);
/// A field behind the body, which must come back, too.
const TRAILER: (&str, &str) = ("x-checksum", "abc");

/// How the echo client speaks to the proxy.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    tls: bool,
    version: Version,
}

pub(crate) const WAYS: [Way; 4] = [
    Way {
        tls: false,
        version: Version::Http1,
    },
    Way {
        tls: true,
        version: Version::Http1,
    },
    Way {
        tls: false,
        version: Version::Http2,
    },
    Way {
        tls: true,
        version: Version::Http2,
    },
];

impl Way {
    /// Whether its trailers are expected to reach a backend that speaks HTTP/2.
    pub(crate) fn is_http2(self) -> bool {
        self.version == Version::Http2
    }

    pub(crate) fn target(self, proxy: &Proxy, authority: &Authority, host: &str) -> Result<Target> {
        let alpn = if self.version == Version::Http2 {
            "h2"
        } else {
            "http/1.1"
        };
        Ok(Target {
            address: if self.tls { proxy.https } else { proxy.http },
            host: host.to_owned(),
            tls: if self.tls {
                Some(authority.client(&[alpn])?)
            } else {
                None
            },
            version: self.version,
        })
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.tls, self.version) {
            (false, Version::Http1) => "HTTP/1.1",
            (true, Version::Http1) => "TLS HTTP/1.1",
            (false, Version::Http2) => "h2c",
            (true, Version::Http2) => "TLS HTTP/2",
        })
    }
}

/// Sends `size` bytes (a multiple of the pattern's length) and a trailer, and reads them back while they are sent.
/// Trailers may be dropped where one side speaks HTTP/1.1 (RFC 9110 6.5.2), so they are only insisted on if
/// `trailers_pass`.
pub(crate) async fn run(target: &Target, size: u64, trailers_pass: bool) -> Result<String> {
    let pattern = Bytes::from(pattern());
    let pieces = size / pattern.len() as u64;
    let mut client = Client::connect(target).await?;
    let mut trailers = HeaderMap::new();
    trailers.insert(TRAILER.0, HeaderValue::from_static(TRAILER.1));
    let piece = pattern.clone();
    let frames = (0..pieces)
        .map(move |_| Frame::data(piece.clone()))
        .chain([Frame::trailers(trailers)]);
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, Infallible>)));
    let mut request = client.request("POST", "/echo", BodyExt::boxed(body))?;
    // Without it, HTTP/1.1 carries no trailers (RFC 9110 6.5.1 and 10.1.4).
    request
        .headers_mut()
        .insert("trailer", HeaderValue::from_static(TRAILER.0));
    request
        .headers_mut()
        .insert("te", HeaderValue::from_static("trailers"));

    let answer = timeout(PATIENCE, client.send(request))
        .await
        .context("no answer")??;
    ensure!(answer.status() == 200, "status {}", answer.status());
    let mut body = answer.into_body();
    let (mut received, mut trailer) = (0_u64, None);
    loop {
        let Ok(frame) = timeout(PATIENCE, body.frame()).await else {
            // Whose queue is full, and who does not read, is seen only while the connections are open.
            println!("{}", sockets().await?);
            bail!("the echo stands still behind byte {received}");
        };
        let Some(frame) = frame.transpose()? else {
            break;
        };
        if let Some(data) = frame.data_ref() {
            ensure!(
                continues(&pattern, received, data),
                "other bytes than were sent, behind byte {received}"
            );
            received += data.len() as u64;
        } else if let Some(fields) = frame.trailers_ref() {
            trailer = fields.get(TRAILER.0).cloned();
        }
    }
    ensure!(received == size, "{received} of {size} bytes came back");
    let came_back = trailer.is_some_and(|value| value == TRAILER.1);
    ensure!(came_back || !trailers_pass, "the trailer got lost");
    Ok(format!(
        "{received} bytes, {} trailer",
        if came_back { "with" } else { "without" }
    ))
}

/// All TCP connections, with their queues and timers.
async fn sockets() -> Result<String> {
    let mut ss = Command::new(installed("ss")?);
    ss.arg("--tcp")
        .args(["--numeric", "--processes"])
        .args(["--info", "--memory", "--options"]);
    output_of(ss).await
}

/// Whether `data` is what follows `offset` bytes of the repeated `pattern`.
fn continues(pattern: &[u8], offset: u64, data: &[u8]) -> bool {
    let start = usize::try_from(offset % pattern.len() as u64).unwrap_or(0);
    let mut rest = data;
    let mut expected = &pattern[start..];
    while !rest.is_empty() {
        let length = rest.len().min(expected.len());
        let (head, tail) = rest.split_at(length);
        if head != &expected[..length] {
            return false;
        }
        (rest, expected) = (tail, pattern);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::{continues, run};
    use crate::support::{
        backend::Backend,
        client::{Target, Version},
    };

    #[tokio::test]
    async fn an_echo_without_a_proxy_comes_back() {
        let backend = Backend::start("backend").unwrap();
        for version in [Version::Http1, Version::Http2] {
            let target = Target {
                version,
                ..Target::clear(backend.address, "a.example")
            };
            let result = run(&target, 8 << 20, true).await.unwrap();
            assert!(result.starts_with("8388608 bytes"), "{result}");
        }
    }

    #[test]
    fn the_pattern_goes_on_over_its_end() {
        assert!(continues(b"abc", 2, b"cabca"));
        assert!(!continues(b"abc", 2, b"abc"));
        assert!(!continues(b"abc", 0, b"abcb"));
    }
}
