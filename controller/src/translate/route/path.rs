//! Paths in manifests: checked, and brought into the normal form in which requests are matched.

/// Longest path, in bytes, by the Gateway API's schema.
const MAX_PATH: usize = 1024;

/// Brings the path of a match into the form in which the proxy sees a request's path: percent-encoded unreserved
/// characters are decoded, other encodings are in upper case (RFC 3986 6.2.2). The error says what is wrong with it.
///
/// What the Gateway API forbids in a path is refused here as well, because it could never match a normalised path.
pub(crate) fn normalised(path: &str) -> Result<String, String> {
    if path.to_ascii_uppercase().contains("%2F") {
        return Err("holds an encoded slash (%2F), which would be ambiguous".into());
    }
    let path = decoded(path)?;
    if !path.starts_with('/') {
        return Err("does not start with a slash".into());
    }
    if path.contains("//") {
        return Err("holds an empty segment (`//`)".into());
    }
    if has_dot_segment(&path) {
        return Err("holds a dot segment (`/.` or `/..`), which is removed from requests before they are matched".into());
    }
    Ok(path)
}

/// A prefix matches whole path elements, so `/a` and `/a/` say the same.
pub(crate) fn without_trailing_slash(mut prefix: String) -> String {
    if prefix.len() > 1 && prefix.ends_with('/') {
        prefix.pop();
    }
    prefix
}

/// Checks the path that a rewrite or redirect puts in. A missing leading slash is added; the empty text stays.
pub(super) fn replacement(path: &str) -> Result<String, String> {
    let path = decoded(path)?;
    if has_dot_segment(&path) {
        return Err("holds a dot segment (`/.` or `/..`)".into());
    }
    Ok(if path.is_empty() || path.starts_with('/') {
        path
    } else {
        format!("/{path}")
    })
}

fn has_dot_segment(path: &str) -> bool {
    path.split('/')
        .any(|segment| segment == "." || segment == "..")
}

/// Decodes unreserved characters and writes the other encodings in upper case; refuses what is no path character.
fn decoded(path: &str) -> Result<String, String> {
    if path.len() > MAX_PATH {
        return Err(format!(
            "is {} bytes long, but at most {MAX_PATH} are allowed",
            path.len()
        ));
    }
    let mut text = String::with_capacity(path.len());
    let mut rest = path.chars();
    while let Some(character) = rest.next() {
        if character == '%' {
            let code: String = rest.by_ref().take(2).collect();
            let byte = encoded_byte(&code)
                .ok_or_else(|| format!("holds the broken percent-encoding `%{code}`"))?;
            match char::from(byte) {
                plain if is_unreserved(plain) => text.push(plain),
                '\0' => {
                    return Err(
                        "holds an encoded NUL (%00), which the proxy refuses in requests".into(),
                    );
                }
                '\\' => {
                    return Err(
                        "holds an encoded backslash (%5C), which the proxy refuses in requests"
                            .into(),
                    );
                }
                _ => {
                    text.push('%');
                    text.push_str(&code.to_ascii_uppercase());
                }
            }
        } else if is_path_character(character) {
            text.push(character);
        } else {
            return Err(format!(
                "holds the character {character:?}, which a path cannot hold unless percent-encoded"
            ));
        }
    }
    Ok(text)
}

fn encoded_byte(code: &str) -> Option<u8> {
    let is_hexadecimal = code.len() == 2 && code.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hexadecimal
        .then(|| u8::from_str_radix(code, 16).ok())
        .flatten()
}

/// RFC 3986 2.3.
fn is_unreserved(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~".contains(character)
}

/// RFC 3986 3.3, `pchar` and the slash.
fn is_path_character(character: char) -> bool {
    is_unreserved(character) || "/!$&'()*+,;=:@".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_are_normalised() {
        for (given, expected) in [
            ("/", "/"),
            ("/%41b%c3%A9", "/Ab%C3%A9"),
            ("/a~b!$&'()*+,;=:@", "/a~b!$&'()*+,;=:@"),
        ] {
            assert_eq!(normalised(given).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn matches_that_could_never_match_are_refused() {
        for given in [
            "",
            "a",
            "//",
            "/a//b",
            "/./a",
            "/a/..",
            "/a/%2e%2e/b",
            "/a%2Fb",
            "/a%2fb",
            "/a?b",
            "/a#b",
            "/a b",
            "/%zz",
            "/%4",
            "/%",
            "/é",
            "/a\\b",
            "/%00",
            "/%5c",
            "/[a]",
            "/%+1",
        ] {
            assert!(normalised(given).is_err(), "{given}");
        }
    }

    #[test]
    fn length_is_bounded() {
        let longest = format!("/{}", "a".repeat(MAX_PATH - 1));
        assert_eq!(normalised(&longest).as_deref(), Ok(&*longest));
        assert!(normalised(&format!("{longest}a")).is_err());
        assert!(replacement(&format!("{longest}a")).is_err());
    }

    #[test]
    fn replacements_get_their_slash() {
        assert_eq!(replacement("a/b").as_deref(), Ok("/a/b"));
        assert_eq!(replacement("").as_deref(), Ok(""));
        assert_eq!(replacement("/a%2fb/").as_deref(), Ok("/a%2Fb/"));
        for given in ["/../etc", "/a?b=c", "/a\r\nb", "/./"] {
            assert!(replacement(given).is_err(), "{given}");
        }
    }
}
