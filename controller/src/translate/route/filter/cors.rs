//! CORS (GEP-1767).

use http::{HeaderName, Method};
use portcullis_routing::filter::Cors;

use super::spec::CorsSpec;
use crate::translate::{
    field::Field,
    hostname,
    problem::{Problem, Problems},
};

/// `maxAge` in seconds if it is not given.
const DEFAULT_MAX_AGE: i64 = 5;

/// The policy; entries that are wrong are told and left out.
pub(super) fn translate(spec: &CorsSpec, field: &Field<'_>, problems: &mut Problems) -> Cors {
    let mut list = |name, entries: &[String], read: Reader| {
        let field = field.child(name);
        let entries = entries.iter().enumerate();
        entries
            .filter_map(|(index, entry)| problems.keep(read(entry, &field.at(index))))
            .collect()
    };
    Cors {
        allow_origins: list("allowOrigins", &spec.allow_origins, origin),
        allow_methods: list("allowMethods", &spec.allow_methods, method),
        allow_headers: list("allowHeaders", &spec.allow_headers, header),
        expose_headers: list("exposeHeaders", &spec.expose_headers, header),
        allow_credentials: spec.allow_credentials,
        max_age: problems
            .keep(max_age(spec.max_age, &field.child("maxAge")))
            .unwrap_or_default(),
    }
}

type Reader = fn(&str, &Field<'_>) -> Result<String, Problem>;

/// `*`, or an origin in the form in which browsers send it: lower case, without the scheme's own port.
fn origin(text: &str, field: &Field<'_>) -> Result<String, Problem> {
    normal_origin(&text.to_ascii_lowercase()).ok_or_else(|| {
        Problem::unsupported(
            field,
            format!("{text:?} is not an origin"),
            "write `*`, `https://www.example.com`, `https://*.example.com` or `http://localhost:8080`, without a path",
        )
    })
}

fn normal_origin(origin: &str) -> Option<String> {
    if origin == "*" {
        return Some(origin.to_owned());
    }
    let (scheme, authority) = origin.split_once("://")?;
    let own_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return None,
    };
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (
            host,
            Some(port.parse::<u16>().ok().filter(|&port| port > 0)?),
        ),
        None => (authority, None),
    };
    let is_host =
        host == "*" || hostname::precise(host.strip_prefix("*.").unwrap_or(host)).is_some();
    is_host.then(|| match port.filter(|&port| port != own_port) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    })
}

fn method(text: &str, field: &Field<'_>) -> Result<String, Problem> {
    match Method::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Problem::unsupported(
            field,
            format!("{text:?} is not a method"),
            "write a method such as GET, or `*`",
        )),
    }
}

fn header(text: &str, field: &Field<'_>) -> Result<String, Problem> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(Problem::unsupported(
            field,
            format!("{text:?} is not a valid header name"),
            "write a header name such as `x-version`, or `*`",
        )),
    }
}

fn max_age(seconds: Option<i64>, field: &Field<'_>) -> Result<u32, Problem> {
    let seconds = seconds.unwrap_or(DEFAULT_MAX_AGE);
    u32::try_from(seconds)
        .ok()
        .filter(|&seconds| seconds > 0)
        .ok_or_else(|| {
            Problem::unsupported(
                field,
                format!("{seconds} is not a number of seconds"),
                "write 1 or more, such as 3600",
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_as_browsers_send_them() {
        for (given, expected) in [
            ("*", "*"),
            ("https://*", "https://*"),
            ("https://*.example.com:8443", "https://*.example.com:8443"),
            ("https://example.com:443", "https://example.com"),
            ("http://localhost:443", "http://localhost:443"),
        ] {
            assert_eq!(normal_origin(given).as_deref(), Some(expected), "{given}");
        }
    }

    #[test]
    fn what_is_no_origin() {
        for given in [
            "",
            "example.com",
            "ftp://example.com",
            "https://",
            "https://example.com/",
            "https://*example.com",
            "https://a.*.com",
            "https://example.com:0",
            "https://example.com:70000",
            "https://example.com:",
            "null",
            "https://user@example.com",
        ] {
            assert_eq!(normal_origin(given), None, "{given}");
        }
    }
}
