//! The fields of one hop: what a connection's two ends say to each other, and no message carries on (RFC 9110 7.6.1).

use http::{HeaderMap, HeaderName, HeaderValue, header, request, response};

use super::head::tokens;
use crate::reason::Reason;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that belong to one hop (RFC 9110 7.6.1), whether `Connection` names them or not.
static HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HTTP2_SETTINGS,
    header::PROXY_AUTHORIZATION,
];

/// More names than this in `Connection` are an attempt to strip something.
const MAX_NOMINATED: usize = 10;

/// Removes what belongs to the hop from a response. A 101 keeps its `Upgrade`.
pub(super) fn strip_response(head: &mut response::Parts) {
    if head.headers.contains_key(header::CONNECTION) {
        for name in nominated(&head.headers) {
            head.headers.remove(&name);
        }
    }
    let switching = head.status == http::StatusCode::SWITCHING_PROTOCOLS;
    if !switching {
        return remove_hop_by_hop(&mut head.headers);
    }
    let upgrade = head.headers.remove(header::UPGRADE);
    remove_hop_by_hop(&mut head.headers);
    head.headers
        .insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Some(upgrade) = upgrade {
        head.headers.insert(header::UPGRADE, upgrade);
    }
}

/// Removes what belongs to the hop from a request. Fails if `Connection` names what it may not.
pub(super) fn strip_request(head: &mut request::Parts) -> Result<(), Reason> {
    if head.headers.contains_key(header::CONNECTION) {
        let names = nominated(&head.headers);
        let forbidden =
            |name: &HeaderName| *name == header::HOST || name.as_str().starts_with("x-forwarded-");
        if names.len() > MAX_NOMINATED || names.iter().any(forbidden) {
            return Err(Reason::BadRequest);
        }
        for name in names {
            head.headers.remove(&name);
        }
    }
    remove_hop_by_hop(&mut head.headers);
    Ok(())
}

/// There is one such field, or none, as a rule: looking at each name once is cheaper than eight searches.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let mut found = [false; HOP_BY_HOP.len()];
    for name in headers.keys() {
        // Nearly all names differ from these in their length already.
        if matches!(name.as_str().len(), 2 | 7 | 10 | 14 | 16 | 17 | 19)
            && let Some(index) = HOP_BY_HOP.iter().position(|hop| hop == name)
            && let Some(found) = found.get_mut(index)
        {
            *found = true;
        }
    }
    for (name, _) in HOP_BY_HOP.iter().zip(found).filter(|(_, found)| *found) {
        headers.remove(name);
    }
}

/// The field names in `Connection`. The usual `keep-alive`, `close` and `upgrade` are dealt with anyway. What is no name can only
/// stand in a response: the guard refuses such requests.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    tokens(headers, &header::CONNECTION)
        .filter(|token| {
            !["keep-alive", "close", "upgrade"]
                .iter()
                .any(|usual| token.eq_ignore_ascii_case(usual.as_bytes()))
        })
        .filter_map(|token| HeaderName::from_bytes(token).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::response_head;

    #[test]
    fn every_field_of_the_hop_is_found() {
        for hop in &HOP_BY_HOP {
            let mut headers = HeaderMap::new();
            headers.insert(hop, HeaderValue::from_static("x"));
            headers.append(hop, HeaderValue::from_static("y"));
            headers.insert("x-b", HeaderValue::from_static("1"));
            remove_hop_by_hop(&mut headers);
            assert_eq!(headers.keys().collect::<Vec<_>>(), ["x-b"], "{hop}");
        }
    }

    #[test]
    fn strips_a_response() {
        let mut head = response_head(http::StatusCode::OK);
        for (name, value) in [
            ("connection", "x-a, close"),
            ("connection", "\u{e9}, x-c"),
            ("x-a", "1"),
            ("keep-alive", "1"),
            ("x-b", "1"),
            ("x-c", "1"),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            head.headers.append(name, value);
        }
        strip_response(&mut head);
        assert_eq!(head.headers.keys().collect::<Vec<_>>(), ["x-b"]);
    }
}
