//! Filters of a rule or of a backendRef.

pub mod cors;
pub mod credential;
pub mod headers;
pub mod mirror;
pub mod redirect;
pub mod rewrite;

use serde::{Deserialize, Serialize};

use crate::key::CredentialKey;

pub use self::{
    cors::Cors,
    credential::Credential,
    headers::{HeaderField, HeaderModifier},
    mirror::Mirror,
    redirect::Redirect,
    rewrite::{PathModifier, UrlRewrite},
};

/// A filter. A redirect is an action, not a filter: nothing is forwarded after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// Changes the request's headers.
    RequestHeaders(HeaderModifier),
    /// Changes the response's headers.
    ResponseHeaders(HeaderModifier),
    /// Changes host or path of the forwarded request.
    UrlRewrite(UrlRewrite),
    /// Sends a copy of the request to another backend. On rules only.
    Mirror(Mirror),
    /// Cross-origin resource sharing (Fetch standard). On rules only.
    Cors(Cors),
    /// Sets a header to a secret: a credential of the table.
    Credential(CredentialKey),
}
