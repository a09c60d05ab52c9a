//! CA certificates in a table: texts of PEM, of which each begins with a line that names where it is from.
//!
//! A text of that line alone stands for certificates that are there, but could not be read. No data plane takes it; one that has the
//! resource from before, with certificates from the same places, serves that on.

use crate::{
    ClusterTls,
    egress::{Entry, EntryTls},
    listener::ClientValidation,
    validate::certificate::is_certificate,
};

const MARK: &str = "# ";

/// A text of certificates from `source`, such as `ConfigMap ns/name`. Without certificates it stands for those that could not be read.
pub fn named(source: &str, pem: &str) -> String {
    format!("{MARK}{source}\n{pem}")
}

/// Where a text of certificates is from, as far as it says so.
fn source(pem: &str) -> Option<&str> {
    pem.lines().next()?.strip_prefix(MARK)
}

/// Whether one of the texts stands for certificates that could not be read.
pub fn is_unread(texts: &[String]) -> bool {
    let mut texts = texts.iter();
    texts.any(|pem| source(pem).is_some() && !is_certificate(pem))
}

/// Whether both trust certificates from the same places, as far as is known.
pub fn same_sources(one: &[String], other: &[String]) -> bool {
    let sources = |texts: &[String]| -> Option<Vec<_>> {
        let sources = texts.iter();
        sources.map(|pem| source(pem).map(str::to_owned)).collect()
    };
    let one = sources(one);
    one.is_some() && one == sources(other)
}

impl ClusterTls {
    /// Whether both say the same but for CA certificates, which are from the same places, or are the very same.
    pub fn is_same_but_for_cas(&self, other: &Self) -> bool {
        let rest = |tls: &Self| Self {
            ca_pem: Vec::new(),
            ..tls.clone()
        };
        self == other || (same_sources(&self.ca_pem, &other.ca_pem) && rest(self) == rest(other))
    }
}

impl EntryTls {
    /// Whether both say the same but for CA certificates, which are from the same places, or are the very same.
    pub fn is_same_but_for_cas(&self, other: &Self) -> bool {
        let rest = |tls: &Self| Self {
            ca_pem: Vec::new(),
            ..tls.clone()
        };
        self == other || (same_sources(&self.ca_pem, &other.ca_pem) && rest(self) == rest(other))
    }
}

impl Entry {
    /// Whether both say the same but for CA certificates, which are from the same places, or are the very same.
    pub fn is_same_but_for_cas(&self, other: &Self) -> bool {
        let mut all = self.tls.iter().zip(&other.tls);
        let has_same_tls = self.tls.len() == other.tls.len()
            && all.all(|(one, other)| one.is_same_but_for_cas(other));
        let rest = |entry: &Self| Self {
            tls: Vec::new(),
            ..entry.clone()
        };
        has_same_tls && rest(self) == rest(other)
    }
}

impl ClientValidation {
    /// Whether both ask for the same but for CA certificates, which are from the same places.
    pub fn is_same_but_for_cas(&self, other: &Self) -> bool {
        same_sources(&self.ca_pem, &other.ca_pem) && self.mode == other.mode
    }
}

#[cfg(test)]
mod tests {
    use super::{is_unread, named, same_sources};

    #[test]
    fn a_text_without_certificates_is_unread_if_it_says_where_it_is_from() {
        let known = named("ConfigMap ns/ca", "-----BEGIN CERTIFICATE-----\n");
        let unread = named("ConfigMap ns/ca", "");
        let other = named("ConfigMap ns/new", "");
        assert!(is_unread(&[known.clone(), unread.clone()]));
        assert!(!is_unread(&[
            known.clone(),
            "none".to_owned(),
            String::new()
        ]));
        let texts = [known, unread, other, "none".to_owned()];
        let same = |one: usize, two: usize| same_sources(&texts[one..=one], &texts[two..=two]);
        assert!(same(0, 1) && !same(0, 2) && !same(1, 3) && !same(3, 3));
    }
}
