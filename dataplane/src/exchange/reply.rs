//! Answers that the proxy gives by itself.

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header, response};

use crate::{
    message::response_head,
    reason::{REASON_HEADER, Reason},
};

/// The answer for `reason`, with another status than its own if a route asks for one.
pub(super) fn local(reason: Reason, status: StatusCode) -> (response::Parts, Bytes) {
    in_words(reason, status, reason.body())
}

/// The same with words of its own.
pub(super) fn in_words(
    reason: Reason,
    status: StatusCode,
    body: Bytes,
) -> (response::Parts, Bytes) {
    let mut head = response_head(status);
    head.headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    head.headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    head.headers
        .insert(REASON_HEADER, HeaderValue::from_static(reason.code()));
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        // RFC 9110 11.7.1. Clients that know one of the two only should find it in a field of its own.
        for challenge in ["Bearer realm=\"egress\"", "Basic realm=\"egress\""] {
            let challenge = HeaderValue::from_static(challenge);
            head.headers.append(header::PROXY_AUTHENTICATE, challenge);
        }
    }
    (head, body)
}

/// A redirect. A target that cannot stand in a header is the route's fault, not the client's.
pub(super) fn redirect(status: u16, location: String) -> Result<response::Parts, Reason> {
    let status = StatusCode::from_u16(status).map_err(|_| Reason::InvalidRule)?;
    let mut head = response_head(status);
    head.headers.insert(
        header::LOCATION,
        HeaderValue::try_from(location).map_err(|_| Reason::InvalidRule)?,
    );
    head.headers
        .insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    Ok(head)
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
