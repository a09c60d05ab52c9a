//! Paths that servers read in different ways: of them nobody can say which path of a policy they are.
//!
//! What proxies pass on is normalised already (RFC 3986 6.2.2): no dot segments, no backslashes, nothing encoded that need not
//! be. What is left is what some servers make of the rest: they merge slashes, cut parameters off, decode twice, and so on.

/// The character that an overlong or wide form of another one stands for is a matter of taste; these are wide (Halfwidth and
/// Fullwidth Forms), and become ASCII where text is brought into a compatible form.
const WIDE: std::ops::RangeInclusive<char> = '\u{ff01}'..='\u{ff5e}';

/// Whether servers may read a normalised path as another one.
pub(super) fn is_ambiguous(path: &str) -> bool {
    if !path.contains(is_suspect) && !path.contains("//") && !path.contains("./") {
        return path.ends_with('.');
    }
    let Some(decoded) = decode(path) else {
        return true;
    };
    // In what was decoded there is no slash that was not one before.
    let mut segments = decoded.trim_start_matches('/').split('/').peekable();
    let mut is_odd = decoded.starts_with("//");
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        // Some file systems have no name that ends in a dot or a blank.
        is_odd |= segment.ends_with(['.', ' ']) || (segment.is_empty() && !is_last);
    }
    is_odd || decoded.contains(|c| c == ';' || WIDE.contains(&c))
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
    use super::is_ambiguous;

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
            "/admin.",
            "/admin./x",
            "/admin%20",
            "/admin%20/x",
            "/public/.../admin",
            "/%",
            "/%4",
        ] {
            assert!(is_ambiguous(path), "{path}");
        }
    }

    #[test]
    fn what_is_read_in_one_way_is_not() {
        for path in [
            "/",
            "/public/",
            "/a.b/c",
            "/.well-known/x",
            "/a%20b",
            "/%C3%A9t%C3%A9",
            "/v1/projects/x:batchGet",
            "/a@b,c=d&e+f!$'(g)*",
            "/%5Bx%5D",
        ] {
            assert!(!is_ambiguous(path), "{path}");
        }
    }
}
