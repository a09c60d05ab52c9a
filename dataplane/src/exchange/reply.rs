//! Answers that the proxy gives by itself.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use pingora_http::ResponseHeader;

use crate::reason::{REASON_HEADER, Reason};

/// The answer for `reason`, with another status than its own if a route asks for one.
pub(super) fn local(reason: Reason, status: StatusCode) -> (ResponseHeader, Bytes) {
    let body = reason.body();
    let mut head = with_status(status);
    set(
        &mut head,
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    set(
        &mut head,
        header::CONTENT_LENGTH,
        HeaderValue::from(body.len()),
    );
    set(
        &mut head,
        REASON_HEADER,
        HeaderValue::from_static(reason.code()),
    );
    (head, body)
}

/// A redirect. A target that cannot stand in a header is the route's fault, not the client's.
pub(super) fn redirect(status: u16, location: String) -> Result<ResponseHeader, Reason> {
    let status = StatusCode::from_u16(status).map_err(|_| Reason::InvalidRule)?;
    let mut head = with_status(status);
    set(
        &mut head,
        header::LOCATION,
        HeaderValue::try_from(location).map_err(|_| Reason::InvalidRule)?,
    );
    set(
        &mut head,
        header::CONTENT_LENGTH,
        HeaderValue::from_static("0"),
    );
    Ok(head)
}

fn with_status(status: StatusCode) -> ResponseHeader {
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = status;
    ResponseHeader::from(parts)
}

fn set(head: &mut ResponseHeader, name: HeaderName, value: HeaderValue) {
    _ = head.insert_header(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why() {
        let (head, body) = local(Reason::NoRoute, Reason::NoRoute.status());
        assert_eq!(head.status, 404);
        assert_eq!(head.headers["x-portcullis-reason"], "no_route");
        assert_eq!(
            head.headers["content-length"],
            body.len().to_string().as_str()
        );
        assert!(body.starts_with(b"no_route: "));
    }

    #[test]
    fn refuses_a_location_that_breaks_the_head() {
        assert_eq!(
            redirect(302, "http://a/\r\nx: y".into()).err(),
            Some(Reason::InvalidRule)
        );
        assert_eq!(
            redirect(308, "http://a/".into()).unwrap().headers["location"],
            "http://a/"
        );
    }
}
