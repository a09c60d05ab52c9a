//! The syntax of names and values, shared by the checks and open to the controller.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderName, HeaderValue, Method};

use super::{Check, ensure};
use crate::egress::host::ends_in_number;

/// Longest path, prefix or path expression, in bytes. The API allows 1,024 characters.
pub const MAX_PATH_BYTES: usize = 4 * 1024;

/// A DNS name in lower case (RFC 1123), without wildcard.
pub fn hostname(name: &str) -> Check {
    dns_name(name, |b| b == b'-')
}

/// The name of a host outside, in normal form: as [`hostname`], labels may have underscores, for such hosts exist, and the last one
/// is no number ([`crate::egress::host::Host`] has the same rules).
pub fn outside_host(name: &str) -> Check {
    dns_name(name, |b| matches!(b, b'-' | b'_'))?;
    no_number(name)
}

/// Whom a TLS handshake is to be with: a [host outside](outside_host), or an address.
pub fn server_name(name: &str) -> Check {
    match name.parse::<IpAddr>() {
        Ok(_) => Ok(()),
        Err(_) => outside_host(name),
    }
}

/// A host that a certificate can be for, in lower case: a DNS name, the last label of which is no number, as TLS libraries take none of
/// that kind, or an IPv4 address. The first label of a name may be `*`.
pub fn certificate_host(name: &str) -> Check {
    if name.parse::<Ipv4Addr>().is_ok() {
        return Ok(());
    }
    hostname_or_wildcard(name)?;
    no_number(name)
}

fn no_number(name: &str) -> Check {
    ensure(!ends_in_number(name), || {
        format!("{name:?} ends in a number, as addresses do, and is none")
    })
}

/// Such a name, the first label of which may be `*`.
pub fn outside_host_or_wildcard(name: &str) -> Check {
    outside_host(name.strip_prefix("*.").unwrap_or(name))
}

fn dns_name(name: &str, is_other: impl Fn(u8) -> bool) -> Check {
    let label = |label: &str| {
        let inner = label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || is_other(b));
        inner && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    ensure(name.len() <= 253 && name.split('.').all(label), || {
        format!("{name:?} is not a hostname in lower case")
    })
}

/// A DNS name, the first label of which may be `*`.
pub fn hostname_or_wildcard(name: &str) -> Check {
    hostname(name.strip_prefix("*.").unwrap_or(name))
}

/// A URI with its scheme (RFC 3986, 3.1), such as a SPIFFE ID.
pub fn uri(uri: &str) -> Check {
    let is_uri = uri.split_once(':').is_some_and(|(scheme, rest)| {
        let starts = scheme.starts_with(|first: char| first.is_ascii_alphabetic());
        let mut others = scheme.chars();
        starts
            && others.all(|one| one.is_ascii_alphanumeric() || matches!(one, '+' | '-' | '.'))
            && !rest.is_empty()
    });
    ensure(is_uri, || format!("{uri:?} is not a URI"))
}

/// An HTTP field name in any case (RFC 9110 5.1).
pub fn header_name(name: &str) -> Check {
    ensure(HeaderName::from_bytes(name.as_bytes()).is_ok(), || {
        format!("{name:?} is not a header name")
    })
}

/// An HTTP field name in lower case.
pub fn lower_header_name(name: &str) -> Check {
    header_name(name)?;
    ensure(!name.bytes().any(|b| b.is_ascii_uppercase()), || {
        format!("header name {name:?} is not in lower case")
    })
}

/// An HTTP field value (RFC 9110 5.5).
pub fn header_value(value: &str) -> Check {
    ensure(HeaderValue::from_str(value).is_ok(), || {
        format!("{value:?} is not a header value")
    })
}

/// A method (RFC 9110 9.1).
pub fn method(method: &str) -> Check {
    ensure(Method::from_bytes(method.as_bytes()).is_ok(), || {
        format!("{method:?} is not a method")
    })
}

/// An absolute path of bounded length, without query, fragment or control characters.
pub fn path(path: &str) -> Check {
    ensure(path.starts_with('/'), || {
        format!("path {path:?} does not start with /")
    })?;
    ensure(path.len() <= MAX_PATH_BYTES, || {
        format!(
            "a path has {} bytes, at most {MAX_PATH_BYTES} are allowed",
            path.len()
        )
    })?;
    let plain = !path
        .chars()
        .any(|c| c.is_ascii_control() || matches!(c, '?' | '#'));
    ensure(plain, || {
        format!("path {path:?} holds a query, fragment or control character")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::host::Host;

    #[test]
    fn hostnames() {
        for good in ["a", "a-1.b", "xn--bcher-kva.example"] {
            assert_eq!(hostname(good), Ok(()), "{good}");
            assert_eq!(hostname_or_wildcard(&format!("*.{good}")), Ok(()), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "", ".", "a.", "A", "-a", "a-", "a..b", "*", "a.*.b", "*a.b", "ä", "a_b", "a:80", &long,
        ] {
            assert!(hostname(bad).is_err(), "{bad}");
            assert!(hostname_or_wildcard(bad).is_err(), "{bad}");
        }
        assert!(hostname(&["abc"; 64].join(".")).is_err());
        assert!(hostname("*.a").is_err());
    }

    /// What a manifest may open is what a caller may name.
    #[test]
    fn hosts_outside_are_those_that_callers_can_name() {
        let names = [
            "a",
            "a_b.example",
            "_a.b",
            "a-_b",
            "-a",
            "a-",
            "a..b",
            "a.*.b",
            "a b",
            "A.b",
            "a%b",
            "a.7",
            "a.0x7f",
            "7",
            "7.a",
        ];
        for name in names {
            let is_named = matches!(Host::parse(name), Ok(Host::Name(it)) if *it == *name);
            assert_eq!(outside_host(name).is_ok(), is_named, "{name}");
            let wildcard = format!("*.{name}");
            assert_eq!(
                outside_host_or_wildcard(&wildcard).is_ok(),
                outside_host(name).is_ok()
            );
        }
        assert!(hostname("a_b.example").is_err());
    }

    #[test]
    fn what_a_certificate_can_be_for() {
        for good in ["a", "*.a.b", "1.a", "a.1b", "192.0.2.1"] {
            assert_eq!(certificate_host(good), Ok(()), "{good}");
        }
        for bad in ["1", "a.1", "*.1", "*.192.0.2.1", "192.0.2", "A", "a_b", "*"] {
            assert!(certificate_host(bad).is_err(), "{bad}");
        }
        for good in ["a_b", "192.0.2.1", "2001:db8::1"] {
            assert_eq!(server_name(good), Ok(()), "{good}");
        }
        for bad in ["a.1", "*.a", "[2001:db8::1]"] {
            assert!(server_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_and_headers() {
        assert_eq!(path("/a%20b/"), Ok(()));
        for bad in ["", "a", "/a?b", "/a#b", "/a\n"] {
            assert!(path(bad).is_err(), "{bad:?}");
        }
        assert!(path(&format!("/{}", "a".repeat(MAX_PATH_BYTES))).is_err());
        assert_eq!(lower_header_name("x-a"), Ok(()));
        assert!(lower_header_name("X-A").is_err());
        assert!(header_name("x a").is_err());
        assert!(header_value("a\nb").is_err());
        assert!(method("GE T").is_err());
    }
}
