//! Names of objects and namespaces, as the API server takes them.

/// Longest name of an object (RFC 1123).
const MAX_NAME: usize = 253;
/// Longest namespace, which is a label of DNS.
const MAX_NAMESPACE: usize = 63;
/// Longest value of a label, and longest key but for its domain.
const MAX_LABEL: usize = 63;

/// Whether an object can be called so: a DNS subdomain.
pub(crate) fn is_name(text: &str) -> bool {
    text.len() <= MAX_NAME && text.split('.').all(is_label)
}

/// Whether a namespace can be called so: a DNS label.
pub(crate) fn is_namespace(text: &str) -> bool {
    text.len() <= MAX_NAMESPACE && is_label(text)
}

fn is_label(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let has_edge = |edge: Option<u8>| edge.is_some_and(|byte| byte != b'-');
    text.bytes().all(is_inner)
        && has_edge(text.bytes().next())
        && has_edge(text.bytes().next_back())
}

/// Whether it can be the key of a label: a name of its own, perhaps behind a domain and a `/`.
pub(crate) fn is_label_key(text: &str) -> bool {
    let (domain, own) = text.rsplit_once('/').unwrap_or(("a", text));
    is_name(domain) && !own.is_empty() && is_label_value(own)
}

/// Whether it can be the value of a label. None at all is one.
pub(crate) fn is_label_value(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let is_edge = |edge: Option<u8>| edge.is_none_or(|byte| byte.is_ascii_alphanumeric());
    text.len() <= MAX_LABEL
        && text.bytes().all(is_inner)
        && is_edge(text.bytes().next())
        && is_edge(text.bytes().next_back())
}

/// The text as a namespace; else what is wrong with it.
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    if is_namespace(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no namespace: lower-case letters, digits and '-' inside, {MAX_NAMESPACE} characters at most, such as shop"
    ))
}

/// The text as the name of an object; else what is wrong with it.
fn name(text: &str) -> Result<String, String> {
    if is_name(text) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is no name of an object: lower-case letters, digits, and '-' and '.' inside, {MAX_NAME} characters at most, such as web"
    ))
}

/// `NAMESPACE/NAME`.
pub(crate) fn namespaced(text: &str) -> Result<(String, String), String> {
    let (inside, own) = text
        .split_once('/')
        .ok_or_else(|| "write NAMESPACE/NAME, such as shop/edge".to_owned())?;
    Ok((namespace(inside)?, name(own)?))
}

/// `NAME`, or `NAMESPACE/NAME`.
pub(crate) fn perhaps_namespaced(text: &str) -> Result<(Option<String>, String), String> {
    if text.contains('/') {
        return namespaced(text).map(|(namespace, name)| (Some(namespace), name));
    }
    Ok((None, name(text)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_api_server_takes() {
        let pair = |namespace: &str, name: &str| Ok((namespace.to_owned(), name.to_owned()));
        assert_eq!(namespaced("shop/web-7c9d.a"), pair("shop", "web-7c9d.a"));
        assert_eq!(namespaced("1/2"), pair("1", "2"));
        for (text, expected) in [
            ("", "NAMESPACE/NAME"),
            ("shop", "NAMESPACE/NAME"),
            ("/", "\"\" is no namespace"),
            ("/web", "\"\" is no namespace"),
            ("Shop/web", "\"Shop\" is no namespace"),
            ("a.b/web", "\"a.b\" is no namespace"),
            ("-a/web", "no namespace"),
            ("../web", "no namespace"),
            ("shop/", "\"\" is no name"),
            ("shop/..", "\"..\" is no name"),
            ("shop/a/b", "\"a/b\" is no name"),
            ("shop/a_b", "no name"),
            ("shop/é", "no name"),
            ("shop/a\n", "\"a\\n\" is no name"),
            (&format!("{}/a", "a".repeat(64)), "no namespace"),
            (&format!("a/{}", "a".repeat(254)), "no name"),
        ] {
            let error = namespaced(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
