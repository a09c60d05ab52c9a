//! RequestRedirect.

use portcullis_routing::filter::Redirect;

use super::{rewrite, spec::RedirectSpec};
use crate::translate::{field::Field, problem::Problem};

/// `statusCode` if it is not given.
const DEFAULT_STATUS: i64 = 302;

/// The redirect. `by_prefix` tells whether every match of the rule is a `PathPrefix`.
pub(super) fn translate(
    spec: &RedirectSpec,
    by_prefix: bool,
    field: &Field<'_>,
) -> Result<Redirect, Problem> {
    Ok(Redirect {
        scheme: scheme(spec.scheme.as_deref(), &field.child("scheme"))?,
        hostname: rewrite::hostname(spec.hostname.as_deref(), &field.child("hostname"))?,
        port: spec
            .port
            .map(|port| self::port(port, &field.child("port")))
            .transpose()?,
        path: rewrite::path_modifier(spec.path.as_ref(), by_prefix, &field.child("path"))?,
        status: status(
            spec.status_code.unwrap_or(DEFAULT_STATUS),
            &field.child("statusCode"),
        )?,
    })
}

fn scheme(scheme: Option<&str>, field: &Field<'_>) -> Result<Option<String>, Problem> {
    match scheme {
        None | Some("http" | "https") => Ok(scheme.map(str::to_owned)),
        Some(other) => Err(Problem::unsupported(
            field,
            format!("{other:?} is not supported"),
            "use http or https",
        )),
    }
}

fn port(port: i32, field: &Field<'_>) -> Result<u16, Problem> {
    u16::try_from(port)
        .ok()
        .filter(|&port| port > 0)
        .ok_or_else(|| {
            Problem::unsupported(
                field,
                format!("{port} is not a port"),
                "write a port from 1 to 65535",
            )
        })
}

fn status(code: i64, field: &Field<'_>) -> Result<u16, Problem> {
    match u16::try_from(code) {
        Ok(status @ (301 | 302 | 303 | 307 | 308)) => Ok(status),
        _ => Err(Problem::unsupported(
            field,
            format!("{code} is not a status code of a redirect"),
            "use 301, 302, 303, 307 or 308",
        )),
    }
}
