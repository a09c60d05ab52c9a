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
