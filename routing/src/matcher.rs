//! Whether a request satisfies one match of a route. Values are compared as streams of bytes, so that joined header
//! lines and decoded query parameters need no copy.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

use crate::{
    lookup::RequestHead,
    matches::{PathMatch, RouteMatch, ValueMatch},
    pattern::{Pattern, PatternPool},
    query,
};

/// A [`RouteMatch`], ready to be asked.
#[derive(Debug)]
pub(crate) struct MatchMatcher {
    path: PathMatcher,
    method: Option<Method>,
    headers: Box<[HeaderMatcher]>,
    query: Box<[QueryMatcher]>,
}

#[derive(Debug)]
enum PathMatcher {
    Exact(Box<str>),
    Prefix(Box<str>),
    Regex(Arc<Pattern>),
}

#[derive(Debug)]
struct HeaderMatcher {
    name: HeaderName,
    value: ValueMatcher,
}

#[derive(Debug)]
struct QueryMatcher {
    name: Box<str>,
    value: ValueMatcher,
}

#[derive(Debug)]
enum ValueMatcher {
    Exact(Box<str>),
    Regex(Arc<Pattern>),
}

/// Why a match does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch<'a> {
    Path,
    Method,
    HeaderMissing(&'a str),
    HeaderDiffers(&'a str),
    QueryMissing(&'a str),
    QueryDiffers(&'a str),
}

/// Where automata come from while a table is compiled.
pub(crate) struct Patterns<'a> {
    /// Those of the table that is being compiled.
    pub(crate) pool: &'a mut PatternPool,
    /// Those of the table before.
    pub(crate) previous: Option<&'a PatternPool>,
}

impl Patterns<'_> {
    pub(crate) fn get(&mut self, text: &str) -> Result<Arc<Pattern>, String> {
        self.pool
            .get(self.previous, text)
            .map_err(|error| error.to_string())
    }

    fn value(&mut self, value: &ValueMatch) -> Result<ValueMatcher, String> {
        Ok(match value {
            ValueMatch::Exact(text) => ValueMatcher::Exact(text.as_str().into()),
            ValueMatch::Regex(text) => ValueMatcher::Regex(self.get(text)?),
        })
    }
}

/// Every regular expression of a match.
pub(crate) fn expressions(route_match: &RouteMatch) -> impl Iterator<Item = &str> {
    let path = match &route_match.path {
        PathMatch::Regex(text) => Some(text.as_str()),
        PathMatch::Exact(_) | PathMatch::Prefix(_) => None,
    };
    let headers = route_match.headers.iter().map(|header| &header.value);
    let values = headers.chain(route_match.query.iter().map(|query| &query.value));
    path.into_iter()
        .chain(values.filter_map(|value| match value {
            ValueMatch::Regex(text) => Some(text.as_str()),
            ValueMatch::Exact(_) => None,
        }))
}

impl MatchMatcher {
    pub(crate) fn new(
        route_match: &RouteMatch,
        patterns: &mut Patterns<'_>,
    ) -> Result<Self, String> {
        let path = match &route_match.path {
            PathMatch::Exact(path) => PathMatcher::Exact(path.as_str().into()),
            PathMatch::Prefix(path) => PathMatcher::Prefix(path.as_str().into()),
            PathMatch::Regex(text) => PathMatcher::Regex(patterns.get(text)?),
        };
        let method = route_match.method.as_ref().map(|method| {
            Method::from_bytes(method.as_bytes()).map_err(|_| format!("{method:?} is not a method"))
        });
        let headers = route_match.headers.iter().map(|header| {
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let name = name.map_err(|_| format!("{:?} is not a header name", header.name))?;
            Ok(HeaderMatcher {
                name,
                value: patterns.value(&header.value)?,
            })
        });
        let headers = headers.collect::<Result<_, String>>()?;
        let query = route_match.query.iter().map(|parameter| {
            Ok(QueryMatcher {
                name: parameter.name.as_str().into(),
                value: patterns.value(&parameter.value)?,
            })
        });
        let query = query.collect::<Result<_, String>>()?;
        Ok(Self {
            path,
            method: method.transpose()?,
            headers,
            query,
        })
    }

    /// All conditions, the path's included.
    pub(crate) fn check(&self, head: &RequestHead<'_>) -> Result<(), Mismatch<'_>> {
        self.check_path(head.path)?;
        self.check_rest(head)
    }

    pub(crate) fn check_path(&self, path: &str) -> Result<(), Mismatch<'_>> {
        let holds = match &self.path {
            PathMatcher::Exact(exact) => path == exact.as_ref(),
            PathMatcher::Prefix(prefix) => has_prefix(path, prefix),
            PathMatcher::Regex(pattern) => pattern.matches(path.bytes()),
        };
        if holds { Ok(()) } else { Err(Mismatch::Path) }
    }

    /// All conditions but the path's.
    pub(crate) fn check_rest(&self, head: &RequestHead<'_>) -> Result<(), Mismatch<'_>> {
        if self
            .method
            .as_ref()
            .is_some_and(|method| method != head.method)
        {
            return Err(Mismatch::Method);
        }
        for header in &self.headers {
            let name = header.name.as_str();
            let value = joined(head.headers, &header.name).ok_or(Mismatch::HeaderMissing(name))?;
            if !header.value.matches(value) {
                return Err(Mismatch::HeaderDiffers(name));
            }
        }
        for parameter in &self.query {
            let name = &parameter.name;
            let value = query::first(head.query.unwrap_or_default(), name)
                .ok_or(Mismatch::QueryMissing(name))?;
            if !parameter.value.matches(value) {
                return Err(Mismatch::QueryDiffers(name));
            }
        }
        Ok(())
    }
}

impl ValueMatcher {
    fn matches(&self, value: impl Iterator<Item = u8>) -> bool {
        match self {
            Self::Exact(exact) => value.eq(exact.bytes()),
            Self::Regex(pattern) => pattern.matches(value),
        }
    }
}

/// Element-wise prefix, as in [`PathMatch::Prefix`].
pub(crate) fn has_prefix(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.starts_with('/') || (rest.is_empty() && !path.is_empty()))
}

/// The field lines of a name, joined by `, ` (RFC 9110 5.3).
fn joined<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> Option<impl Iterator<Item = u8> + use<'a>> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?.as_bytes();
    let rest = lines.flat_map(|line| b", ".iter().chain(line.as_bytes()));
    Some(first.iter().chain(rest).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_an_element() {
        for (path, prefix, expected) in [
            ("/a", "/a", true),
            ("/a/", "/a", true),
            ("/a/b", "/a", true),
            ("/ab", "/a", false),
            ("/", "/", true),
            ("/x", "/", true),
            ("*", "/", false),
            ("", "/", false),
            ("/a", "/a/b", false),
        ] {
            assert_eq!(has_prefix(path, prefix), expected, "{path} {prefix}");
        }
    }

    #[test]
    fn field_lines_are_joined() {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("x");
        assert!(joined(&headers, &name).is_none());
        headers.append("x", "a".parse().unwrap());
        headers.append("x", "b".parse().unwrap());
        assert!(joined(&headers, &name).unwrap().eq(*b"a, b"));
    }
}
