//! RequestRedirect: the `Location` of the answer.

use std::borrow::Cow;

use portcullis_routing::{PathMatch, filter::Redirect};

use super::rewrite::modify_path;

/// The parts of the request that a `Location` may keep.
#[derive(Clone, Copy, Debug)]
pub struct RedirectedRequest<'a> {
    /// `http` or `https`, as the client spoke it.
    pub scheme: &'a str,
    /// Host without port; empty if the client named none (HTTP/1.0).
    pub host: &'a str,
    /// Port of the listener, as the Gateway's spec has it.
    pub listener_port: u16,
    /// Normalised path.
    pub path: &'a str,
    /// Query without `?`.
    pub query: Option<&'a str>,
}

/// The `Location` for `request`; `matched` is the path of the match that won.
///
/// Where neither the client nor the redirect names a host it is relative (RFC 9110 10.2.2): our own address is nothing that
/// a client could use. `None` if that cannot say what the redirect asks for, such as another scheme: a request without a
/// host may then be refused (RFC 9112 3.3).
pub fn location(
    redirect: &Redirect,
    request: RedirectedRequest<'_>,
    matched: &PathMatch,
) -> Option<String> {
    use std::fmt::Write as _;

    let scheme = redirect.scheme.as_deref().unwrap_or(request.scheme);
    let host = redirect.hostname.as_deref().unwrap_or(request.host);
    let well_known = if scheme == "https" { 443 } else { 80 };
    let port = match (redirect.port, &redirect.scheme) {
        (Some(port), _) => port,
        (None, Some(_)) => well_known,
        (None, None) => request.listener_port,
    };

    let path = match &redirect.path {
        Some(modifier) => Cow::Owned(modify_path(request.path, modifier, matched)),
        None => Cow::Borrowed(request.path),
    };
    let mut location = String::new();
    if !host.is_empty() {
        location = format!("{scheme}://{host}");
        if port != well_known {
            // Writing to a String cannot fail.
            _ = write!(location, ":{port}");
        }
    } else if scheme != request.scheme || port != request.listener_port || path.starts_with("//") {
        // The last one would be read as another host.
        return None;
    }
    location.push_str(&path);
    if let Some(query) = request.query {
        location.push('?');
        location.push_str(query);
    }
    Some(location)
}

#[cfg(test)]
mod tests {
    use portcullis_routing::filter::PathModifier;

    use super::*;

    fn redirect() -> Redirect {
        Redirect {
            scheme: None,
            hostname: None,
            port: None,
            path: None,
            status: 302,
        }
    }

    fn to(redirect: &Redirect, listener_port: u16) -> String {
        let request = RedirectedRequest {
            scheme: "http",
            host: "a.example",
            listener_port,
            path: "/old/x",
            query: Some("q=1"),
        };
        location(redirect, request, &PathMatch::Prefix("/old".into())).unwrap()
    }

    #[test]
    fn keeps_what_is_not_named() {
        assert_eq!(to(&redirect(), 80), "http://a.example/old/x?q=1");
        assert_eq!(to(&redirect(), 8080), "http://a.example:8080/old/x?q=1");
    }

    #[test]
    fn derives_the_port_from_a_named_scheme() {
        let https = Redirect {
            scheme: Some("https".into()),
            ..redirect()
        };
        assert_eq!(to(&https, 8080), "https://a.example/old/x?q=1");
        let odd = Redirect {
            port: Some(8443),
            ..https
        };
        assert_eq!(to(&odd, 80), "https://a.example:8443/old/x?q=1");
        let plain = Redirect {
            port: Some(80),
            ..redirect()
        };
        assert_eq!(to(&plain, 8080), "http://a.example/old/x?q=1");
    }

    #[test]
    fn changes_host_and_path() {
        let moved = Redirect {
            hostname: Some("b.example".into()),
            path: Some(PathModifier::ReplacePrefix("/new".into())),
            ..redirect()
        };
        assert_eq!(to(&moved, 80), "http://b.example/new/x?q=1");
    }

    #[test]
    fn names_no_host_that_nobody_named() {
        let of = |redirect: &Redirect, path| {
            let request = RedirectedRequest {
                scheme: "http",
                host: "",
                listener_port: 8080,
                path,
                query: Some("q=1"),
            };
            location(redirect, request, &PathMatch::Prefix("/old".into()))
        };
        assert_eq!(of(&redirect(), "/old/x").unwrap(), "/old/x?q=1");
        assert_eq!(of(&redirect(), "//evil.example/"), None);
        let moved = Redirect {
            hostname: Some("b.example".into()),
            ..redirect()
        };
        assert_eq!(of(&moved, "/x").unwrap(), "http://b.example:8080/x?q=1");
        let https = Redirect {
            scheme: Some("https".into()),
            ..redirect()
        };
        let port = Redirect {
            port: Some(81),
            ..redirect()
        };
        assert_eq!((of(&https, "/x"), of(&port, "/x")), (None, None));
    }
}
