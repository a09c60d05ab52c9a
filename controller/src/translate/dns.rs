//! Names of hosts (RFC 1123).

/// Whether `name` is a DNS name: labels of letters, digits and hyphens, in any case, without a trailing dot.
pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::is_name;

    #[test]
    fn rfc_1123() {
        let longest_label = "a".repeat(63);
        for name in [
            "a",
            "example.com",
            "3com.com",
            "a-b.C",
            longest_label.as_str(),
        ] {
            assert!(is_name(name), "{name}");
        }
        let too_long_label = "a".repeat(64);
        let too_long = vec!["abc"; 64].join(".");
        for name in [
            "",
            ".",
            "a..b",
            "-a",
            "a-",
            "a_b",
            "a b",
            "*.a",
            "a.",
            "a:80",
            "é",
            too_long_label.as_str(),
            too_long.as_str(),
        ] {
            assert!(!is_name(name), "{name}");
        }
    }
}
