//! The API's filters as they are serialised: one form for rules and backendRefs, for requests and responses, for
//! rewrites and redirects. The generated bindings have a type of its own for each of these places.

use serde::{Deserialize, Serialize};

use crate::translate::backend::BackendReference;

/// A filter of a rule or of a backendRef.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct FilterSpec {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) request_header_modifier: Option<HeaderModifierSpec>,
    pub(super) response_header_modifier: Option<HeaderModifierSpec>,
    pub(super) request_mirror: Option<MirrorSpec>,
    pub(super) request_redirect: Option<RedirectSpec>,
    pub(super) url_rewrite: Option<RewriteSpec>,
    pub(super) cors: Option<CorsSpec>,
    pub(super) extension_ref: Option<ExtensionSpec>,
}

/// `requestHeaderModifier`, `responseHeaderModifier`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct HeaderModifierSpec {
    pub(super) set: Vec<HeaderSpec>,
    pub(super) add: Vec<HeaderSpec>,
    pub(super) remove: Vec<String>,
}

/// A header with its value.
#[derive(Debug, Deserialize)]
pub(super) struct HeaderSpec {
    pub(super) name: String,
    pub(super) value: String,
}

/// `requestMirror`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MirrorSpec {
    pub(super) backend_ref: BackendReference,
    pub(super) percent: Option<i32>,
    pub(super) fraction: Option<FractionSpec>,
}

/// `requestMirror.fraction`.
#[derive(Debug, Deserialize)]
pub(super) struct FractionSpec {
    pub(super) numerator: i32,
    pub(super) denominator: Option<i32>,
}

/// `requestRedirect`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RedirectSpec {
    pub(super) scheme: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) port: Option<i32>,
    pub(super) path: Option<PathModifierSpec>,
    pub(super) status_code: Option<i64>,
}

/// `urlRewrite`.
#[derive(Debug, Deserialize)]
pub(super) struct RewriteSpec {
    pub(super) hostname: Option<String>,
    pub(super) path: Option<PathModifierSpec>,
}

/// `path` of a redirect or rewrite.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PathModifierSpec {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) replace_full_path: Option<String>,
    pub(super) replace_prefix_match: Option<String>,
}

/// `cors`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CorsSpec {
    pub(super) allow_origins: Vec<String>,
    pub(super) allow_methods: Vec<String>,
    pub(super) allow_headers: Vec<String>,
    pub(super) expose_headers: Vec<String>,
    pub(super) allow_credentials: bool,
    pub(super) max_age: Option<i64>,
}

/// `extensionRef`.
#[derive(Debug, Deserialize)]
pub(super) struct ExtensionSpec {
    pub(super) group: String,
    pub(super) kind: String,
    pub(super) name: String,
}

impl FilterSpec {
    /// Reads a filter of any of the bindings' types.
    pub(super) fn read(filter: &impl Serialize) -> serde_json::Result<Self> {
        serde_json::from_value(serde_json::to_value(filter)?)
    }
}
