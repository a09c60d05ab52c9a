//! The ambiguity table: requests that two HTTP implementations could read differently, and what must become of them.

/// One request, byte for byte.
pub(crate) struct Vector {
    pub(crate) name: &'static str,
    /// Sent in one write.
    pub(crate) bytes: Vec<u8>,
    /// Status codes that refuse it: 400, or the code an RFC names for it.
    pub(crate) refusals: &'static [u16],
}

const BAD_REQUEST: &[u16] = &[400];
/// A transfer coding that is not understood: RFC 9112 6.1 names 501.
const UNKNOWN_CODING: &[u16] = &[400, 501];
/// An HTTP version that is not spoken: RFC 9110 15.6.6 names 505.
const UNKNOWN_VERSION: &[u16] = &[400, 505];
/// A method that is not allowed here: RFC 9110 15.5.6 names 405, 15.6.2 names 501.
const UNKNOWN_METHOD: &[u16] = &[400, 405, 501];

/// Requests with one meaning only: they must be forwarded and answered, or the table would prove nothing.
pub(crate) fn controls() -> Vec<Vector> {
    vec![
        vector("plain GET", "GET /a?b=c HTTP/1.1|Host: a.example||", &[]),
        vector(
            "absolute URI of the same host",
            "GET http://a.example/ HTTP/1.1|Host: a.example||",
            &[],
        ),
        post("Content-Length", "Content-Length: 3", "abc", &[]),
        post(
            "chunked with extension and trailer",
            "Transfer-Encoding: Chunked",
            "3;a=b|abc|0|t: u||",
            &[],
        ),
        post("optional white space", "Content-Length:\t3 ", "abc", &[]),
        vector(
            "HTTP/1.0 with Host",
            "GET / HTTP/1.0|Host: a.example||",
            &[],
        ),
    ]
}

/// An Upgrade request with a second request behind it: whoever switches protocols and whoever does not read the second
/// one differently, so it must never become a request of its own. What answers the first one is free.
pub(crate) fn upgrade_with_pipelined_request() -> Vec<u8> {
    "GET /first HTTP/1.1|Host: a.example|Connection: Upgrade|Upgrade: websocket|Sec-WebSocket-Version: 13|\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==||GET /second HTTP/1.1|Host: a.example||"
        .replace('|', "\r\n")
        .into_bytes()
}

/// Every vector. `|` in a text stands for the end of a line.
pub(crate) fn all() -> Vec<Vector> {
    let mut vectors = framing();
    vectors.extend(chunks());
    vectors.extend(heads());
    vectors.extend(targets());
    vectors
}

fn vector(name: &'static str, text: &str, refusals: &'static [u16]) -> Vector {
    Vector {
        name,
        bytes: text.replace('|', "\r\n").into_bytes(),
        refusals,
    }
}

/// A POST with these header lines and this body.
fn post(name: &'static str, lines: &str, body: &str, refusals: &'static [u16]) -> Vector {
    vector(
        name,
        &format!("POST / HTTP/1.1|Host: a.example|{lines}||{body}"),
        refusals,
    )
}

/// A GET with these header lines behind `Host`.
fn get(name: &'static str, lines: &str) -> Vector {
    vector(
        name,
        &format!("GET / HTTP/1.1|Host: a.example|{lines}||"),
        BAD_REQUEST,
    )
}

/// Where a body ends (RFC 9112 6).
fn framing() -> Vec<Vector> {
    let chunked = "0||";
    vec![
        post(
            "Content-Length and Transfer-Encoding",
            "Content-Length: 5|Transfer-Encoding: chunked",
            chunked,
            BAD_REQUEST,
        ),
        post(
            "Transfer-Encoding and Content-Length",
            "Transfer-Encoding: chunked|Content-Length: 5",
            chunked,
            BAD_REQUEST,
        ),
        post(
            "two different Content-Lengths",
            "Content-Length: 3|Content-Length: 4",
            "abcd",
            BAD_REQUEST,
        ),
        post(
            "two equal Content-Lengths",
            "Content-Length: 3|Content-Length: 3",
            "abc",
            BAD_REQUEST,
        ),
        post(
            "Content-Length: 3, 3",
            "Content-Length: 3, 3",
            "abc",
            BAD_REQUEST,
        ),
        post(
            "Content-Length: +3",
            "Content-Length: +3",
            "abc",
            BAD_REQUEST,
        ),
        post(
            "Content-Length: -1",
            "Content-Length: -1",
            "abc",
            BAD_REQUEST,
        ),
        post(
            "Content-Length: 0x3",
            "Content-Length: 0x3",
            "abc",
            BAD_REQUEST,
        ),
        post(
            "Content-Length empty",
            "Content-Length:",
            "abc",
            BAD_REQUEST,
        ),
        post(
            "Content-Length beyond 64 bits",
            "Content-Length: 18446744073709551619",
            "abc",
            BAD_REQUEST,
        ),
        post(
            "Transfer-Encoding: identity",
            "Transfer-Encoding: identity",
            "abc",
            UNKNOWN_CODING,
        ),
        post(
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: xchunked",
            chunked,
            UNKNOWN_CODING,
        ),
        post(
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: chunked, chunked",
            chunked,
            UNKNOWN_CODING,
        ),
        post(
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: gzip, chunked",
            chunked,
            UNKNOWN_CODING,
        ),
        post(
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: chunked, gzip",
            chunked,
            UNKNOWN_CODING,
        ),
        post(
            "Transfer-Encoding: \"chunked\"",
            "Transfer-Encoding: \"chunked\"",
            chunked,
            UNKNOWN_CODING,
        ),
        post(
            "two Transfer-Encoding lines",
            "Transfer-Encoding: chunked|Transfer-Encoding: chunked",
            chunked,
            UNKNOWN_CODING,
        ),
        post(
            "Transfer-Encoding with a vertical tab",
            "Transfer-Encoding: \u{b}chunked",
            chunked,
            UNKNOWN_CODING,
        ),
        post(
            "space before the colon",
            "Transfer-Encoding : chunked",
            chunked,
            BAD_REQUEST,
        ),
        vector(
            "Transfer-Encoding on HTTP/1.0",
            "POST / HTTP/1.0|Host: a.example|Transfer-Encoding: chunked||0||",
            BAD_REQUEST,
        ),
    ]
}

/// Chunked bodies (RFC 9112 7.1).
fn chunks() -> Vec<Vector> {
    let chunked = |name, body: &str| post(name, "Transfer-Encoding: chunked", body, BAD_REQUEST);
    vec![
        chunked("chunk size ends with a bare LF", "3\nabc|0||"),
        chunked("chunk data ends with a bare LF", "3|abc\n0||"),
        chunked("chunk size 0x3", "0x3|abc|0||"),
        chunked("chunk size &3", "&3|abc|0||"),
        chunked("chunk size +3", "+3|abc|0||"),
        chunked("chunk size -3", "-3|abc|0||"),
        chunked("chunk size with a space before", " 3|abc|0||"),
        chunked(
            "chunk size overlong",
            &format!("{}3|abc|0||", "0".repeat(40)),
        ),
        chunked("chunk size empty", "|abc|0||"),
        chunked("LF in a chunk extension", "3;a\nb|abc|0||"),
        chunked("bare CR in a chunk extension", "3;a\rb|abc|0||"),
        chunked("huge chunk size", "FFFFFFFFFFFFFFFFF|abc|0||"),
        chunked("chunk longer than its size", "3|abcdef|0||"),
        chunked("trailer line without colon", "3|abc|0|trailer||"),
    ]
}

/// Header lines (RFC 9112 5).
fn heads() -> Vec<Vector> {
    vec![
        get("obs-fold", "A: b| c"),
        vector(
            "header lines with bare LF",
            "GET / HTTP/1.1\nHost: a.example\n\n",
            BAD_REQUEST,
        ),
        get("bare LF between two lines", "A: b\nB: c"),
        get("bare CR in a value", "A: b\rB: c"),
        get("NUL in a value", "A: b\0c"),
        get("control character in a value", "A: b\u{1}c"),
        get("empty field name", ": b"),
        get("space in a field name", "A b: c"),
        get("line without colon", "Ab"),
        vector(
            "space before the first line's name",
            "GET / HTTP/1.1| Host: a.example||",
            BAD_REQUEST,
        ),
        vector("no Host", "GET / HTTP/1.1|A: b||", BAD_REQUEST),
        vector(
            "two Hosts",
            "GET / HTTP/1.1|Host: a.example|Host: b.example||",
            BAD_REQUEST,
        ),
        vector(
            "two equal Hosts",
            "GET / HTTP/1.1|Host: a.example|Host: a.example||",
            BAD_REQUEST,
        ),
        vector(
            "two values in Host",
            "GET / HTTP/1.1|Host: a.example, b.example||",
            BAD_REQUEST,
        ),
        vector(
            "userinfo in Host",
            "GET / HTTP/1.1|Host: user@a.example||",
            BAD_REQUEST,
        ),
        vector(
            "path in Host",
            "GET / HTTP/1.1|Host: a.example/b||",
            BAD_REQUEST,
        ),
    ]
}

/// Request lines (RFC 9112 3).
fn targets() -> Vec<Vector> {
    let line =
        |name, line: &str, refusals| vector(name, &format!("{line}|Host: a.example||"), refusals);
    vec![
        line(
            "absolute URI of another host",
            "GET http://b.example/ HTTP/1.1",
            BAD_REQUEST,
        ),
        line("space in the target", "GET /a b HTTP/1.1", BAD_REQUEST),
        line("tab in the target", "GET /a\tb HTTP/1.1", BAD_REQUEST),
        line(
            "control character in the target",
            "GET /a\u{1}b HTTP/1.1",
            BAD_REQUEST,
        ),
        line("NUL in the target", "GET /a\0b HTTP/1.1", BAD_REQUEST),
        line(
            "encoded NUL in the path",
            "GET /a%00b HTTP/1.1",
            BAD_REQUEST,
        ),
        line("backslash in the path", "GET /a\\b HTTP/1.1", BAD_REQUEST),
        line("broken percent-encoding", "GET /a%zz HTTP/1.1", BAD_REQUEST),
        line("target without slash", "GET a HTTP/1.1", BAD_REQUEST),
        line("fragment in the target", "GET /a#b HTTP/1.1", BAD_REQUEST),
        line(
            "two spaces behind the method",
            "GET  / HTTP/1.1",
            BAD_REQUEST,
        ),
        line("HTTP/1.2", "GET / HTTP/1.2", UNKNOWN_VERSION),
        line("HTTP/2.0", "GET / HTTP/2.0", UNKNOWN_VERSION),
        line("HTTP/0.9", "GET /", UNKNOWN_VERSION),
        line("version in lower case", "GET / http/1.1", UNKNOWN_VERSION),
        line("CONNECT", "CONNECT a.example:80 HTTP/1.1", UNKNOWN_METHOD),
        line("TRACE", "TRACE / HTTP/1.1", UNKNOWN_METHOD),
        line(
            "asterisk with another method than OPTIONS",
            "GET * HTTP/1.1",
            BAD_REQUEST,
        ),
    ]
}
