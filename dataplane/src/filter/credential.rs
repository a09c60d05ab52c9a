//! CredentialInjection: a header that the backend gets and the client does not know.

use http::{HeaderMap, HeaderName, HeaderValue};
use portcullis_routing::filter::Credential;

/// A credential whose header is ready to be set. A clone shares the value.
#[derive(Clone, Debug)]
pub struct PreparedCredential {
    name: HeaderName,
    /// Marked as sensitive: HTTP/2 keeps it out of its compression tables (RFC 7541 7.1.3), and `Debug` does not print it.
    value: HeaderValue,
    overwrite: bool,
}

impl PreparedCredential {
    /// Parses `credential`. Fails on what no header line can hold; the message does not hold the value.
    pub fn prepare(credential: &Credential) -> Result<Self, String> {
        let header = &credential.header;
        let name = HeaderName::from_bytes(header.as_bytes())
            .map_err(|_| format!("{header:?} is not a header name"))?;
        let mut value = HeaderValue::from_str(credential.value.expose()).map_err(|_| {
            format!("the credential for header {header:?} holds control characters")
        })?;
        value.set_sensitive(true);
        Ok(Self {
            name,
            value,
            overwrite: credential.overwrite,
        })
    }

    /// Sets the header of a request that goes to a backend of the rule, and to nobody else.
    pub fn apply(&self, headers: &mut HeaderMap) {
        if self.overwrite || !headers.contains_key(&self.name) {
            headers.insert(self.name.clone(), self.value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use portcullis_routing::Secret;

    use super::*;

    fn credential(value: &str, overwrite: bool) -> Credential {
        Credential {
            header: "x-api-key".into(),
            value: Secret::new(value),
            overwrite,
            secret: "shop/keys".into(),
            key: String::new(),
            prefix: String::new(),
        }
    }

    #[test]
    fn replaces_all_that_the_client_sent_or_leaves_it() {
        for (overwrite, expected) in [(true, vec!["ours"]), (false, vec!["a", "b"])] {
            let mut headers = HeaderMap::new();
            for value in ["a", "b"] {
                headers.append("x-api-key", HeaderValue::from_static(value));
            }
            let prepared = PreparedCredential::prepare(&credential("ours", overwrite)).unwrap();
            prepared.apply(&mut headers);
            let values: Vec<_> = headers.get_all("x-api-key").iter().collect();
            assert_eq!(values, expected);
        }
    }

    #[test]
    fn nothing_prints_the_value() {
        let prepared = PreparedCredential::prepare(&credential("hidden", false)).unwrap();
        let mut headers = HeaderMap::new();
        prepared.apply(&mut headers);
        assert_eq!(headers["x-api-key"], "hidden");
        let broken = PreparedCredential::prepare(&credential("hidden\n", true)).unwrap_err();
        for printed in [format!("{prepared:?}"), format!("{headers:?}"), broken] {
            assert!(!printed.contains("hidden"), "{printed}");
        }
    }
}
