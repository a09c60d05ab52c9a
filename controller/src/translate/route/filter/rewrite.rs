//! URLRewrite, and the path modifier that it shares with RequestRedirect.

use portcullis_routing::filter::{PathModifier, UrlRewrite};

use super::spec::{PathModifierSpec, RewriteSpec};
use crate::translate::{field::Field, hostname, problem::Problem, route::path};

/// The rewrite. `by_prefix` tells whether every match of the rule is a `PathPrefix`.
pub(super) fn translate(
    spec: &RewriteSpec,
    by_prefix: bool,
    field: &Field<'_>,
) -> Result<UrlRewrite, Problem> {
    Ok(UrlRewrite {
        hostname: hostname(spec.hostname.as_deref(), &field.child("hostname"))?,
        path: path_modifier(spec.path.as_ref(), by_prefix, &field.child("path"))?,
    })
}

/// A hostname that a request is sent on with: precise, without wildcard and port.
pub(super) fn hostname(
    hostname: Option<&str>,
    field: &Field<'_>,
) -> Result<Option<String>, Problem> {
    let Some(name) = hostname else {
        return Ok(None);
    };
    hostname::precise(name).map(Some).ok_or_else(|| {
        Problem::unsupported(
            field,
            format!("{name:?} is not a hostname"),
            "write a name such as `www.example.com`, without port and wildcard",
        )
    })
}

/// How the path changes. `by_prefix` tells whether every match of the rule is a `PathPrefix`: only then is there a prefix
/// to replace.
pub(super) fn path_modifier(
    spec: Option<&PathModifierSpec>,
    by_prefix: bool,
    field: &Field<'_>,
) -> Result<Option<PathModifier>, Problem> {
    let Some(spec) = spec else { return Ok(None) };
    match spec.kind.as_str() {
        "ReplaceFullPath" => {
            let path = replacement(
                spec.replace_full_path.as_deref(),
                &field.child("replaceFullPath"),
            )?;
            Ok(Some(PathModifier::ReplaceFull(if path.is_empty() {
                "/".into()
            } else {
                path
            })))
        }
        "ReplacePrefixMatch" => {
            let field = field.child("replacePrefixMatch");
            let path = replacement(spec.replace_prefix_match.as_deref(), &field)?;
            if by_prefix {
                return Ok(Some(PathModifier::ReplacePrefix(path)));
            }
            Err(Problem::unsupported(
                &field,
                "there is no prefix to replace, because a match of this rule has another path type than PathPrefix",
                "use PathPrefix in every match of this rule, or `type: ReplaceFullPath`",
            ))
        }
        other => Err(Problem::unsupported(
            &field.child("type"),
            format!("{other:?} is not supported"),
            "use ReplaceFullPath or ReplacePrefixMatch",
        )),
    }
}

fn replacement(text: Option<&str>, field: &Field<'_>) -> Result<String, Problem> {
    let refused = |why: String| {
        Problem::unsupported(
            field,
            why,
            "write an absolute path such as `/shop`, without query",
        )
    };
    let text =
        text.ok_or_else(|| refused("the type asks for this field, but it is not set".into()))?;
    path::replacement(text).map_err(|why| refused(format!("the path {text:?} {why}")))
}
