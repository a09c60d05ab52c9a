//! URLRewrite: the host and path of the forwarded request.

use http::HeaderValue;
use portcullis_routing::{
    PathMatch,
    filter::{PathModifier, UrlRewrite},
};

/// A rewrite whose hostname is parsed.
#[derive(Debug)]
pub struct PreparedRewrite {
    /// The new `Host`.
    pub host: Option<HeaderValue>,
    /// The new path.
    pub path: Option<PathModifier>,
}

impl PreparedRewrite {
    /// Parses `rewrite`.
    pub fn prepare(rewrite: &UrlRewrite) -> Result<Self, String> {
        let host = match &rewrite.hostname {
            Some(name) => Some(
                HeaderValue::from_str(name)
                    .map_err(|_| format!("{name:?} cannot stand in a Host header"))?,
            ),
            None => None,
        };
        Ok(Self {
            host,
            path: rewrite.path.clone(),
        })
    }
}

/// The changed path. `matched` is the path of the match that won: a prefix replacement replaces just that.
pub fn modify_path(path: &str, modifier: &PathModifier, matched: &PathMatch) -> String {
    let (prefix, replacement) = match (modifier, matched) {
        (PathModifier::ReplaceFull(full), _) => return with_leading_slash(full),
        (
            PathModifier::ReplacePrefix(replacement),
            PathMatch::Prefix(prefix) | PathMatch::Exact(prefix),
        ) => (
            prefix.trim_end_matches('/'),
            replacement.trim_end_matches('/'),
        ),
        // The API refuses this pairing; a table that holds it all the same changes nothing.
        (PathModifier::ReplacePrefix(_), PathMatch::Regex(_)) => return path.to_owned(),
    };
    let rest = path.strip_prefix(prefix).unwrap_or(path);
    let mut changed = String::with_capacity(replacement.len() + rest.len() + 1);
    changed.push_str(replacement);
    changed.push_str(rest);
    with_leading_slash(&changed)
}

fn with_leading_slash(path: &str) -> String {
    if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of the API's documentation of `ReplacePrefixMatch`.
    #[test]
    fn replaces_the_matched_prefix_only() {
        for (path, prefix, replacement, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/any/path", "/", "/xyz", "/xyz/any/path"),
            ("/", "/", "/xyz", "/xyz/"),
        ] {
            let modifier = PathModifier::ReplacePrefix(replacement.into());
            let matched = PathMatch::Prefix(prefix.into());
            assert_eq!(
                modify_path(path, &modifier, &matched),
                expected,
                "{path} {prefix} -> {replacement:?}"
            );
        }
    }

    #[test]
    fn replaces_the_whole_path() {
        let matched = PathMatch::Regex(".*".into());
        assert_eq!(
            modify_path("/a/b", &PathModifier::ReplaceFull("/one".into()), &matched),
            "/one"
        );
        assert_eq!(
            modify_path(
                "/a/b",
                &PathModifier::ReplacePrefix("/one".into()),
                &matched
            ),
            "/a/b"
        );
    }
}
