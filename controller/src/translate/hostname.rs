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

/// Whether `host` is `pattern` with its wildcard replaced by a single label, as certificates mean wildcards.
pub(crate) fn covers_one_label(pattern: &str, host: &str) -> bool {
    let suffix = wildcard_suffix(pattern);
    suffix.is_some_and(|suffix| {
        host.split_once('.')
            .is_some_and(|(label, rest)| label != "*" && rest.eq_ignore_ascii_case(&suffix[1..]))
    })
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
    use super::{covers_one_label, intersects};

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
    fn a_wildcard_of_a_certificate_stands_for_one_label() {
        for (pattern, host, expected) in [
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "A.EXAMPLE.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "*.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("a.example.com", "a.example.com", false),
            ("*", "com", false),
        ] {
            assert_eq!(
                covers_one_label(pattern, host),
                expected,
                "{pattern} and {host}"
            );
        }
    }
}
