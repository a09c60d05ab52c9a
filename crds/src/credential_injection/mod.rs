//! `CredentialInjection`: a header with a secret that routes give to backends, and callers never see.

mod status;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::status::CredentialInjectionStatus;

/// A field name (RFC 9110, 5.1).
const HEADER: &str = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$";
/// Text that a header's value can begin with.
pub const PREFIX: &str = "^[!-~][ -~]*$";
/// A key of a Secret.
pub const KEY: &str = "^[-._a-zA-Z0-9]+$";

/// A header with a secret that routes give to backends, and callers never see.
///
/// A rule or a backendRef of an HTTPRoute of the same namespace refers to it by a filter of type `ExtensionRef`.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "portcullis.dev",
    version = "v1alpha1",
    kind = "CredentialInjection",
    plural = "credentialinjections",
    category = "gateway-api",
    doc = "A header with a secret that routes give to backends, and callers never see.",
    namespaced,
    status = "CredentialInjectionStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name": "Header", "type": "string", "jsonPath": ".spec.header"}"#,
    printcolumn = r#"{"name": "Secret", "type": "string", "jsonPath": ".spec.secretRef.name"}"#,
    printcolumn = r#"{"name": "Resolved", "type": "string", "jsonPath": ".status.ancestors[*].conditions[?(@.type==\"ResolvedRefs\")].status"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct CredentialInjectionSpec {
    /// Name of the header. None that belongs to the connection or the message's framing, nor `Host`. Default `Authorization`.
    #[serde(default = "authorization")]
    #[schemars(length(min = 1, max = 256), regex(pattern = HEADER))]
    pub header: String,
    /// Text before the secret, such as `Bearer ` with its space. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = PREFIX))]
    pub prefix: Option<String>,
    /// Where the secret is.
    pub secret_ref: SecretKeyReference,
    /// Whether the credential takes the place of what the client sent under that name. If not, a request that has the header
    /// keeps it. Default true.
    #[serde(default = "yes")]
    pub overwrite: bool,
}

/// A key of a Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its key. White space around the value is cut off, such as the line end that `echo` writes. Default `credential`.
    #[serde(default = "credential")]
    #[schemars(length(min = 1, max = 253), regex(pattern = KEY))]
    pub key: String,
}

fn authorization() -> String {
    "Authorization".to_owned()
}

fn credential() -> String {
    "credential".to_owned()
}

const fn yes() -> bool {
    true
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        let spec: CredentialInjectionSpec =
            serde_json::from_value(json!({"secretRef": {"name": "keys"}})).unwrap();
        let expected = CredentialInjectionSpec {
            header: "Authorization".into(),
            prefix: None,
            secret_ref: SecretKeyReference {
                name: "keys".into(),
                key: "credential".into(),
            },
            overwrite: true,
        };
        assert_eq!(spec, expected);
    }
}
