//! Requests that could be read in two ways, and those that cannot.

use super::*;

const H: &str = "GET / HTTP/1.1\r\nHost: a.example\r\n";
const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn ambiguous_requests_are_refused() {
    use Violation as V;
    let post = "POST / HTTP/1.1\r\nHost: a.example\r\n";
    let table: &[(&str, String, Violation)] = &[
        (
            "CL and TE",
            format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            V::LengthAndCoding,
        ),
        (
            "TE and CL",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
            V::LengthAndCoding,
        ),
        (
            "two different CL",
            format!("{post}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc"),
            V::ContentLength,
        ),
        (
            "two equal CL",
            format!("{post}Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
            V::ContentLength,
        ),
        (
            "CL list",
            format!("{post}Content-Length: 3, 3\r\n\r\nabc"),
            V::ContentLength,
        ),
        (
            "CL plus",
            format!("{post}Content-Length: +3\r\n\r\nabc"),
            V::ContentLength,
        ),
        (
            "CL minus",
            format!("{post}Content-Length: -1\r\n\r\n"),
            V::ContentLength,
        ),
        (
            "CL empty",
            format!("{post}Content-Length:\r\n\r\n"),
            V::ContentLength,
        ),
        (
            "CL hex",
            format!("{post}Content-Length: 0x3\r\n\r\nabc"),
            V::ContentLength,
        ),
        (
            "CL overflow",
            format!("{post}Content-Length: 99999999999999999999\r\n\r\n"),
            V::ContentLength,
        ),
        (
            "TE identity",
            format!("{post}Transfer-Encoding: identity\r\n\r\n"),
            V::TransferEncoding,
        ),
        (
            "TE xchunked",
            format!("{post}Transfer-Encoding: xchunked\r\n\r\n"),
            V::TransferEncoding,
        ),
        (
            "TE chunked twice",
            format!("{post}Transfer-Encoding: chunked, chunked\r\n\r\n"),
            V::TransferEncoding,
        ),
        (
            "TE gzip, chunked",
            format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n"),
            V::TransferCoding,
        ),
        (
            "TE chunked, gzip",
            format!("{post}Transfer-Encoding: chunked, gzip\r\n\r\n"),
            V::TransferEncoding,
        ),
        (
            "TE empty element",
            format!("{post}Transfer-Encoding: , chunked\r\n\r\n"),
            V::TransferEncoding,
        ),
        (
            "two TE lines",
            format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
            V::TransferEncoding,
        ),
        (
            "TE identity and chunked lines",
            format!("{post}Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n"),
            V::TransferEncoding,
        ),
        (
            "TE vertical tab",
            format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n"),
            V::Syntax("header value"),
        ),
        (
            "TE on 1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            V::TransferEncoding,
        ),
        (
            "space before colon",
            format!("{H}X : y\r\n\r\n"),
            V::Syntax("header name"),
        ),
        (
            "TE space before colon",
            format!("{post}Transfer-Encoding : chunked\r\n\r\n"),
            V::Syntax("header name"),
        ),
        (
            "HTTP/1.2",
            "GET / HTTP/1.2\r\nHost: a\r\n\r\n".into(),
            V::Version,
        ),
        (
            "HTTP/2.0",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n".into(),
            V::Version,
        ),
        (
            "HTTP/0.9 line",
            "GET /\r\n\r\n".into(),
            V::Syntax("request line"),
        ),
        (
            "http in lower case",
            "GET / http/1.1\r\nHost: a\r\n\r\n".into(),
            V::Syntax("request line"),
        ),
        (
            "two spaces in the request line",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Syntax("start line"),
        ),
        (
            "trailing space in the request line",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n".into(),
            V::Syntax("request line"),
        ),
        (
            "obs-fold",
            format!("{H}X: a\r\n b\r\n\r\n"),
            V::Syntax("header name"),
        ),
        ("bare LF", "GET / HTTP/1.1\nHost: a\n\n".into(), V::BareLf),
        (
            "bare LF in one header",
            format!("{H}X: a\nY: b\r\n\r\n"),
            V::BareLf,
        ),
        ("bare LF at the end", format!("{H}\n"), V::BareLf),
        (
            "bare CR",
            format!("{H}X: a\rY: b\r\n\r\n"),
            V::Syntax("header value"),
        ),
        (
            "CR CR LF",
            format!("{H}X: a\r\r\n\r\n"),
            V::Syntax("header value"),
        ),
        (
            "NUL in a value",
            format!("{H}X: a\0b\r\n\r\n"),
            V::Syntax("header value"),
        ),
        (
            "NUL in a name",
            format!("{H}X\0: a\r\n\r\n"),
            V::Syntax("header name"),
        ),
        (
            "no Host",
            "GET / HTTP/1.1\r\nX: y\r\n\r\n".into(),
            V::HostMissing,
        ),
        (
            "empty name",
            format!("{H}: y\r\n\r\n"),
            V::Syntax("header name"),
        ),
        (
            "line without colon",
            format!("{H}X\r\n\r\n"),
            V::Syntax("header name"),
        ),
        (
            "leading space",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Syntax("request line"),
        ),
        (
            "space before the first header",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n".into(),
            V::Syntax("header name"),
        ),
        (
            "space in the target",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Target,
        ),
        (
            "tab in the target",
            "GET /a\tb HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Syntax("start line"),
        ),
        (
            "control in the target",
            "GET /a\x01b HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Syntax("start line"),
        ),
        (
            "not ASCII in the target",
            "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Target,
        ),
        (
            "fragment in the target",
            "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Target,
        ),
        (
            "target without slash",
            "GET a HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Target,
        ),
        (
            "asterisk for GET",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Target,
        ),
        ("two Hosts", format!("{H}Host: b\r\n\r\n"), V::HostRepeated),
        (
            "two equal Hosts",
            format!("{H}Host: a.example\r\n\r\n"),
            V::HostRepeated,
        ),
        (
            "userinfo in Host",
            "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(),
            V::HostMalformed,
        ),
        (
            "empty Host",
            "GET / HTTP/1.1\r\nHost:\r\n\r\n".into(),
            V::HostMalformed,
        ),
        (
            "list in Host",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(),
            V::HostMalformed,
        ),
        (
            "byte that no name has in Connection",
            format!("{H}Connection: x-secret, \u{e9}\r\nX-Secret: 1\r\n\r\n"),
            V::Connection,
        ),
        (
            "space in a name in Connection",
            format!("{H}Connection: close\r\nConnection: x secret\r\n\r\n"),
            V::Connection,
        ),
        (
            "absolute URI differs",
            "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::HostMismatch,
        ),
        (
            "absolute URI with userinfo",
            "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Target,
        ),
        (
            "absolute URI of another scheme",
            "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Target,
        ),
        (
            "CONNECT",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".into(),
            V::Method,
        ),
        (
            "TRACE",
            "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            V::Method,
        ),
        (
            "long method",
            format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33)),
            V::Syntax("method"),
        ),
        (
            "a TLS record",
            "\x16\x03\x01\x02\x00\x01\x00\x01\u{1}".into(),
            V::Syntax("request line"),
        ),
        (
            "three empty lines",
            format!("\r\n\r\n\r\n{H}\r\n"),
            V::Syntax("request line"),
        ),
        (
            "chunk size 0x",
            format!("{CHUNKED}0x3\r\nabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk size &",
            format!("{CHUNKED}&3\r\nabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk size +",
            format!("{CHUNKED}+3\r\nabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk size -",
            format!("{CHUNKED}-3\r\nabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk size empty",
            format!("{CHUNKED}\r\nabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk size with a leading space",
            format!("{CHUNKED} 3\r\nabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk size with a trailing space",
            format!("{CHUNKED}3 \r\nabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk size overlong",
            format!("{CHUNKED}{}3\r\nabc\r\n0\r\n\r\n", "0".repeat(16)),
            V::ChunkSize,
        ),
        (
            "chunk size huge",
            format!("{CHUNKED}FFFFFFFFFFFFFFFF\r\nabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk size with underscore",
            format!("{CHUNKED}1_0\r\nabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk: bare LF behind the size",
            format!("{CHUNKED}3\nabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk: bare LF behind the data",
            format!("{CHUNKED}3\r\nabc\n0\r\n\r\n"),
            V::ChunkEnd,
        ),
        (
            "chunk: bare CR behind the size",
            format!("{CHUNKED}3\rabc\r\n0\r\n\r\n"),
            V::ChunkSize,
        ),
        (
            "chunk longer than its size",
            format!("{CHUNKED}3\r\nabcd\r\n0\r\n\r\n"),
            V::ChunkEnd,
        ),
        (
            "LF in a chunk extension",
            format!("{CHUNKED}3;a\nbc\r\nabc\r\n0\r\n\r\n"),
            V::ChunkExtension,
        ),
        (
            "NUL in a chunk extension",
            format!("{CHUNKED}3;a\0\r\nabc\r\n0\r\n\r\n"),
            V::ChunkExtension,
        ),
        (
            "long chunk extension",
            format!("{CHUNKED}3;{}\r\nabc\r\n0\r\n\r\n", "a".repeat(5000)),
            V::ChunkExtension,
        ),
        (
            "bare LF at the end of the trailers",
            format!("{CHUNKED}0\r\n\n"),
            V::Trailers,
        ),
        (
            "bare LF in a trailer",
            format!("{CHUNKED}0\r\nX: y\n\r\n"),
            V::Trailers,
        ),
        (
            "malformed trailer",
            format!("{CHUNKED}0\r\nX y\r\n\r\n"),
            V::Trailers,
        ),
        (
            "long trailers",
            format!("{CHUNKED}0\r\nX: {}\r\n\r\n", "a".repeat(9000)),
            V::Trailers,
        ),
        (
            "long target",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(1024)),
            V::TargetTooLong,
        ),
        (
            "endless target",
            format!("GET /{}", "a".repeat(2000)),
            V::TargetTooLong,
        ),
        (
            "long head",
            format!("{H}X: {}\r\n\r\n", "a".repeat(8192)),
            V::HeadTooLong,
        ),
        (
            "endless head",
            format!("{H}X: {}", "a".repeat(9000)),
            V::HeadTooLong,
        ),
        (
            "many fields",
            format!("{H}{}\r\n", "X: y\r\n".repeat(16)),
            V::TooManyFields,
        ),
        (
            "endless fields",
            format!("{H}{}", "X: y\r\n".repeat(20)),
            V::TooManyFields,
        ),
    ];
    for (name, bytes, violation) in table {
        let seen = request(bytes.as_bytes());
        assert_eq!(seen.violation, Some(*violation), "{name}");
        assert_eq!(seen.complete, 0, "{name}: nothing of it is a message");
    }
}

#[test]
fn a_fault_in_sight_is_found_before_the_head_is_used() {
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3;\n\r\nabc",
        "0\r\nX: y\n\r\n",
        "0\r\nX y\r\n\r\n",
    ] {
        let seen = observe(
            Guard::requests(LIMITS),
            &[format!("{CHUNKED}{body}").as_bytes()],
        );
        assert!(
            seen.violation.is_some() && seen.heads.is_empty(),
            "{body:?}"
        );
    }
}

#[test]
fn bytes_behind_an_upgrade_are_refused() {
    let upgrade = format!("{H}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    let alone = request(upgrade.as_bytes());
    assert_eq!((alone.violation, alone.complete), (None, 1));
    let early = observe(
        Guard::requests(LIMITS),
        &[format!("{upgrade}GET /second HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()],
    );
    assert_eq!(early.violation, Some(Violation::EarlyUpgrade));
    assert!(early.heads.is_empty());
}

#[test]
fn good_requests_pass() {
    let table: &[(&str, String, &str)] = &[
        ("plain", format!("{H}\r\n"), ""),
        ("1.0 without Host", "GET / HTTP/1.0\r\n\r\n".into(), ""),
        ("length", format!("{H}Content-Length: 3\r\n\r\nabc"), "abc"),
        ("length 0", format!("{H}Content-Length: 0\r\n\r\n"), ""),
        (
            "chunked",
            format!("{CHUNKED}3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n"),
            "abc0123456789",
        ),
        (
            "chunked, other case",
            format!("{H}transfer-encoding: Chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"),
            "a",
        ),
        (
            "chunk extension",
            format!("{CHUNKED}3;name=\"v\"\r\nabc\r\n0;x\r\n\r\n"),
            "abc",
        ),
        (
            "trailers",
            format!("{CHUNKED}3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: b\r\n\r\n"),
            "abc",
        ),
        ("empty lines before", format!("\r\n\r\n{H}\r\n"), ""),
        (
            "absolute form",
            "GET http://a.example/x?y HTTP/1.1\r\nHost: a.example\r\n\r\n".into(),
            "",
        ),
        (
            "absolute form in another case",
            "GET http://A.example:80/ HTTP/1.1\r\nHost: a.Example:80\r\n\r\n".into(),
            "",
        ),
        (
            "Connection with empty elements",
            format!("{H}Connection:\r\nConnection: , keep-alive,, X-a ,\t\r\n\r\n"),
            "",
        ),
        (
            "OPTIONS *",
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(),
            "",
        ),
        (
            "obs-text in a value",
            "GET / HTTP/1.1\r\nHost: a\r\nX: \u{e9}\r\n\r\n".into(),
            "",
        ),
        (
            "as many fields as allowed",
            format!("{H}{}\r\n", "X: y\r\n".repeat(15)),
            "",
        ),
    ];
    for (name, bytes, body) in table {
        let seen = request(bytes.as_bytes());
        assert_eq!(seen.violation, None, "{name}");
        assert_eq!((seen.heads.len(), seen.complete), (1, 1), "{name}");
        assert_eq!(seen.body, body.as_bytes(), "{name}");
        assert_eq!(seen.trailers, usize::from(*name == "trailers"), "{name}");
    }
    let pipelined = request(
        format!("{CHUNKED}1\r\na\r\n0\r\n\r\n{H}Content-Length: 2\r\n\r\nbc{H}\r\n").as_bytes(),
    );
    assert_eq!((pipelined.heads.len(), pipelined.complete), (3, 3));
    assert_eq!(pipelined.body, b"abc");
}

#[test]
fn only_the_head_passes_as_it_stands_on_the_wire() {
    for body in [
        "Content-Length: 3\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ] {
        let mut guard = Guard::requests(LIMITS);
        let text = format!("POST / HTTP/1.1\r\nHost: a\r\n{body}next");
        let mut buffer = BytesMut::from(text.as_bytes());
        let Ok(Pass::Bytes(head)) = guard.pass(&mut buffer) else {
            panic!("no head")
        };
        guard.passed(&buffer.split_to(head)).unwrap();
        assert_eq!(
            guard.pass(&mut buffer),
            Ok(Pass::Nothing),
            "a body is taken by frame"
        );
        assert_eq!(
            guard.frame(&mut buffer),
            Ok(Some(BodyFrame::Data(Bytes::from("abc"))))
        );
        assert_eq!(guard.frame(&mut buffer), Ok(Some(BodyFrame::End)));
        assert_eq!(
            guard.pass(&mut buffer),
            Ok(Pass::Nothing),
            "what lies behind is nobody's yet"
        );
    }
}
