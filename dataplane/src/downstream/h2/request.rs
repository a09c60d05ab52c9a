//! The check of an HTTP/2 request's head, beyond what the h2 crate refuses by itself.

use bytes::Bytes;
use h2::{RecvStream, ext::Protocol, server::SendResponse};
use http::{HeaderValue, Method, Request, Response, header};
use portcullis_routing::settings::Limits;

use crate::{
    reason::{REASON_HEADER, Reason},
    stream::guard,
};

/// Refuses what HTTP/1 would be refused for: too much, a method that is not served, an authority that can be read in
/// two ways.
pub(super) fn check(
    request: &Request<RecvStream>,
    limits: &Limits,
    connect: bool,
) -> Result<(), Reason> {
    let exceeds =
        |length: usize, limit: u32| u32::try_from(length).is_ok_and(|length| length <= limit);
    if !exceeds(request.headers().len(), limits.max_headers) {
        return Err(Reason::HeadersTooLarge);
    }
    let target = request
        .uri()
        .path_and_query()
        .map_or("", |target| target.as_str());
    if !exceeds(target.len(), limits.max_target_bytes) {
        return Err(Reason::TargetTooLong);
    }
    let is_extended_connect = request.extensions().get::<Protocol>().is_some();
    let is_connect = request.method() == Method::CONNECT && !is_extended_connect;
    if request.method() == Method::TRACE || (is_connect && !connect) {
        return Err(Reason::MethodNotAllowed);
    }
    if is_connect {
        // It has neither path nor content, only what is in the tunnel (RFC 9113 8.5).
        check_length(request, true).ok_or(Reason::BadRequest)?;
        return check_authority(request).ok_or(Reason::BadRequest);
    }
    // As in the absolute form of HTTP/1. Ingress goes by the listener, whatever the client calls it.
    let is_http = |scheme: &str| {
        ["http", "https"]
            .iter()
            .any(|it| scheme.eq_ignore_ascii_case(it))
    };
    if connect && !request.uri().scheme_str().is_none_or(is_http) {
        return Err(Reason::BadRequest);
    }
    let is_asterisk = target == "*" && request.method() == Method::OPTIONS;
    let is_target = target
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_target || !(target.starts_with('/') || is_asterisk) {
        return Err(Reason::BadRequest);
    }
    check_length(request, is_extended_connect).ok_or(Reason::BadRequest)?;
    check_authority(request).ok_or(Reason::BadRequest)
}

/// At most one `Content-Length`, which the h2 crate compares with the data, and none for a tunnel: in HTTP/1.1 the backend
/// would wait for a body and take the next request on the connection for it.
fn check_length(request: &Request<RecvStream>, is_tunnel: bool) -> Option<()> {
    let lengths = request.headers().get_all(header::CONTENT_LENGTH);
    (lengths.iter().count() <= usize::from(!is_tunnel)).then_some(())
}

/// `:authority`, or `Host`, or both and equal (RFC 9113 8.3.1).
fn check_authority(request: &Request<RecvStream>) -> Option<()> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    let both = host.zip(authority);
    let is_single = hosts.next().is_none()
        && both.is_none_or(|(host, authority)| {
            host.eq_ignore_ascii_case(authority)
                || is_same_but_port(request.uri().scheme_str(), host, authority)
        });
    let is_valid = guard::is_authority(authority.or(host)?);
    (is_single && is_valid).then_some(())
}

/// Whether one of two authorities is the other without the usual port of the scheme (RFC 9110 4.2.3), of which clients leave out
/// one.
fn is_same_but_port(scheme: Option<&str>, host: &[u8], authority: &[u8]) -> bool {
    let port: &[u8] = match scheme {
        Some("http") => b":80",
        Some("https") => b":443",
        _ => return false,
    };
    let bare = |text| <[u8]>::strip_suffix(text, port).unwrap_or(text);
    bare(host).eq_ignore_ascii_case(bare(authority))
}

/// Answers a request that cannot be served.
pub(super) fn refuse(mut respond: SendResponse<Bytes>, reason: Reason) {
    let mut response = Response::new(());
    *response.status_mut() = reason.status();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    let code = HeaderValue::from_static(reason.code());
    response.headers_mut().insert(REASON_HEADER, code);
    // A stream that is gone needs no answer.
    if let Ok(mut stream) = respond.send_response(response, false) {
        _ = stream.send_data(reason.body(), true);
    }
}

#[cfg(test)]
mod tests {
    use super::is_same_but_port;

    #[test]
    fn the_usual_port_may_be_left_out_in_one_place() {
        for (scheme, host, authority, wanted) in [
            ("http", "a.example", "A.example:80", true),
            ("http", "a.example:80", "a.example", true),
            ("https", "a.example:443", "a.example", true),
            ("https", "[::1]", "[::1]:443", true),
            ("http", "a.example:443", "a.example", false),
            ("https", "a.example:80", "a.example", false),
            ("http", "a.example:8080", "a.example", false),
            ("http", "b.example:80", "a.example", false),
            ("ws", "a.example:80", "a.example", false),
        ] {
            let same = is_same_but_port(Some(scheme), host.as_bytes(), authority.as_bytes());
            assert_eq!(same, wanted, "{scheme} {host} {authority}");
        }
    }
}
