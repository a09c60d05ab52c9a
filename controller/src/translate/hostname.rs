//! Hostnames of listeners, routes and certificates: exact, or `*.suffix` for any number of labels.

use portcullis_routing::validate::syntax;

/// The name in lower case, if it is a DNS name (RFC 1123) without wildcard, port and trailing dot.
pub(crate) fn precise(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    syntax::hostname(&name).is_ok().then_some(name)
}

/// Whether some host matches both patterns.
pub(crate) fn intersects(a: &str, b: &str) -> bool {
    match (wildcard_suffix(a), wildcard_suffix(b)) {
        (None, None) => a.eq_ignore_ascii_case(b),
        (Some(suffix), None) => below(b, suffix),
        (None, Some(suffix)) => below(a, suffix),
        (Some(a), Some(b)) => ends_with(a, b) || ends_with(b, a),
    }
}

/// Whether every host that matches `b` matches `a` too.
pub(crate) fn covers(a: &str, b: &str) -> bool {
    match (wildcard_suffix(a), wildcard_suffix(b)) {
        (Some(a), Some(b)) => ends_with(b, a),
        (Some(suffix), None) => below(b, suffix),
        (None, None) => a.eq_ignore_ascii_case(b),
        (None, Some(_)) => false,
    }
}

/// `.example.com` of `*.example.com`.
fn wildcard_suffix(pattern: &str) -> Option<&str> {
    pattern
        .strip_prefix('*')
        .filter(|suffix| suffix.starts_with('.'))
}

fn below(host: &str, suffix: &str) -> bool {
    host.len() > suffix.len() && ends_with(host, suffix)
}

fn ends_with(text: &str, suffix: &str) -> bool {
    text.len() >= suffix.len()
        && text.as_bytes()[text.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::{covers, intersects};

    #[test]
    fn intersection_is_symmetric_and_counts_any_number_of_labels() {
        for (a, b, expected) in [
            ("example.com", "EXAMPLE.com", true),
            ("example.com", "example.org", false),
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "a.b.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*.example.com", "*.b.example.com", true),
            ("*.example.com", "*.example.com", true),
            ("*.example.com", "*.example.org", false),
        ] {
            assert_eq!(intersects(a, b), expected, "{a} and {b}");
            assert_eq!(intersects(b, a), expected, "{b} and {a}");
        }
    }

    #[test]
    fn a_pattern_covers_what_is_below_it_only() {
        assert!(covers("*.example.com", "*.b.example.com"));
        assert!(!covers("*.b.example.com", "*.example.com"));
        assert!(covers("*.example.com", "a.example.com"));
        assert!(!covers("a.example.com", "*.example.com"));
        assert!(covers("a.example.com", "a.example.com"));
    }
}
