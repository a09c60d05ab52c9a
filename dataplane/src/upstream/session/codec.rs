//! The bytes of HTTP/1.1 towards a backend: requests are written, and connections judged by their responses.
//!
//! Pingora's client session does the same and more; it parses the head that the guard has checked a second time, clones
//! it, and allocates a body buffer per response. Here a head is written from a reference, straight into the stream's
//! buffer, and the guard reads it without copying its values.

use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use http::{HeaderValue, Method, Version, header, request, response};

use crate::stream::guard;

/// How a request's body is delimited (RFC 9112 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// There is none.
    None,
    /// So many bytes are left.
    Length(u64),
    /// Chunked.
    Chunked,
    /// A tunnel: bytes as they are.
    Raw,
}

/// The request cannot be written: its target or length would be read as something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the request cannot be written in HTTP/1.1: {0}")]
pub(super) struct Unwritable(&'static str);

/// How the body of a request with this head will be delimited. An upgrade has none before the backend agrees.
pub(super) fn framing(head: &request::Parts, end: bool) -> Result<BodyFraming, Unwritable> {
    let has_body = !end && !head.headers.contains_key(header::UPGRADE);
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) if has_body => Ok(BodyFraming::Chunked),
        (None, _) => Ok(BodyFraming::None),
        (Some(length), None) => match number(length) {
            Some(length) if has_body => Ok(BodyFraming::Length(length)),
            Some(0) => Ok(BodyFraming::None),
            // The backend would take the next request on the connection for this body.
            Some(_) => Err(Unwritable("a body is announced that will not come")),
            None => Err(Unwritable("content-length is no number")),
        },
        (Some(_), Some(_)) => Err(Unwritable("content-length is repeated")),
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    let digits = value.to_str().ok()?;
    // `parse` alone would take a plus sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| digits.parse().ok()).flatten()
}

/// Appends a request's head with the fields of its framing.
pub(super) fn write_head(
    buffer: &mut BytesMut,
    head: &request::Parts,
    framing: BodyFraming,
) -> Result<(), Unwritable> {
    let target = head
        .uri
        .path_and_query()
        .ok_or(Unwritable("there is no target"))?
        .as_str()
        .as_bytes();
    if target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(Unwritable("the target holds a space or control character"));
    }
    buffer.reserve(512);
    buffer.put_slice(head.method.as_str().as_bytes());
    buffer.put_u8(b' ');
    buffer.put_slice(target);
    buffer.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        buffer.put_slice(name.as_str().as_bytes());
        buffer.put_slice(b": ");
        buffer.put_slice(value.as_bytes());
        buffer.put_slice(b"\r\n");
    }
    // Who sends TE has to say that it is of this hop (RFC 9110 10.1.4).
    if head.headers.contains_key(header::TE) && !head.headers.contains_key(header::CONNECTION) {
        buffer.put_slice(b"connection: te\r\n");
    }
    let expects_length = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    match framing {
        BodyFraming::Chunked => buffer.put_slice(b"transfer-encoding: chunked\r\n"),
        BodyFraming::None
            if expects_length && !head.headers.contains_key(header::CONTENT_LENGTH) =>
        {
            buffer.put_slice(b"content-length: 0\r\n");
        }
        BodyFraming::None | BodyFraming::Length(_) | BodyFraming::Raw => {}
    }
    buffer.put_slice(b"\r\n");
    Ok(())
}

/// The line in front of a chunk of `length` bytes.
pub(super) fn chunk_line(buffer: &mut BytesMut, length: usize) {
    // Writing to a buffer in memory cannot fail.
    _ = write!(buffer, "{length:x}\r\n");
}

/// Whether the connection can carry another request after this response (RFC 9112 9.3).
pub(super) fn keeps_alive(head: &response::Parts) -> bool {
    let fields = || head.headers.get_all(header::CONNECTION).iter();
    let says = |token: &str| {
        let mut tokens = fields().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        tokens.any(|found| found.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    };
    if !fields().all(|value| guard::is_token_list(value.as_bytes())) {
        // Whatever it says, it may be `close` to somebody.
        return false;
    }
    match head.version {
        Version::HTTP_11 => !says("close"),
        _ => says("keep-alive") && !says("close"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{response_head, testing};

    fn written(head: &request::Parts, end: bool) -> Result<String, Unwritable> {
        let mut buffer = BytesMut::new();
        write_head(&mut buffer, head, framing(head, end)?)?;
        Ok(String::from_utf8(buffer.to_vec()).unwrap())
    }

    #[test]
    fn a_body_is_always_delimited() {
        let get = testing::request("GET", "/a?b", &[("Host", "h")]);
        assert_eq!(
            written(&get, true).unwrap(),
            "GET /a?b HTTP/1.1\r\nhost: h\r\n\r\n"
        );
        let post = testing::request("POST", "/", &[]);
        assert!(
            written(&post, true)
                .unwrap()
                .contains("\r\ncontent-length: 0\r\n\r\n")
        );
        assert!(
            written(&post, false)
                .unwrap()
                .contains("\r\ntransfer-encoding: chunked\r\n\r\n")
        );
        let sized = testing::request("PUT", "/", &[("content-length", "3")]);
        assert_eq!(framing(&sized, false), Ok(BodyFraming::Length(3)));
        assert!(!written(&sized, false).unwrap().contains("chunked"));
        let odd = testing::request("PUT", "/", &[("content-length", "+3")]);
        assert!(framing(&odd, false).is_err());
        let twice = [("content-length", "3"), ("content-length", "3")];
        assert!(framing(&testing::request("PUT", "/", &twice), false).is_err());
    }

    #[test]
    fn te_is_of_this_hop() {
        let get = testing::request("GET", "/", &[("te", "trailers")]);
        assert_eq!(
            written(&get, true).unwrap(),
            "GET / HTTP/1.1\r\nte: trailers\r\nconnection: te\r\n\r\n"
        );
    }

    #[test]
    fn no_body_is_announced_that_does_not_come() {
        assert!(
            framing(
                &testing::request("GET", "/", &[("content-length", "3")]),
                true
            )
            .is_err()
        );
        let upgrade = [("upgrade", "websocket"), ("content-length", "3")];
        assert!(framing(&testing::request("GET", "/", &upgrade), false).is_err());
        let empty = testing::request("POST", "/", &[("content-length", "0")]);
        assert_eq!(framing(&empty, true), Ok(BodyFraming::None));
    }

    #[test]
    fn nothing_that_splits_a_request_is_written() {
        for target in ["/a b", "/a\r\nx: y", "/\0", "/\x7f"] {
            let is_written = http::Uri::try_from(target).is_ok_and(|target| {
                let mut head = testing::request("GET", "/", &[]);
                head.uri = target;
                written(&head, true).is_ok()
            });
            assert!(!is_written, "{target:?}");
        }
    }

    #[test]
    fn says_whether_the_connection_is_kept() {
        for (version, connection, kept) in [
            (Version::HTTP_11, "a", true),
            (Version::HTTP_11, "a, Close", false),
            (Version::HTTP_10, "a", false),
            (Version::HTTP_10, "keep-alive", true),
            (Version::HTTP_10, "keep-alive, close", false),
            (Version::HTTP_11, "close, \u{ff}", false),
            (Version::HTTP_11, "\u{ff}", false),
            (Version::HTTP_11, "a b", false),
            (Version::HTTP_10, "keep-alive, \u{ff}", false),
        ] {
            let mut head = response_head(http::StatusCode::OK);
            head.version = version;
            head.headers.insert(
                header::CONNECTION,
                HeaderValue::from_bytes(connection.as_bytes()).unwrap(),
            );
            assert_eq!(keeps_alive(&head), kept, "{version:?} {connection}");
        }
    }
}
