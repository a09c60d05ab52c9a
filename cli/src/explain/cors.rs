//! CORS preflights: the proxy answers them itself, and a browser judges by the answer whether it makes its request.

use http::{HeaderMap, HeaderName, Method, header, response};
use portcullis_dataplane::filter::cors::PreparedCors;
use portcullis_routing::{Filter, Route};

/// Methods that need no permission.
const SAFE: [Method; 3] = [Method::GET, Method::HEAD, Method::POST];

/// The answer to a preflight, and whether the browser gives up; `None` if the route's CORS filter does not answer.
pub(super) fn preflight(
    route: &Route,
    method: &Method,
    headers: &HeaderMap,
) -> Option<(String, bool)> {
    let answer = route.filters.iter().find_map(|filter| {
        let Filter::Cors(cors) = filter else {
            return None;
        };
        let cors = PreparedCors::prepare(cors).ok()?;
        let outcome = cors.check(method, headers);
        outcome.preflight.then(|| cors.preflight(&outcome, headers))
    })?;
    let text = "204: a CORS preflight, which the proxy answers itself";
    Some(match refusal(&answer, headers) {
        Some(what) => {
            let text = format!("{text}: {what} is not allowed, so the browser makes no request");
            (text, true)
        }
        None => (text.to_owned(), false),
    })
}

/// What an answer does not permit of what was asked for, as the Fetch standard judges it.
fn refusal(answer: &response::Parts, asked: &HeaderMap) -> Option<String> {
    let value = |name: HeaderName| asked.get(name).and_then(|value| value.to_str().ok());
    if !answer
        .headers
        .contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    {
        return Some(format!("origin {}", value(header::ORIGIN)?));
    }
    let method = value(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    let is_safe = SAFE.iter().any(|safe| safe.as_str() == method);
    if !is_safe && !permits(answer, &header::ACCESS_CONTROL_ALLOW_METHODS, method) {
        return Some(format!("method {method}"));
    }
    let headers = value(header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
    let mut headers = headers.split(',').map(str::trim);
    let list = &header::ACCESS_CONTROL_ALLOW_HEADERS;
    let refused = headers.find(|name| !name.is_empty() && !permits(answer, list, name));
    refused.map(|name| format!("header {name}"))
}

/// Whether a list of an answer names something, or stands for all. `*` never stands for `authorization`, and for nothing where
/// there are credentials.
fn permits(answer: &response::Parts, list: &HeaderName, asked: &str) -> bool {
    let headers = &answer.headers;
    let listed = headers.get(list).and_then(|list| list.to_str().ok());
    let mut listed = listed.unwrap_or_default().split(',').map(str::trim);
    let is_any = !headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS)
        && !asked.eq_ignore_ascii_case(header::AUTHORIZATION.as_str());
    listed.any(|it| it.eq_ignore_ascii_case(asked) || it == "*" && is_any)
}
