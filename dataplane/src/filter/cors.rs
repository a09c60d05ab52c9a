//! CORS (Fetch standard, section "CORS protocol"; GEP-1767).

use crate::message::response_head;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, response};
use portcullis_routing::filter::Cors;

/// A CORS policy, ready to answer from.
#[derive(Debug)]
pub struct PreparedCors {
    origins: Box<[Origin]>,
    methods: List,
    headers: List,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: HeaderValue,
}

#[derive(Debug)]
enum Origin {
    Any,
    Exact(Box<str>),
    /// `https://*.example.com`: scheme with `://`, and the suffix with its leading dot (and its port, if any).
    Wildcard {
        scheme: Box<str>,
        suffix: Box<str>,
    },
}

/// An allow list as it stands in a header.
#[derive(Debug)]
enum List {
    Any,
    Named(Option<HeaderValue>),
}

/// What CORS makes of one request.
#[derive(Debug, Default)]
pub struct CorsOutcome {
    /// The value for `Access-Control-Allow-Origin`; `None` if the origin is not allowed (or not given).
    pub allow_origin: Option<HeaderValue>,
    /// Whether the request is a preflight, which is answered here and not forwarded.
    pub preflight: bool,
}

impl PreparedCors {
    /// Parses `cors`.
    pub fn prepare(cors: &Cors) -> Result<Self, String> {
        Ok(Self {
            origins: cors
                .allow_origins
                .iter()
                .map(|origin| Origin::parse(origin))
                .collect(),
            methods: List::parse(&cors.allow_methods)?,
            headers: List::parse(&cors.allow_headers)?,
            expose: joined(&cors.expose_headers)?,
            credentials: cors.allow_credentials,
            max_age: HeaderValue::from(cors.max_age),
        })
    }

    /// Looks at a request before it is forwarded.
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> CorsOutcome {
        let Some(origin) = headers.get(header::ORIGIN) else {
            return CorsOutcome::default();
        };
        let preflight = method == Method::OPTIONS
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        CorsOutcome {
            allow_origin: self.allow(origin),
            preflight,
        }
    }

    fn allow(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let text = origin.to_str().ok()?;
        let allowed = self.origins.iter().find(|allowed| allowed.allows(text))?;
        // A browser refuses `*` together with credentials.
        let any = matches!(allowed, Origin::Any) && !self.credentials;
        Some(if any {
            HeaderValue::from_static("*")
        } else {
            origin.clone()
        })
    }

    /// The answer to a preflight. An origin that is not allowed gets an answer without any permission in it.
    pub fn preflight(&self, outcome: &CorsOutcome, request: &HeaderMap) -> response::Parts {
        let mut answer = response_head(StatusCode::NO_CONTENT);
        if outcome.allow_origin.is_none() {
            return answer;
        }
        self.apply_response(outcome, &mut answer);
        let requested_method = request.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let requested_headers = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        set(
            &mut answer,
            header::ACCESS_CONTROL_ALLOW_METHODS,
            self.methods.answer(requested_method, self.credentials),
        );
        set(
            &mut answer,
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            self.headers.answer(requested_headers, self.credentials),
        );
        set(
            &mut answer,
            header::ACCESS_CONTROL_MAX_AGE,
            Some(self.max_age.clone()),
        );
        answer
    }

    /// Puts the permissions on a response, replacing what the backend said: one policy decides, not two.
    pub fn apply_response(&self, outcome: &CorsOutcome, head: &mut response::Parts) {
        for name in RESPONSE_HEADERS {
            head.headers.remove(&name);
        }
        // The answer depends on the origin even where it gives no permission: caches must know.
        head.headers
            .append(header::VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = &outcome.allow_origin else {
            return;
        };
        set(
            head,
            header::ACCESS_CONTROL_ALLOW_ORIGIN,
            Some(origin.clone()),
        );
        if self.credentials {
            set(
                head,
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                Some(HeaderValue::from_static("true")),
            );
        }
        // Browsers read it from the answer itself only; on a preflight the Gateway API wants it too.
        set(
            head,
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            self.expose.clone(),
        );
    }
}

const RESPONSE_HEADERS: [HeaderName; 6] = [
    header::ACCESS_CONTROL_ALLOW_ORIGIN,
    header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
    header::ACCESS_CONTROL_ALLOW_METHODS,
    header::ACCESS_CONTROL_ALLOW_HEADERS,
    header::ACCESS_CONTROL_EXPOSE_HEADERS,
    header::ACCESS_CONTROL_MAX_AGE,
];

fn set(head: &mut response::Parts, name: HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        head.headers.insert(name, value);
    }
}

fn joined(items: &[String]) -> Result<Option<HeaderValue>, String> {
    if items.is_empty() {
        return Ok(None);
    }
    let text = items.join(", ");
    HeaderValue::from_str(&text)
        .map(Some)
        .map_err(|_| format!("{text:?} cannot stand in a header"))
}

impl List {
    fn parse(items: &[String]) -> Result<Self, String> {
        if items.iter().any(|item| item == "*") {
            Ok(Self::Any)
        } else {
            joined(items).map(Self::Named)
        }
    }

    /// With credentials a browser takes `*` literally, so what was asked for is named instead.
    fn answer(&self, requested: Option<&HeaderValue>, credentials: bool) -> Option<HeaderValue> {
        match self {
            Self::Any if credentials => requested.cloned(),
            Self::Any => Some(HeaderValue::from_static("*")),
            Self::Named(value) => value.clone(),
        }
    }
}

impl Origin {
    fn parse(origin: &str) -> Self {
        if origin == "*" {
            return Self::Any;
        }
        match origin.split_once("://*") {
            Some((scheme, suffix)) => Self::Wildcard {
                scheme: format!("{scheme}://").into(),
                suffix: suffix.into(),
            },
            None => Self::Exact(origin.into()),
        }
    }

    fn allows(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(origin),
            Self::Wildcard { scheme, suffix } => {
                let origin = origin.to_ascii_lowercase();
                origin
                    .strip_prefix(&**scheme)
                    .and_then(|rest| rest.strip_suffix(&*suffix.to_ascii_lowercase()))
                    // Something must stand for the `*`, and it must be part of the host.
                    .is_some_and(|label| !label.is_empty() && !label.contains([':', '/', '@']))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(credentials: bool) -> PreparedCors {
        PreparedCors::prepare(&Cors {
            allow_origins: vec!["https://www.foo.com".into(), "https://*.bar.com".into()],
            allow_methods: vec!["GET".into(), "OPTIONS".into()],
            allow_headers: vec!["*".into()],
            expose_headers: vec!["x-seen".into()],
            allow_credentials: credentials,
            max_age: 3600,
        })
        .unwrap()
    }

    fn request(origin: &str) -> HeaderMap {
        HeaderMap::from_iter([
            (header::ORIGIN, HeaderValue::from_str(origin).unwrap()),
            (
                header::ACCESS_CONTROL_REQUEST_METHOD,
                HeaderValue::from_static("PUT"),
            ),
            (
                header::ACCESS_CONTROL_REQUEST_HEADERS,
                HeaderValue::from_static("x-a, x-b"),
            ),
        ])
    }

    #[test]
    fn allows_listed_origins_only() {
        for (origin, allowed) in [
            ("https://www.foo.com", true),
            ("https://a.bar.com", true),
            ("https://a.b.bar.com", true),
            ("https://bar.com", false),
            ("http://a.bar.com", false),
            ("https://evil.com/.bar.com", false),
            ("https://abar.com", false),
            ("null", false),
        ] {
            let outcome = cors(false).check(&Method::GET, &request(origin));
            assert_eq!(outcome.allow_origin.is_some(), allowed, "{origin}");
        }
    }

    #[test]
    fn answers_a_preflight() {
        let headers = request("https://a.bar.com");
        let outcome = cors(true).check(&Method::OPTIONS, &headers);
        assert!(outcome.preflight);
        let answer = cors(true).preflight(&outcome, &headers);
        assert_eq!(
            answer.headers["access-control-allow-origin"],
            "https://a.bar.com"
        );
        assert_eq!(
            answer.headers["access-control-allow-methods"],
            "GET, OPTIONS"
        );
        assert_eq!(answer.headers["access-control-allow-headers"], "x-a, x-b");
        assert_eq!(answer.headers["access-control-max-age"], "3600");
        assert_eq!(answer.headers["access-control-expose-headers"], "x-seen");
        assert_eq!(answer.headers["access-control-allow-credentials"], "true");
        let denied = cors(true).check(&Method::OPTIONS, &request("https://evil.com"));
        assert!(cors(true).preflight(&denied, &headers).headers.is_empty());
    }

    #[test]
    fn replaces_what_the_backend_said() {
        let outcome = cors(false).check(&Method::GET, &request("https://www.foo.com"));
        let mut head = response_head(StatusCode::OK);
        head.headers
            .insert("access-control-allow-origin", HeaderValue::from_static("*"));
        cors(false).apply_response(&outcome, &mut head);
        assert_eq!(
            head.headers["access-control-allow-origin"],
            "https://www.foo.com"
        );
        assert_eq!(head.headers["access-control-expose-headers"], "x-seen");
        assert!(
            !head
                .headers
                .contains_key("access-control-allow-credentials")
        );
    }
}
