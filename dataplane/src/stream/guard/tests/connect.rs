//! CONNECT, where it is served: one destination, nothing but a head, and what comes behind it is left alone.

use super::*;

/// The verdict on `bytes`, however they are split.
fn proxied(bytes: &str) -> Seen {
    let bytes = bytes.as_bytes();
    let whole = observe(Guard::proxy_requests(LIMITS), &[bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(whole, observe(Guard::proxy_requests(LIMITS), &single));
    whole
}

#[test]
fn a_head_that_names_one_destination_passes() {
    for head in [
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        "CONNECT [::1]:443 HTTP/1.1\r\nHost: [::1]:443\r\n\r\n",
        // As some clients write the usual port.
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n",
        "CONNECT a.example:443 HTTP/1.0\r\n\r\n",
    ] {
        passes_as(head, head);
    }
}

/// The parser behind the guard takes two spellings for two hosts.
#[test]
fn a_target_in_another_case_passes_as_host_has_it() {
    passes_as(
        "CONNECT A.example:443 HTTP/1.1\r\nHost: a.EXAMPLE:443\r\nContent-Length: 0\r\n\r\n",
        "CONNECT a.EXAMPLE:443 HTTP/1.1\r\nHost: a.EXAMPLE:443\r\nContent-Length: 0\r\n\r\n",
    );
    passes_as(
        "CONNECT a.example:80 HTTP/1.1\r\nHost: A.example\r\n\r\n",
        "CONNECT A.example:80 HTTP/1.1\r\nHost: A.example\r\n\r\n",
    );
}

fn passes_as(head: &str, passed: &str) {
    let seen = proxied(head);
    assert_eq!((seen.violation, seen.complete), (None, 1), "{head}");
    assert_eq!(seen.heads, [passed.as_bytes()], "{head}");
    assert_eq!(request(head.as_bytes()).violation, Some(Violation::Method));
}

#[test]
fn what_has_content_or_two_destinations_is_refused() {
    let host = "Host: a.example:443\r\n";
    for (target, fields, violation) in [
        (
            "a.example:443",
            "Host: b.example:443\r\n",
            Violation::HostMismatch,
        ),
        (
            "a.example:443",
            "Host: a.example:444\r\n",
            Violation::HostMismatch,
        ),
        (
            "a.example:8443",
            "Host: a.example\r\n",
            Violation::HostMismatch,
        ),
        ("a.example:443", "", Violation::HostMissing),
        ("user@a.example:443", host, Violation::Target),
        ("http://a.example:443/", host, Violation::Target),
        ("/", host, Violation::Target),
        ("a.example:443/x", host, Violation::Target),
        ("a.example:443?x", host, Violation::Target),
        ("a.example:99999", host, Violation::Target),
        (
            "a.example:443",
            "Host: a.example:443\r\nContent-Length: 1\r\n",
            Violation::ConnectContent,
        ),
        (
            "a.example:443",
            "Host: a.example:443\r\nTransfer-Encoding: chunked\r\n",
            Violation::ConnectContent,
        ),
        (
            "a.example:443",
            "Host: a.example:443\r\nUpgrade: x\r\n",
            Violation::ConnectContent,
        ),
    ] {
        let head = format!("CONNECT {target} HTTP/1.1\r\n{fields}\r\n");
        assert_eq!(proxied(&head).violation, Some(violation), "{head}");
    }
    let trace = "TRACE / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    assert_eq!(proxied(trace).violation, Some(Violation::Method));
}

#[test]
fn what_comes_behind_it_stays_in_the_buffer() {
    let head = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
    let mut guard = Guard::proxy_requests(LIMITS);
    let mut buffer = BytesMut::from(format!("{head}\x16\x03\x01 no request").as_str());
    assert_eq!(guard.pass(&mut buffer), Ok(Pass::Bytes(head.len())));
    assert_eq!(guard.take_head(&mut buffer).unwrap(), head.as_bytes());
    assert!(guard.is_complete());
    assert_eq!(guard.pass(&mut buffer), Ok(Pass::Nothing));
    assert_eq!(buffer, b"\x16\x03\x01 no request"[..]);
}
