//! How servers read paths: which path it is that a request asks for or a policy names, whatever of it is encoded, and of which
//! requests nobody can say.
//!
//! What proxies pass on is normalised already (RFC 3986 6.2.2): no dot segments, no backslashes, nothing unreserved encoded. What
//! stands for itself in a path (RFC 3986 3.3, such as `:` and `@`) may be encoded still, and servers decode it. What is left is what
//! some of them make of the rest: they merge slashes, cut parameters off, decode twice, and so on.

use std::{borrow::Cow, iter, mem, sync::Arc};

use icu_normalizer::ComposingNormalizerBorrowed;

use super::policy::{Policy, PolicyAction};
use crate::matches::PathMatch;

/// The form in which characters that look or mean alike are one (NFKC, Unicode Standard Annex 15). Some servers bring paths into it, or
/// names of files.
const COMPATIBLE: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfkc();

/// What servers read in a normalised path: the path, decoded. `None` if they may read it in different ways.
pub(super) fn read(path: &str) -> Option<Cow<'_, str>> {
    if !path.contains(is_suspect) && !path.contains("//") && !path.contains("./") {
        return (!path.ends_with('.')).then_some(Cow::Borrowed(path));
    }
    let decoded = decode(path)?;
    // In what was decoded there is no slash that was not one before.
    let mut segments = decoded.trim_start_matches('/').split('/').peekable();
    let mut is_odd = decoded.starts_with("//");
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        // Some file systems have no name that ends in a dot or a blank.
        is_odd |= segment.ends_with(['.', ' ']) || (segment.is_empty() && !is_last);
    }
    is_odd |= decoded.contains(|c| c == ';' || is_like_ascii(c));
    (!is_odd).then_some(Cow::Owned(decoded))
}

/// A policy with its paths as [`read`] has those of requests, and for a Deny as they are [folded]. A path that cannot be decoded stays
/// encoded: what is read has no `%`, so that is like none.
pub(super) fn with_paths_as_read(policy: &Arc<Policy>) -> Arc<Policy> {
    let mut policy = Arc::clone(policy);
    let mut destinations = policy.to.iter().flatten();
    if destinations.all(|to| to.paths.is_empty()) {
        return policy;
    }
    let changed = Arc::make_mut(&mut policy);
    let destinations = changed.to.iter_mut().flatten();
    for path in destinations.flat_map(|to| &mut to.paths) {
        if let PathMatch::Exact(text) | PathMatch::Prefix(text) = path {
            if let Some(decoded) = decode(text) {
                *text = decoded;
            }
            if changed.action == PolicyAction::Deny {
                *text = folded(mem::take(text).into()).into_owned();
            }
        }
    }
    policy
}

/// What is the same for servers that do not tell upper and lower case apart, whatever the script, nor in how many characters a letter is
/// written; ASCII is left as it is. By way of the upper case, as there are letters with two lower ones; two letters have lower ones that are not those of their upper case.
pub(super) fn folded(path: Cow<'_, str>) -> Cow<'_, str> {
    if path.is_ascii() {
        return path;
    }
    let path = COMPATIBLE
        .normalize(&path)
        .replace('\u{130}', "i")
        .replace('\u{1e9e}', "ss");
    let upper = path.chars().flat_map(char::to_uppercase);
    Cow::Owned(upper.flat_map(char::to_lowercase).collect())
}

/// Whether it is another character that becomes ASCII where text is brought into a compatible form: wide letters, the two dots that are
/// one character, and so on.
fn is_like_ascii(c: char) -> bool {
    !c.is_ascii()
        && COMPATIBLE
            .normalize_iter(iter::once(c))
            .any(|c| c.is_ascii())
}

/// What needs a second look.
fn is_suspect(c: char) -> bool {
    matches!(c, '%' | ';') || !c.is_ascii()
}

/// The path, decoded once. `None` if it holds what the next who reads it may take for something else: an encoded delimiter, a second
/// encoding, a control character, or what is no UTF-8 (overlong forms are none).
fn decode(path: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let byte = u8::try_from(digit()? << 4 | digit()?).ok()?;
        match byte {
            b'/' | b'\\' | b'%' | b';' | b'?' | b'#' | ..0x20 | 0x7f => return None,
            byte => decoded.push(byte),
        }
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn what_servers_read_differently_is_ambiguous() {
        for path in [
            "//admin",
            "///",
            "/public//admin",
            "/a//",
            "/admin%2Fx",
            "/public/..%2Fadmin",
            "/public/..;/admin",
            "/admin;x=1",
            "/admin%3Bx",
            "/%252e%252e/admin",
            "/%2561dmin",
            "/100%25",
            "/admin%3Fx",
            "/admin%23",
            "/admin%00",
            "/admin%0A",
            "/admin%09",
            "/admin%7F",
            "/admin%5Cx",
            "/%C0%AE%C0%AE/admin",
            "/public%C0%AFadmin",
            "/public%EF%BC%8Fadmin",
            "/public/%E2%80%A5/admin",
            "/public/%E2%80%A4%E2%80%A4/admin",
            "/public%EF%B9%A8..%EF%B9%A8admin",
            "/admin%CD%BEx",
            "/%E2%93%90dmin",
            "/api/%E2%84%AAey",
            "/admin%C2%A0/x",
            "/admin.",
            "/admin./x",
            "/admin%20",
            "/admin%20/x",
            "/public/.../admin",
            "/%",
            "/%4",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_read_in_one_way_is_read_decoded() {
        for (path, decoded) in [
            ("/", "/"),
            ("/public/", "/public/"),
            ("/a.b/c", "/a.b/c"),
            ("/.well-known/x", "/.well-known/x"),
            ("/a%20b", "/a b"),
            ("/%C3%A9t%C3%A9", "/été"),
            ("/v1/projects/x:batchGet", "/v1/projects/x:batchGet"),
            ("/v1/projects/x%3AbatchGet", "/v1/projects/x:batchGet"),
            ("/a@b,c=d&e+f!$'(g)*", "/a@b,c=d&e+f!$'(g)*"),
            (
                "/a%40b%2Cc%3Dd%26e%2Bf%21%24%27%28g%29%2A",
                "/a@b,c=d&e+f!$'(g)*",
            ),
            ("/%5Bx%5D", "/[x]"),
        ] {
            assert_eq!(read(path).as_deref(), Some(decoded), "{path}");
        }
    }
}
