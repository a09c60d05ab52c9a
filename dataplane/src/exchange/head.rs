//! From the client's head to the head that is forwarded: one hop ends, another begins (RFC 9110 7.6).

use std::{
    borrow::Cow,
    net::{IpAddr, SocketAddr},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request, uri::PathAndQuery,
};
use portcullis_routing::PathMatch;

use super::{
    hop,
    path::{self, BadPath},
};
use crate::{
    claims::is_claim,
    filter::rewrite::{PreparedRewrite, modify_path},
    reason::Reason,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields that a request gains on the way, as a rule.
const ADDED_FIELDS: usize = 6;

/// What routing needs of a request's target.
#[derive(Debug)]
pub struct Target {
    /// Lower case, without port. An IPv6 address keeps its brackets.
    pub host: Box<str>,
    /// The authority as the client wrote it, for `Host` and `X-Forwarded-Host`.
    pub authority: HeaderValue,
    /// Normalised path.
    pub path: Box<str>,
    /// Whether `path` differs from what the client wrote.
    pub path_changed: bool,
}

impl Target {
    /// The same, of a destination in normal form.
    #[must_use]
    pub(super) fn of_destination(
        self,
        respelled: Option<Box<str>>,
        authority: HeaderValue,
    ) -> Self {
        Self {
            host: respelled.unwrap_or(self.host),
            authority,
            path: self.path,
            path_changed: self.path_changed,
        }
    }

    /// Reads host and path. The framing layer has checked that there is one host, and that it agrees with an
    /// absolute-form target.
    pub fn of(head: &request::Parts) -> Result<Self, Reason> {
        let authority = match (head.uri.authority(), head.headers.get(header::HOST)) {
            (Some(authority), _) => {
                HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::BadRequest)?
            }
            (None, Some(host)) => host.clone(),
            // HTTP/1.0 needs no Host.
            (None, None) => HeaderValue::from_static(""),
        };
        let host =
            host_of(authority.to_str().map_err(|_| Reason::BadRequest)?).to_ascii_lowercase();
        // `OPTIONS *` asks about the server; absolute-form without a path, be there a query or not, means the root. Both are
        // matched, and so forwarded, as the root.
        let target = head.uri.path_and_query().map_or("", PathAndQuery::as_str);
        let is_root = !target.starts_with('/');
        let raw = if is_root { "/" } else { head.uri.path() };
        let path = path::normalize(raw.as_bytes()).map_err(|BadPath| Reason::BadPath)?;
        let path_changed = is_root || matches!(path, Cow::Owned(_));
        Ok(Self {
            host: host.into(),
            authority,
            path: path.into(),
            path_changed,
        })
    }
}

/// The host of an authority, without port and without the final dot of a fully qualified name.
fn host_of(authority: &str) -> &str {
    let host = match authority.rfind(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some(colon) if !authority.get(colon..).unwrap_or_default().contains(']') => {
            authority.get(..colon).unwrap_or_default()
        }
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// The upgrade a client asks for; only WebSocket passes, other upgrades are ignored as RFC 9110 7.8 allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// None.
    None,
    /// `Connection: upgrade`, `Upgrade: websocket` (RFC 6455).
    WebSocket,
    /// Extended CONNECT with `:protocol` websocket (RFC 8441).
    ExtendedWebSocket,
}

impl Upgrade {
    /// Reads the upgrade off an HTTP/1.1 head.
    pub fn of_http1(head: &request::Parts) -> Self {
        let websocket = head.version == Version::HTTP_11
            && head.method == Method::GET
            && list_has(&head.headers, &header::UPGRADE, "websocket")
            && list_has(&head.headers, &header::CONNECTION, "upgrade");
        if websocket {
            Self::WebSocket
        } else {
            Self::None
        }
    }
}

/// Whether a comma-separated header has `token`, in any case.
fn list_has(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    tokens(headers, name).any(|found| found.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements of a comma-separated header. Bytes, since a line is not to be skipped for one that is no text.
pub(super) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// The client as it is told to the backend.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Peer address, after the PROXY protocol.
    pub address: &'a HeaderValue,
    /// Whether the client spoke TLS with us.
    pub tls: bool,
    /// How many proxies in front of us are believed.
    pub trusted_hops: u32,
}

/// Turns the client's head into the one that is forwarded.
pub fn to_upstream(
    head: &mut request::Parts,
    target: &Target,
    upgrade: Upgrade,
    client: Client<'_>,
) -> Result<(), Reason> {
    head.headers.reserve(ADDED_FIELDS);
    to_next_hop(head, target, upgrade)?;
    forwarded(head, target, client);
    Ok(())
}

/// Turns the client's head into the one that a host outside gets: what the client says to the host is passed on, what it says to
/// the proxy is not, and the proxy says nothing.
pub fn to_outside(
    head: &mut request::Parts,
    target: &Target,
    upgrade: Upgrade,
) -> Result<(), Reason> {
    to_next_hop(head, target, upgrade)?;
    // As a rule there are none, so this allocates nothing.
    let to_proxy: Vec<_> = head
        .headers
        .keys()
        .filter(|name| name.as_str().starts_with("proxy-"))
        .cloned()
        .collect();
    for name in to_proxy {
        head.headers.remove(&name);
    }
    Ok(())
}

/// Ends the client's hop and begins the next one.
fn to_next_hop(head: &mut request::Parts, target: &Target, upgrade: Upgrade) -> Result<(), Reason> {
    let trailers = list_has(&head.headers, &header::TE, "trailers");
    hop::strip_request(head)?;
    // 100 Continue is ours to send: once a backend is chosen.
    head.headers.remove(&header::EXPECT);
    if head.version == Version::HTTP_2 {
        join_cookies(head);
    }
    if trailers {
        head.headers
            .insert(header::TE, HeaderValue::from_static("trailers"));
    }
    if upgrade == Upgrade::WebSocket {
        head.headers
            .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        head.headers
            .insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    if target.path_changed {
        set_path(head, &target.path)?;
    } else if head.uri.authority().is_some() {
        head.uri = origin_form(std::mem::take(&mut head.uri));
    }
    head.version = Version::HTTP_11;
    head.headers.insert(header::HOST, target.authority.clone());
    Ok(())
}

/// The target without scheme and authority.
fn origin_form(target: Uri) -> Uri {
    let target = target.into_parts().path_and_query;
    target.map(Uri::from).unwrap_or_default()
}

/// Replaces the path and keeps the query.
pub fn set_path(head: &mut request::Parts, path: &str) -> Result<(), Reason> {
    let target = match head.uri.query() {
        Some(query) => Bytes::from(format!("{path}?{query}")),
        None => Bytes::copy_from_slice(path.as_bytes()),
    };
    let target = PathAndQuery::from_maybe_shared(target).map_err(|_| Reason::BadPath)?;
    head.uri = target.into();
    Ok(())
}

/// Applies a URLRewrite; `matched` is the path of the match that won.
pub fn rewrite(
    head: &mut request::Parts,
    rewrite: &PreparedRewrite,
    matched: &PathMatch,
) -> Result<(), Reason> {
    if let Some(host) = &rewrite.host {
        head.headers.insert(header::HOST, host.clone());
    }
    if let Some(modifier) = &rewrite.path {
        let path = modify_path(head.uri.path(), modifier, matched);
        set_path(head, &path)?;
    }
    Ok(())
}

/// HTTP/2 may split `cookie` into several fields; HTTP/1 may not (RFC 9113 8.2.3).
fn join_cookies(head: &mut request::Parts) {
    let crumbs = head.headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let joined = crumbs
        .iter()
        .map(HeaderValue::as_bytes)
        .collect::<Vec<_>>()
        .join(b"; ".as_slice());
    if let Ok(cookie) = HeaderValue::from_bytes(&joined) {
        head.headers.insert(header::COOKIE, cookie);
    }
}

fn forwarded(head: &mut request::Parts, target: &Target, client: Client<'_>) {
    let trusted = client.trusted_hops > 0;
    remove_claims(head, trusted);
    let chain = match head.headers.get(&X_FORWARDED_FOR) {
        Some(_) if trusted => joined(&head.headers, &X_FORWARDED_FOR, client.address),
        _ => client.address.clone(),
    };
    head.headers.insert(X_FORWARDED_FOR, chain);
    let keep =
        |name: &HeaderName, head: &request::Parts| trusted && head.headers.contains_key(name);
    if !keep(&X_FORWARDED_PROTO, head) {
        head.headers.insert(
            X_FORWARDED_PROTO,
            HeaderValue::from_static(if client.tls { "https" } else { "http" }),
        );
    }
    if !keep(&X_FORWARDED_HOST, head) {
        head.headers
            .insert(X_FORWARDED_HOST, target.authority.clone());
    }
    if !keep(&X_REQUEST_ID, head) {
        head.headers.insert(X_REQUEST_ID, request_id());
    }
}

/// Removes what a client says about the way its request has taken.
fn remove_claims(head: &mut request::Parts, trusted: bool) {
    // Nobody makes any, as a rule, so this allocates nothing.
    let claims: Vec<_> = head
        .headers
        .keys()
        .filter(|name| is_claim(name.as_str(), trusted))
        .cloned()
        .collect();
    for name in claims {
        head.headers.remove(&name);
    }
}

fn joined(headers: &HeaderMap, name: &HeaderName, last: &HeaderValue) -> HeaderValue {
    let parts: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .chain([last.as_bytes()])
        .collect();
    HeaderValue::from_bytes(&parts.join(b", ".as_slice())).unwrap_or_else(|_| last.clone())
}

/// The client's address as the trusted proxies in front of us report it: entry number `trusted_hops` of
/// `X-Forwarded-For`, counted from the right; the peer if there are fewer, or if the entry is no address. Whatever a client
/// writes stands to the left of what they append, so each byte of every line counts.
pub fn client_address(headers: &HeaderMap, peer: IpAddr, trusted_hops: u32) -> IpAddr {
    let Some(skip) = trusted_hops.checked_sub(1) else {
        return peer;
    };
    let lines = headers.get_all(&X_FORWARDED_FOR).iter().rev();
    let mut entries = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    let entry = entries.nth(usize::try_from(skip).unwrap_or(usize::MAX));
    entry.and_then(address_of).unwrap_or(peer)
}

/// An address as load balancers write it: some with a port, IPv6 perhaps in brackets.
fn address_of(entry: &[u8]) -> Option<IpAddr> {
    let entry = str::from_utf8(entry.trim_ascii()).ok()?;
    let within = entry.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
    let address = within.unwrap_or(entry).parse().ok();
    address.or_else(|| entry.parse().ok().map(|socket: SocketAddr| socket.ip()))
}

/// The id that log and backend share; `None` before [`to_upstream`] has set it.
pub fn request_id_of(head: &request::Parts) -> Option<&HeaderValue> {
    head.headers.get(&X_REQUEST_ID)
}

/// 128 random bits in hexadecimal. Unique enough to find a request; not a secret.
fn request_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bits = fastrand::u128(..);
    let mut text = [0_u8; 32];
    for digit in &mut text {
        *digit = DIGITS.get((bits & 15) as usize).copied().unwrap_or(b'0');
        bits >>= 4;
    }
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::testing;

    fn head(path: &str, fields: &[(&'static str, &str)]) -> request::Parts {
        testing::request("GET", path, fields)
    }

    static ADDRESS: HeaderValue = HeaderValue::from_static("192.0.2.7");

    fn client(trusted_hops: u32) -> Client<'static> {
        Client {
            address: &ADDRESS,
            tls: true,
            trusted_hops,
        }
    }

    fn forward(mut head: request::Parts, trusted_hops: u32) -> Result<request::Parts, Reason> {
        let target = Target::of(&head)?;
        let upgrade = Upgrade::of_http1(&head);
        to_upstream(&mut head, &target, upgrade, client(trusted_hops))?;
        Ok(head)
    }

    #[test]
    fn host_is_lower_case_without_port() {
        for (authority, host) in [
            ("A.Example:8080", "a.example"),
            ("a.example.", "a.example"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(
                &*Target::of(&head("/", &[("host", authority)])).unwrap().host,
                host
            );
        }
    }

    #[test]
    fn what_was_matched_is_what_is_forwarded() {
        let sent = forward(head("/a/../%62?q=%2e", &[("host", "a")]), 0).unwrap();
        assert_eq!(sent.uri, "/b?q=%2e");
        let asterisk = forward(head("*", &[("host", "a")]), 0).unwrap();
        assert_eq!(asterisk.uri, "/");
        let query = forward(head("http://a?q=1", &[("host", "a")]), 0).unwrap();
        assert_eq!(query.uri.path_and_query().unwrap().as_str(), "/?q=1");
    }

    #[test]
    fn ends_the_hop() {
        let sent = forward(
            head(
                "/",
                &[
                    ("host", "a"),
                    ("connection", "keep-alive, x-secret"),
                    ("keep-alive", "5"),
                    ("te", "trailers, gzip"),
                    ("x-secret", "1"),
                    ("upgrade", "h2c"),
                    ("http2-settings", "x"),
                    ("expect", "100-continue"),
                ],
            ),
            0,
        )
        .unwrap();
        for gone in [
            "connection",
            "keep-alive",
            "x-secret",
            "upgrade",
            "http2-settings",
            "expect",
        ] {
            assert!(!sent.headers.contains_key(gone), "{gone}");
        }
        assert_eq!(sent.headers["te"], "trailers");
    }

    #[test]
    fn refuses_to_strip_what_backends_rely_on() {
        for nominated in ["host", "x-forwarded-for", "a, b, c, d, e, f, g, h, i, j, k"] {
            let result = forward(head("/", &[("host", "a"), ("connection", nominated)]), 0);
            assert_eq!(result.err(), Some(Reason::BadRequest), "{nominated}");
        }
    }

    #[test]
    fn only_websocket_upgrades_pass() {
        let sent = forward(
            head(
                "/",
                &[
                    ("host", "a"),
                    ("connection", "Upgrade"),
                    ("upgrade", "WebSocket"),
                ],
            ),
            0,
        )
        .unwrap();
        assert_eq!(sent.headers["upgrade"], "websocket");
        assert_eq!(sent.headers["connection"], "Upgrade");
    }

    #[test]
    fn tells_the_backend_who_asked() {
        let fields = [
            ("host", "A:1"),
            ("x-forwarded-for", "1.1.1.1, 2.2.2.2"),
            ("x-forwarded-proto", "x"),
            ("x-request-id", "i"),
            ("x-forwarded-port", "1"),
            ("forwarded", "for=1.1.1.1"),
        ];
        let sent = forward(head("/", &fields), 0).unwrap();
        assert!(!sent.headers.contains_key("x-forwarded-port"));
        assert!(!sent.headers.contains_key("forwarded"));
        assert_eq!(sent.headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(sent.headers["x-forwarded-proto"], "https");
        assert_eq!(sent.headers["x-forwarded-host"], "A:1");
        assert_eq!(sent.headers["x-request-id"].len(), 32);
        let sent = forward(head("/", &fields), 2).unwrap();
        assert_eq!(
            sent.headers["x-forwarded-for"],
            "1.1.1.1, 2.2.2.2, 192.0.2.7"
        );
        assert_eq!(sent.headers["x-forwarded-proto"], "x");
        assert_eq!(sent.headers["x-request-id"], "i");
        assert_eq!(sent.headers["x-forwarded-port"], "1");
        assert_eq!(sent.headers["forwarded"], "for=1.1.1.1");
    }

    #[test]
    fn the_client_is_behind_the_trusted_hops() {
        let fields = head(
            "/",
            &[
                ("x-forwarded-for", "9.9.9.9, 1.1.1.1"),
                ("x-forwarded-for", "2.2.2.2"),
            ],
        );
        let peer = "192.0.2.7".parse().unwrap();
        for (hops, address) in [
            (0, "192.0.2.7"),
            (1, "2.2.2.2"),
            (2, "1.1.1.1"),
            (4, "192.0.2.7"),
        ] {
            assert_eq!(
                client_address(&fields.headers, peer, hops),
                address.parse::<IpAddr>().unwrap(),
                "{hops}"
            );
        }
    }

    /// Whatever the client has put in front: what the trusted proxies appended counts.
    #[test]
    fn no_line_hides_what_the_trusted_hops_say() {
        let peer: IpAddr = "192.0.2.7".parse().unwrap();
        for (lines, hops, address) in [
            (&["6.6.6.6", "\u{ff}, 203.0.113.9"][..], 1, "203.0.113.9"),
            (&["6.6.6.6", "203.0.113.9, \u{ff}"], 1, "192.0.2.7"),
            (&["6.6.6.6", ""], 1, "192.0.2.7"),
            (&["6.6.6.6, 203.0.113.9:4711"], 1, "203.0.113.9"),
            (&["[2001:db8::1]:4711, 203.0.113.9"], 2, "2001:db8::1"),
            (&["[2001:db8::1]"], 1, "2001:db8::1"),
            (&["2001:db8::1"], 1, "2001:db8::1"),
            (&["6.6.6.6, 203.0.113.9:x"], 1, "192.0.2.7"),
            (&["unknown"], 1, "192.0.2.7"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                // Latin-1, as it would stand on the wire.
                let bytes: Vec<u8> = line.chars().map(|c| u8::try_from(c).unwrap()).collect();
                headers.append(X_FORWARDED_FOR, HeaderValue::from_bytes(&bytes).unwrap());
            }
            let found = client_address(&headers, peer, hops);
            assert_eq!(found, address.parse::<IpAddr>().unwrap(), "{lines:?}");
        }
    }

    #[test]
    fn joins_http2_cookies() {
        let mut split = head("/", &[("host", "a"), ("cookie", "a=1"), ("cookie", "b=2")]);
        split.version = Version::HTTP_2;
        let sent = forward(split, 0).unwrap();
        assert_eq!(
            sent.headers.get_all("cookie").iter().collect::<Vec<_>>(),
            ["a=1; b=2"]
        );
    }
}
