//! Matches of a route. Methods, header names and regular expressions are checked where they are compiled.

use std::collections::HashSet;

use super::{Check, ensure, syntax};
use crate::matches::{PathMatch, RouteMatch};

pub(crate) fn check(route_match: &RouteMatch) -> Check {
    match &route_match.path {
        PathMatch::Exact(path) => syntax::path(path)?,
        PathMatch::Prefix(path) => {
            syntax::path(path)?;
            ensure(path == "/" || !path.ends_with('/'), || {
                format!("prefix {path:?} ends with /")
            })?;
        }
        PathMatch::Regex(_) => {}
    }
    route_match
        .headers
        .iter()
        .try_for_each(|header| syntax::lower_header_name(&header.name))?;
    unique(
        "header",
        route_match
            .headers
            .iter()
            .map(|header| header.name.as_str()),
    )?;
    unique(
        "query parameter",
        route_match
            .query
            .iter()
            .map(|parameter| parameter.name.as_str()),
    )
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Check {
    let mut seen = HashSet::new();
    for name in names {
        ensure(!name.is_empty(), || format!("a {what} has an empty name"))?;
        ensure(seen.insert(name), || {
            format!("a match names {what} {name:?} twice")
        })?;
    }
    Ok(())
}
