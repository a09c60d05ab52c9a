//! Every known way to make two parsers disagree, and the same verdict however the bytes are split.

mod connect;
mod requests;
mod responses;

use bytes::BytesMut;
use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 8192,
    fields: 16,
    target: 1024,
};

/// What a session would see of a connection's bytes, and how it ended.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    heads: Vec<Vec<u8>>,
    body: Vec<u8>,
    trailers: usize,
    complete: usize,
    violation: Option<Violation>,
}

/// Feeds `pieces` to a guard and collects what comes out, message after message.
fn observe(mut guard: Guard, pieces: &[&[u8]]) -> Seen {
    let mut seen = Seen::default();
    let mut buffer = BytesMut::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        if let Err(violation) = drain(&mut guard, &mut buffer, &mut seen) {
            seen.violation = Some(violation);
            return seen;
        }
    }
    seen
}

fn drain(guard: &mut Guard, buffer: &mut BytesMut, seen: &mut Seen) -> Result<(), Violation> {
    loop {
        if matches!(guard.side, Side::Responses { .. }) {
            while let Some(head) = guard.response(buffer)? {
                seen.heads.push(head.status.as_str().into());
            }
        } else if matches!(guard.state, State::Head { .. } | State::Checked { .. }) {
            match guard.pass(buffer)? {
                Pass::Bytes(n) => {
                    let head = buffer.split_to(n);
                    guard.passed(&head)?;
                    seen.heads.push(head.to_vec());
                }
                _ => return Ok(()),
            }
        }
        match guard.frame(buffer)? {
            Some(BodyFrame::Data(data)) => seen.body.extend_from_slice(&data),
            Some(BodyFrame::Trailers(trailers)) => seen.trailers += trailers.len(),
            Some(BodyFrame::End) => {
                seen.complete += 1;
                guard.next_message();
                if matches!(guard.state, State::Complete) {
                    return Ok(());
                }
            }
            None if matches!(guard.side, Side::Requests { .. })
                && matches!(guard.state, State::Head { .. }) => {}
            None => return Ok(()),
        }
    }
}

fn request(bytes: &[u8]) -> Seen {
    let whole = observe(Guard::requests(LIMITS), &[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    let split = observe(Guard::requests(LIMITS), &single);
    assert_eq!(
        whole.violation,
        split.violation,
        "the split matters: {}",
        bytes.escape_ascii()
    );
    whole
}

fn response(bytes: &[u8], to_head: bool) -> Seen {
    let mut guard = Guard::responses();
    guard.expect_response(to_head);
    observe(guard, &[bytes])
}

/// Splits `bytes` at the given points.
fn split<'a>(mut bytes: &'a [u8], points: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for point in points {
        let (piece, rest) = bytes.split_at(point % (bytes.len() + 1));
        pieces.push(piece);
        bytes = rest;
    }
    pieces.push(bytes);
    pieces
}

/// Text that is almost HTTP, so that random input reaches every state.
fn nearly_http() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(&b"GET / HTTP/1.1\r\n"[..]),
        Just(&b"POST /x HTTP/1.1\r\n"[..]),
        Just(&b"Host: a\r\n"[..]),
        Just(&b"Content-Length: 5\r\n"[..]),
        Just(&b"Transfer-Encoding: chunked\r\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\n"[..]),
        Just(&b"\r"[..]),
        Just(&b"5\r\nabcde\r\n"[..]),
        Just(&b"0\r\n\r\n"[..]),
        Just(&b"0\r\nX: y\r\n\r\n"[..]),
        Just(&b"5;ext\r\n"[..]),
        Just(&b"abcde"[..]),
        Just(&b"X: y\r\n"[..]),
        Just(&b"\0"[..]),
    ];
    proptest::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        observe(Guard::requests(LIMITS), &[&bytes]);
        response(&bytes, false);
    }

    #[test]
    fn the_verdict_does_not_depend_on_the_split(bytes in nearly_http(), points in proptest::collection::vec(any::<usize>(), 0..6)) {
        let whole = observe(Guard::requests(LIMITS), &[&bytes]);
        let pieces = observe(Guard::requests(LIMITS), &split(&bytes, &points));
        prop_assert_eq!(whole.violation, pieces.violation);
        if whole.violation.is_none() {
            prop_assert_eq!(whole, pieces);
        }
    }
}
