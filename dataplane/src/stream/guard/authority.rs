//! What may stand in `Host`.

use std::net::Ipv6Addr;

/// Longest authority: a domain name of 253 bytes and a port.
const MAX_AUTHORITY: usize = 260;

/// Whether `authority` is a host with an optional port (RFC 9110 7.2), without userinfo. Of the registered names of
/// RFC 3986 those are accepted that can be a domain name or an address; sub-delimiters and percent-encoding only serve
/// to make two parsers disagree.
pub(crate) fn is_valid(authority: &[u8]) -> bool {
    let Ok(authority) = std::str::from_utf8(authority) else {
        return false;
    };
    if authority.len() > MAX_AUTHORITY {
        return false;
    }
    let (host_is_valid, port) = if let Some(rest) = authority.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        (address.parse::<Ipv6Addr>().is_ok(), port)
    } else {
        let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        (!host.is_empty() && host.bytes().all(is_host_byte), port)
    };
    host_is_valid && is_valid_port(port)
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Nothing, or a colon and a port.
fn is_valid_port(port: &str) -> bool {
    match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit()) && digits.parse::<u16>().is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn hosts() {
        for good in [
            "a",
            "example.com",
            "example.com:80",
            "10.0.0.1:8443",
            "[::1]",
            "[2001:db8::1]:443",
            "a_b.example.",
        ] {
            assert!(is_valid(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "user@host",
            "a b",
            "a,b",
            "a/b",
            "a:b",
            "a:",
            "a:+1",
            "a:99999",
            "a:1:2",
            "[::1",
            "[::g]",
            "[::1]x",
            "::1",
            "a%2eb",
            "a\\b",
            "a#b",
            "a?b",
            "\u{e9}.example",
        ] {
            assert!(!is_valid(bad.as_bytes()), "{bad}");
        }
        assert!(!is_valid(&[b'a'; 300]));
        assert!(!is_valid(b"a\xff"));
    }
}
