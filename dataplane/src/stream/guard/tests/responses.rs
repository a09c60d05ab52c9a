//! Responses: framed by their request, judged as strictly.

use super::*;

#[test]
fn responses_are_framed_by_their_request() {
    let ok = "HTTP/1.1 200 OK\r\n";
    assert_eq!(
        response(
            format!("{ok}Content-Length: 3\r\n\r\nabc").as_bytes(),
            false
        )
        .body,
        b"abc"
    );
    assert_eq!(
        response(format!("{ok}Content-Length: 3\r\n\r\n").as_bytes(), true).complete,
        1
    );
    assert_eq!(
        response(format!("{ok}\r\nabc").as_bytes(), false).body,
        b"abc"
    );
    assert_eq!(
        response(
            b"HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
            false
        )
        .complete,
        1
    );
    let informed = response(
        format!("HTTP/1.1 103 Early Hints\r\n\r\n{ok}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
            .as_bytes(),
        false,
    );
    assert_eq!((informed.heads.len(), informed.complete), (2, 1));
    assert_eq!(
        response(b"HTTP/1.1 101 Switching Protocols\r\n\r\nraw", false).body,
        b"raw"
    );
}

#[test]
fn ambiguous_responses_are_refused() {
    use Violation as V;
    let table: &[(&str, &str, Violation)] = &[
        (
            "bare LF",
            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            V::BareLf,
        ),
        (
            "obs-fold",
            "HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n",
            V::Syntax("header name"),
        ),
        (
            "space before colon",
            "HTTP/1.1 200 OK\r\nX : a\r\n\r\n",
            V::Syntax("header name"),
        ),
        (
            "CL and TE",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            V::LengthAndCoding,
        ),
        (
            "two CL",
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            V::ContentLength,
        ),
        (
            "TE gzip",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            V::TransferEncoding,
        ),
        (
            "TE on 1.0",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            V::TransferEncoding,
        ),
        ("HTTP/2.0", "HTTP/2.0 200 OK\r\n\r\n", V::Version),
        (
            "empty line first",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
            V::Syntax("line end"),
        ),
        ("bad status", "HTTP/1.1 2x0 OK\r\n\r\n", V::Syntax("status")),
    ];
    for (name, bytes, violation) in table {
        assert_eq!(
            response(bytes.as_bytes(), false).violation,
            Some(*violation),
            "{name}"
        );
    }
}

#[test]
fn the_wire_form_of_a_body_passes_unchanged() {
    let wire = "3;x\r\nabc\r\n0\r\nX: y\r\n\r\n";
    let mut guard = Guard::responses();
    guard.expect_response(false);
    let mut buffer = BytesMut::from(
        format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{wire}next").as_bytes(),
    );
    let Ok(Pass::Bytes(head)) = guard.pass(&mut buffer) else {
        panic!("no head")
    };
    guard.passed(&buffer.split_to(head)).unwrap();
    let mut passed = Vec::new();
    while !guard.is_complete() {
        let Ok(Pass::Bytes(n)) = guard.pass(&mut buffer) else {
            panic!("no body")
        };
        // A reader with a small buffer.
        let bytes = buffer.split_to(n.min(4));
        guard.passed(&bytes).unwrap();
        passed.extend_from_slice(&bytes);
    }
    assert_eq!(passed, wire.as_bytes());
    assert_eq!(
        guard.pass(&mut buffer),
        Ok(Pass::Any),
        "what lies behind is shown to the owner"
    );
}
