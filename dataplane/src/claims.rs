//! What a message says about the way it has taken. Backends believe it, so only proxies may say it, and only in a head.

use http::{HeaderMap, HeaderName, header};

/// Whether a name (in lower case) is a claim that must go: of everybody if nobody is trusted. Written with underscores it always
/// is, since CGI and its heirs take `_` for `-`, and no proxy that we trust would have looked at such a field. `Proxy` is
/// nobody's: CGI makes of it the variable that tells programs their own proxy (CVE-2016-5385).
pub(crate) fn is_claim(name: &str, trusted: bool) -> bool {
    if name == "proxy" {
        return true;
    }
    let has_underscore = name.contains('_');
    if trusted && !has_underscore {
        return false;
    }
    let begins = |claim: &str| {
        let same = |(byte, wanted)| byte == wanted || (byte == b'_' && wanted == b'-');
        name.len() >= claim.len() && name.bytes().zip(claim.bytes()).all(same)
    };
    let is = |claim: &str| name.len() == claim.len() && begins(claim);
    name == header::FORWARDED.as_str()
        || begins("x-forwarded-")
        || is("x-real-ip")
        || is("true-client-ip")
        || (has_underscore && is("x-request-id"))
}

/// Whether a trailer may pass. Framing and routing are settled, and whose request it is was said: a trailer that would change
/// them is dropped (RFC 9110 6.5.1). HTTP/2 knows no field of the connection, not even at the end (RFC 9113 8.2.2).
pub(crate) fn may_be_trailer(name: &HeaderName) -> bool {
    let is_settled = matches!(
        *name,
        header::CONTENT_LENGTH
            | header::TRANSFER_ENCODING
            | header::HOST
            | header::CONNECTION
            | header::UPGRADE
            | header::TE
    );
    let name = name.as_str();
    !is_settled
        && !matches!(name, "keep-alive" | "proxy-connection" | "x-request-id")
        && !is_claim(name, false)
}

/// Removes the trailers that may not pass.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    // As a rule there are none, so this allocates nothing.
    let dropped: Vec<_> = trailers
        .keys()
        .filter(|name| !may_be_trailer(name))
        .cloned()
        .collect();
    for name in dropped {
        trailers.remove(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_claim_hides_behind_underscores() {
        for (name, untrusted, trusted) in [
            ("x-forwarded-for", true, false),
            ("forwarded", true, false),
            ("x_forwarded_for", true, true),
            ("x-forwarded_proto", true, true),
            ("x_request_id", true, true),
            ("x-request-id", false, false),
            ("x_request_idea", false, false),
            ("x-real-ip", true, false),
            ("x_real_ip", true, true),
            ("true-client-ip", true, false),
            ("true_client-ip", true, true),
            ("proxy", true, true),
            ("proxy-id", false, false),
            ("x-real-ips", false, false),
            ("user_id", false, false),
            ("x-forward", false, false),
        ] {
            assert_eq!(
                (is_claim(name, false), is_claim(name, true)),
                (untrusted, trusted),
                "{name}"
            );
        }
    }

    #[test]
    fn trailers_claim_nothing() {
        let names = [
            "grpc-status",
            "x-sum",
            "host",
            "proxy",
            "x-forwarded-for",
            "x_real_ip",
        ];
        let mut trailers: HeaderMap = names
            .iter()
            .map(|name| (HeaderName::from_static(name), "7".parse().unwrap()))
            .collect();
        strip_trailers(&mut trailers);
        assert_eq!(
            trailers.keys().collect::<Vec<_>>(),
            ["grpc-status", "x-sum"]
        );
    }
}
