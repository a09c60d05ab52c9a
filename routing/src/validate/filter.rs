//! Filters of rules and backends.

use super::{Check, ensure, syntax};
use crate::filter::{Cors, Filter, HeaderModifier, Mirror, PathModifier, Redirect, UrlRewrite};

/// `by_prefix`: whether every match of the rule is a prefix, which the replacement of a prefix needs.
pub(crate) fn check(filter: &Filter, by_prefix: bool) -> Check {
    match filter {
        Filter::RequestHeaders(modifier) | Filter::ResponseHeaders(modifier) => {
            check_headers(modifier)
        }
        Filter::UrlRewrite(rewrite) => check_rewrite(rewrite, by_prefix),
        Filter::Mirror(mirror) => check_mirror(mirror),
        Filter::Cors(cors) => check_cors(cors),
        // It is held against the table.
        Filter::Credential(_) => Ok(()),
    }
}

pub(crate) fn check_redirect(redirect: &Redirect, by_prefix: bool) -> Check {
    let Redirect {
        scheme,
        hostname,
        port,
        path,
        status,
    } = redirect;
    let scheme_known = scheme
        .as_deref()
        .is_none_or(|scheme| matches!(scheme, "http" | "https"));
    ensure(scheme_known, || {
        "the scheme of a redirect is neither http nor https".to_owned()
    })?;
    hostname.as_deref().map_or(Ok(()), syntax::hostname)?;
    ensure(*port != Some(0), || {
        "the port of a redirect is 0".to_owned()
    })?;
    path.as_ref()
        .map_or(Ok(()), |path| check_path(path, by_prefix))?;
    let redirects = matches!(status, 301 | 302 | 303 | 307 | 308);
    ensure(redirects, || {
        format!("{status} is not a status of a redirect (301, 302, 303, 307, 308)")
    })
}

fn check_headers(modifier: &HeaderModifier) -> Check {
    for field in modifier.set.iter().chain(&modifier.add) {
        syntax::header_name(&field.name)?;
        syntax::header_value(&field.value)?;
    }
    modifier
        .remove
        .iter()
        .try_for_each(|name| syntax::lower_header_name(name))
}

fn check_rewrite(rewrite: &UrlRewrite, by_prefix: bool) -> Check {
    rewrite
        .hostname
        .as_deref()
        .map_or(Ok(()), syntax::hostname)?;
    rewrite
        .path
        .as_ref()
        .map_or(Ok(()), |path| check_path(path, by_prefix))
}

fn check_path(modifier: &PathModifier, by_prefix: bool) -> Check {
    match modifier {
        PathModifier::ReplaceFull(path) => syntax::path(path),
        PathModifier::ReplacePrefix(path) => {
            ensure(by_prefix, || {
                "a prefix is replaced, but a match is not by prefix".to_owned()
            })?;
            if path.is_empty() {
                Ok(())
            } else {
                syntax::path(path)
            }
        }
    }
}

fn check_mirror(mirror: &Mirror) -> Check {
    let Mirror {
        numerator,
        denominator,
        ..
    } = mirror;
    ensure(*denominator > 0 && numerator <= denominator, || {
        format!("{numerator}/{denominator} is not a share between 0 and 1")
    })
}

fn check_cors(cors: &Cors) -> Check {
    let origin = |origin: &String| {
        let known = origin == "*"
            || origin
                .split_once("://")
                .is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
        ensure(known, || {
            format!("{origin:?} is neither * nor an origin (scheme://host[:port])")
        })
    };
    cors.allow_origins.iter().try_for_each(origin)?;
    cors.allow_methods
        .iter()
        .try_for_each(|method| syntax::method(method))?;
    let headers = cors.allow_headers.iter().chain(&cors.expose_headers);
    headers
        .filter(|name| *name != "*")
        .try_for_each(|name| syntax::header_name(name))
}
