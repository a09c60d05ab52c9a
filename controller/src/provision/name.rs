//! How the objects that are made for a Gateway are called.

use sha2::{Digest as _, Sha256};

/// What a label's value, and the name of a Service, may have.
const MAX: usize = 63;

/// Hexadecimal digits of the hash that stands for what a name lost.
const HASH_DIGITS: usize = 8;

/// The name of everything that is made for a Gateway: `<gateway>-<class>`.
///
/// It is one label of DNS (RFC 1035), as a Service's name has to be, while that of a Gateway may have 253 characters, dots,
/// and a digit in front. Where it had to be changed, it ends in a hash of the whole.
pub fn infrastructure_name(gateway: &str, class: &str) -> String {
    let full = format!("{gateway}-{class}");
    let mut name = full.replace('.', "-");
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        name.insert_str(0, "gw-");
    }
    if name == full && name.len() <= MAX {
        return name;
    }
    cut(&name, &full)
}

/// The name of the Secret with the certificate that a Gateway's proxies show to the controller.
///
/// It is of type `kubernetes.io/tls`, in the Gateway's namespace, and has `tls.crt`, `tls.key` and `ca.crt`.
pub fn identity_secret_name(gateway: &str, class: &str) -> String {
    format!("{}-identity", infrastructure_name(gateway, class))
}

/// A label's value for the name of an object: the name, if it fits, else the beginning of it and a hash.
pub fn label_value(name: &str) -> String {
    if name.len() <= MAX {
        return name.to_owned();
    }
    cut(name, name)
}

/// `name` cut so that a hash of `full` fits behind it.
fn cut(name: &str, full: &str) -> String {
    let hash = Sha256::digest(full.as_bytes());
    let hash = hash
        .iter()
        .take(4)
        .fold(0_u32, |hash, byte| hash << 8 | u32::from(*byte));
    let end = name.len().min(MAX - HASH_DIGITS - 1);
    let start = name.get(..end).unwrap_or(name);
    format!("{}-{hash:08x}", start.trim_end_matches(['-', '.', '_']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_stays_as_it_is() {
        assert_eq!(infrastructure_name("edge", "portcullis"), "edge-portcullis");
        assert_eq!(label_value("edge.v1"), "edge.v1");
    }

    #[test]
    fn what_no_service_may_be_called_is_changed_and_told_apart_by_a_hash() {
        let names = [
            infrastructure_name("a.b", "portcullis"),
            infrastructure_name("a-b", "portcullis"),
            infrastructure_name("1", "portcullis"),
            infrastructure_name("gw-1", "portcullis"),
            infrastructure_name(&"x".repeat(253), "portcullis"),
            infrastructure_name(&format!("{}y", "x".repeat(252)), "portcullis"),
            infrastructure_name(&".".repeat(3), &"-".repeat(63)),
        ];
        for (index, name) in names.iter().enumerate() {
            assert!(name.len() <= MAX, "{name}");
            assert!(
                name.starts_with(|it: char| it.is_ascii_lowercase()),
                "{name}"
            );
            assert!(
                name.ends_with(|it: char| it.is_ascii_alphanumeric()),
                "{name}"
            );
            assert!(!name.contains('.'), "{name}");
            assert_eq!(names.iter().position(|other| other == name), Some(index));
        }
    }

    #[test]
    fn a_long_label_value_is_cut_and_told_apart_by_a_hash() {
        let first = label_value(&"x".repeat(253));
        let second = label_value(&"x".repeat(252));
        assert_eq!((first.len(), second.len()), (MAX, MAX));
        assert_ne!(first, second);
    }
}
