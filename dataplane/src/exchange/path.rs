//! The one policy for paths: what was matched is what is forwarded (RFC 3986 6.2.2).
//!
//! Percent-encoded unreserved characters are decoded, other encodings stay (`%2F` is not a slash) with upper-case
//! digits, dot segments are removed, bytes outside ASCII are encoded. NUL, control characters, backslashes (encoded or
//! not) and broken encodings are refused: backends disagree about them.

use std::borrow::Cow;

/// A path that backends could read in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPath;

/// The normal form of `path`; it is borrowed if nothing had to change.
pub fn normalize(path: &[u8]) -> Result<Cow<'_, str>, BadPath> {
    if path.first() != Some(&b'/') {
        return Err(BadPath);
    }
    match plain(path) {
        Some(text) => Ok(Cow::Borrowed(text)),
        None => Ok(Cow::Owned(remove_dot_segments(&decode(path)?))),
    }
}

/// The path as text if it is in normal form already: the common case, in one pass.
fn plain(path: &[u8]) -> Option<&str> {
    let mut after_slash = false;
    for &byte in path {
        if byte == b'%'
            || byte == b'\\'
            || !(0x21..=0x7e).contains(&byte)
            || (after_slash && byte == b'.')
        {
            return None;
        }
        after_slash = byte == b'/';
    }
    std::str::from_utf8(path).ok()
}

fn decode(path: &[u8]) -> Result<String, BadPath> {
    let mut decoded = String::with_capacity(path.len() + 8);
    let mut bytes = path.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let high = bytes.next().and_then(hex_value).ok_or(BadPath)?;
                let low = bytes.next().and_then(hex_value).ok_or(BadPath)?;
                push_decoded(&mut decoded, high << 4 | low)?;
            }
            b'\\' | 0..=0x20 | 0x7f => return Err(BadPath),
            0x80.. => push_encoded(&mut decoded, byte),
            _ => decoded.push(char::from(byte)),
        }
    }
    Ok(decoded)
}

fn push_decoded(path: &mut String, byte: u8) -> Result<(), BadPath> {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            path.push(char::from(byte));
        }
        0 | b'\\' => return Err(BadPath),
        _ => push_encoded(path, byte),
    }
    Ok(())
}

fn push_encoded(path: &mut String, byte: u8) {
    path.push('%');
    for nibble in [byte >> 4, byte & 15] {
        path.push(char::from(if nibble < 10 {
            b'0' + nibble
        } else {
            b'A' + nibble - 10
        }));
    }
}

fn hex_value(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// RFC 3986 5.2.4, for a path that begins with a slash.
fn remove_dot_segments(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop();
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    let mut clean = String::with_capacity(path.len());
    for segment in kept {
        clean.push('/');
        clean.push_str(segment);
    }
    if clean.is_empty() {
        clean.push('/');
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn normal_paths_are_borrowed() {
        for path in ["/", "/a/b.c/d", "/a//b", "/a;v=1/(b)"] {
            assert!(
                matches!(normalize(path.as_bytes()), Ok(Cow::Borrowed(same)) if same == path),
                "{path}"
            );
        }
    }

    #[test]
    fn one_form_for_equal_paths() {
        for (path, normal) in [
            ("/%61dmin", "/admin"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/./b/.", "/a/b/"),
            ("/a/b/..", "/a/"),
            ("/../../a", "/a"),
            ("/..", "/"),
            ("/.", "/"),
            ("/.hidden/..x", "/.hidden/..x"),
            ("/a%2fb", "/a%2Fb"),
            ("/a%20b", "/a%20b"),
            ("/é", "/%C3%A9"),
            ("/a/..;/b", "/a/..;/b"),
        ] {
            assert_eq!(normalize(path.as_bytes()).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn refuses_what_backends_read_differently() {
        for path in [
            "", "a", "*", "/a\\b", "/a%5cb", "/a%00", "/a\0", "/%", "/%4", "/%zz", "/a b", "/a\x7f",
        ] {
            assert_eq!(normalize(path.as_bytes()), Err(BadPath), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn is_idempotent_and_never_climbs(path in proptest::collection::vec(any::<u8>(), 0..40)) {
            let path = [b"/".as_slice(), &path].concat();
            if let Ok(once) = normalize(&path) {
                prop_assert!(once.starts_with('/') && once.is_ascii());
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert_eq!(normalize(once.as_bytes()).unwrap().into_owned(), once.into_owned());
            }
        }
    }
}
